"""Whether what the application answers is what its description (OpenAPI) says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from dialer.extension import Mount
from dialer.openapi import SCHEMAS, description


class Conformance:
    """The description of one application, to hold its answers against."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.document = description(app, "https://dialer.example")

    def breach(self, method: str, path: str, answer: TestResponse) -> str:
        """What an answer has that the description does not; nothing when they agree."""
        template = self.template(method, path)
        if template is None:
            named = path.startswith("/v1/") and method != "HEAD" and answer.status_code >= 400
            return _unfit({"$ref": "#/components/schemas/Error"}, answer) if named else ""
        responses = self.document["paths"][template][method.lower()]["responses"]
        response = responses.get(str(answer.status_code))
        if response is None:
            return f"status {answer.status_code}"
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        content = response.get("content", {})
        if answer.mimetype not in content and (content or answer.data):
            return f"content type {answer.mimetype!r}"
        return next((_unfit(one["schema"], answer) for kind, one in content.items() if kind.endswith("json")), "")

    def template(self, method: str, path: str) -> str | None:
        """The path in the description that a path is of."""
        try:
            rule, _ = self.app.url_map.bind("dialer.example").match(path, method, return_rule=True)
        except HTTPException:
            return None
        template = rule.rule.replace("<", "{").replace(">", "}")
        return template if method.lower() in self.document["paths"].get(template, {}) else None


@contextmanager
def every_answer_conforms() -> Iterator[None]:
    """Hold each answer that any test gets through Flask's test client against the description."""
    plain_open, known = FlaskClient.open, cache(Conformance)

    def checked_open(client: FlaskClient, *args: Any, **options: Any) -> TestResponse:
        answer = plain_open(client, *args, **options)
        asked = answer.request
        app, path = _described(client.application, asked.path)
        if app:
            breach = known(app).breach(asked.method, path, answer)
            assert not breach, f"{asked.method} {asked.path} answered {answer.status_code}, not as described: {breach}"
        return answer

    with mock.patch.object(FlaskClient, "open", checked_open):
        yield


def _described(app: Flask, path: str) -> tuple[Flask | None, str]:
    """Which application describes a path, and as what: inside a host's it is what lies below the prefix."""
    dialer = app.extensions.get("dialer")
    if not isinstance(dialer, Mount):
        return app if dialer else None, path
    inside = path.startswith(f"{dialer.prefix}/")
    return dialer.app if inside else None, path.removeprefix(dialer.prefix)


def _unfit(schema: dict[str, Any], answer: TestResponse) -> str:
    validator = Draft202012Validator({**schema, "components": {"schemas": SCHEMAS}})
    return next((f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer.get_json())), "")
