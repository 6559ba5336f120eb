"""The lifecycle over TLS: a real manager with certificates of its own, and guards that have nothing but a token."""

import os
import shutil
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.status import read_status
from manager.mosquitto_setup import prepare
from manager.tls.authority import SERVER_DAYS
from manager.tls.directory import TlsDirectory
from schemas.keys import EnrollmentToken
from tests.support.migrated_store import SQLITE, has_two_managers, stores_in
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port
from tests.support.processes import GuardProcess, ManagerProcess, Panguard, spooled
from tests.support.waiting import eventually

QUICK = {"PANGUARD_HEARTBEAT_INTERVAL": "0.25", "PANGUARD_RATE_LIMIT": "0"}


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory, each_deployment: str) -> Iterator[ManagerProcess]:
    with ManagerProcess(tmp_path_factory.mktemp(each_deployment), environment=QUICK, tls=True) as manager:
        yield manager


@pytest.fixture(params=["mqtt", "http"])
def guard(manager: ManagerProcess, request: pytest.FixtureRequest) -> Iterator[GuardProcess]:
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[-60:]
    guard = GuardProcess(manager, name, QUICK, url=getattr(manager, request.param))
    yield guard
    guard.stop()


def _status(guard: GuardProcess) -> str:
    return str(guard.manager.agent(guard.hostname).get("status"))


def test_a_guard_lives_by_its_tokens_fingerprint(manager: ManagerProcess, guard: GuardProcess) -> None:
    """Registered, heard, reported, told a policy, signed off; and back without the token, which it needs once."""
    assert guard.url.partition(":")[0] in ("mqtts", "https")
    agent_id = guard.start()
    address = "203.0.113.31" if guard.url.startswith("mqtts") else "203.0.113.32"
    guard.attacked_by(address)
    eventually(lambda: manager.get("/api/threats", agentId=agent_id), what="the threat stored")
    eventually(lambda: spooled(guard) == 0, what="an empty outbox")
    done = manager.request("PUT", f"/api/policies/agents/{agent_id}", {"blocklist": {"ips": ["198.51.100.7"]}})
    eventually(
        lambda: manager.agent(guard.hostname)["policyVersion"] == done["revision"], what="a heartbeat that says so"
    )
    assert guard.stop() == 0
    eventually(lambda: _status(guard) == "offline", what="the sign-off")
    again = Panguard(
        manager.home / f"{guard.hostname}.again.log",
        *("guard", "start", "--manager", guard.url, "--data-dir", str(guard.data), "--hostname", guard.hostname),
        environment=QUICK,
    )
    try:
        assert f"agentId={agent_id}" in again.line("guard ready ")
        eventually(lambda: _status(guard) == "online", what="the return")
    finally:
        assert again.terminate() == 0


def test_every_answer_asks_for_tls_from_now_on(manager: ManagerProcess) -> None:
    """Strict-Transport-Security stands on all, and TLS older than 1.2 is not spoken."""
    with manager.client() as client:
        for path in ("/health", "/api/overview", "/nothing"):
            assert "max-age=" in client.get(path).headers["Strict-Transport-Security"]
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    for url in (manager.http, manager.mqtt):
        with (
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 5) as plain,
            pytest.raises((ssl.SSLError, ConnectionError)),
        ):
            old.wrap_socket(plain)


def test_a_token_of_another_manager_is_no_way_in(manager: ManagerProcess, tmp_path: Path) -> None:
    """The guard says so before it says anything to that manager, keeps what it detects, and goes on trying."""
    with stores_in(None), ManagerProcess(tmp_path, tls=True) as other:
        for url in (manager.mqtt, manager.http):
            guard = GuardProcess(other, f"astray-{url.partition(':')[0]}", QUICK, url=url)
            guard.start(wait=False)
            try:
                eventually(
                    lambda guard=guard: (
                        "does not show the authority that the enrollment token names"
                        in (read_status(guard.data).get("notConnected") or "")
                    ),
                    what="the sentence in the status file",
                )
                guard.attacked_by("203.0.113.33")
                eventually(lambda guard=guard: spooled(guard) == 1, what="a spooled threat")
                assert manager.agent(guard.hostname) == {}
            finally:
                assert guard.stop() == 0


