"""calling_hours: what the clock shows at the called number decides, in all of its time zones."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import timezone as phone_zones

from dialer import Call, Host, Refusal, Remark
from dialer.hookspecs import answer_fault
from dialer.tables import settings_of
from dialer_plugins.calling_hours import CallingHours
from dialer_plugins.calling_hours.hours import DAYS
from dialer_plugins.calling_hours.zones import local_time

SAN_FRANCISCO, NEW_YORK, LONDON, IDAHO = "+14155550101", "+12125550101", "+442079460000", "+12085550101"
TOLL_FREE, NOWHERE = "+18005550100", "+6649999999"


def at(text: str, zone: str = "America/Los_Angeles") -> float:
    """The moment at which the clock of a zone first shows this."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def answer(now: float, to: str = SAN_FRANCISCO, **wish: Any) -> Refusal | Remark:
    plugin = CallingHours(**wish, host=Host("calling_hours", clock=lambda: now))
    found: Refusal | Remark | None = plugin.validate_call(Call("call_1", "ws", "alice", to, "", "c"))
    assert found is not None
    assert answer_fault("validate_call", found) == ""
    return found


def rule(now: float, to: str = SAN_FRANCISCO, **wish: Any) -> str:
    """The rule that refuses a call, empty when it is allowed."""
    found = answer(now, to, **wish)
    return found.rule.removeprefix("calling_hours:") if isinstance(found, Refusal) else ""


@pytest.mark.parametrize(
    ("clock", "expected"),
    [("07:59:59", "hours"), ("08:00:00", ""), ("20:59:59", ""), ("21:00:00", "hours"), ("03:00:00", "hours")],
)
def test_eight_to_twenty_one_by_default(clock: str, expected: str) -> None:
    assert rule(at(f"2026-09-23T{clock}")) == expected


def test_the_clock_is_that_of_the_called_number_and_never_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        noon_in_london = at("2026-09-23T12:00", "Europe/London")
        assert rule(noon_in_london, LONDON) == ""
        assert rule(noon_in_london, SAN_FRANCISCO) == "hours"  # four in the morning
        assert rule(noon_in_london, NEW_YORK) == "hours"  # seven
    monkeypatch.delenv("TZ")
    time.tzset()


def test_the_time_used_is_evidence_of_both_answers() -> None:
    assert answer(at("2026-09-23T14:05")) == Remark("14:05 on Wednesday, 2026-09-23, in America/Los_Angeles")
    assert answer(at("2026-09-23T07:59")) == Refusal(
        "It is 07:59 on Wednesday, 2026-09-23, in America/Los_Angeles. Calls are allowed there from 08:00 to 21:00.",
        "calling_hours:hours",
    )


def test_a_number_in_two_zones_is_called_when_both_allow_it() -> None:
    # Idaho lies in two zones, an hour apart.
    assert rule(at("2026-09-23T08:30", "America/Boise"), IDAHO) == "hours"  # 07:30 in the north
    assert rule(at("2026-09-23T09:00", "America/Boise"), IDAHO) == ""
    assert rule(at("2026-09-23T20:59", "America/Boise"), IDAHO) == ""
    assert rule(at("2026-09-23T21:00", "America/Boise"), IDAHO) == "hours"
    both = answer(at("2026-09-23T12:00", "America/Boise"), IDAHO)
    assert isinstance(both, Remark)
    assert both.text.count("2026-09-23") == 2


def test_a_number_of_all_zones_can_be_called_once_its_zone_is_set() -> None:
    allowed = sum(rule(at("2026-09-23T00:00") + 3600 * hour, TOLL_FREE) == "" for hour in range(24))
    assert allowed <= 2  # from Guam to Newfoundland
    zones = ("+1800 America/New_York", "+1 America/Chicago")
    noon = at("2026-09-23T12:00", "America/New_York")
    assert answer(noon, TOLL_FREE, zones=zones) == Remark("12:00 on Wednesday, 2026-09-23, in America/New_York")
    assert answer(noon, SAN_FRANCISCO, zones=zones) == Remark("11:00 on Wednesday, 2026-09-23, in America/Chicago")


def test_many_zones_fit_into_a_remark() -> None:
    found = answer(at("2026-09-23T12:00"), TOLL_FREE, hours=("mon-sun 00:00-24:00",))
    assert isinstance(found, Remark)
    assert "more time zones" in found.text


def test_an_unknown_zone_is_refused_unless_allowed() -> None:
    assert rule(at("2026-09-23T12:00"), NOWHERE) == "unknown-zone"
    assert rule(at("2026-09-23T12:00"), "+999123456") == "unknown-zone"
    assert rule(at("2026-09-23T12:00"), "nonsense") == "unknown-zone"
    allowed = answer(at("2026-09-23T12:00"), NOWHERE, unknown_zone="allow")
    assert allowed == Remark("the time zone of this number is not known, and calls to such numbers are allowed")


