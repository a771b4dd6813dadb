"""A call as a Task of Salesforce's (Salesforce docs, Task)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from dialer import Call
from dialer_plugins.crm import Facts

_PLACES = re.compile(r"\{(\w+)\}")
NAMES = ("to", "from", "agent", "status", "notes", "disposition", "reason", "recording", "call")
#: Characters of a Task's fields.
SUBJECT, DISPOSITION, DESCRIPTION = 255, 255, 32_000


def check_text(setting: str, text: str) -> None:
    """Raises ValueError for a place in braces that nothing stands for."""
    for name in _PLACES.findall(text):
        if name not in NAMES:
            raise ValueError(f"{setting} has {{{name}}}, which is nothing (in braces: {', '.join(NAMES)})")


def task_of(
    call: Call, facts: Facts, texts: tuple[str, str, str], owner: str, recording: str
) -> dict[str, object]:
    """The fields of the Task; those without a value are left as they are in Salesforce."""
    subject, status, description = texts
    values = _values(call, facts, recording)
    comments = _filled(description, values).strip()
    if recording and "{recording}" not in description:
        comments = f"{comments}\nRecording: {recording}".strip()
    fields: dict[str, object] = {
        "Subject": _filled(subject, values)[:SUBJECT],
        "Status": status,
        "Description": comments[:DESCRIPTION],
        "TaskSubtype": "Call",
        "CallType": "Inbound" if call.direction == "inbound" else "Outbound",
        "CallDurationInSeconds": call.duration or 0,
        "CallDisposition": (facts.disposition or _outcome(call, facts))[:DISPOSITION],
        "ActivityDate": datetime.fromtimestamp(call.requested_at, UTC).date().isoformat(),
        "OwnerId": owner,
    }
    return {name: value for name, value in fields.items() if value != ""}


def _values(call: Call, facts: Facts, recording: str) -> dict[str, str]:
    own = {"to": call.to, "from": call.from_, "agent": call.agent, "status": call.status, "call": call.id}
    told = {"notes": facts.notes, "disposition": facts.disposition, "reason": call.reason, "recording": recording}
    return own | told


def _filled(text: str, values: dict[str, str]) -> str:
    return _PLACES.sub(lambda found: values[found[1]], text)


def _outcome(call: Call, facts: Facts) -> str:
    if call.status == "completed" and facts.answered_by.startswith(("machine", "fax")):
        return "Answered by a machine"
    return {"completed": "Answered", "no-answer": "No answer"}.get(call.status, call.status.capitalize())