def test_renewed_certificates_are_taken_up_without_a_restart(manager: ManagerProcess, guard: GuardProcess) -> None:
    """The manager's doors serve the new ones within seconds; status and metrics say when they end; guards come back.

    Of two managers each serves its own over HTTP; their broker takes up new ones when it is told to, by an operator.
    """
    guard.start()
    for each in {manager, manager.leader}:
        TlsDirectory(each.data).renew((), datetime.now(UTC), days=20)
    doors = {"http": manager.http} if has_two_managers() else {"http": manager.http, "mqtt": manager.mqtt}
    for url in doors.values():
        eventually(lambda url=url: _shown(url) in (manager.data / "tls" / _file(url)).read_text(), what="renewed")
    eventually(lambda: _days_left(manager).items() >= dict.fromkeys(doors, 19).items(), what="the overview's word")
    with manager.leader.client() as client:
        families = text_string_to_metric_families(client.get("/metrics").text)
    (family,) = [each for each in families if each.name == "panguard_certificate_expiry_timestamp_seconds"]
    now = datetime.now(UTC).timestamp()
    in_days = {each.labels["door"]: round((each.value - now) / 86_400) for each in family.samples}
    assert in_days.keys() == {"http", "mqtt"}
    assert in_days.items() >= dict.fromkeys(doors, 20).items()
    guard.stop()
    assert guard.start()
    status = Panguard(manager.home / "status.log", "manager", "status", "--data-dir", str(manager.data))
    status.process.wait(60)
    status.terminate()
    assert any(line.endswith("19 days left: panguard manager certs renew") for line in status.lines)


@pytest.mark.parametrize("each_deployment", [SQLITE], indirect=True)
def test_what_was_detected_behind_an_expired_certificate_is_stored_once_it_is_renewed(
    manager: ManagerProcess, guard: GuardProcess
) -> None:
    """The guard says what is wrong, spools, and is online by itself when the manager has renewed; nobody restarts.

    Not with two managers: it is the guard's part, and their broker shows its certificate until an operator replaces it.
    """
    folder, now = TlsDirectory(manager.data), datetime.now(UTC)
    folder.renew((), now - timedelta(days=3), days=2)
    try:
        eventually(lambda: _serves_expired(manager), what="expired certificates served")
        guard.start(wait=False)
        eventually(lambda: "it has expired" in (read_status(guard.data).get("notConnected") or ""), what="the sentence")
        guard.attacked_by("203.0.113.34" if guard.url.startswith("mqtts") else "203.0.113.35")
        eventually(lambda: spooled(guard) == 1, what="a spooled threat")
    finally:
        folder.renew((), now)
    agent_id = guard.agent_id()
    eventually(lambda: manager.get("/api/threats", agentId=agent_id), what="the threat stored")
    assert read_status(guard.data)["notConnected"] is None


def _serves_expired(manager: ManagerProcess) -> bool:
    """Return whether each door's certificate has expired; a door that takes another one just then answers nothing."""
    try:
        return max(_days_left_unverified(manager).values()) < 0
    except httpx2.TransportError:
        return False


def _days_left_unverified(manager: ManagerProcess) -> dict[str, int]:
    """Return the same from a door whose certificate nobody believes any more."""
    verified, manager.trust = manager.trust, False
    try:
        return _days_left(manager)
    finally:
        manager.trust = verified


def _days_left(manager: ManagerProcess) -> dict[str, int]:
    return {record["door"]: record["daysLeft"] for record in manager.get("/api/overview")["certificates"]}


def _file(url: str) -> str:
    return "http.crt" if url.startswith("https") else "broker.crt"


def _shown(url: str) -> str:
    return ssl.get_server_certificate(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60).strip()


@pytest.mark.mosquitto
def test_the_same_through_a_mosquitto_of_ones_own(tmp_path: Path) -> None:
    """Its certificate is of the manager's authority too: neither the manager nor a guard needs a word about it."""
    port = free_port()
    manager = ManagerProcess(tmp_path, f"mqtts://127.0.0.1:{port}", QUICK, tls=True)
    user = "root" if os.geteuid() == 0 else None  # it would become `mosquitto`, who may not enter this directory
    prepare(manager.data, tmp_path / "broker", host="127.0.0.1", port=port, websocket_port=free_port(), user=user)
    with Mosquitto(configuration=tmp_path / "broker" / "broker.conf", port=port), manager:
        guard = GuardProcess(manager, "behind-mosquitto", QUICK)
        agent_id = guard.start()
        guard.attacked_by("203.0.113.36")
        eventually(lambda: manager.get("/api/threats", agentId=agent_id), what="the threat stored")
        assert _days_left(manager)["mqtt"] == SERVER_DAYS - 1  # what the manager was shown, a moment old
        assert guard.stop() == 0


def test_a_manager_that_gets_certificates_tells_so_in_its_first_token(tmp_path: Path) -> None:
    """The token of the first start, kept since, names the authority from the next start on; its secret is the same."""
    (tmp_path / "plain").mkdir()
    (tmp_path / "secured").mkdir()
    with stores_in(None):  # one data directory with its store, whatever the other tests of this module have
        with ManagerProcess(tmp_path / "plain") as plain:
            before = EnrollmentToken.parse((plain.data / "enroll.token").read_text())
            assert before.ca_fingerprint is None
        secured = ManagerProcess(tmp_path / "secured", tls=True)
        shutil.copytree(plain.data, secured.data, dirs_exist_ok=True)
        with secured:
            after = EnrollmentToken.parse((secured.data / "enroll.token").read_text())
    own = TlsDirectory(secured.data).authority()
    assert own is not None
    assert after.ca_fingerprint == own.fingerprint
    assert (after.token_id, after.secret) == (before.token_id, before.secret)
