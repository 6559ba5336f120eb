"""What outlives a broker and a manager on either broker: what is retained comes back, what was left behind does not."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import topics
from schemas.keys import EnrollmentToken
from tests.integration.broker.broker_clients import PahoClient
from tests.support.enrolling import applicant, connected, register
from tests.support.sites import KINDS_AND_TWO, Site, site_at
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/integration/mqtt/test_door.py")

LEFT_BEHIND = 60


@pytest.fixture(scope="module", params=KINDS_AND_TWO)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(request.param, tmp_path_factory.mktemp("site"), request) as site:
        yield site


def _retained(port: int, login: tuple[str, str], *rows: topics.Topic) -> dict[str, bytes]:
    """Return what is retained on the topics of some rows; the manager's presence, asked for last, ends it."""
    with PahoClient(port, f"looker-{time.monotonic_ns()}", username=login[0], password=login[1]) as client:
        client.connect()
        for row in (*rows, topics.MANAGER_PRESENCE):
            client.subscribe(row.filter)
        found: dict[str, bytes] = {}
        while (message := client.next()).topic != topics.MANAGER_PRESENCE.address():
            if message.retain:
                found[message.topic] = message.payload
        return found


def _policies_keys_and_blocklists(site: Site) -> dict[str, bytes]:
    return _retained(site.port, site.observer(), topics.MANAGER_KEYS, topics.POLICY, topics.BLOCKLIST)


def _without_time(messages: dict[str, bytes]) -> dict[str, Any]:
    """Return messages without what each signing sets anew: its time, the time left of entries, the signature."""
    return {topic: _drop_time(json.loads(payload)) for topic, payload in messages.items()}


def _drop_time(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _drop_time(member) for key, member in value.items() if key not in SIGNED_ANEW}
    return [_drop_time(member) for member in value] if isinstance(value, list) else value


SIGNED_ANEW = {"sentAt", "secondsLeft", "signature"}


def test_a_broker_that_lost_everything_is_given_it_again(site: Site) -> None:
    """Killed, with nothing left on its disk: keys, every policy and the blocklist are retained as they were."""
    manager = site.manager
    token = EnrollmentToken.parse((manager.data / "enroll.token").read_text().strip())
    agents = [applicant(site, f"srv-{number}", token) for number in range(3)]
    for agent in agents:
        register(site.port, agent)
        with connected(site.port, agent) as client:
            report = agent.threat(time.time(), sourceIp="203.0.113.66").decode()
            client.publish(topics.THREATS.address(agent.agent_id), report)
    manager.request("PUT", "/api/policies/global", {"thresholds": {"notifyAndWait": 41}})
    policies = [topics.POLICY.address(agent.agent_id) for agent in agents]
    wanted = {topics.MANAGER_KEYS.address(), topics.BLOCKLIST.address("default"), *policies}

    def settled() -> dict[str, bytes]:
        found = _policies_keys_and_blocklists(site)
        whole = found.keys() >= wanted and b"203.0.113.66" in found[topics.BLOCKLIST.address("default")]
        new = whole and all(b'"notifyAndWait":41' in found[topic] for topic in policies)
        return found if new else {}

    before, connections = eventually(settled, what="all of it retained"), site.connections()
    site.end_broker()
    eventually(lambda: site.connections() > connections, what="the manager at the new broker")
    content = _without_time(before)
    eventually(lambda: _without_time(_policies_keys_and_blocklists(site)) == content, what="all of it retained again")


def test_registrations_left_behind_are_no_nuisance(site: Site) -> None:
    """Sixty retained registrations: after a restart no agent is new, changed or back, and none of them is left.

    The embedded broker never keeps them; at Mosquitto they are there before, and the manager clears them.
    """
    manager = site.manager
    token = EnrollmentToken.parse((manager.data / "enroll.token").read_text().strip())
    known = applicant(site, "known", token)
    register(site.port, known)
    for number in range(LEFT_BEHIND):
        known.hostname = f"left-{number}"
        register(site.port, known, retain=True)
    for number in range(5):
        manager.request("DELETE", f"/api/agents/{manager.agent(f'left-{number}')['agentId']}", purge="true")
    before = _agents(site)
    assert len(before) == LEFT_BEHIND - 5
    dead_letters = len(manager.get("/api/dead-letters"))
    if site.mosquitto is not None:
        assert len(_registrations(site)) == LEFT_BEHIND
    connections = site.connections()
    manager.stop()
    if site.mosquitto is not None:
        _litter(site)
    manager.start()
    eventually(lambda: site.connections() > connections)
    if site.mosquitto is not None:
        eventually(lambda: _registrations(site) == {}, what="all of them cleared")
    late = applicant(site, "late", token)
    assert register(site.port, late)["agentId"]  # answered behind all of them, which came before it
    assert _agents(site) == before
    assert len(manager.get("/api/dead-letters")) <= dead_letters + len(GARBAGE)


GARBAGE = {"c" * 32: b"no registration", "d" * 32: b"{}", "short": b"x", "not a clientId": b"y" * 100_000}


def _agents(site: Site) -> list[dict[str, Any]]:
    return [agent for agent in site.manager.get("/api/agents") if agent["hostname"].startswith("left-")]


def _registrations(site: Site) -> dict[str, bytes]:
    assert site.mosquitto is not None
    return _retained(site.port, site.mosquitto.credential("manager"), topics.REGISTRATION)


def _litter(site: Site) -> None:
    """Leave what is no registration, under ids that are none, while no manager looks."""
    for client_id, payload in GARBAGE.items():
        with PahoClient(site.port, client_id, username="registration", password="registration") as client:
            client.connect()
            topic = f"{topics.PREFIX}registration/{client_id}"
            client.paho.publish(topic, payload, 1, retain=True).wait_for_publish(60)
    assert len(_registrations(site)) == LEFT_BEHIND + len(GARBAGE)


def test_a_rejected_registration_is_not_left_behind(site: Site) -> None:
    """What is refused is cleared at once: nobody without a token fills a broker while a manager is there."""
    stranger = applicant(site, "stranger", EnrollmentToken.new("A" * 43))
    assert register(site.port, stranger, retain=True)["error"] == "unknown_token"
    if site.mosquitto is not None:
        eventually(lambda: _registrations(site) == {}, what="the refused one cleared")
