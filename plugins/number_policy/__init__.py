"""Refuse numbers that a company does not want to call: other countries, premium rate, satellites."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType

from dialer import Call, Refusal, hookimpl
from dialer.numbers import E164
from dialer.tables import Setting

_PREFIX = re.compile(r"\+[1-9][0-9]{0,14}")

#: Kinds of numbers that cost the caller, or earn the called one, more than an ordinary call.
_COSTLY = {
    PhoneNumberType.PREMIUM_RATE: "premium-rate",
    PhoneNumberType.SHARED_COST: "shared-cost",
    PhoneNumberType.UAN: "company-wide",
    PhoneNumberType.PERSONAL_NUMBER: "personal-number",
}


@dataclass(frozen=True)
class NumberPolicy:
    """Refuse numbers outside the allowed countries, premium rate numbers and satellite phones."""

    countries: Annotated[tuple[str, ...], Setting("ISO countries that may be called")] = ("US", "CA")
    allow_premium: Annotated[bool, Setting("also premium rate, shared cost and personal numbers")] = False
    allow: Annotated[tuple[str, ...], Setting("prefixes that may be called, whatever else is set")] = ()
    refuse: Annotated[tuple[str, ...], Setting("prefixes that are never called")] = ()

    def __post_init__(self) -> None:
        for place in self.countries:
            if place not in phonenumbers.SUPPORTED_REGIONS:
                raise ValueError(f"countries {place!r} is not an ISO country such as US or GB, in capitals")
        if not (self.countries or self.allow):
            raise ValueError("countries is empty and allow too, so nothing could be called; name one")
        for name, prefixes in (("allow", self.allow), ("refuse", self.refuse)):
            for prefix in prefixes:
                if not _PREFIX.fullmatch(prefix):
                    raise ValueError(f"{name} {prefix!r} is not a prefix such as +1415: a plus and digits")

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | None:
        if not E164.fullmatch(call.to):
            return _refusal("That is not a phone number in international form.", "not-e164")
        if self.refuse and call.to.startswith(self.refuse):
            return _refusal("Calls to that number are not allowed.", "refused-prefix")
        if self.allow and call.to.startswith(self.allow):
            return None
        try:
            number = phonenumbers.parse(call.to, None)
        except phonenumbers.NumberParseException:
            return _refusal("That is not a phone number.", "not-possible")
        return self._refuse_place(number) or self._refuse_price(number)

    def _refuse_place(self, number: PhoneNumber) -> Refusal | None:
        # The number's own region, not its country code: Jamaica shares +1 with the United States.
        country = phonenumbers.region_code_for_number(number)
        if country == phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY:
            return _refusal("Calls to satellite phones and the like are not allowed.", "network")
        if not phonenumbers.is_possible_number(number):
            return _refusal("That number has too few or too many digits.", "not-possible")
        if not phonenumbers.is_valid_number(number):
            return _refusal("That number is not in use. Please check it.", "not-valid")
        if country not in self.countries:
            return _refusal(f"Calls to that country, {country}, are not allowed.", "country")
        return None

    def _refuse_price(self, number: PhoneNumber) -> Refusal | None:
        kind = _COSTLY.get(phonenumbers.number_type(number))
        if kind and not self.allow_premium:
            return _refusal("Calls to premium rate and other costly numbers are not allowed.", kind)
        return None


def _refusal(reason: str, rule: str) -> Refusal:
    return Refusal(reason, f"number_policy:{rule}")
