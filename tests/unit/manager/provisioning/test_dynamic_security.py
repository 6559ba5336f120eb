"""Access control at a Mosquitto: commands sent, answers read, failures reported."""

import json
from collections import Counter
from typing import Any

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Publication
from manager.provisioning.dynamic_security import DynamicSecurity
from manager.provisioning.logins import FleetLogins
from manager.provisioning.roles import CONTROL


class _Broker:
    """Keeps what is published, and answers when the test says so."""

    def __init__(self, agents: dict[str, Agent]) -> None:
        self.sent: list[Publication] = []
        self.counters: Counter[str] = Counter()
        self.now = 100.0
        self.keeper = DynamicSecurity(self.sent.append, FleetLogins(agents, {}), self.counters, lambda: self.now)

    def commands(self) -> list[dict[str, Any]]:
        """Return the commands of the newest message."""
        assert self.sent[-1].topic == CONTROL
        return list(json.loads(self.sent[-1].payload)["commands"])

    def answer(self, *responses: dict[str, Any]) -> None:
        self.keeper.handle_response(json.dumps({"responses": responses}).encode())


def _agent(number: int, door: Door = Door.MQTT) -> Agent:
    host = Host.of("srv", "Linux", "x64", "1")
    return Agent(number, f"ag-{number:016x}", "default", host, credential_of(bytes(32)), None, door, 0.0)


def _lists(kind: str, member: str, total: int) -> dict[str, Any]:
    return {"command": kind, "data": {"totalCount": total, member: []}}


def test_an_agent_that_changed_to_http_is_let_in_no_more() -> None:
    """It has no business at the broker: its login goes."""
    broker = _Broker({})
    broker.keeper.admit(_agent(1, Door.HTTP), replaced=True)
    assert [command["command"] for command in broker.commands()] == ["deleteClient"]


def test_a_fleet_is_told_in_small_messages() -> None:
    """A broker without logins gets them step by step, each after the response to the last, until it is in sync."""
    agents = {agent.agent_id: agent for agent in map(_agent, range(50))}
    broker = _Broker(agents)
    broker.keeper.connected()
    broker.answer({"command": "setDefaultACLAccess"}, _lists("listRoles", "roles", 0))
    broker.answer(_lists("listClients", "clients", 0))
    created = 0
    while not broker.keeper.in_sync:
        commands = broker.commands()
        assert len(commands) <= 5
        created += sum(command["command"] == "createClient" for command in commands)
        broker.answer(*({"command": command["command"]} for command in commands))
    assert (created, broker.counters["access_failures"]) == (50, 0)


def test_it_has_no_room_while_the_plugin_falls_behind() -> None:
    """Five messages without an answer are enough; one answer to the newest clears them, for they come in order."""
    broker = _Broker({})
    broker.keeper.connected()
    for number in range(9):
        broker.keeper.admit(_agent(number), replaced=False)
    assert broker.keeper.room is None, "a plugin that never answers is none, and nobody waits for it"
    broker.answer({"command": "setDefaultACLAccess", "correlationData": "1"})
    assert broker.keeper.room == 0
    numbers = {command["correlationData"] for command in broker.commands()}
    broker.answer(*({"command": "createClient", "correlationData": number} for number in numbers))
    assert broker.keeper.room == 5
    for number in range(5):
        broker.keeper.admit(_agent(number), replaced=False)
    assert broker.keeper.room == 0
    broker.keeper.connected()
    broker.answer({"command": "setDefaultACLAccess", "correlationData": broker.commands()[0]["correlationData"]})
    assert broker.keeper.room == 5, "what an earlier connection was told is not waited for"


def test_a_plugin_that_does_not_respond_is_a_problem() -> None:
    """At once it may still respond; after ten seconds it is missing; a response ends that, for its connection only."""
    broker = _Broker({})
    broker.keeper.connected()
    assert (broker.keeper.is_missing, "has not responded yet" in str(broker.keeper.problem)) == (False, True)
    broker.now += 9.9
    assert not broker.keeper.is_missing
    broker.now += 0.1
    assert broker.keeper.is_missing
    assert "load its dynamic-security plugin" in str(broker.keeper.problem)
    broker.answer({"command": "setDefaultACLAccess"})
    assert (broker.keeper.problem, broker.keeper.is_missing) == (None, False)
    broker.now += 100.0
    broker.keeper.connected()
    assert (broker.keeper.is_missing, "has not responded yet" in str(broker.keeper.problem)) == (False, True)


def test_what_is_there_or_gone_already_is_no_failure() -> None:
    """A missing role and an unknown command are failures."""
    broker = _Broker({})
    broker.answer(
        {"command": "createRole", "error": "Role already exists"},
        {"command": "deleteClient", "error": "Client not found"},
    )
    assert broker.counters["access_failures"] == 0
    broker.answer({"command": "createClient", "error": "Role not found"}, {"command": "x", "error": "Unknown command"})
    assert broker.counters["access_failures"] == 2


def test_an_answer_that_is_none_changes_nothing() -> None:
    """Malformed responses change nothing."""
    broker = _Broker({})
    broker.keeper.connected()
    for payload in (b"", b"[]", b"{}", b'{"responses":[1]}', b'{"responses":{"a":1}}', b"\xff", b'{"responses":null}'):
        broker.keeper.handle_response(payload)
    assert len(broker.sent) == 1
    assert not broker.keeper.in_sync
