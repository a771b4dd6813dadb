"""THE CALL: Twilio's webhooks, in the order in which Twilio sends them.

    browser: device.connect({params: {To, From, workspaceId}})
      1  POST /v1/voice/twiml              the agent's leg asks what to do: it is put into a conference, or refused
      2  POST /v1/voice/conference-status  the agent is in: the customer is dialled (by a job, after this answer)
      3  POST /v1/voice/status             the customer's leg: initiated, ringing, answered, completed
      4  POST /v1/voice/conference-join    the customer answered: into the same conference, or sent off politely
      5  POST /v1/voice/conference-status  who came, who left, when it ended
      6  POST /v1/voice/status             how each leg ended
         POST /v1/voice/machine-detection  who answered, a person or a machine, where a plugin asked for it
         POST /v1/voice/recording          a recording began, is ready, or came to nothing
         POST /v1/voice/fallback           Twilio could not get or run our TwiML

Each: verify the signature, ask the hooks, let `machine.py` decide, commit once, answer. Nothing waits for the network.
"""

from __future__ import annotations

from dataclasses import replace

from dialer import twiml
from dialer.calls import Call, Event, agent_gone, new_role, role_of
from dialer.crash import crash_point
from dialer.openapi import webhook
from dialer.placing import Draft, decide, serves
from dialer.plugins import PluginSet
from dialer.records import Fact, add_verdicts, begin, find_call, record
from dialer.service import (
    CONFERENCE_STATUS_PATH,
    DETECTION_PATH,
    FALLBACK_PATH,
    JOIN_PATH,
    RECORDING_PATH,
    STATUS_PATH,
    TWIML_PATH,
    Service,
)
from dialer.store import Tx
from dialer.webhook import Answer, Refused, Webhook, Webhooks

webhooks = Webhooks()


@webhooks.post(TWIML_PATH)
@webhook("CallSid", "Caller", "To", twiml=True)
def answer_agent(dialer: Service, hook: Webhook) -> Answer:
    """The agent's browser calls: decide, store the call, answer with its conference or a spoken refusal."""
    call_sid, caller = hook.sid(), hook.field("Caller")
    identity = caller.removeprefix("client:") if caller.startswith("client:") else ""
    hook.field("To")
    with dialer.store.read() as tx:
        known = tx.one("answer_of_leg", call_sid=call_sid, account_sid=hook.account.sid)
        agent = tx.one("agent", identity=identity)
        numbers = [row["number"] for row in tx.all("numbers", workspace=agent["workspace"])] if agent else []
    if known:
        hook.notes["outcome"] = "replayed"
        return xml(known["twiml"])
    plugins = dialer.plugins.current()
    workspace = agent["workspace"] if agent and serves(dialer.settings, hook.account, agent["workspace"]) else ""
    call = new_call(dialer, hook, identity, workspace, plugins)
    draft = decide(Draft(dialer, hook, plugins, call, dict(agent) if agent else None, numbers))
    return xml(place(dialer, hook, draft))


def new_call(dialer: Service, hook: Webhook, identity: str, workspace: str, plugins: PluginSet) -> Call:
    """The call as requested, before anything was checked."""
    calls = dialer.settings.calls
    return Call(
        id=f"call_{dialer.random_hex(12)}",
        workspace=workspace,
        agent=identity,
        to=hook.get("toNumber", "To"),
        from_="",
        conference=conference_name(dialer, workspace),
        account_sid=hook.account.sid,
        dial_when=calls.dial_when,
        intent=f"di_{dialer.random_hex(16)}",
        requested_at=dialer.clock(),
        ring_seconds=calls.ring_seconds,
        time_limit=calls.time_limit_seconds,
        plugins=plugins.in_workspace(workspace).label,
        asks=plugins.in_workspace(workspace).follow_up,
    )


