"""Who is asking: keys of workspaces and agents, what they may do, and how often.

A key reads `dk_<id>_<secret>`. It is shown once; the store keeps a hash of the secret. A key of an agent acts as that
agent only; a key of a workspace (no agent) acts for any agent of it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flask import current_app, request

from dialer.errors import DialerError
from dialer.service import Service
from dialer.store import Row, Tx

SCOPES = ("token", "calls:read", "calls:write")
#: Of keys of a workspace that ask for it by name: how the installation does.
ADMIN_SCOPES = ("admin",)
#: Of keys that belong to no workspace: what concerns all tenants.
OPERATOR_SCOPES = ("metrics",)
#: The extension of an application inside a host's that asks the host who is signed in.
SIGNED_IN = "dialer_signed_in"
#: What shows that a page of the host's own asks: a page of another site cannot have a browser send it.
OWN_PAGE = "X-Requested-With"
READING = ("GET", "HEAD", "OPTIONS")
_KEY = re.compile(r"dk_([0-9a-f]{12})_([0-9a-f]{40})")
_IDENTITY = re.compile(r"[A-Za-z0-9_]{1,121}")

#: Requests a minute: of one key for tokens, of one key for all else, of one address with wrong keys.
TOKENS_A_MINUTE = 10
REQUESTS_A_MINUTE = 300
WRONG_KEYS_A_MINUTE = 30


class ApiError(Exception):
    """An answer of the REST API that is not what was asked for: an HTTP status, a stable code and a sentence."""

    def __init__(self, http_status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a workspace, and the one agent of it that the key is bound to ("" for any)."""

    workspace: str
    agent: str
    key_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who sits at the browser, as a host application knows it: an agent, its workspace, and what it may do here.

    Raises ValueError for a scope that a workspace's key could not have either.
    """

    identity: str
    workspace: str
    scopes: tuple[str, ...] = SCOPES

    def __post_init__(self) -> None:
        unknown = sorted(set(self.scopes) - {*SCOPES, *ADMIN_SCOPES})
        if unknown:
            raise ValueError(f"scope {unknown[0]!r} is not known (scopes: {', '.join((*SCOPES, *ADMIN_SCOPES))})")


def authenticate(dialer: Service, scope: str) -> Principal:
    """The holder of the request's key or, inside a host application, who is signed in there.

    Raises ApiError with 401, 403 or 429.
    """
    asks = _signed_in(dialer, scope) or _holder(dialer, scope)
    if scope not in asks.scopes:
        what = "key" if asks.key_id.isalnum() else "sign-in"
        raise ApiError(403, "scope", f"this {what} lacks the scope {scope}")
    allowed = TOKENS_A_MINUTE if scope == "token" else REQUESTS_A_MINUTE
    limit(dialer, f"{scope}:{asks.key_id}", allowed)
    return asks


def _signed_in(dialer: Service, scope: str) -> Principal | None:
    """Whom the host application knows, if it is one's and no key of ours is shown; raises ApiError 403."""
    ask: Callable[[], SignedIn | None] | None = current_app.extensions.get(SIGNED_IN)
    found = ask() if ask and " dk_" not in request.headers.get("Authorization", "") else None
    if found is None:
        return None
    if (scope == "token" or request.method not in READING) and OWN_PAGE not in request.headers:
        raise ApiError(403, "cross-site", f"send the header {OWN_PAGE}, which a page of another site cannot")
    with dialer.store.read() as tx:
        try:
            require_agent(tx, found.workspace, found.identity)
        except DialerError as error:
            raise ApiError(403, "unknown-agent", str(error)) from None
    return Principal(found.workspace, found.identity, f"session:{found.identity}", frozenset(found.scopes))


def _holder(dialer: Service, scope: str) -> Principal:
    """The holder of the request's bearer key; raises ApiError with 401 or 429."""
    now = dialer.clock()
    scheme, _, shown = request.headers.get("Authorization", "").strip().partition(" ")
    found = _KEY.fullmatch(shown.strip()) if scheme.lower() == "bearer" else None
    with dialer.store.read() as tx:
        row = tx.one("operator_key" if scope in OPERATOR_SCOPES else "key", key_id=found[1]) if found else None
    if found is None or row is None or not _good(row, found[2], now):
        limit(dialer, f"wrong:{request.remote_addr}", WRONG_KEYS_A_MINUTE)
        raise ApiError(401, "unauthorized", "send a valid key as 'Authorization: Bearer dk_…' (dialer keys add)")
    return Principal(row["workspace"], row["agent"], row["id"], frozenset(row["scopes"].split()))