def test_a_zone_whose_rules_are_missing_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phone_zones, "time_zones_for_number", lambda _: ("America/Los_Angeles", "Mars/Olympus"))
    assert rule(at("2026-09-23T12:00")) == "unknown-zone"


def test_clocks_that_go_forward_and_back() -> None:
    # 2026-03-08 02:00 becomes 03:00 in Los Angeles, and 2026-11-01 02:00 becomes 01:00: 08:00 is an hour elsewhere.
    utc = {day: datetime.fromisoformat(f"{day}T00:00+00:00").timestamp() for day in ("2026-03-07", "2026-03-08")}
    assert (rule(utc["2026-03-07"] + 15.99 * 3600), rule(utc["2026-03-07"] + 16 * 3600)) == ("hours", "")
    assert (rule(utc["2026-03-08"] + 14.99 * 3600), rule(utc["2026-03-08"] + 15 * 3600)) == ("hours", "")
    night = ("sun 01:30-02:00",)
    first = at("2026-11-01T01:15")  # the hour from one to two comes twice
    opened = [rule(first + 60 * minutes, hours=night) == "" for minutes in range(0, 120, 15)]
    assert opened == [False, True, True, False, False, True, True, False]
    spring = [rule(at("2026-03-08T01:15") + 900 * quarter, hours=("sun 02:00-03:00",)) for quarter in range(8)]
    assert set(spring) == {"hours"}  # an hour that does not exist there on that day


def test_weekdays_have_their_own_hours_and_days_that_are_not_named_are_closed() -> None:
    week = ("mon-fri 09:00-12:00,13:30-18:00", "sat 10:00-14:00")
    wednesday, saturday, sunday = "2026-09-23", "2026-09-26", "2026-09-27"
    assert [rule(at(f"{wednesday}T{clock}"), hours=week) for clock in ("11:59", "12:00", "13:29", "13:30")] == [
        *("", "hours", "hours", "")
    ]
    assert (rule(at(f"{saturday}T13:00"), hours=week), rule(at(f"{saturday}T14:00"), hours=week)) == ("", "hours")
    refused = answer(at(f"{sunday}T12:00"), hours=week)
    assert isinstance(refused, Refusal)
    assert refused.reason.endswith("Calls are allowed there on other days only.")
    both = answer(at(f"{wednesday}T12:30"), hours=week)
    assert isinstance(both, Refusal)
    assert both.reason.endswith("Calls are allowed there from 09:00 to 12:00 and from 13:30 to 18:00.")


def test_the_weekday_is_that_of_the_called_number() -> None:
    sunday_there = at("2026-09-27T20:00")  # Monday in London
    assert rule(sunday_there, hours=("mon-sat 00:00-24:00",)) == "hours"
    assert rule(sunday_there, LONDON, hours=("mon-sat 00:00-24:00",)) == ""


def test_overrides_by_prefix_and_country_change_the_days_they_name() -> None:
    overrides = ("US sun 10:00-18:00", "+1415 sun closed", "+1415 sat 09:00-10:00", "GB mon-sun closed")
    sunday, saturday = at("2026-09-27T12:00"), at("2026-09-26T12:00")
    assert rule(sunday, SAN_FRANCISCO, overrides=overrides) == "hours"
    assert rule(saturday, SAN_FRANCISCO, overrides=overrides) == "hours"
    assert rule(sunday, "+12135550101", overrides=overrides) == ""
    assert rule(at("2026-09-27T09:00"), "+12135550101", overrides=overrides) == "hours"
    assert rule(at("2026-09-23T12:00"), SAN_FRANCISCO, overrides=overrides) == ""
    assert rule(at("2026-09-23T12:00", "Europe/London"), LONDON, overrides=overrides) == "hours"
    assert rule(sunday, "+16135550101", overrides=overrides) == ""  # Ottawa shares +1 and is no US number


def test_the_longest_prefix_wins() -> None:
    overrides = ("+1 mon-sun closed", "+1415555 mon-sun 00:00-24:00")
    assert rule(at("2026-09-23T03:00"), SAN_FRANCISCO, overrides=overrides) == ""
    assert rule(at("2026-09-23T12:00"), "+14152000000", overrides=overrides) == "hours"


def test_holidays_of_the_numbers_country_are_closed() -> None:
    thanksgiving = at("2026-11-26T12:00")
    assert rule(thanksgiving) == ""
    refused = answer(thanksgiving, holidays=("US",))
    assert isinstance(refused, Refusal)
    assert refused.rule == "calling_hours:holiday"
    assert refused.reason.startswith("Calls are not allowed there today: Thanksgiving Day. It is 12:00 on Thursday")
    assert rule(thanksgiving, LONDON, holidays=("US",), hours=("mon-sun 00:00-24:00",)) == ""


def test_holidays_of_a_part_of_a_country() -> None:
    cesar_chavez = at("2026-03-31T12:00")
    assert (rule(cesar_chavez, holidays=("US",)), rule(cesar_chavez, holidays=("US", "US-CA"))) == ("", "holiday")


