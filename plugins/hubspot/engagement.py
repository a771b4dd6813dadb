"""A call in HubSpot's words (HubSpot docs, calls)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from dialer import Call
from dialer_plugins.crm import Facts, pairs

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The outcomes that every HubSpot account has.
OUTCOMES: Mapping[str, str] = {
    "busy": "9d9162e7-6cf3-4944-bf63-4dff82258764",
    "connected": "f240bbac-87c9-4f6e-bf70-924b57d47db7",
    "left live message": "a4c4c377-d246-4b32-a13b-75a56a4cd0ff",
    "left voicemail": "b2cf5968-551e-4856-9783-52b3da59a7d0",
    "no answer": "73a0d17f-1163-4015-bdd5-ec830791da20",
    "wrong number": "17b47fee-58de-441e-a44c-c6300d46f273",
}
_OUTCOME_OF = {"completed": "connected", "busy": "busy", "no-answer": "no answer"}
_STATUS_OF = {
    "completed": "COMPLETED",
    "busy": "BUSY",
    "no-answer": "NO_ANSWER",
    "canceled": "CANCELED",
    "rejected": "CANCELED",
    "failed": "FAILED",
}


def dispositions_of(texts: Iterable[str]) -> dict[str, str]:
    """The ids of outcomes by name, HubSpot's own among them; raises ValueError."""
    own = pairs("dispositions", texts)
    for name, guid in own.items():
        if not _GUID.fullmatch(guid):
            raise ValueError(f"dispositions {name!r:.60} needs an id such as {OUTCOMES['connected']}")
    return {**OUTCOMES, **own}


def properties(
    call: Call, facts: Facts, owner: str, recording: str, dispositions: Mapping[str, str]
) -> dict[str, str]:
    """The properties of the call's engagement; those without a value are left as they are in HubSpot."""
    at = datetime.fromtimestamp(call.answered_at or call.requested_at, UTC)
    values = {
        "hs_timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "hs_call_title": f"Call to {call.to}",
        "hs_call_body": _body(call, facts),
        "hs_call_direction": "INBOUND" if call.direction == "inbound" else "OUTBOUND",
        "hs_call_from_number": call.from_,
        "hs_call_to_number": call.to,
        "hs_call_status": _STATUS_OF.get(call.status, "COMPLETED"),
        "hs_call_duration": str((call.duration or 0) * 1000),
        "hs_call_disposition": _disposition(call, facts, dispositions),
        "hs_call_recording_url": recording if recording.startswith("https://") else "",
        "hs_call_external_id": call.id,
        "hubspot_owner_id": owner,
    }
    return {name: value for name, value in values.items() if value}


def _disposition(call: Call, facts: Facts, dispositions: Mapping[str, str]) -> str:
    """What the agent chose; else what Twilio and its ear for machines say."""
    chosen = facts.disposition.strip().lower()
    if chosen:
        return dispositions.get(chosen, chosen if _GUID.fullmatch(chosen) else "")
    if call.status == "completed" and facts.answered_by.startswith(("machine", "fax")):
        return ""
    return dispositions.get(_OUTCOME_OF.get(call.status, ""), "")


def _body(call: Call, facts: Facts) -> str:
    """The text of the engagement, which HubSpot shows as HTML."""
    lines = [facts.notes, f"Outcome: {facts.disposition}" if facts.disposition else ""]
    lines += [f"Answered by: {facts.answered_by}" if facts.answered_by else "", call.reason]
    lines += [f"Agent: {call.agent}", f"Dialer: {call.id}, {call.status}"]
    return "<br>".join(html.escape(line).replace("\n", "<br>") for line in lines if line)