def limit(dialer: Service, key: str, a_minute: int) -> None:
    """Count one use of this key in the current minute; raises ApiError 429 over the limit."""
    now = dialer.clock()
    if _count(dialer, key, int(now // 60), a_minute) > a_minute:
        raise ApiError(429, "rate-limit", f"over {a_minute} requests a minute", retry_after=60 - int(now % 60))


def _count(dialer: Service, key: str, window: int, most: int) -> int:
    """The uses with this one; it is written down only up to the limit: strangers must not keep the disk busy."""
    with dialer.store.read() as tx:
        row = tx.one("uses", key=key, window=window)
    if row and row["count"] >= most:
        return int(row["count"]) + 1
    with dialer.store.write() as tx:
        row = tx.one("count_use", key=key, window=window)
        count = int(row["count"]) if row else 1
        if count == 1:
            tx.run("forget_use", window=window - 1)
    return count


def add_workspace(tx: Tx, workspace: str, name: str, now: float) -> None:
    """Create a tenant; raises DialerError for a bad or taken id."""
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", workspace):
        raise DialerError(f"workspace id {workspace!r} must be up to 64 letters, digits or underscores")
    if not tx.run("add_workspace", id=workspace, name=name or workspace, created_at=now):
        raise DialerError(f"workspace {workspace} exists already")


def add_agent(tx: Tx, workspace: str, identity: str, name: str, role: str, now: float) -> None:
    """Create an agent; raises DialerError for a bad or taken identity (they are unique over all workspaces)."""
    if not _IDENTITY.fullmatch(identity):
        raise DialerError(f"identity {identity!r} must be up to 121 letters, digits or underscores")
    require_workspace(tx, workspace)
    values = {"identity": identity, "workspace": workspace, "name": name or identity, "role": role}
    if not tx.run("add_agent", **values, created_at=now):
        raise DialerError(f"agent {identity} exists already (identities are unique over all workspaces)")


def add_key(
    tx: Tx,
    workspace: str,
    agent: str,
    scopes: Iterable[str],
    *,
    now: float,
    ttl: float | None = None,
    random_hex: Callable[[int], str] = secrets.token_hex,
) -> str:
    """Create a key and give it in full, for the only time; raises DialerError for what does not exist.

    Without a workspace it is the operator's, for what concerns all tenants.
    """
    known = (*SCOPES, *ADMIN_SCOPES) if workspace else OPERATOR_SCOPES
    unknown = sorted(set(scopes) - set(known))
    if unknown:
        what = "is not known" if workspace else "needs a workspace"
        raise DialerError(f"scope {unknown[0]!r} {what} (scopes: {', '.join(known)})")
    if workspace:
        require_workspace(tx, workspace)
    if agent:
        require_agent(tx, workspace, agent)
    key_id, secret = random_hex(6), random_hex(20)
    tx.run(
        "add_key",
        id=key_id,
        workspace=workspace,
        agent=agent,
        hash=_hash(secret),
        scopes=" ".join(scopes),
        created_at=now,
        expires_at=None if ttl is None else now + ttl,
    )
    return f"dk_{key_id}_{secret}"


def require_workspace(tx: Tx, workspace: str) -> Row:
    row = tx.one("workspace", workspace=workspace)
    if row is None or row["disabled_at"]:
        raise DialerError(f"there is no workspace {workspace} (dialer workspaces list)")
    return row


def require_agent(tx: Tx, workspace: str, identity: str) -> Row:
    """The agent, enabled and of this workspace; raises DialerError."""
    row = tx.one("agent", identity=identity)
    if row is None or row["workspace"] != workspace or row["disabled_at"] or row["workspace_disabled_at"]:
        raise DialerError(f"there is no agent {identity} in {workspace} (dialer agents list)")
    return row


def _good(row: Row, secret: str, now: float) -> bool:
    valid = hmac.compare_digest(row["hash"], _hash(secret))
    expired = row["expires_at"] is not None and row["expires_at"] <= now
    disabled = row["workspace_disabled_at"] or row["agent_disabled_at"]
    return valid and not (row["revoked_at"] or expired or disabled)


def _hash(secret: str) -> str:
    """The secret is 160 random bits: a plain hash of it cannot be guessed from, unlike one of a password."""
    return hashlib.sha256(secret.encode()).hexdigest()
