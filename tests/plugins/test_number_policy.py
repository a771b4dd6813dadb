"""Which numbers number_policy lets through, and the rule of each refusal."""

import dataclasses
import re
from pathlib import Path

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.calls import Call
from dialer.hookspecs import Refusal, answer_fault
from dialer.plugins import PluginSet
from dialer.tables import settings_of
from dialer_plugins.number_policy import NumberPolicy


def call_to(number: str) -> Call:
    return Call("call_1", "ws", "alice", number, "+14155550199", "ws-1")


def rule(policy: NumberPolicy, number: str) -> str:
    """The rule that refuses a number, empty when it may be called."""
    refusal = policy.validate_call(call_to(number))
    assert refusal is None or answer_fault("validate_call", refusal) == ""
    return refusal.rule.removeprefix("number_policy:") if refusal else ""


@pytest.mark.parametrize("number", [f"+1415555{last:04}" for last in range(100, 200)])
def test_the_fictional_numbers_pass(number: str) -> None:
    assert rule(NumberPolicy(), number) == ""


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+16135550101", ""),  # Ottawa
        ("+18005550100", ""),  # toll free
        ("+442079460000", "country"),  # London
        ("+18765550101", "country"),  # Jamaica, under +1 as well
        ("+18095550101", "country"),  # Dominican Republic
        ("+17875550101", "country"),  # Puerto Rico
        ("+19005550101", "premium-rate"),
        ("+15005550006", "personal-number"),
        ("+870773111632", "network"),  # Inmarsat
        ("+881612345678", "network"),  # Iridium
        ("+88210123456", "network"),
        ("+8835100123456", "network"),
        ("+88812345678", "network"),
        ("+979123456789", "network"),  # international premium rate
        ("+141555501011", "not-possible"),
        ("+1415555010", "not-possible"),
        ("+9991234567", "not-possible"),
        ("+11155550101", "not-valid"),
        ("4155550101", "not-e164"),
        ("+1415555O101", "not-e164"),
        ("+1415555010\uff11", "not-e164"),
        ("+14155550101\n", "not-e164"),
        ("sip:a@example.com", "not-e164"),
        ("911", "not-e164"),
        ("", "not-e164"),
    ],
)
def test_what_passes_by_default(number: str, expected: str) -> None:
    assert rule(NumberPolicy(), number) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+442079460000", ""),
        ("+449055501010", "premium-rate"),
        ("+443069990123", "company-wide"),
        ("+447005550101", "personal-number"),
    ],
)
def test_the_costly_numbers_of_a_country(number: str, expected: str) -> None:
    assert rule(NumberPolicy(countries=("GB",)), number) == expected


def test_costly_numbers_can_be_allowed() -> None:
    policy = NumberPolicy(countries=("GB",), allow_premium=True)
    assert [rule(policy, number) for number in ("+449055501010", "+443069990123", "+447005550101")] == [
        ""
    ] * 3
    assert rule(policy, "+19005550101") == "country"


def test_shared_cost_numbers_are_costly() -> None:
    assert rule(NumberPolicy(countries=("AT",)), "+43810123456") == "shared-cost"


def test_a_country_under_a_shared_code_can_be_allowed() -> None:
    policy = NumberPolicy(countries=("JM",))
    assert (rule(policy, "+18765550101"), rule(policy, "+14155550101")) == ("", "country")


def test_allow_outranks_countries_and_refuse_outranks_allow() -> None:
    policy = NumberPolicy(allow=("+4420", "+8816", "+1900"), refuse=("+44207",))
    assert rule(policy, "+442089460000") == ""
    assert rule(policy, "+442079460000") == "refused-prefix"
    assert rule(policy, "+881612345678") == ""
    assert rule(policy, "+19005550101") == ""
    assert rule(policy, "+4420") == "not-e164"


def test_refuse_outranks_countries() -> None:
    assert rule(NumberPolicy(refuse=("+1415",)), "+14155550101") == "refused-prefix"


def test_every_refusal_is_a_sentence() -> None:
    for number in ("+442079460000", "+19005550101", "+881612345678", "+1415555010", "+11155550101", "911"):
        refusal = NumberPolicy().validate_call(call_to(number))
        assert isinstance(refusal, Refusal)
        assert refusal.reason[0].isupper()
        assert refusal.reason.endswith(".")


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"countries": ("USA",)}, "countries 'USA' is not an ISO country"),
        ({"countries": ("us",)}, "countries 'us' is not an ISO country"),
        ({"countries": ()}, "countries is empty and allow too"),
        ({"allow": ("415",)}, "allow '415' is not a prefix such as"),
        ({"refuse": ("+1-900",)}, r"refuse '\+1-900' is not a prefix such as"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, tuple[str, ...]], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        NumberPolicy(**settings)


def test_without_countries_only_the_allowed_prefixes_are_called() -> None:
    policy = NumberPolicy(countries=(), allow=("+1415",))
    assert (rule(policy, "+14155550101"), rule(policy, "+16135550101")) == ("", "country")


def test_it_works_as_a_plugin() -> None:
    plugins = PluginSet.of([NumberPolicy()], inline=True)
    ((name, refusal),), _ = plugins.gather("validate_call", call_to("+442079460000"))
    assert (name, refusal.rule) == ("number_policy", "number_policy:country")
    assert plugins.gather("validate_call", call_to("+14155550101"))[0] == []


@given(st.text() | st.from_regex(r"\+[0-9]{1,16}", fullmatch=True))
def test_any_text_is_judged(text: str) -> None:
    assert isinstance(rule(NumberPolicy(), text), str)


@given(st.from_regex(r"\+1[2-9][0-9]{9}", fullmatch=True))
def test_what_passes_is_an_ordinary_number_of_an_allowed_country(number: str) -> None:
    if rule(NumberPolicy(), number) == "":
        parsed = phonenumbers.parse(number)
        assert phonenumbers.is_valid_number(parsed)
        assert phonenumbers.region_code_for_number(parsed) in ("US", "CA")
        assert phonenumbers.number_type(parsed) != phonenumbers.PhoneNumberType.PREMIUM_RATE


def test_its_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        NumberPolicy().allow_premium = True


def test_the_readme_shows_every_setting_and_every_rule() -> None:
    folder = Path(__file__).parent.parent.parent / "plugins" / "number_policy"
    readme, code = (folder / "README.md").read_text(), (folder / "__init__.py").read_text()
    for name, (_, setting, _) in settings_of(NumberPolicy).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
    rules = {
        *re.findall(r'_refusal\(.+, "([a-z0-9-]+)"\)', code),
        *re.findall(r'\.[A-Z_]+: "([a-z-]+)"', code),
    }
    assert len(rules) == 10
    assert [rule for rule in rules if f":{rule}`" not in readme] == []