def test_a_holiday_is_a_day_of_the_called_number() -> None:
    late = at("2026-12-31T17:00")  # the new year has begun in London
    wide: dict[str, Any] = {"hours": ("mon-sun 00:00-24:00",), "holidays": ("US", "GB")}
    assert (rule(late, **wide), rule(late, LONDON, **wide)) == ("", "holiday")


def test_closed_dates_of_one_year_and_of_each() -> None:
    dates = ("2026-12-24", "12-31")
    found = [rule(at(f"{day}T12:00"), closed_dates=dates) for day in ("2026-12-24", "2027-12-24", "2027-12-31")]
    assert found == ["holiday", "", "holiday"]


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"hours": ("mon-fri",)}, "hours 'mon-fri' is not days and times such as"),
        ({"hours": ("mon-fry 08:00-21:00",)}, "hours 'mon-fry 08:00-21:00' is not"),
        ({"hours": ("mon 8:00-21:00",)}, "hours 'mon 8:00-21:00' is not"),
        ({"hours": ("mon 21:00-08:00",)}, "hours 'mon 21:00-08:00' is not"),
        ({"hours": ("mon 08:00-24:30",)}, "hours 'mon 08:00-24:30' is not"),
        ({"hours": ()}, "hours allow no call at all"),
        ({"hours": ("mon-sun closed",)}, "hours allow no call at all"),
        ({"overrides": ("mon-fri 08:00-21:00",)}, r"overrides 'mon-fri 08:00-21:00' must begin with a prefix"),
        ({"overrides": ("+1205 never",)}, r"overrides '\+1205 never' is not days and times"),
        ({"zones": ("+1800 EST5",)}, r"zones '\+1800 EST5' is not a prefix and a time zone"),
        ({"zones": ("1800 UTC",)}, "zones '1800 UTC' is not a prefix"),
        ({"holidays": ("USA",)}, "holidays 'USA' has no calendar"),
        ({"holidays": ("US-ZZ",)}, "holidays 'US-ZZ' has no calendar"),
        ({"closed_dates": ("24.12.",)}, "closed_dates '24.12.' is not a date"),
        ({"closed_dates": ("02-30",)}, "closed_dates '02-30' is not a date"),
        ({"closed_dates": ("20261224",)}, "closed_dates '20261224' is not a date"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        CallingHours(**wrong)


zones = st.sampled_from(["America/Los_Angeles", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"])
moments = st.integers(int(at("2024-01-01T00:00", "UTC")), int(at("2030-01-01T00:00", "UTC")))


@given(zones, moments)
def test_the_clock_of_a_zone_is_what_its_rules_say(zone: str, now: int) -> None:
    local, expected = local_time(now, zone), datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(zone))
    assert (local.day, local.minute) == (expected.date(), expected.hour * 60 + expected.minute)


@given(moments, st.sampled_from([SAN_FRANCISCO, IDAHO, LONDON, TOLL_FREE, "+919812345678"]))
def test_a_call_is_allowed_only_when_every_zone_shows_an_hour_from_eight_to_twenty_one(now: int, number: str) -> None:
    import phonenumbers

    names = phone_zones.time_zones_for_number(phonenumbers.parse(number))
    hours = [datetime.fromtimestamp(now, ZoneInfo(name)).hour for name in names]
    assert (rule(now, number) == "") == all(8 <= hour < 21 for hour in hours)


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_ranges_of_days_go_round_the_week(first: int, last: int, day: int) -> None:
    number = date(2026, 9, 21) + timedelta(days=day)  # a Monday, and so on
    meant = (day - first) % 7 <= (last - first) % 7
    wish: dict[str, Any] = {"hours": (f"{DAYS[first]}-{DAYS[last]} 00:00-24:00",)}
    assert (rule(at(f"{number}T12:00"), **wish) == "") == meant


def test_a_call_is_refused_before_eight_and_placed_after_it(make_stage: Any) -> None:
    stage = make_stage(plugins=[CallingHours()])  # it is 07:13 in San Francisco when a stage begins
    early = stage.agent_dials(SAN_FRANCISCO)
    assert early.call.rule == "calling_hours:hours"
    assert early.heard[0].startswith("It is 07:13 on Monday, 2026-09-21, in America/Los_Angeles.")
    stage.lasts(3600)
    later = stage.agent_dials(SAN_FRANCISCO)
    assert later.call.status != "rejected"
    (verdict,) = later.rows("verdicts_of_call")
    assert verdict["answer"] == "08:13 on Monday, 2026-09-21, in America/Los_Angeles"
    later.hangs_up()
    stage.ends()


def test_the_readme_shows_every_setting_and_rule() -> None:
    readme = (Path(__file__).parent.parent.parent / "plugins" / "calling_hours" / "README.md").read_text()
    for name, (_, setting, _) in settings_of(CallingHours).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
    assert [word for word in ("hours", "holiday", "unknown-zone") if f"`calling_hours:{word}`" not in readme] == []
