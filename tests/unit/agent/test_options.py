"""What an operator may say, and what is said to who errs."""

from pathlib import Path

import pytest

from agent.errors import ConfigurationError
from agent.link.address import ManagerAddress
from agent.options import Options, read_token_file
from agent.settings import GuardSettings, read_settings
from schemas.errors import TokenError
from schemas.keys import EnrollmentToken, ManagerKeyring
from schemas.presence import Mode

TOKEN = EnrollmentToken.new(ManagerKeyring(bytes(32)).sign_public)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://manager", ("manager", 1883, False, False)),
        ("mqtts://manager/", ("manager", 8883, True, False)),
        ("mqtt://[2001:db8::1]:11883", ("2001:db8::1", 11883, False, False)),
        ("http://manager", ("manager", 8443, False, True)),
        ("https://manager:443", ("manager", 443, True, True)),
    ],
)
def test_addresses(url: str, expected: tuple[str, int, bool, bool]) -> None:
    """Host, port with its default, whether TLS is spoken and whether HTTP; written back they mean the same."""
    address = ManagerAddress.parse(url)
    assert (address.host, address.port, address.tls, address.over_http) == expected
    assert ManagerAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "url", ["", "manager:1883", "ftp://manager", "mqtt://", "mqtt://h:99999", "mqtt://u:p@h", "mqtt://h/topic"]
)
def test_other_addresses_are_refused_with_what_to_write(url: str) -> None:
    """The refusal says what an address looks like, and never repeats a password."""
    with pytest.raises(ConfigurationError) as refused:
        ManagerAddress.parse(url)
    assert "mqtt://" in str(refused.value) or "enrollment token" in str(refused.value)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize(
    ("flag", "value"), [("hostname", "a b"), ("hostname", "a/b"), ("organization", "ü"), ("site", ""), ("tags", ["#"])]
)
def test_names_outside_the_contract_are_refused_by_flag(tmp_path: Path, flag: str, value: object) -> None:
    """No name that could not stand in a registration gets as far as one."""
    with pytest.raises(ConfigurationError, match=rf"^--{flag.removesuffix('s')} "):
        Options.check(manager="mqtts://h", directory=tmp_path, mode=Mode.LEARNING, **{flag: value})


def test_a_token_is_read_and_never_shown(tmp_path: Path) -> None:
    """Options hold the token; what they print does not, and neither do the arguments for the background."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    options = Options.check(manager="mqtts://h", directory=tmp_path, mode=Mode.LEARNING, token=read_token_file(path))
    assert options.token == TOKEN
    secret = str(TOKEN).split(".")[2]
    assert secret not in repr(options)
    assert secret not in " ".join(options.arguments())


@pytest.mark.parametrize("manager", ["http://manager-host:8443", "mqtt://192.0.2.1", "mqtt://[2001:db8::1]:1883"])
def test_plain_text_leaves_no_host_unless_it_is_asked_for(tmp_path: Path, manager: str) -> None:
    """The refusal names TLS and the way round it; who insists goes on insisting in the background."""
    with pytest.raises(ConfigurationError, match=rf"write {manager.partition(':')[0]}s://.*--insecure"):
        Options.check(manager=manager, directory=tmp_path, mode=Mode.LEARNING)
    insisting = Options.check(manager=manager, directory=tmp_path, mode=Mode.LEARNING, insecure=True)
    assert "--insecure" in insisting.arguments()


@pytest.mark.parametrize(
    "manager", ["http://127.0.0.1:8443", "mqtt://localhost", "mqtt://[::1]", "https://manager-host"]
)
def test_on_loopback_and_over_tls_nothing_is_asked(tmp_path: Path, manager: str) -> None:
    """Neither leaves the host readable."""
    options = Options.check(manager=manager, directory=tmp_path, mode=Mode.LEARNING)
    assert "--insecure" not in options.arguments()


def test_a_damaged_token_is_refused(tmp_path: Path) -> None:
    """The refusal comes at the start, not from the manager."""
    with pytest.raises(TokenError):
        Options.check(manager="mqtts://h", directory=tmp_path, mode=Mode.LEARNING, token="pg1.x")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_token_file(tmp_path / "none")


def test_settings_come_from_the_environment() -> None:
    """What the environment names counts, what it leaves out or empty has its default, strangers are ignored."""
    environment = {
        "PANGUARD_HEARTBEAT_INTERVAL": "0.5",
        "PANGUARD_OUTBOX_WINDOW": "",
        "PANGUARD_STALE_AFTER": "90",
        "PATH": "/",
    }
    assert read_settings(environment) == GuardSettings(heartbeat_interval=0.5)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_setting_that_makes_no_sense_is_named(value: str) -> None:
    """The refusal names the variable."""
    with pytest.raises(ConfigurationError, match=r"^PANGUARD_HEARTBEAT_INTERVAL: "):
        read_settings({"PANGUARD_HEARTBEAT_INTERVAL": value})
