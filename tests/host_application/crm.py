"""A small CRM as others write them: a sign-in, routes, error pages, limits and commands of its own."""

from __future__ import annotations

import click
from flask import Flask, Response, abort, redirect, request, session
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from dialer import Dialer, SignedIn

#: User of the CRM: the agent, the workspace and the scopes that Dialer is told.
USERS = {
    "ann": SignedIn("ws_demo_agent_0", "ws_demo"),
    "bob": SignedIn("ws_demo_agent_1", "ws_demo"),
    "eve": SignedIn("ws_other_agent_0", "ws_other"),
    "boss": SignedIn("ws_demo_agent_0", "ws_demo", ("calls:read", "admin")),
    "mixed_up": SignedIn("ws_other_agent_0", "ws_demo"),
    "customer": None,
}


def who_asks() -> SignedIn | None:
    """Dialer's question: the agent of the user who is signed in here."""
    return USERS.get(session.get("user", ""))


def create_crm(dialer: Dialer | None = None, **config: object) -> Flask:
    """The application, with Dialer in it or without."""
    app = Flask("crm", static_folder=None)
    app.secret_key = "only for tests"
    app.config.update(MAX_CONTENT_LENGTH=1_000_000, **config)
    app.extensions["asked"] = asked = []

    @app.before_request
    def require_sign_in() -> ResponseReturnValue | None:
        asked.append(request.path)
        return None if "user" in session or request.path.startswith("/login") else redirect("/login")

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers["X-Crm"] = "yes"
        return response

    @app.errorhandler(404)
    def not_found(error: HTTPException) -> tuple[str, int]:
        return "<h1>Our page for what is not there</h1>", 404

    @app.errorhandler(Exception)
    def fault(error: Exception) -> tuple[str, int]:
        status = error.code or 500 if isinstance(error, HTTPException) else 500
        return f"<h1>Our page for error {status}</h1>", status

    @app.route("/login", methods=["GET", "POST"])
    def login() -> str:
        session["user"] = request.form.get("user", "")
        return "signed in"

    @app.get("/customers/<int:number>")
    def customer(number: int) -> str:
        return f"customer {number}" if number < 100 else abort(404)

    @app.post("/upload")
    def upload() -> str:
        return f"{len(request.get_data())} bytes"

    @app.get("/fault")
    def fails() -> str:
        raise ZeroDivisionError

    @app.cli.command("customers")
    def customers() -> None:
        """List the customers."""
        click.echo("no customers yet")

    if dialer:
        dialer.init_app(app)
    return app
