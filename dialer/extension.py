"""Dialer inside a host's Flask application: below a prefix, with its commands as `flask dialer ...`."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from flask import Flask, request

from dialer.app import create_app
from dialer.auth import SIGNED_IN, SignedIn
from dialer.cli import COMMANDS, Commands
from dialer.config import load, write_first
from dialer.service import Service
from dialer.webhook import INNER_URI, Environ

WhoAsks = Callable[[], SignedIn | None]


class Dialer:
    """Mounts Dialer: `Dialer(app, url_prefix="/calls")`, or `Dialer(...).init_app(app)` in an application factory.

    `signed_in` is called in a request context of the host and says who sits at the browser, None for nobody. Settings
    come from dialer.toml and the environment; `DIALER_...` and `TWILIO_...` in `app.config` win over both.
    Raises ConfigError or StoreError, and ValueError for a prefix that is no path.
    """

    def __init__(
        self, app: Flask | None = None, *, url_prefix: str = "/calls", signed_in: WhoAsks | None = None
    ) -> None:
        self.url_prefix = url_prefix.rstrip("/")
        self.signed_in = signed_in
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", self.url_prefix):
            raise ValueError(f"url_prefix must be a path such as /calls, not {url_prefix!r}")
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Mount in this application, one of several perhaps; what is mounted is `app.extensions["dialer"]`."""
        if "dialer" in app.extensions:
            raise RuntimeError("Dialer is mounted in this application already")
        mount = Mount(self, app)
        app.extensions["dialer"] = mount
        app.wsgi_app = mount  # type: ignore[method-assign]  # as Flask's documents do it
        app.cli.add_command(HostCommands(lambda: self.environ(app), name="dialer", help=HostCommands.__doc__))
        if not _looks_for_a_command():
            mount.app  # noqa: B018  # made now: a fault in the settings must stop the start, not the first call

    def environ(self, app: Flask) -> dict[str, str]:
        """The environment that Dialer's settings are read from."""
        ours = {name: value for name, value in app.config.items() if name.startswith(("DIALER_", "TWILIO_"))}
        given = {name: str(value) for name, value in ours.items() if value is not None}
        return {**os.environ, **given, "DIALER_URL_PREFIX": self.url_prefix}

    def create(self, environ: Mapping[str, str]) -> Flask:
        """The application that answers below the prefix; for tests to make another."""
        write_first(environ)
        return create_app(load(environ), hosted=True)


class Mount:
    """Dialer in one host application: WSGI in front of the host's, which what lies below the prefix never reaches.

    So the host's sign-in, error pages, limits and CSRF checks do not apply to Twilio's webhooks, nor ours to the host.
    """

    def __init__(self, dialer: Dialer, host: Flask) -> None:
        self.dialer = dialer
        self.host = host
        self.prefix = dialer.url_prefix
        self.rest = host.wsgi_app
        self._made: Flask | None = None
        self._making = threading.Lock()

    @property
    def app(self) -> Flask:
        """Dialer's own application, made on first use."""
        with self._making:
            if self._made is None:
                self._made = self.dialer.create(self.dialer.environ(self.host))
                self._made.extensions[SIGNED_IN] = self.signed_in
        return self._made

    @property
    def service(self) -> Service:
        """Its settings, store and plugins."""
        found: Service = self.app.extensions["dialer"]
        return found

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(f"{self.prefix}/"):
            return self.rest(environ, start_response)
        return self.app.wsgi_app(self.inner(environ), start_response)

    def inner(self, environ: Environ) -> Environ:
        """The same request as Dialer's application sees it."""
        above, path = environ.get("SCRIPT_NAME", ""), environ["PATH_INFO"].removeprefix(self.prefix)
        mounted = {"SCRIPT_NAME": above + self.prefix, "PATH_INFO": path, INNER_URI: self.inner_uri(environ)}
        return {**environ, **mounted}

    def inner_uri(self, environ: Environ) -> str:
        """What came over the wire, from behind the prefix; a proxy may have left what is above it, or not."""
        query = environ.get("QUERY_STRING", "")
        rebuilt = environ["PATH_INFO"] + (f"?{query}" if query else "")
        raw = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or rebuilt)
        for prefix in (environ.get("SCRIPT_NAME", "") + self.prefix, self.prefix):
            if raw.startswith(f"{prefix}/"):
                return raw.removeprefix(prefix)
        return raw

    def signed_in(self) -> SignedIn | None:
        """Who the host says asks, from cookies and headers: the body is not for it to read."""
        if self.dialer.signed_in is None:
            return None
        environ = {**request.environ, "wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"}
        environ["SCRIPT_NAME"] = environ["SCRIPT_NAME"].removesuffix(self.prefix)
        environ["PATH_INFO"] = self.prefix + environ["PATH_INFO"]
        with self.host.request_context(environ):
            return self.dialer.signed_in()


class HostCommands(Commands):
    """The Dialer in this application: its calls, people, keys and plugins, and its dispatcher."""

    listed = {name: line for name, line in COMMANDS.items() if name != "run"}  # noqa: RUF012

    def __init__(self, environ: Callable[[], Mapping[str, str]], **options: Any) -> None:
        super().__init__(**options)
        self.environ = environ

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        os.environ.update(self.environ())  # where every command looks
        return super().make_context(info_name, args, parent, **extra)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "run":
            raise click.UsageError("this application serves Dialer: start it as ever, and `flask dialer worker`")
        return super().get_command(ctx, cmd_name)


def _looks_for_a_command() -> bool:
    """Whether the application is made for Flask's command line to see what commands it has, mostly not to serve."""
    context = click.get_current_context(silent=True)
    return context is not None and isinstance(context.command, click.Group)
