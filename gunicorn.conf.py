"""Read by a bare `gunicorn` in this folder; the settings themselves are part of the package."""

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
    "control_socket_disable",
    "graceful_timeout",
    "loglevel",
    "threads",
    "worker_class",
    "workers",
    "wsgi_app",
]
