"""Files that `panguard manager broker init` writes, and its refusals, which say what to do."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from manager.data_directory import DataDirectory
from manager.errors import Conflict, SetupError
from manager.mosquitto_setup import prepare
from manager.provisioning import mosquitto_files
from manager.tls.directory import TlsDirectory
from tests.support.engine import Bench

PLUGIN = Path("plugin.so")
OWNER = "root" if os.geteuid() == 0 else None
"""Whom the files belong to: as root Mosquitto would run as `mosquitto`, who may not enter a test's directory."""


def test_it_is_prepared_once(tmp_path: Path) -> None:
    """A second call changes nothing unless it is told to; the manager's password stays what it was."""
    done = prepare(tmp_path / "data", tmp_path / "broker", plugin=PLUGIN, user=OWNER)
    first = (tmp_path / "broker" / mosquitto_files.STATE).read_text()
    password = (tmp_path / "data" / "broker.password").read_text()
    with pytest.raises(Conflict, match="--force"):
        prepare(tmp_path / "data", tmp_path / "broker", plugin=PLUGIN, user=OWNER)
    assert (tmp_path / "broker" / mosquitto_files.STATE).read_text() == first
    prepare(tmp_path / "data", tmp_path / "broker", plugin=PLUGIN, user=OWNER, force=True)
    assert (tmp_path / "data" / "broker.password").read_text() == password
    assert (done.agents, done.tls, done.url) == (0, False, "mqtt://127.0.0.1:1883")


def test_nobody_else_reads_what_is_written(tmp_path: Path) -> None:
    """Every file with a credential in it is its owner's alone, and no password stands there in clear."""
    prepare(tmp_path / "data", tmp_path / "broker", plugin=PLUGIN, user=OWNER)
    for name in ("passwords", "acl", mosquitto_files.STATE, "conf.d/panguard.conf"):
        assert (tmp_path / "broker" / name).stat().st_mode & 0o077 == 0
    password = (tmp_path / "data" / "broker.password").read_text().strip()
    assert not any(password in path.read_text() for path in (tmp_path / "broker").rglob("*") if path.is_file())


def test_plain_text_stays_on_loopback(tmp_path: Path) -> None:
    """Without a certificate it listens on loopback, and an address beyond is refused; with one it speaks TLS."""
    with pytest.raises(SetupError, match="certs init"):
        prepare(tmp_path / "data", tmp_path / "broker", plugin=PLUGIN, user=OWNER, host="10.0.0.1")
    prepare(tmp_path / "data", tmp_path / "broker", plugin=PLUGIN, user=OWNER)
    assert "listener 1883 127.0.0.1\n" in (tmp_path / "broker" / "conf.d" / "panguard.conf").read_text()
    (tmp_path / "data" / "tls").mkdir()
    for name in ("broker.crt", "broker.key"):
        (tmp_path / "data" / "tls" / name).write_text("a certificate")
    done = prepare(tmp_path / "data", tmp_path / "secure", plugin=PLUGIN, user=OWNER)
    text = (tmp_path / "secure" / "conf.d" / "panguard.conf").read_text()
    assert ("listener 8883\n" in text, "listener 8884\nprotocol websockets\n" in text) == (True, True)
    assert text.count("keyfile ") == 2
    assert (done.tls, done.url) == (True, "mqtts://localhost:8883")


def test_a_broker_that_may_not_enter_the_managers_directory_gets_copies(tmp_path: Path) -> None:
    """Certificate, key and authority stand beside its other files; a later call renews these and nothing else."""
    data, broker = tmp_path / "data", tmp_path / "broker"
    own = TlsDirectory(data)
    own.init((), datetime.now(UTC))
    prepare(data, broker, plugin=PLUGIN, user=OWNER, copy_certificate=True)
    assert "certfile tls/broker.crt\nkeyfile tls/broker.key\n" in (broker / "conf.d" / "panguard.conf").read_text()
    assert {path.name for path in (broker / "tls").iterdir()} == {"ca.crt", "broker.crt", "broker.key"}
    state = (broker / mosquitto_files.STATE).read_bytes()
    own.renew((), datetime.now(UTC))
    with DataDirectory(data):  # a manager runs
        again = prepare(data, broker, plugin=PLUGIN, user=OWNER, copy_certificate=True, once=True)
    assert (again.agents, (broker / mosquitto_files.STATE).read_bytes()) == (None, state)
    for name in ("broker.crt", "broker.key"):
        assert (broker / "tls" / name).read_bytes() == (data / "tls" / name).read_bytes()
        assert (broker / "tls" / name).stat().st_mode & 0o077 == 0


def test_a_running_manager_is_not_disturbed(tmp_path: Path) -> None:
    """Its data directory is locked: the operator is told to stop the manager first, with --force too."""
    for force in (False, True):
        with DataDirectory(tmp_path / "data"), pytest.raises(SetupError, match="panguard manager stop"):
            prepare(tmp_path / "data", tmp_path / "broker", plugin=PLUGIN, user=OWNER, force=force)


def test_agents_of_the_store_are_let_in_from_the_start(tmp_path: Path) -> None:
    """A fleet that moves to Mosquitto needs no registration: each MQTT agent has its login and its role."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "manager.key").touch(0o600)
    (data / "manager.key").write_text(bytes(32).hex())  # the bench's own
    bench = Bench(data)
    agent = bench.enroll("srv-01")
    assert bench.broker_access.admitted == [(agent.agent_id, False)]
    bench.database.close()
    assert prepare(data, tmp_path / "broker", plugin=PLUGIN, user=OWNER).agents == 1
    state = json.loads((tmp_path / "broker" / mosquitto_files.STATE).read_text())
    assert [client["username"] for client in state["clients"]] == [
        "manager",
        "observer",
        "registration",
        agent.agent_id,
    ]
    assert [role["rolename"] for role in state["clients"][3]["roles"]] == ["panguard-organization-default"]
    assert "panguard-organization-default" in {role["rolename"] for role in state["roles"]}
