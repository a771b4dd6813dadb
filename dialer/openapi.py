"""The description of the HTTP API (OpenAPI 3.1), made of what stands at each route.

A route is described where it is written: `@describe(Operation(...))` below its decorator. Its first line of
documentation is its summary, its rule gives path and methods; `tests/test_openapi.py` compares with what is answered.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Flask
from werkzeug.routing import Rule

from dialer.signature import FORM

Schema = Mapping[str, Any]
View = TypeVar("View", bound=Callable[..., Any])

JSON, TWIML, PLAIN = "application/json", "text/xml", "text/plain"

#: The codes that an error of each status may have.
CODES: dict[int, tuple[str, ...]] = {
    400: ("bad-field", "missing-field", "bad-request"),
    401: ("unauthorized",),
    403: ("scope", "foreign-agent", "unknown-agent", "cross-site"),
    404: ("not-found",),
    409: ("ended", "not-now"),
    413: ("request-entity-too-large",),
    429: ("rate-limit",),
    500: ("internal-server-error",),
    503: ("store", "configuration"),
}
MEANINGS = {
    204: "Stored, or known already.",
    400: "A field is missing or wrong; the text names it.",
    401: "No valid key.",
    403: "The key may not do this.",
    404: "There is none, or none that this key may see.",
    409: "It has ended already, or is in no state for that.",
    413: "The body is over 64 kB.",
    429: "Too many requests this minute.",
    500: "A fault of ours.",
    503: "Not available now; the message says what is missing.",
}
#: What a webhook's text says.
REFUSALS = {
    400: "A field is missing or wrong; the text names it.",
    403: "Not signed by the account's auth token.",
    404: "No call of ours has this leg or conference.",
    413: "The body is over 64 kB.",
    500: "A fault of ours, or the store is not available; Twilio asks again.",
}
#: What each request with a key may be answered with, and each webhook.
WITH_KEY = (401, 403, 429, 500, 503)
WITH_SIGNATURE = (400, 403, 413, 500)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and gives. `query` and `body` are schemas by field, `body` that of methods with a body;
    `answers` are a schema, or a media type for what is no JSON, by status; `errors` come beside those of all;
    `keyless`: some may ask without a key."""

    tag: str
    answers: Mapping[int, Schema | str | None]
    scope: str = ""
    signed: bool = False
    query: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    keyless: bool = False


OPERATIONS: dict[Callable[..., Any], Operation] = {}


def describe(operation: Operation) -> Callable[[View], View]:
    """Say what a view takes and gives."""

    def keep(view: View) -> View:
        OPERATIONS[view] = operation
        return view

    return keep


def webhook(*fields: str, query: Iterable[str] = (), twiml: bool = False) -> Callable[[View], View]:
    """Describe a view of Twilio's webhooks by the fields that it cannot do without; without TwiML it answers 204."""
    body = {name: CALL_SID if name == "CallSid" else TEXT for name in ("AccountSid", *fields)}
    answers: dict[int, str | None] = {200: TWIML} if twiml else {204: None}
    in_query = dict.fromkeys(query, TEXT)
    errors = () if twiml else (404,)
    return describe(Operation("Webhooks", answers, "", True, in_query, body, required=tuple(body), errors=errors))


