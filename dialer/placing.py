"""Whether and how a requested call may be placed: the checks of Dialer's own and of the plugins, in order.

Each step looks at the draft and may change it; the first Refusal ends the list. Nothing that the browser sent is
believed: agent and workspace come from the token's identity, which Twilio repeats as `Caller=client:<identity>`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dialer.calls import Call
from dialer.errors import ConfigError
from dialer.hookspecs import Refusal
from dialer.numbers import to_e164
from dialer.plugins import PluginSet, Verdict
from dialer.service import Service
from dialer.settings import Account, Settings
from dialer.webhook import Webhook

#: Seconds for all questions to plugins about one call: Twilio waits 15 for the answer (Twilio docs, webhooks), and what
#: is left is for the network and for a store that is busy.
ASKING_SECONDS = 8.0


def _asked_until() -> float:
    return time.monotonic() + ASKING_SECONDS


@dataclass(slots=True)
class Draft:
    """A call that is being decided on; plugins are asked `until` this moment of time.monotonic."""

    dialer: Service
    hook: Webhook
    plugins: PluginSet
    call: Call
    agent: Mapping[str, object] | None
    numbers: list[str]
    refusal: Refusal | None = None
    refused_by: str = "system"
    verdicts: list[Verdict] = field(default_factory=list)
    conference_options: dict[str, str] = field(default_factory=dict)
    until: float = field(default_factory=_asked_until)


def decide(draft: Draft) -> Draft:
    """Take the draft through every step until one refuses."""
    for step in STEPS:
        draft.refusal = step(draft)
        if draft.refusal:
            return draft
    return draft


def serves(settings: Settings, account: Account, workspace: str) -> bool:
    """Whether this workspace calls through this account."""
    try:
        return settings.account_of(workspace).sid == account.sid
    except ConfigError:
        return False


def check_agent(draft: Draft) -> Refusal | None:
    """The agent must be known, enabled, in an enabled workspace that this Twilio account serves."""
    agent = draft.agent
    if agent is None or agent["disabled_at"] or agent["workspace_disabled_at"]:
        return Refusal("You are not set up to make calls. Please ask your administrator.", "unknown-agent")
    if not draft.call.workspace:
        return Refusal("Your account cannot make calls here. Please ask your administrator.", "foreign-account")
    return None


def check_workspace(draft: Draft) -> Refusal | None:
    """The workspace that the browser names, if it names one, must be the agent's."""
    named = draft.hook.get("workspaceId")
    if named and named != draft.call.workspace:
        return Refusal("You cannot make calls for that workspace.", "foreign-workspace")
    return None


def read_number(draft: Draft) -> Refusal | None:
    """What was typed must be a phone number, and becomes E.164."""
    typed = draft.call.to
    if not typed:
        return Refusal("There is no number to call.", "no-number")
    number = to_e164(typed, draft.dialer.settings.default_region(draft.call.workspace))
    if number is None:
        return Refusal("That is not a phone number in international form, starting with plus.", "not-e164")
    draft.call = replace(draft.call, to=number)
    return None


def ask_plugins(draft: Draft) -> Refusal | None:
    """Every plugin may refuse the call; one is enough."""
    refusal, by, verdicts = validate(draft.plugins, draft.call, draft.until)
    draft.verdicts += verdicts
    draft.refused_by = by
    return refusal


def validate(plugins: PluginSet, call: Call, until: float) -> tuple[Refusal | None, str, list[Verdict]]:
    """The first refusal among what all plugins say of a call, whose it is, and what each said."""
    refusals, verdicts = plugins.gather("validate_call", call, until)
    if not refusals:
        return None, "system", verdicts
    plugin, refusal = refusals[0]
    return refusal, f"plugin:{plugin}", verdicts


def choose_caller_id(draft: Draft) -> Refusal | None:
    """What the customer sees: the plugins' choice, else the browser's wish, else the workspace's first number."""
    wished = draft.hook.get("callerId", "callerIdChoice", "From")
    if wished and not wished.startswith("client:"):
        wished = to_e164(wished, draft.dialer.settings.default_region(draft.call.workspace)) or "none"
        draft.call = replace(draft.call, from_=wished if wished in draft.numbers else "")
    else:
        wished = ""
    chosen, verdicts = draft.plugins.ask("choose_caller_id", draft.call, draft.until)
    draft.verdicts += verdicts
    chosen = chosen or wished
    if not chosen and not draft.numbers:
        return Refusal("Your workspace has no number to call from. Please ask your administrator.", "no-caller-id")
    if chosen and chosen not in draft.numbers:
        return Refusal("Your workspace does not own that caller ID.", "caller-id-not-owned")
    draft.call = replace(draft.call, from_=chosen or draft.numbers[0])
    return None


def name_conference(draft: Draft) -> Refusal | None:
    """A plugin's name, else the random one that the call has."""
    name, verdicts = draft.plugins.ask("name_conference", draft.call, draft.until)
    draft.verdicts += verdicts
    draft.call = replace(draft.call, conference=name or draft.call.conference)
    return None


def route(draft: Draft) -> Refusal | None:
    """A plugin may send the call to another number; that number is checked like one that was typed."""
    found, verdicts = draft.plugins.ask("route_call", draft.call, draft.until)
    draft.verdicts += verdicts
    if found is None:
        return None
    ring = found.ring_seconds or draft.call.ring_seconds
    if found.to == draft.call.to:
        draft.call = replace(draft.call, ring_seconds=ring)
        return None
    draft.call = replace(draft.call, to=found.to, ring_seconds=ring)
    return ask_plugins(draft)


def add_options(draft: Draft) -> Refusal | None:
    """Extra parameters of the dial request and of the conference; the earlier plugin wins."""
    options, verdicts = dial_options(draft.plugins, draft.call, draft.until)
    draft.verdicts += verdicts
    conference, verdicts = draft.plugins.gather("conference_options", draft.call, draft.until)
    draft.verdicts += verdicts
    draft.call = replace(
        draft.call,
        ring_seconds=int(options.pop("timeout", draft.call.ring_seconds)),
        time_limit=int(options.pop("time_limit", draft.call.time_limit)),
        options=options,
    )
    draft.conference_options = _merged(conference)
    return None


def dial_options(plugins: PluginSet, call: Call, until: float) -> tuple[dict[str, str], list[Verdict]]:
    """What the plugins set of the dial of this call's number, and what each said."""
    answers, verdicts = plugins.gather("dial_options", call, until)
    return _merged(answers), verdicts


def _merged(answers: list[tuple[str, dict[str, str]]]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for _, options in reversed(answers):
        merged |= options
    return merged


STEPS = (
    check_agent,
    check_workspace,
    read_number,
    ask_plugins,
    choose_caller_id,
    name_conference,
    route,
    add_options,
)