def place(dialer: Service, hook: Webhook, draft: Draft) -> str:
    """Store what was decided, in one transaction, and give the TwiML; the first of two equal requests decides."""
    refusal, call_sid = draft.refusal, hook.sid()
    with dialer.store.write() as tx:
        known = tx.one("answer_of_leg", call_sid=call_sid, account_sid=hook.account.sid)
        if known:
            hook.notes["outcome"] = "replayed"
            return str(known["twiml"])
        # Of a leg that is no agent's, each repetition would make another call.
        if tx.one("call_of_leg", call_sid=call_sid, account_sid=hook.account.sid):
            raise Refused(400, "field CallSid is of a leg that no agent called with")
        if tx.one("conference_taken", conference=draft.call.conference):  # by a plugin that names two calls alike
            draft.call = replace(draft.call, conference=conference_name(dialer, draft.call.workspace))
        answer, now = first_twiml(dialer, draft), dialer.clock()
        event = Event("leg", now, "agent", call_sid, status="ringing")
        if refusal:
            event = replace(event, kind="refused", by=draft.refused_by, reason=refusal.reason, rule=refusal.rule)
        fact = Fact(f"twiml:{call_sid}", "call-started", "webhook", event, hook.form)
        call = begin(tx, draft.call, answer, fact, now=now, plugins=draft.plugins)
        add_verdicts(tx, call, draft.verdicts)
        crash_point("twiml.before_commit")
    crash_point("twiml.after_commit")
    note(hook, call, f"refused {refusal.rule}" if refusal else "conference")
    if refusal:
        hook.notes["reason"] = refusal.reason
    return answer


def conference_name(dialer: Service, workspace: str) -> str:
    return f"{workspace or 'none'}-{dialer.random_hex(16)}"


def first_twiml(dialer: Service, draft: Draft) -> str:
    """What the agent's leg is answered with: why not, or the conference."""
    if draft.refusal:
        return twiml.sentence(draft.refusal.reason, dialer.settings.calls.language)
    return twiml.agent_conference(
        draft.call.conference,
        status_callback=dialer.url(CONFERENCE_STATUS_PATH),
        recording_callback=dialer.url(RECORDING_PATH, conference=draft.call.conference),
        wait_url=dialer.settings.calls.wait_url,
        time_limit=draft.call.time_limit,
        options=draft.conference_options,
    )


@webhooks.post(CONFERENCE_STATUS_PATH)
@webhook("StatusCallbackEvent", "ConferenceSid", "FriendlyName")
def conference_status(dialer: Service, hook: Webhook) -> Answer:
    """Who is in the conference. The agent's join is what lets the customer be dialled."""
    name, conference_sid = hook.field("StatusCallbackEvent"), hook.field("ConferenceSid")
    conference, plugins = hook.field("FriendlyName"), dialer.plugins.current()
    with dialer.store.write() as tx:
        now = dialer.clock()
        call = find_call(tx, "call_of_conference", conference=conference, account_sid=hook.account.sid)
        if call is None:
            raise Refused(404, "no call of ours has this conference")
        event = conference_event(call, hook, name, now)
        key = f"conference:{conference_sid}:{hook.get('SequenceNumber')}:{name}:{event.call_sid}"
        store_fact(hook, tx, call, Fact(key, name, "webhook", event, hook.form), now, plugins)
    crash_point("event.after_commit")
    return no_content()


def conference_event(call: Call, hook: Webhook, name: str, now: float) -> Event:
    """A conference callback as a fact: its kind, whose leg it is about, and whom it shows to have left first."""
    at, call_sid = hook.happened_at(now), hook.get("CallSid")
    label = hook.get("ParticipantLabel")
    role = role_of(call, call_sid) or (new_role(call) if label == "customer" else label)
    event = Event(name, at, role, call_sid, conference_sid=hook.get("ConferenceSid"))
    if name == "participant-join":
        hook.sid()
        return replace(event, kind="join", status="in-progress")
    if name == "participant-leave":
        hook.sid()
        hung_up = hook.get("ReasonParticipantLeft") == "participant_hung_up"
        return replace(event, kind="leave", by=role if hung_up else "")
    if hook.get("ReasonConferenceEnded") == "participant-with-end-conference-on-exit-left":
        return replace(event, by=role_of(call, hook.get("CallSidEndingConference")))
    return event


