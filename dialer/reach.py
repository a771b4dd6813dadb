"""Whether Twilio's webhooks reach us: what `dialer doctor` sends to our own public URL."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlencode, urljoin, urlsplit

import requests

from dialer.checkup import Case, Finding, cause_of, failed, ok, warning
from dialer.service import FALLBACK_PATH
from dialer.signature import FORM, signature_of
from dialer.transport import TIMEOUT


def check_public_url(case: Case) -> Iterator[Finding]:
    """The form of the public URL; a simulator takes any."""
    url = urlsplit(case.public_url)
    looked_at, host = f"public_url {case.public_url}", url.hostname or ""
    https = f"https://{host}{url.path}"
    if case.settings.simulated:
        return
    if url.scheme != "https":
        yield warning(looked_at, "names, numbers and signatures travel unencrypted", f"Set it to {https}")
    if url.port:
        yield warning(looked_at, "it has a port, which Twilio leaves out of signatures", f"Set it to {https}")
    if is_private(host):
        yield failed(looked_at, "Twilio cannot reach a private address", "Set it to a public https:// URL")


def is_private(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def check_webhooks(case: Case) -> Iterator[Finding]:
    """A webhook through the public URL is believed when it is signed rightly, and only then."""
    url = f"{case.public_url}{FALLBACK_PATH}?check={secrets.token_hex(4)}"
    looked_at, token = f"POST {url}", case.account.tokens[0].reveal()
    try:
        fault = fault_of(case, url, send(case, url, token))
        if fault:
            yield failed(looked_at, *fault)
            return
        forged = send(case, url, secrets.token_hex(16))
    except requests.RequestException as error:
        yield failed(looked_at, *unreached(case, error))
        return
    if forged.status_code == 403:
        yield ok(looked_at, "answered with TwiML when signed by Twilio's token, refused when not")
    else:
        found = f"HTTP {forged.status_code} for a wrong signature, not 403: something answers or signs for Dialer"
        yield failed(looked_at, found, f"Let {case.public_url} lead to {case.settings.server.bind}, unchanged")


def send(case: Case, url: str, token: str) -> requests.Response:
    """A harmless webhook, of a call that nobody has, signed as Twilio does."""
    form = {"AccountSid": case.account.sid, "CallSid": f"CA{secrets.token_hex(16)}", "CallStatus": "ringing"}
    headers = {"Content-Type": FORM, "X-Twilio-Signature": signature_of(signed_url(url), form.items(), token)}
    return requests.post(url, urlencode(form), headers=headers, timeout=TIMEOUT, allow_redirects=False)


def signed_url(url: str) -> str:
    """The URL as Twilio hashes it: over https without a port (Twilio docs, security)."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition(":")[0] if parts.scheme == "https" and parts.port else parts.netloc
    return parts._replace(netloc=host).geturl()


def fault_of(case: Case, url: str, answer: requests.Response) -> tuple[str, str] | None:
    """What is wrong with the answer to a good webhook, and what to do about it."""
    kind, status = answer.headers.get("Content-Type", ""), answer.status_code
    if answer.is_redirect:
        target = urljoin(url, answer.headers["Location"])
        base, path, _ = target.partition(FALLBACK_PATH)
        fix = f"Set DIALER_PUBLIC_URL to {base}" if path else f"Let {case.public_url} lead to Dialer without it"
        return f"HTTP {status} to {target}, where the form does not arrive", fix
    if status == 403:
        return refused(case, url, answer.text)
    if status in (502, 503, 504):
        fix = f"Start dialer run, and let the proxy lead to {case.settings.server.bind}"
        return f"HTTP {status}: the proxy finds no Dialer", fix
    if status != 200:
        return f"HTTP {status}: this is not Dialer", f"Let {case.public_url} lead to {case.settings.server.bind}"
    if kind.partition(";")[0] != "text/xml" or not answer.content.startswith(b"<?xml"):
        found = f"{kind or 'no content type'} that begins {answer.text[:20]!r}, not TwiML"
        return found, f"Let {case.public_url} lead to {case.settings.server.bind}, unchanged"
    return None


def refused(case: Case, url: str, told: str) -> tuple[str, str]:
    """Why a good signature was refused: Dialer says which URL it hashed."""
    hashed = told.partition("(hashed ")[2].partition(")")[0]
    if not hashed:
        return f"HTTP 403: {told[:100].strip()}", f"Serve {case.account.sid} there, and restart Dialer"
    if hashed in (url, signed_url(url)):
        fix = f"Give it and this command the same {case.name_of('auth_token')}, and restart it"
        return f"HTTP 403: the server knows another token (hashed {hashed})", fix
    found = f"HTTP 403: a proxy rewrites path or host, or the server has another public_url (hashed {hashed})"
    return found, f"Pass path and query on unchanged, and serve with DIALER_PUBLIC_URL={case.public_url}"


def unreached(case: Case, error: requests.RequestException) -> tuple[str, str]:
    if isinstance(error, requests.exceptions.SSLError):
        return f"no good certificate: {cause_of(error)}", f"Get one for {urlsplit(case.public_url).hostname}"
    fix = f"Start dialer run, and let {case.public_url} lead to {case.settings.server.bind}"
    return f"no answer: {cause_of(error)}", fix
