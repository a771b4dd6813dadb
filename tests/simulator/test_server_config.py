import json
from pathlib import Path

import pytest

from dialer.simulator.realtime import Simulator
from dialer.simulator.server import AccountConfig, ConfigError, SimulatorConfig, load

AC, TOKEN = "AC" + "1" * 32, "t" * 32
OWN = "+14155550199"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_a_public_address_needs_to_be_allowed(host: str) -> None:
    with pytest.raises(ConfigError, match="allow_public"):
        SimulatorConfig(host=host)
    assert SimulatorConfig(host=host, allow_public=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert SimulatorConfig(host=host).host == host


def test_sids_repeat_only_when_the_seed_is_given() -> None:
    def sid(seed: int | None) -> str:
        return Simulator(SimulatorConfig(seed=seed)).network.sid("CA")

    assert sid(None) != sid(None)
    assert sid(7) == sid(7)


def test_a_configuration_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "simulator.json"
    settings = {
        "port": 0,
        "seed": 7,
        "allow_hosts": ["app.test"],
        "keep_seconds": 5,
        "public_urls": {"https://x.test": "http://127.0.0.1:1"},
        "knobs": {"cps": 5, "invalid_events": "refuse", "machine_detection_timeout": [1, 2]},
        "faults": {"webhook_lost": 0.5},
        "accounts": [
            {
                "sid": AC,
                "auth_token": TOKEN,
                "keys": {"SK1": "secret"},
                "caller_ids": ["+442079460000"],
                "blocked_countries": ["LV"],
                "high_risk_special_countries": ["GB"],
                "high_risk_tollfraud_countries": ["DE", "LV"],
                "status": "suspended",
                "type": "Trial",
                "applications": [{"sid": "AP1", "voice_url": "http://localhost/"}],
                "numbers": [{"phone_number": OWN, "voice_application_sid": "AP1"}],
                "clients": [{"identity": "bob", "answer_after": None, "hang_up_after": 5}],
            }
        ],
    }
    path.write_text(json.dumps(settings))
    config = load(path)
    assert (config.port, config.seed, config.allow_hosts) == (0, 7, ("app.test",))
    assert (config.knobs.cps, config.knobs.machine_detection_timeout) == (5, (1, 2))
    assert config.faults.webhook_lost == 0.5
    account = Simulator(config).network.accounts[AC]
    assert (account.status, account.type) == ("suspended", "Trial")
    assert account.keys == {"SK1": "secret"}
    assert account.numbers[OWN].voice_application_sid == "AP1"
    assert list(account.caller_ids) == ["+442079460000"]
    assert account.blocked_countries == {"LV"}
    assert account.high_risk_special_countries == {"GB"}
    assert account.high_risk_tollfraud_countries == {"DE", "LV"}
    bob = account.clients["bob"]
    assert (bob.answer_after, bob.plan and bob.plan.hang_up_after) == (None, 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "Expecting"),
        ("[]", "the file must be an object"),
        ('{"prot": 1}', "prot is not a setting"),
        ('{"port": 70000}', "port"),
        ('{"host": "0.0.0.0"}', "allow_public"),
        ('{"knobs": {"x": 1}}', "knobs.x is not a setting"),
        ('{"knobs": {"cps": "fast"}}', "cps must be a number"),
        ('{"knobs": {"queue_limit": 0.5}}', "queue_limit must be a number"),
        ('{"knobs": {"invalid_events": "maybe"}}', "drop-invalid, drop-all, refuse"),
        ('{"knobs": {"machine_detection_timeout": [1]}}', "list of 2 numbers"),
        ('{"knobs": {"trim_conference_name": 1}}', "must be true or false"),
        ('{"knobs": {"retry_policy": 1}}', "must be text"),
        ('{"faults": {"webhook_lost": 1.5}}', "from 0 to 1"),
        ('{"accounts": [{"token": "x"}]}', "accounts.token is not a setting"),
        ('{"public_urls": {"calls.test": "http://127.0.0.1:1"}}', "not a base URL"),
        ('{"public_urls": {"https://calls.test": "http://other.test"}}', "neither loopback nor"),
        ('{"accounts": 5}', "accounts must be a list"),
        ('{"accounts": [5]}', "accounts must be an object"),
        ('{"accounts": [{"type": "Gratis"}]}', "accounts.type must be one of Full, Trial"),
        ('{"accounts": [{"cps": "x"}]}', "accounts.cps must be a number"),
        ('{"accounts": [{"numbers": ["x"]}]}', "accounts.numbers must be an object"),
        ('{"port": "8100"}', "port must be a number"),
        ('{"public_urls": []}', "public_urls must be an object"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "simulator.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"simulator\.json") as caught:
        load(path)
    assert told in str(caught.value)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("account", "told"),
    [
        (AccountConfig(applications=({"url": "x"},)), "accounts.applications.url is not a setting"),
        (AccountConfig(numbers=({"voice_url": "x"},)), "needs a phone_number"),
        (AccountConfig(clients=({"answer_after": 1},)), "needs an identity"),
    ],
)
def test_a_bad_account_is_explained(account: AccountConfig, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Simulator(SimulatorConfig(accounts=(account,)))
