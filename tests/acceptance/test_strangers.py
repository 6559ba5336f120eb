"""Who is not enrolled can neither disconnect, imitate nor silence a guard or the manager, whatever it tries.

Not with two managers: a stranger meets the broker and the manager that leads. One that stands by is not connected.
"""

import contextlib
import json
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.topics import PREFIX, TABLE
from tests.integration.broker.broker_clients import PahoClient, RawClient, packet, text
from tests.support.enrolling import applicant, register
from tests.support.processes import GuardProcess, spooled
from tests.support.sites import KINDS, Site, site_at
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/contract/test_access_matrix.py")

REGISTRATION = ("registration", "registration")
WILDCARDS = (
    "#",
    "+/#",
    "$SYS/#",
    "panguard/#",
    "panguard/v1/#",
    "panguard/v1/+/+/+",
    "panguard/v1/registration/+/reply",
)


@dataclass
class Fleet:
    """A manager and a guard that live, and what an outsider would like to know of them."""

    site: Site
    guard: GuardProcess
    agent_id: str
    guards_id: str
    managers_id: str
    attacks: int = 0

    def record(self) -> dict[str, Any]:
        return self.site.manager.agent(self.guard.hostname)

    def state(self) -> tuple[object, ...]:
        """Return what no stranger may change: sessions, connections, states past and present, who is in the fleet."""
        record = self.record()
        history = self._rows(f"SELECT event, detail FROM agent_history WHERE agent_id = '{self.agent_id}' ORDER BY id")
        fleet = sorted(agent["agentId"] for agent in self.site.manager.get("/api/agents"))
        return record["session"], record["status"], self.site.connections(), tuple(history), tuple(fleet)

    def still_works(self) -> None:
        """Show that a threat of the guard's is stored and receipted, and that a policy reaches it and is in force."""
        self.attacks += 1
        address = f"198.51.100.{self.attacks}"
        self.guard.attacked_by(address)
        threats = f"/api/threats?agentId={self.agent_id}&limit=200"
        eventually(lambda: address in json.dumps(self.site.manager.get(threats)), what="the threat stored")
        eventually(lambda: spooled(self.guard) == 0, what="the receipt")
        document = {"thresholds": {"autoRespond": 40 + self.attacks}}
        wanted = self.site.manager.request("PUT", f"/api/policies/agents/{self.agent_id}", document)["revision"]
        eventually(lambda: self.record()["policyVersion"] >= wanted, what="the policy in force")

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.site.manager.data / "panguard.db")) as database:
            return list(database.execute(sql).fetchall())


