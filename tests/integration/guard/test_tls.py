"""mqtts:// against a real broker with a certificate of a test's own authority."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from tests.integration.guard.certificates import make_certificates
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port


@pytest.fixture
def tls_port() -> int:
    return free_port()


@pytest.fixture
def broker(mosquitto_installed: None, tmp_path: Path, tls_port: int) -> Iterator[Mosquitto]:
    del mosquitto_installed
    _, certificate, key = make_certificates(tmp_path)
    lines = [f"listener {tls_port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]
    with Mosquitto([*lines]) as running:
        yield running


@pytest.fixture
def secured(tmp_path: Path, manager: ScriptedManager, guard_log: StringIO, tls_port: int) -> Iterator[GuardThread]:
    thread = GuardThread(tmp_path, f"mqtts://127.0.0.1:{tls_port}", str(manager.token), guard_log)
    yield thread
    thread.stop()


def test_a_guard_trusts_the_authority_that_it_is_given(secured: GuardThread, tmp_path: Path) -> None:
    """With `--ca-file` the guard registers and is born over TLS."""
    secured.options = {"ca_file": tmp_path / "ca.pem"}
    assert secured.start().ready() == 1


def test_a_broker_of_an_unknown_authority_gets_nothing(secured: GuardThread, manager: ScriptedManager) -> None:
    """Without it the certificate is refused, the guard says why and goes on trying."""
    secured.start()
    eventually(lambda: "nobody that is trusted here has signed it" in secured.errors(), "a complaint")
    assert manager.registrations == []
