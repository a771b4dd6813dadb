"""How gunicorn serves Dialer: `gunicorn -c python:dialer.gunicorn_config`. `dialer run` starts from the same."""

from __future__ import annotations

import sys

from dialer.config import load, load_last_good
from dialer.errors import ConfigError
from dialer.metrics import share
from dialer.settings import Settings


def _load() -> Settings:
    """The settings, or the end of gunicorn with one line: its own report would be a traceback."""
    try:
        try:
            return load()
        except ConfigError as error:
            return load_last_good(error)
    except ConfigError as error:
        print(f"dialer: {error}", file=sys.stderr)
        sys.exit(3)


_settings = _load()
share(_settings.instance)

bind = _settings.server.bind
wsgi_app = "dialer.app:create_app()"
worker_class = "gthread"
workers = 2
threads = 4
#: Seconds that requests get to finish at a stop: longer than any webhook takes.
graceful_timeout = 10
#: Each webhook has its log line from Dialer; gunicorn adds what goes wrong with its workers.
loglevel = "warning"
#: A socket for gunicorn's own console, which nobody here uses, at one path for all servers of this user.
control_socket_disable = True
