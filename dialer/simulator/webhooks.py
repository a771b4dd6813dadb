"""Webhooks: signed, sent with Twilio's time-outs, retried by Twilio's rules, answered or given up."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from dialer.simulator.addresses import Policy, split_overrides, with_query
from dialer.simulator.fields import Fields
from dialer.simulator.model import Call, Conference, WebAnswer, WebRequest
from dialer.simulator.running import Callback, Timer
from dialer.simulator.webhook_faults import event_delay, schedule_event, strikes

if TYPE_CHECKING:
    from dialer.simulator.network import Network

USER_AGENT = "TwilioProxy/1.1"
FORM_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"
EVENTS = frozenset({"status", "conference", "recording", "amd"})
"""Purposes that only tell; the answer changes nothing."""
MAX_REDIRECTS = 10


@dataclass(slots=True)
class Outcome:
    """How a webhook ended: its answer, or Twilio's error code. `url` is the one that answered."""

    url: str
    answer: WebAnswer
    code: int = 0
    message: str = ""


@dataclass(slots=True)
class Exchange:
    """One webhook through all its attempts and redirects."""

    account_sid: str
    purpose: str
    method: str
    url: str
    fields: Fields
    policy: Policy
    token: str
    call: Call | None
    conference: Conference | None
    done: Callable[[Outcome], None] | None
    deadline: float = 0.0
    """All attempts together end here."""
    attempt: int = 0
    redirects: int = 0
    timer: Timer | None = None
    answer_lost: bool = False


# Signature (Twilio docs, security)


def sign(auth_token: str, url: str, fields: Sequence[tuple[str, str]] = ()) -> str:
    """X-Twilio-Signature of a request: the URL, then every form field by name, values without repeats."""
    data = url + "".join([name + value for name, value in sorted(set(fields))])
    return base64.b64encode(hmac.digest(auth_token.encode(), data.encode(), "sha1")).decode()


