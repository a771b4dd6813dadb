"""TwiML programs: fetched with fallback, run verb by verb, taken away."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dialer.simulator import addresses, progress, verbs, webhooks
from dialer.simulator.documents import DocumentError, Verb, parse, read_answer
from dialer.simulator.fields import Fields, call_fields
from dialer.simulator.lint import lint
from dialer.simulator.model import Call
from dialer.simulator.running import Execution
from dialer.simulator.webhooks import Outcome

if TYPE_CHECKING:
    from dialer.simulator.network import Network

APOLOGY_SECONDS = 4.0


def begin(network: Network, call: Call) -> None:
    """Run the first program of a call: its TwiML, or what its voice URL answers."""
    if call.twiml:
        run_text(network, call, call.twiml)
        return
    fields: Fields = list(call.voice_params)
    if call.answered_by and call.amd and not call.amd.asynchronous:
        fields.append(("AnsweredBy", call.answered_by))
    fetch(network, call, call.urls.voice_url, call.urls.voice_method, "voice", fields)


def redirect(network: Network, call: Call, url: str, method: str, twiml: str) -> None:
    """Take the running program away and run another, as REST asks."""
    network.note("redirected", call, url=url)
    network.cancel(call.timers.pop("program", None))
    stop(network, call, "participant_updated_via_api")
    if url:
        fetch(network, call, url, method, "voice")
    else:
        run_text(network, call, twiml)


def stop(network: Network, call: Call, reason: str) -> None:
    """Take the running program away, with all that its verb has begun."""
    execution, call.execution = call.execution, None
    if execution is not None:
        release(network, execution)
        if execution.undo is not None:
            execution.undo(reason)
            execution.undo = None


def release(network: Network, execution: Execution) -> None:
    """Forget what the running verb waits for."""
    network.cancel(execution.timer)
    execution.timer = execution.keys = execution.resume = None


def hold_program(call: Call) -> Execution:
    """An empty program: the call ends when whatever runs in it is over."""
    call.execution = Execution()
    return call.execution


def run_text(network: Network, call: Call, twiml: str) -> None:
    """Run a program that was given as text, and parsed when it was accepted."""
    run(network, call, hold_program(call), parse(twiml), None)


def fetch(
    network: Network, call: Call, url: str, method: str, purpose: str, extra: Fields | None = None
) -> None:
    """Ask the application for a program and run it in place of the present one."""
    was_fallback = call.execution is not None and call.execution.is_fallback
    then = call.execution.then if call.execution is not None else None
    execution = call.execution = Execution(is_fallback=purpose == "fallback" or was_fallback, then=then)
    fields = call_fields(call) + (extra or [])
    done = partial(received, network, call, execution)
    webhooks.send(network, call.account_sid, purpose, method, url, fields, call, None, done)


def received(network: Network, call: Call, execution: Execution, outcome: Outcome) -> None:
    """Run what the application answered, if the call still waits for it."""
    if call.execution is not execution:
        return
    try:
        document = read_document(outcome)
    except DocumentError as error:
        failed(network, call, execution, error.code, error.message, outcome.url)
        return
    run(network, call, execution, document, outcome.url)


def read_document(outcome: Outcome) -> list[Verb]:
    """What a webhook brought. Raises DocumentError, also when nothing came."""
    if outcome.code:
        raise DocumentError(outcome.code, outcome.message)
    return read_answer(outcome.answer.headers, outcome.answer.body)


def run(
    network: Network, call: Call, execution: Execution, document: list[Verb], base_url: str | None
) -> None:
    """Run a document from its first verb."""
    network.note("program-start", call, url=base_url or "", verbs=[verb.name for verb in document])
    for finding in lint(document):
        if finding.bad_value and network.knobs.bad_attribute == "fail":
            failed(network, call, execution, finding.code, finding.message, base_url or "")
            return
        network.alert(call.account_sid, finding.code, finding.message, call=call, url=base_url)
    execution.verbs, execution.position, execution.base_url = document, 0, base_url
    proceed(network, call, execution)


def proceed(network: Network, call: Call, execution: Execution) -> None:
    """Run the next verb; after the last, the call ends or goes where its program came from."""
    assert call.execution is execution
    release(network, execution)
    execution.undo = None
    if execution.position < len(execution.verbs):
        verb = execution.verbs[execution.position]
        execution.position += 1
        verbs.run(network, call, execution, verb)
    elif execution.then is not None:
        execution.then()
    else:
        network.note("program-end", call)
        progress.end(network, call, "completed", "program")


def wait(network: Network, call: Call, execution: Execution, seconds: float) -> None:
    """Go on with the next verb after that time; never, when it is infinite."""
    if seconds != float("inf"):
        execution.timer = network.later(seconds, proceed, network, call, execution)


def failed(
    network: Network, call: Call, execution: Execution, code: int, message: str, url: str
) -> None:
    """A program that could not be had or run: the fallback URL is asked, or an apology ends the call."""
    network.alert(call.account_sid, code, message, call=call, url=url)
    fallback = call.urls.voice_fallback_url
    if fallback and not execution.is_fallback:
        extra = [*call.voice_params, ("ErrorCode", str(code)), ("ErrorUrl", url)]
        fetch(network, call, fallback, call.urls.voice_fallback_method, "fallback", extra)
        return
    network.note("application-error", call, code=code)
    if call.phase != "in-progress":
        progress.begin_talk(network, call)
    execution.timer = network.later(
        APOLOGY_SECONDS, progress.end, network, call, "completed", "application-error"
    )


def follow(
    network: Network,
    call: Call,
    execution: Execution,
    verb: Verb,
    purpose: str,
    fields: Fields,
    default_url: str = "",
) -> None:
    """Go where a verb's action points, with the verb's result; without one, to the next verb."""
    written = verb.get("action").strip()
    if not written and not default_url:
        proceed(network, call, execution)
        return
    url = addresses.resolve(execution.base_url, written) if written else default_url
    if not url:
        code = 15004 if execution.base_url is None else 11200
        failed(network, call, execution, code, f"{verb.name} action {written!r} is not a usable URL", "")
        return
    release(network, execution)
    execution.undo = None
    fetch(network, call, url, verb.method(), purpose, fields)
