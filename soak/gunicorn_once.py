"""The shipped configuration of gunicorn, for a worker that is to die once: those after it live."""

from __future__ import annotations

import os

from dialer.gunicorn_config import (
    bind,
    control_socket_disable,
    graceful_timeout,
    loglevel,
    threads,
    worker_class,
    workers,
    wsgi_app,
)

__all__ = [
    "bind",
    "child_exit",
    "control_socket_disable",
    "graceful_timeout",
    "loglevel",
    "threads",
    "worker_class",
    "workers",
    "wsgi_app",
]


def child_exit(server: object, worker: object) -> None:
    """Gunicorn's hook: a worker has died, and none that starts after it shall."""
    os.environ.pop("DIALER_CRASH_AT", None)
