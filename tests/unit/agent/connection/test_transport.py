"""Which way to the manager an address asks for."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from agent.clock import Clock
from agent.connection.identity import IdentityFile
from agent.connection.transport import build_dialer, build_registrations
from agent.errors import ConfigurationError
from agent.logs import log_to
from agent.options import Options
from agent.settings import GuardSettings
from schemas.presence import Mode


@pytest.fixture
def log() -> Iterator[StringIO]:
    written = StringIO()
    log_to(written)
    yield written
    log_to(None)


def options(directory: Path, manager: str) -> Options:
    return Options.check(manager=manager, directory=directory, mode=Mode.LEARNING, insecure=True)


@pytest.mark.parametrize(
    ("manager", "warned"),
    [
        ("http://manager.example:8443", True),
        ("http://192.0.2.1", True),
        ("http://127.0.0.1:8443", False),
        ("http://[::1]", False),
        ("https://manager.example", False),
        ("mqtt://manager.example", True),
        ("mqtts://manager.example", False),
    ],
)
def test_plain_text_is_worth_a_warning_beyond_loopback(
    tmp_path: Path, log: StringIO, manager: str, warned: bool
) -> None:
    """Who insists on it is told what it means: over HTTP nothing proves who speaks, for a policy has no signature."""
    build_dialer(options(tmp_path, manager), GuardSettings(), Clock(), lambda: None)
    assert ("link_unprotected" in log.getvalue()) is warned


def test_only_over_mqtt_a_first_start_needs_a_token(tmp_path: Path) -> None:
    """A manager reached over HTTP may trust the guard's network, so it is asked."""
    identity = IdentityFile(tmp_path)
    with pytest.raises(ConfigurationError, match="PANGUARD_ENROLL_TOKEN"):
        build_registrations(options(tmp_path, "mqtt://manager"), GuardSettings(), Clock(), identity, 0)
    assert build_registrations(options(tmp_path, "http://manager"), GuardSettings(), Clock(), identity, 0) is not None


def test_certificates_that_are_none_are_named(tmp_path: Path) -> None:
    """For either way the refusal comes at the start."""
    (tmp_path / "ca.pem").write_text("no certificate")
    for manager in ("mqtts://manager", "https://manager"):
        given = Options.check(manager=manager, directory=tmp_path, mode=Mode.LEARNING, ca_file=tmp_path / "ca.pem")
        with pytest.raises(ConfigurationError, match=r"ca\.pem"):
            build_dialer(given, GuardSettings(), Clock(), lambda: None)