@webhooks.post(STATUS_PATH)
@webhook("CallSid", "CallStatus", query=["intent"])
def status(dialer: Service, hook: Webhook) -> Answer:
    """How far one leg got: the agent's (the TwiML App's status callback) or the customer's (our dial request's)."""
    call_sid, leg_status, plugins = hook.sid(), hook.field("CallStatus"), dialer.plugins.current()
    with dialer.store.write() as tx:
        now = dialer.clock()
        call = call_of(tx, hook, call_sid)
        if call is None:
            raise Refused(404, "no call of ours has this leg")
        duration = hook.get("CallDuration")
        event = Event(
            "leg",
            hook.happened_at(now),
            role_of(call, call_sid) or new_role(call, hook.query.get("intent", "")),
            call_sid,
            status=leg_status,
            duration=int(duration) if duration.isdecimal() and len(duration) < 10 else None,
        )
        key = f"status:{call_sid}:{hook.get('SequenceNumber')}:{leg_status}"
        store_fact(hook, tx, call, Fact(key, f"leg-{leg_status}"[:60], "webhook", event, hook.form), now, plugins)
    crash_point("event.after_commit")
    return no_content()


@webhooks.post(JOIN_PATH)
@webhook("CallSid", query=["intent", "conference"], twiml=True)
def answer_customer(dialer: Service, hook: Webhook) -> Answer:
    """The customer answered: only the leg we dialled, and only while the agent is there, enters the conference."""
    call_sid, conference, plugins = hook.sid(), hook.query.get("conference", ""), dialer.plugins.current()
    with dialer.store.write() as tx:
        call, now = call_of(tx, hook, call_sid), dialer.clock()
        if call is None or call.conference != conference:
            hook.notes["outcome"] = "refused unknown-conference"
            return say(dialer, "This call cannot be connected. Goodbye.")
        role = role_of(call, call_sid) or new_role(call, hook.query.get("intent", ""))
        event = Event("leg", now, role, call_sid, status="in-progress")
        fact = Fact(f"join:{call_sid}", "customer-answered", "webhook", event, hook.form)
        call = store_fact(hook, tx, call, fact, now, plugins)
    crash_point("event.after_commit")
    if may_join(call, role):
        hook.notes["outcome"] = "conference"
        return xml(customer_twiml(dialer, call))
    hook.notes["outcome"] = "refused nobody-there"
    return say(dialer, "Sorry, nobody is available to talk to you now. Goodbye.")


def may_join(call: Call, role: str) -> bool:
    """Whether a leg is the customer's of a call that somebody still waits in."""
    return role == "customer" and not (call.over or agent_gone(call) or call.end_requested_by)


def customer_twiml(dialer: Service, call: Call) -> str:
    return twiml.customer_conference(
        call.conference,
        status_callback=dialer.url(CONFERENCE_STATUS_PATH),
        time_limit=call.time_limit,
        opening=opening(dialer, call),
    )


def opening(dialer: Service, call: Call) -> twiml.Opening | None:
    """What the customer hears before he is joined, and the recording that must not begin before he heard it."""
    options, recording = call.options, {}
    if not options.get("announcement"):
        return None
    if options.get("record") == "true":
        recording = {
            "channels": options.get("recording_channels", "mono"),
            "track": options.get("recording_track", "both"),
            "trim": options.get("trim", "do-not-trim"),
            "recording_status_callback": dialer.url(RECORDING_PATH, intent=call.intent),
            "recording_status_callback_event": " ".join(twiml.RECORDING_EVENTS),
        }
    return twiml.Opening(options["announcement"], dialer.settings.calls.language, recording)


@webhooks.post(DETECTION_PATH)
@webhook("CallSid", "AnsweredBy", query=["intent"])
def machine_detection(dialer: Service, hook: Webhook) -> Answer:
    """Who answered the customer's phone. It changes nothing by itself: plugins are told, and may act."""
    call_sid, answered_by, plugins = hook.sid(), hook.field("AnsweredBy"), dialer.plugins.current()
    with dialer.store.write() as tx:
        store_news(dialer, hook, tx, plugins, f"detection:{call_sid}", "machine-detection", answered_by)
    return no_content()