@pytest.fixture(scope="module", params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with site_at(request.param, tmp_path_factory.mktemp("site"), request) as site:
        guard = GuardProcess(site.manager, "srv-01")
        agent_id = guard.start()
        suffix = json.loads((guard.data / "identity.json").read_text())["connection"]
        fleet = Fleet(site, guard, agent_id, f"{agent_id}-{suffix}", "")
        ((fleet.managers_id,),) = fleet._rows("SELECT value FROM meta WHERE key = 'mqtt_client_id'")
        fleet.still_works()
        yield fleet
        guard.stop()


@pytest.fixture
def undisturbed(fleet: Fleet) -> Iterator[None]:
    """Hold the test to it that nothing changed, and that everything still works: no reconnect, no word lost."""
    before = fleet.state()
    yield
    assert fleet.state() == before
    fleet.still_works()
    session, status, connections, *_ = before
    assert fleet.state()[:3] == (session, status, connections)


def _introduce(
    client: RawClient, client_id: str, login: tuple[str | None, str | None], will: tuple[str, bytes] | None = None
) -> int | None:
    """Send a CONNECT with any of its parts; return the broker's code, None if it only hung up."""
    username, password = login
    flags = (0x80 if username is not None else 0) | (0x40 if password is not None else 0) | 0x02 | (0x2C if will else 0)
    body = text("MQTT") + bytes((4, flags)) + b"\x00\x3c" + text(client_id)
    for part in (*(will or ()), username, password):
        if part is not None:
            body += text(part)
    client.send(packet(0x10, body))
    try:
        return client.receive(4)[3]
    except (RuntimeError, ConnectionError):
        return None


def _topics(fleet: Fleet) -> list[str]:
    """Return every topic of the guard, its organization, the manager and a registration."""
    identifiers = {"agentId": fleet.agent_id, "clientId": "b" * 32, "organizationId": "default", "event": "agent_stale"}
    return [row.address(identifiers.get(row.placeholder or "")) for row in TABLE]


def _client_ids(fleet: Fleet) -> list[str]:
    """Return ids that an outsider may think of, those that it cannot know among them."""
    return [fleet.guards_id, fleet.managers_id, fleet.agent_id, "manager", "a" * 32, "", f"{fleet.agent_id}-{'0' * 32}"]


def _near(fleet: Fleet, number: int) -> str:
    """Return one of the ids that an outsider can think of, or a new one."""
    return [*_client_ids(fleet)[2:], secrets.token_hex(16), "#", "+", "a/b"][number % 9]


@pytest.mark.usefixtures("undisturbed")
def test_nobody_is_let_in_without_the_right_password(fleet: Fleet) -> None:
    """Under no client id and no name, with no password or a wrong one, whatever will it brings: nothing happens."""
    observer, _ = fleet.site.observer()
    names = (None, "registration", fleet.agent_id, "manager", observer, "root", "")
    wills = _topics(fleet)
    for client_id in _client_ids(fleet):
        for number, username in enumerate(names):
            for password in (None, "", "wrong", fleet.agent_id):
                if username is None and password is not None:
                    continue  # no such packet
                will = (wills[(number + len(client_id)) % len(wills)], b'{"state":"lost","session":99}')
                with RawClient(fleet.site.port) as stranger:
                    assert _introduce(stranger, client_id, (username, password), will) != 0, (client_id, username)


@pytest.mark.usefixtures("undisturbed")
def test_what_strangers_say_or_leave_behind_reaches_nobody(fleet: Fleet) -> None:
    """Neither forged nor recorded words, nor last wills, live or retained, on any topic or on ones with wildcards."""
    retained = _retained_of(fleet)
    own = [topic for topic in _topics(fleet) if fleet.agent_id in topic]
    wild = [topic.replace(fleet.agent_id, sign) for topic in own for sign in "+#"]
    with _watching(fleet) as watcher:
        for login in (REGISTRATION, fleet.site.observer()):
            for number, topic in enumerate([*_topics(fleet), *wild, "$CONTROL/dynamic-security/v1"]):
                with RawClient(fleet.site.port) as stranger:  # Mosquitto does not even let in who brings such a will
                    _introduce(stranger, _near(fleet, number), login, (topic, b"forged"))
                for payload, head in ((b"forged", 0x32), (retained.get(topic, b"forged"), 0x33), (b"", 0x33)):
                    _say(fleet, _near(fleet, number), login, packet(head, text(topic) + b"\x00\x01" + payload))
        _heartbeat_after(watcher)
        assert b"forged" not in {message.payload for message in list(watcher.arrived.queue)}
    assert _retained_of(fleet) == retained


def _say(fleet: Fleet, client_id: str, login: tuple[str, str], publication: bytes) -> None:
    """Publish as somebody, and wait until the broker has dealt with it: answered what comes after it, or hung up."""
    with RawClient(fleet.site.port) as stranger, contextlib.suppress(RuntimeError, ConnectionError):
        _introduce(stranger, client_id, login)
        stranger.send(publication + b"\xc0\x00")
        stranger.receive(2)


@pytest.mark.usefixtures("undisturbed")
def test_a_registering_client_hears_the_manager_alone(fleet: Fleet) -> None:
    """Whatever wildcards it subscribes to, it is sent the manager's presence and keys and nothing else."""
    with PahoClient(
        fleet.site.port, secrets.token_hex(16), username=REGISTRATION[0], password=REGISTRATION[1]
    ) as client:
        client.connect()
        client.subscribe_to_all([*WILDCARDS, *_topics(fleet)])
        with _watching(fleet) as watcher:
            fleet.still_works()
            _heartbeat_after(watcher)
        client.subscribe(PREFIX + "manager/+")
        heard = {message.topic for message in client.arrived.queue}
        assert {topic for topic in heard if not topic.startswith(PREFIX + "manager/")} == set()


def test_the_client_ids_are_told_to_nobody(fleet: Fleet) -> None:
    """128 random bits each: they stand in no message that an outsider or an observer can hear, and in no record."""
    hidden = [fleet.guards_id.rpartition("-")[2], fleet.managers_id.rpartition("-")[2]]
    assert all(len(bits) == 32 and int(bits, 16) for bits in hidden)
    with _watching(fleet, "panguard/v1/#", "$SYS/#") as watcher:
        fleet.still_works()
        _heartbeat_after(watcher)
        told = b"".join(message.topic.encode() + message.payload for message in watcher.arrived.queue).decode()
    told += json.dumps([fleet.site.manager.get(path) for path in ("/api/agents", "/api/overview", "/api/dead-letters")])
    assert fleet.agent_id in told
    assert not [bits for bits in hidden if bits in told]


@pytest.mark.parametrize("whose", ["guard's", "manager's"])
def test_who_knows_a_client_id_after_all_imitates_and_silences_nobody(fleet: Fleet, whose: str) -> None:
    """The embedded broker refuses it. Mosquitto lets it end that connection; the owner comes back, nothing is lost."""
    client_id = fleet.guards_id if whose == "guard's" else fleet.managers_id
    before = fleet.state()
    with RawClient(fleet.site.port) as thief:
        code = _introduce(thief, client_id, REGISTRATION)
        assert (code == 0) is (fleet.site.mosquitto is not None)
        if code == 0:
            thief.send(packet(0x82, b"\x00\x01" + text("#") + b"\x01"))
            fleet.guard.attacked_by("203.0.113.250")
            assert thief.is_closed_by_peer()  # its owner has come back
    fleet.still_works()
    eventually(lambda: fleet.record()["status"] == "online")
    if code == 0:
        eventually(lambda: "203.0.113.250" in json.dumps(fleet.site.manager.get("/api/threats")), what="its threat")
    else:
        assert fleet.state()[:3] == before[:3]


@pytest.mark.usefixtures("undisturbed")
def test_who_knows_the_client_id_of_a_registration_keeps_nobody_out(fleet: Fleet) -> None:
    """Taken over while it waits, the other guard registers all the same, with the same bytes, and only once."""
    newcomer = applicant(fleet.site, f"newcomer-{secrets.token_hex(4)}")
    client_id = secrets.token_hex(16)
    with RawClient(fleet.site.port) as waiting, RawClient(fleet.site.port) as thief:
        assert _introduce(waiting, client_id, REGISTRATION) == 0
        assert _introduce(thief, client_id, REGISTRATION) == 0
        assert waiting.is_closed_by_peer()
        answer = register(fleet.site.port, newcomer, client_id=client_id)
        assert thief.is_closed_by_peer()
    agent_id = answer["agentId"]
    fleet.site.manager.request("DELETE", f"/api/agents/{agent_id}", purge="true")


@contextlib.contextmanager
def _watching(fleet: Fleet, *filters: str) -> Iterator[PahoClient]:
    """Give an observer that hears all that the guard, the manager and everybody else say from now on."""
    username, password = fleet.site.observer()
    name = f"watcher-{secrets.token_hex(8)}"
    with PahoClient(fleet.site.port, name, username=username, password=password) as watcher:
        watcher.connect()
        watcher.subscribe_to_all(list(filters) or [PREFIX + "#"])
        yield watcher


def _heartbeat_after(watcher: PahoClient) -> None:
    """Wait for two more heartbeats of the guard: what was said before the first of them has arrived."""
    beats = [message for message in watcher.arrived.queue if message.topic.endswith("/heartbeat")]
    wanted = len(beats) + 2

    def came() -> bool:
        return sum(message.topic.endswith("/heartbeat") for message in list(watcher.arrived.queue)) >= wanted

    eventually(came, what="the guard's heartbeats")


def _retained_of(fleet: Fleet) -> dict[str, bytes]:
    with _watching(fleet) as watcher:
        _heartbeat_after(watcher)
        return {message.topic: message.payload for message in list(watcher.arrived.queue) if message.retain}
