"""Webhook addresses: their overrides after the #, their query, and relative ones made absolute."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from dialer.simulator.fields import Fields


@dataclass(frozen=True, slots=True)
class Policy:
    """Time-outs in seconds, and which failures are tried again how often."""

    connect: float = 5.0
    read: float = 15.0
    total: float = 15.0
    retries: int = 1
    retry_on: frozenset[str] = frozenset({"ct"})
    bad: str = ""
    """An override that could not be read."""


@lru_cache(maxsize=4096)
def split_overrides(url: str, retries: int, retry_on: str) -> tuple[str, Policy]:
    """The URL without its fragment, and the policy that the fragment asks for (webhook overrides)."""
    base, _, fragment = url.partition("#")
    values = dict(parse_qsl(fragment))
    bad: list[str] = []

    def bounded(name: str, low: int, high: int, default: int) -> int:
        text = values.get(name, str(default))
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            return int(text)
        bad.append(f"{name}={text}")
        return default

    policies = frozenset(values.get("rp", retry_on).split(","))
    if not policies <= {"ct", "rt", "4xx", "5xx", "all"}:
        bad.append(f"rp={','.join(sorted(policies))}")
        policies = frozenset({"ct"})
    connect = bounded("ct", 100, 10_000, 5000) / 1000
    read = bounded("rt", 100, 15_000, 15_000) / 1000
    total = bounded("tt", 100, 15_000, 15_000) / 1000
    count = bounded("rc", 0, 5, retries)
    return base, Policy(connect, read, total, count, policies, ", ".join(bad))


def with_query(url: str, fields: Fields) -> str:
    """The URL with those fields added to its query."""
    return url + ("&" if "?" in url else "?") + urlencode(fields)


def resolve(base_url: str | None, url: str) -> str:
    """A URL of a document made absolute; empty when it cannot be."""
    url = url.strip()
    try:
        absolute = urljoin(base_url, url) if base_url else url
        parts = urlsplit(absolute)
    except ValueError:  # brackets that hold no IPv6 address, and the like
        return ""
    return absolute if parts.scheme in ("http", "https") and parts.netloc else ""
