"""What a REST request and its answer are, and how a path finds its handler."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import unquote

from dialer.simulator.account_records import Account, Application
from dialer.simulator.model import Call, Conference, Params, Recording, TwilioError
from dialer.simulator.network import Network

FailedHow = Literal["", "refused", "timeout", "reset", "half"]
Thing = TypeVar("Thing", Call, Conference, Recording, Application)


@dataclass(frozen=True, slots=True)
class RestRequest:
    """One request to the REST API; `path` as sent, still percent-encoded, without the query."""

    method: str
    path: str
    query: Params = field(default_factory=Params)
    form: Params = field(default_factory=Params)
    authorization: str | None = None


@dataclass(frozen=True, slots=True)
class RestResponse:
    """What goes back; `failed` says what does not: no connection, no answer ever, a broken one, or half an answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    failed: FailedHow = ""

    @classmethod
    def failure(cls, how: Literal["refused", "timeout", "reset"]) -> RestResponse:
        """No answer, in one of three ways."""
        return cls(status=0, failed=how)

    @classmethod
    def json(cls, value: Any, status: int = 200) -> RestResponse:
        """A JSON document."""
        return cls(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    @classmethod
    def error(cls, error: TwilioError) -> RestResponse:
        """A refusal in Twilio's shape."""
        told = {
            "code": error.code,
            "message": error.message,
            "more_info": f"https://www.twilio.com/docs/errors/{error.code}",
            "status": error.http_status,
        }
        return cls.json(told, error.http_status)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose sender and path are known; `names` are the decoded variable parts of the path."""

    network: Network
    account: Account
    request: RestRequest
    names: dict[str, str]

    def find(self, things: Mapping[str, Thing], name: str) -> Thing:
        """The account's thing that this variable part of the path is the SID of. Raises TwilioError 20404."""
        thing = things.get(self.names[name])
        if thing is None or thing.account_sid != self.account.sid:
            raise self.not_found()
        return thing

    def not_found(self) -> TwilioError:
        """The error for something that is not there, or not this account's."""
        return TwilioError(404, 20404, f"The requested resource {self.request.path} was not found")


Handler = Callable[[Asked], RestResponse]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path. `parameters`: the form fields it knows; `public`: it needs no credentials."""

    method: str
    path: str
    pattern: re.Pattern[str]
    handler: Handler
    parameters: frozenset[str] = frozenset()
    public: bool = False


def route(method: str, path: str, handler: Handler, parameters: str = "", public: bool = False) -> Route:
    """A route; `{name}` in the path is a variable part, `parameters` is a list of words."""
    pattern = re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+?)", re.escape(path)))
    return Route(method, path, pattern, handler, frozenset(parameters.split()), public)


def match_route(routes: tuple[Route, ...], request: RestRequest) -> tuple[Route, dict[str, str]]:
    """The route of a request and the variable parts. Raises TwilioError 20404, or 20004 for the method."""
    known = False
    for candidate in routes:
        match = candidate.pattern.fullmatch(request.path)
        if match and candidate.method == request.method:
            return candidate, {name: unquote(value) for name, value in match.groupdict().items()}
        known = known or match is not None
    if known:
        raise TwilioError(405, 20004, f"Method {request.method} is not allowed here")
    raise TwilioError(404, 20404, f"The requested resource {request.path} was not found")


def delete_response() -> RestResponse:
    """The answer to a deletion that was done."""
    return RestResponse(204)


def read_boolean(params: Params, name: str) -> bool | None:
    """A true/false parameter; None when it is absent. Raises TwilioError 20422."""
    text = params.get(name).lower()
    if text not in ("", "true", "false"):
        raise TwilioError(400, 20422, f"{name} must be true or false, not {params.get(name)!r}")
    return None if not text else text == "true"
