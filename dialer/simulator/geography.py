"""Countries by calling code, and the place names that Twilio adds to webhooks of telephone numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

E164 = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class Country:
    """A country one may dial, as the dialling permissions list it."""

    iso_code: str
    name: str
    continent: str
    codes: tuple[str, ...]


COUNTRIES: dict[str, Country] = {
    country.iso_code: country
    for country in (
        Country("US", "United States", "NORTH_AMERICA", ("+1",)),
        Country("CA", "Canada", "NORTH_AMERICA", ("+1",)),
        Country("MX", "Mexico", "NORTH_AMERICA", ("+52",)),
        Country("GB", "United Kingdom", "EUROPE", ("+44",)),
        Country("IE", "Ireland", "EUROPE", ("+353",)),
        Country("FR", "France", "EUROPE", ("+33",)),
        Country("DE", "Germany", "EUROPE", ("+49",)),
        Country("NL", "Netherlands", "EUROPE", ("+31",)),
        Country("ES", "Spain", "EUROPE", ("+34",)),
        Country("IT", "Italy", "EUROPE", ("+39",)),
        Country("CH", "Switzerland", "EUROPE", ("+41",)),
        Country("SE", "Sweden", "EUROPE", ("+46",)),
        Country("LV", "Latvia", "EUROPE", ("+371",)),
        Country("BR", "Brazil", "SOUTH_AMERICA", ("+55",)),
        Country("IN", "India", "ASIA", ("+91",)),
        Country("JP", "Japan", "ASIA", ("+81",)),
        Country("AU", "Australia", "OCEANIA", ("+61",)),
    )
}

CANADIAN_CODES = """
    204 226 236 249 250 263 289 306 343 354 365 367 368 382 403 416 418 428 431 437 438 450 468 474
    506 514 519 548 579 581 584 587 604 613 639 647 672 683 705 709 742 753 778 780 782 807 819 825
    867 873 879 902 905
"""
CANADA = frozenset(CANADIAN_CODES.split())


def is_number(text: str) -> bool:
    """Whether that is a telephone number in E.164 form."""
    return E164.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def country_of(number: str) -> str:
    """ISO code of a number's country; empty when unknown."""
    if number.startswith("+1"):
        return "CA" if number[2:5] in CANADA else "US"
    found = (c.iso_code for c in COUNTRIES.values() if any(number.startswith(code) for code in c.codes))
    return next(found, "")


@lru_cache(maxsize=4096)
def place_of(number: str) -> tuple[str, str, str, str]:
    """City, state, zip and country of a number; empty where not known."""
    if number.startswith("+1415"):
        return "SAN FRANCISCO", "CA", "94105", "US"
    return "", "", "", country_of(number)
