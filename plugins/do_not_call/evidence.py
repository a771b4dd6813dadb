"""Evidence per call: what this plugin said to each, as it stands with the call in Dialer's own record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from dialer import Call, Host, config
from dialer.cli_admin import opened
from dialer.store import Store
from dialer_plugins.do_not_call.moments import moment

HEADS = ("call", "requested_at", "agent", "number", "status", "result", "list", "said")


def evidence(host: Host, workspace: str, since: float, number: str) -> Iterator[tuple[object, ...]]:
    """A row per check, oldest first: a call that was sent on to another number was checked twice."""
    with opened_store() as store:
        for call in reversed(host.calls(workspace, since=since)):
            if number in ("", call.to):
                with store.read() as tx:
                    verdicts = tx.all("verdicts_of_call", call_id=call.id, workspace=workspace)
                yield from (row_of(call, verdict) for verdict in verdicts if _ours(host, verdict))


def opened_store() -> AbstractContextManager[Store]:
    """Dialer's own record, as dialer.toml says where it is."""
    return opened(config.load())


def row_of(call: Call, verdict: Mapping[str, Any]) -> tuple[object, ...]:
    """One check as HEADS say."""
    said = str(verdict["answer"])
    refused = said.startswith("refused (")
    rule = said.removeprefix("refused (").partition(")")[0] if refused else ""
    listed = refused and rule.startswith("do_not_call:")
    result = "refused" if refused else "not listed" if said.startswith("not listed") else "not checked"
    name = rule.removeprefix("do_not_call:") if listed else ""
    return call.id, moment(call.requested_at), call.agent, call.to, call.status, result, name, said or verdict["error"]


def _ours(host: Host, verdict: Mapping[str, Any]) -> bool:
    return bool(verdict["plugin"] == host.name and verdict["hook"] == "validate_call")
