"""The schemas of what the HTTP API answers, by name; `api.call_json` and its like make the values."""

from __future__ import annotations

from dialer.calls import LEG_RANK, ROLES, STATUSES, TERMINAL
from dialer.openapi import CALL_SID, FLAG, TEXT, TIME, component, list_of, one_of, or_null, record, whole

#: What a page's `before` is: the time and id of its last call.
CURSOR = r"^\d{1,12}(\.\d{1,9})?~\w{1,64}$"

DEVICE_OPTIONS = record(codecPreferences=list_of(TEXT), closeProtection=FLAG)
TOKEN = component(
    "Token", record(token=TEXT, identity=TEXT, workspace=TEXT, expiresAt=TIME, deviceOptions=DEVICE_OPTIONS)
)
TOKEN_FIELDS = {
    "identity": TEXT | {"description": "The agent; needed with a key of a workspace."},
    "ttl": whole(60, 3600, 3600) | {"description": "Seconds."},
}

LEG = component(
    "Leg",
    record(callSid=CALL_SID, role=one_of(sorted(ROLES)), status=one_of(LEG_RANK), inConference=FLAG),
)
CALL = component(
    "Call",
    record(
        id=TEXT,
        workspace=TEXT,
        agent=TEXT,
        direction=one_of(["outbound"]),
        to=TEXT,
        **{"from": TEXT},
        status=one_of([*STATUSES, *sorted(TERMINAL)]),
        endedBy=TEXT | {"description": "agent, customer, system or plugin:<name>; empty while it lasts."},
        reason=TEXT | {"description": "The sentence that the agent heard."},
        rule=TEXT | {"description": "The stable name of the reason."},
        conference=TEXT,
        requestedAt=TIME,
        answeredAt=or_null(TIME),
        endedAt=or_null(TIME),
        duration=or_null(whole(0)) | {"description": "Seconds, by Twilio's CallDuration of the customer's leg."},
        settled=FLAG | {"description": "Ended, and nothing of it is left at Twilio's."},
        plugins=TEXT,
        legs=list_of(LEG),
    ),
)
CALLS = component("Calls", record(calls=list_of(CALL), before=or_null({"type": "string", "pattern": CURSOR})))
CALL_FILTERS = {
    "status": TEXT | {"description": "Only calls with this status."},
    "limit": whole(1, 100, 50),
    "before": {"type": "string", "pattern": CURSOR, "description": "What the page before gave as `before`."},
}

EVENT = component(
    "Event",
    record(
        id=whole(1),
        name=TEXT,
        source=TEXT | {"description": "Where it came from: webhook, rest, job or api."},
        callSid=TEXT,
        role=TEXT,
        status=TEXT,
        at=TIME,
        receivedAt=TIME,
        detail={"type": "object"},
    ),
)
EVENTS = component("Events", record(events=list_of(EVENT)))
EVENT_FILTERS = {"after": whole(0, 2**53, 0) | {"description": "The last id seen."}}

HEALTHY = record(ok={"const": True})
READY = record(
    ok={"const": True},
    config=one_of(["current", "last change ignored"]),
    dispatcher=one_of(["in time", "late"]),
)
NOT_READY = record(ok={"const": False}, store=TEXT)

PLUGIN = component(
    "Plugin",
    record(
        name=TEXT,
        place=or_null(whole(1)) | {"description": "In the order in which plugins are asked; null while it is off."},
        state=one_of(["on", "off", "off in this workspace", "set aside", "broken"]),
        broughtBy=TEXT,
        hooks=list_of(TEXT),
        answers=record(
            asked=whole(0),
            failed=whole(0),
            milliseconds=or_null({"type": "number"}),
            lastError=TEXT,
        )
        | {"description": "Of the latest: how often it was asked, and how that went."},
        deliveries=record(pending=whole(0), waiting=whole(0), dead=whole(0)),
        remarks=list_of(TEXT),
    ),
)
PLUGINS = component(
    "Plugins", record(plugins=list_of(PLUGIN), config=one_of(["current", "last change ignored"]))
)
