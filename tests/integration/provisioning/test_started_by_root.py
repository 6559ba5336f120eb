"""`panguard manager broker init` run by root: Mosquitto becomes another user, and reads all that was written."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from manager.errors import SetupError
from manager.mosquitto_setup import prepare
from manager.tls.client_context import client_context
from manager.tls.directory import AUTHORITY, TlsDirectory
from tests.integration.broker.broker_clients import PahoClient
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port

pytestmark = [
    pytest.mark.mosquitto,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Mosquitto as another user"),
]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Give a directory that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="panguard-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_mosquitto_drops_root_and_serves(open_directory: Path, tls: bool) -> None:
    """Started by root without --user it runs as `mosquitto`, lets the manager in, and saves its state."""
    data, directory, port = open_directory / "manager", open_directory / "broker", free_port()
    if tls:
        TlsDirectory(data).init((), datetime.now(UTC))
    prepare(data, directory, host="127.0.0.1", port=port, websocket_port=free_port() if tls else None)
    with Mosquitto(configuration=directory / "broker.conf", port=port) as broker:
        assert psutil.Process(broker.pid).username() == "mosquitto"
        password = (data / "broker.password").read_text().strip()
        client = PahoClient(port, "manager-1", username="manager", password=password)
        if tls:
            client.paho.tls_set_context(client_context(TlsDirectory(data).certificate(AUTHORITY)))
        with client:
            assert client.connect() == 0
    assert (directory / "mosquitto.db").exists(), broker.log()
    assert "Error" not in broker.log()


def test_a_directory_that_mosquitto_cannot_enter_is_refused(open_directory: Path) -> None:
    """Below a closed directory nothing is written; the sentence names the directory and what to do."""
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(SetupError, match=rf"may not enter {closed}: name a --directory elsewhere"):
        prepare(open_directory / "manager", closed / "broker", port=free_port())
    shutil.rmtree(closed)
    prepare(open_directory / "manager", open_directory / "broker", port=free_port())