@lru_cache(maxsize=1024)
def signed_url(url: str) -> str:
    """The URL as it is signed: without user-info, and without the port when it is https."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    if parts.scheme == "https":
        host, colon, port = place.rpartition(":")
        place = host if colon and port.isdigit() else place
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{place}{rest[len(parts.netloc) :]}"


# Sending


def send(
    network: Network,
    account_sid: str,
    purpose: str,
    method: str,
    url: str,
    fields: Fields,
    call: Call | None = None,
    conference: Conference | None = None,
    done: Callable[[Outcome], None] | None = None,
) -> Exchange:
    """Send a webhook soon; `done` hears how it ended, after retries."""
    base, policy = split_overrides(url, network.knobs.retry_count, network.knobs.retry_policy)
    if policy.bad:
        network.alert(account_sid, 11243, f"Override {policy.bad} is ignored", call=call, url=base)
    token = f"{network.random_bits(128):032x}"
    token = f"{token[:8]}-{token[8:12]}-4{token[13:16]}-a{token[17:20]}-{token[20:]}"
    exchange = Exchange(account_sid, purpose, method, base, fields, policy, token, call, conference, done)
    delay = network.spread(network.knobs.webhook_delay)
    if purpose in EVENTS:
        if strikes(network, "webhook_lost", exchange):
            network.note("webhook-lost", call, conference, purpose=purpose, url=base)
            return exchange
        delay += event_delay(network, exchange)
        if network.chance(network.knobs.duplicate_callbacks):
            repeat(network, exchange, delay)
    if network.draw("webhook_repeated"):
        repeat(network, exchange, delay)
    if purpose in EVENTS:
        schedule_event(network, exchange, delay, attempt)
    else:
        exchange.timer = network.later(delay, attempt, network, exchange)
    return exchange


def repeat(network: Network, first: Exchange, delay: float) -> None:
    """Send the same webhook once more; nobody waits for the answer of the second."""
    network.later(delay + network.uniform(0.0, 2.0), attempt, network, replace(first, done=None))


def notify(
    network: Network,
    purpose: str,
    callback: Callback,
    account_sid: str,
    fields: Fields,
    call: Call | None = None,
    conference: Conference | None = None,
) -> None:
    """Tell a subscriber of an event; a bad answer becomes an alert (15003, 16011)."""

    def done(outcome: Outcome) -> None:
        problem = outcome.message
        if purpose == "status" and not problem and not is_acknowledgement(outcome.answer):
            problem = "Answered with a body that is not XML"
        if problem:
            code = 16011 if purpose == "conference" else 15003
            network.alert(account_sid, code, problem, call=call, conference=conference, url=outcome.url)

    send(network, account_sid, purpose, callback.method, callback.url, fields, call, conference, done)


def is_acknowledgement(answer: WebAnswer) -> bool:
    """A status callback is answered with nothing or with XML (error 15003)."""
    content_type = answer.header("Content-Type")
    return not answer.body or "xml" in content_type or content_type.startswith("text/html")


def attempt(network: Network, exchange: Exchange) -> None:
    """Make one attempt: hand a signed request to the driver."""
    if exchange.attempt == 0 and exchange.redirects == 0:
        exchange.deadline = network.now + exchange.policy.total
    exchange.attempt += 1
    exchange.answer_lost = False
    if strikes(network, "webhook_unreachable", exchange):
        exchange.timer = network.later(0.1, failed, network, exchange, "connect")
        return
    exchange.answer_lost = strikes(network, "webhook_answer_lost", exchange)
    request = build_request(network, exchange)
    network.exchanges[request.id] = exchange
    limit = request.total_timeout
    if exchange.answer_lost:  # connected, so only the reading times out
        limit = min(limit, exchange.policy.read)
    exchange.timer = network.later(limit, timed_out, network, exchange, request.id)
    note = {"id": request.id, "purpose": request.purpose, "attempt": request.attempt, "url": request.url}
    network.note("request", exchange.call, exchange.conference, **note)
    network.put_request(request)


def build_request(network: Network, exchange: Exchange) -> WebRequest:
    """The attempt that the driver performs; a GET carries its fields in the query."""
    url, form = exchange.url, exchange.fields
    if exchange.method == "GET":
        url, form = with_query(url, form), []
    headers = build_headers(network, exchange, url, form)
    call, conference, policy = exchange.call, exchange.conference, exchange.policy
    return WebRequest(
        network.request_id(),
        exchange.attempt,
        network.now,
        exchange.method,
        url,
        headers,
        form,
        policy.connect,
        policy.read,
        min(policy.connect + policy.read, max(0.1, exchange.deadline - network.now)),
        exchange.account_sid,
        call.sid if call else None,
        conference.sid if conference else None,
        exchange.purpose,
    )


def build_headers(network: Network, exchange: Exchange, url: str, form: Fields) -> dict[str, str]:
    token = network.accounts[exchange.account_sid].auth_token
    headers = {
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "I-Twilio-Idempotency-Token": exchange.token,
        "X-Twilio-Signature": sign(token, signed_url(url), form),
    }
    if exchange.method != "GET":
        headers["Content-Type"] = FORM_TYPE
    call = exchange.call
    if call is not None and call.cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in call.cookies.items())
    return headers


# Answers


def answer(network: Network, request_id: str, answer: WebAnswer) -> None:
    """Take the answer of an attempt."""
    exchange = network.exchanges.get(request_id)
    if exchange is None or exchange.answer_lost:
        return
    del network.exchanges[request_id]
    network.cancel(exchange.timer)
    note = {"id": request_id, "purpose": exchange.purpose, "status": answer.status, "failed": answer.failed}
    network.note("response", exchange.call, exchange.conference, **note)
    if answer.failed:
        failed(network, exchange, answer.failed)
    else:
        keep_cookies(exchange.call, answer)
        answered(network, exchange, answer)


def timed_out(network: Network, exchange: Exchange, request_id: str) -> None:
    if network.exchanges.pop(request_id, None) is not None:
        failed(network, exchange, "timeout")


def failed(network: Network, exchange: Exchange, how: str) -> None:
    """An attempt that brought no answer: retried, or error 11205."""
    if retry(network, exchange, "ct" if how == "connect" else "rt"):
        return
    outcome = WebAnswer(0, {}, b"", "connect" if how == "connect" else "timeout")
    conclude(exchange, Outcome(exchange.url, outcome, 11205, f"No answer: {how}"))


def answered(network: Network, exchange: Exchange, answer: WebAnswer) -> None:
    """An attempt that was answered: redirected, retried, or over."""
    status = answer.status
    if 200 <= status < 300:
        conclude(exchange, Outcome(exchange.url, answer))
    elif status in (301, 302, 303, 307, 308):
        redirect(network, exchange, answer)
    elif not retry(network, exchange, f"{status // 100}xx"):
        conclude(exchange, Outcome(exchange.url, answer, 11200, f"Answered with HTTP status {status}"))


def retry(network: Network, exchange: Exchange, why: str) -> bool:
    """Try again when the policy allows it for this failure."""
    policy = exchange.policy
    if exchange.attempt > policy.retries or not policy.retry_on & {why, "all"}:
        return False
    delay = network.spread(network.knobs.retry_delay)
    if network.now + delay >= exchange.deadline:
        return False
    exchange.timer = network.later(delay, attempt, network, exchange)
    return True


def redirect(network: Network, exchange: Exchange, answer: WebAnswer) -> None:
    """Follow a redirect, at most ten."""
    location = answer.header("Location")
    url = urljoin(exchange.url, location).partition("#")[0]
    if not location or urlsplit(url).scheme not in ("http", "https"):
        conclude(exchange, Outcome(exchange.url, answer, 11216, "A redirect without a usable address"))
        return
    exchange.redirects += 1
    if exchange.redirects > MAX_REDIRECTS:
        conclude(exchange, Outcome(exchange.url, answer, 11215, "Too many redirects"))
        return
    exchange.url, exchange.attempt = url, 0
    if answer.status not in (307, 308):
        exchange.method = "GET"
    exchange.timer = network.later(0.0, attempt, network, exchange)


def conclude(exchange: Exchange, outcome: Outcome) -> None:
    if exchange.done is not None:
        exchange.done(outcome)


def keep_cookies(call: Call | None, answer: WebAnswer) -> None:
    """Cookies last as long as the call (Twilio docs, twiml); several are lines of one value."""
    for cookie in answer.header("Set-Cookie").splitlines():
        name, _, content = cookie.partition(";")[0].partition("=")
        if call is not None:
            call.cookies[name.strip()] = content.strip()