@webhooks.post(RECORDING_PATH)
@webhook("RecordingSid", "RecordingStatus", query=["intent", "conference"])
def recording(dialer: Service, hook: Webhook) -> Answer:
    """A recording of the customer's leg or of the conference: in-progress, completed (with its URL) or absent."""
    sid, state, plugins = hook.field("RecordingSid"), hook.field("RecordingStatus"), dialer.plugins.current()
    with dialer.store.write() as tx:
        store_news(dialer, hook, tx, plugins, f"recording:{sid}:{state}", f"recording-{state}"[:60], state)
    return no_content()


def store_news(dialer: Service, hook: Webhook, tx: Tx, plugins: PluginSet, key: str, name: str, status: str) -> None:
    """Store a fact that is no step of the call; 404 when the call is none of ours."""
    now, call_sid = dialer.clock(), hook.get("CallSid")
    call = call_of(tx, hook, call_sid) or find_call(
        tx, "call_of_conference", conference=hook.query.get("conference", ""), account_sid=hook.account.sid
    )
    if call is None:
        raise Refused(404, "no call of ours has this leg")
    event = Event("checked", now, role_of(call, call_sid), call_sid, status=status)
    store_fact(hook, tx, call, Fact(key, name, "webhook", event, hook.form), now, plugins)


@webhooks.post(FALLBACK_PATH)
@webhook("CallSid", query=["intent"], twiml=True)
def fallback(dialer: Service, hook: Webhook) -> Answer:
    """Twilio could not get or run our TwiML: the error code on record, and a polite sentence.

    A customer whose agent waits is put through all the same: only our answer to his join was lost.
    """
    call_sid, code, plugins = hook.sid(), hook.get("ErrorCode"), dialer.plugins.current()
    hook.notes |= {"error_code": code, "error_url": hook.get("ErrorUrl")}
    with dialer.store.write() as tx:
        call, now = call_of(tx, hook, call_sid), dialer.clock()
        if call:
            event = Event("checked", now, role_of(call, call_sid), call_sid)
            fact = Fact(f"fallback:{call_sid}:{code}", "fallback", "webhook", event, hook.form)
            call = store_fact(hook, tx, call, fact, now, plugins)
    if call and may_join(call, role_of(call, call_sid)):
        hook.notes["outcome"] = "conference"
        return xml(customer_twiml(dialer, call))
    return say(dialer, "Sorry, this call could not be connected. Please try again in a moment.")


def call_of(tx: Tx, hook: Webhook, call_sid: str) -> Call | None:
    """The call of this leg: known by its sid, else by the unguessable dial intent that our callback URLs carry."""
    account_sid = hook.account.sid
    return find_call(tx, "call_of_leg", call_sid=call_sid, account_sid=account_sid) or find_call(
        tx, "call_of_intent", intent=hook.query.get("intent", ""), account_sid=account_sid
    )


def store_fact(hook: Webhook, tx: Tx, call: Call, fact: Fact, now: float, plugins: PluginSet) -> Call:
    """Record the fact, once, and note in the log line what it came to."""
    after = record(tx, call, fact, now=now, plugins=plugins)
    note(hook, after or call, "stored" if after else "known already")
    hook.notes["event"] = fact.name
    crash_point("event.before_commit")
    return after or call


def note(hook: Webhook, call: Call, outcome: str) -> None:
    hook.notes |= {"call": call.id, "status": call.status, "outcome": outcome}
    if call.over:
        hook.notes["ended_by"] = call.ended_by


def xml(text: str) -> Answer:
    return Answer(200, text)


def say(dialer: Service, text: str) -> Answer:
    return xml(twiml.sentence(text, dialer.settings.calls.language))


def no_content() -> Answer:
    return Answer(204)