def description(app: Flask, public_url: str) -> dict[str, Any]:
    """The OpenAPI document of an application's routes."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = inspect.unwrap(app.view_functions[rule.endpoint])
        if view in OPERATIONS:
            path = re.sub(r"<(?:[^<>:]*:)?(\w+)>", r"{\1}", rule.rule)
            paths.setdefault(path, {}).update(_methods(rule, view, OPERATIONS[view]))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dialer", "version": "1", "description": ABOUT},
        "servers": [{"url": public_url}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "responses": RESPONSES, "securitySchemes": SECURITY},
    }


def _methods(rule: Rule, view: Callable[..., Any], operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    methods = sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    for method in methods:
        name = view.__name__ if len(methods) == 1 else f"{view.__name__}_{method.lower()}"
        yield method.lower(), _operation(rule, view, operation, name, method)


def _operation(rule: Rule, view: Callable[..., Any], operation: Operation, name: str, method: str) -> dict[str, Any]:
    summary, _, rest = inspect.cleandoc(view.__doc__ or "").partition("\n")
    with_body = method in ("POST", "PUT", "PATCH") and bool(operation.body)
    query = {} if with_body and not operation.signed else operation.query
    found = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": summary,
        "description": rest.strip(),
        "security": _security(operation),
        "parameters": [*map(_in_path, sorted(rule.arguments)), *(_in_query(*one) for one in query.items())],
        "requestBody": _body(operation) if with_body else None,
        "responses": _responses(operation),
    }
    return {key: value for key, value in found.items() if value or key == "security"}


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.signed:
        return [{"signature": []}]
    keyed: list[dict[str, list[str]]] = [{"key": [operation.scope]}] if operation.scope else []
    return [*keyed, {}] if operation.keyless else keyed


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}


def _in_query(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _body(operation: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": operation.body}
    if operation.required:
        schema["required"] = list(operation.required)
    kinds = (FORM,) if operation.signed else (JSON, FORM)
    return {"required": bool(operation.required), "content": {kind: {"schema": schema} for kind in kinds}}


def _responses(operation: Operation) -> dict[str, Any]:
    common = WITH_SIGNATURE if operation.signed else WITH_KEY if operation.scope else ()
    prefix = "Webhook" if operation.signed else ""
    errors = {status: {"$ref": f"#/components/responses/{prefix}{status}"} for status in (*common, *operation.errors)}
    answers = {status: _answer(status, given) for status, given in operation.answers.items()}
    return {str(status): response for status, response in sorted({**errors, **answers}.items())}


def _answer(status: int, given: Schema | str | None) -> dict[str, Any]:
    response: dict[str, Any] = {"description": MEANINGS.get(status, "As asked.")}
    if given is not None:
        kind, schema = (given, {"type": "string"}) if isinstance(given, str) else (JSON, given)
        response["content"] = {kind: {"schema": schema}}
    return response


def _error(status: int) -> dict[str, Any]:
    code = {"type": "object", "properties": {"error": {"properties": {"code": {"enum": list(CODES[status])}}}}}
    response = _answer(status, {"allOf": [ref("Error"), code]})
    if status == 429:
        response["headers"] = {"Retry-After": {"description": "Seconds.", "schema": whole(1, 60), "required": True}}
    return response


def ref(name: str) -> dict[str, str]:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(**properties: Schema) -> dict[str, Any]:
    """An object with exactly these properties."""
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def whole(lowest: int, highest: int | None = None, default: int | None = None) -> dict[str, Any]:
    """A whole number within bounds."""
    found = {"type": "integer", "minimum": lowest, "maximum": highest, "default": default}
    return {key: value for key, value in found.items() if value is not None}


def list_of(schema: Schema) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def one_of(choices: Iterable[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(choices)}


def or_null(schema: Schema) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
TIME = {"type": "string", "pattern": r"^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", "description": "ISO 8601, UTC."}
CALL_SID = {"type": "string", "pattern": "^CA[0-9a-f]{32}$"}

ABOUT = (
    "Every error has one shape, `{error: {code, message}}`: `code` is stable, `message` names the thing and the fix. "
    "Twilio's webhooks are answered with TwiML, and refused with one line of text."
)
TAGS = {
    "Tokens": "For the browser's Voice SDK.",
    "Calls": "To read, and to end.",
    "Plugins": "What they have seen and done.",
    "Health": "Whether it lives and whether it works.",
    "Webhooks": "What Twilio asks. Nobody else can: a request is refused unless the account's auth token signed it.",
}
SECURITY = {
    "key": {"type": "http", "scheme": "bearer", "description": "`dk_<id>_<secret>`, made with `dialer keys add`."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Twilio-Signature",
        "description": "HMAC-SHA1 over the URL and the form, with the account's auth token.",
    },
}
SCHEMAS: dict[str, Schema] = {"Error": record(error=record(code=TEXT, message=TEXT))}
RESPONSES = {str(status): _error(status) for status in CODES} | {
    f"Webhook{status}": _answer(status, PLAIN) | {"description": text} for status, text in REFUSALS.items()
}


def component(name: str, schema: Schema) -> dict[str, str]:
    """Keep a schema under a name, and refer to it."""
    SCHEMAS[name] = schema
    return ref(name)
