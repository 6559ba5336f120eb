"""Every topic by everybody by publish, subscribe, receive, retained, will: on both brokers, and no cell untested."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from paho.mqtt.client import MQTTMessage

from schemas import topics
from tests.contract.brokers import HARDENED, MOSQUITTO, ORGANIZATIONS, Fleet, fleet_at
from tests.integration.broker.broker_clients import PahoClient, RawClient
from tests.support.waiting import eventually

CLIENT_ID, OTHER_CLIENT_ID = "a" * 32, "b" * 32
EVERYBODY = ("own", "mate", "foreign", "registering", "removed", "observer", "manager")
REGISTERING, MANAGER, OWN = {"registering"}, {"manager"}, {"own"}
TO_ALL = {"own", "mate", "foreign", "registering", "observer", "manager"}
TO_MANAGER, TO_AGENT, TO_ORGANIZATION = {"manager", "observer"}, {"own", "observer"}, {"own", "mate", "observer"}

# Written out by hand from the contract: who may publish on a topic of the own agent, of its organization or of the
# registering client, and who hears it. The manager also clears what others left retained.
MATRIX: dict[str, tuple[set[str], set[str]]] = {
    "manager/presence": (MANAGER, TO_ALL),
    "manager/keys": (MANAGER, TO_ALL),
    "registration/{clientId}": (REGISTERING | MANAGER, MANAGER),
    "registration/{clientId}/reply": (MANAGER, REGISTERING),
    "agents/{agentId}/presence": (OWN | MANAGER, OWN | TO_MANAGER),
    "agents/{agentId}/heartbeat": (OWN, TO_MANAGER),
    "agents/{agentId}/threats": (OWN, TO_MANAGER),
    "agents/{agentId}/receipts": (MANAGER, TO_AGENT),
    "agents/{agentId}/policy": (MANAGER, TO_AGENT),
    "agents/{agentId}/policy/applied": (OWN, TO_MANAGER),
    "organizations/{organizationId}/blocklist": (MANAGER, TO_ORGANIZATION),
    "organizations/{organizationId}/blocklist/changes": (MANAGER, TO_ORGANIZATION),
    "fleet/{event}": (MANAGER, TO_MANAGER),
}
RETAINED = {"manager/presence", "manager/keys", "agents/{agentId}/presence", "agents/{agentId}/policy"}
RETAINED |= {"organizations/{organizationId}/blocklist"}
OUTSIDE = (
    "$SYS/broker/version", "$CONTROL/dynamic-security/v1", "panguard/v2/manager/presence", "panguard/v1/agents",
    "panguard/v1/agents/{agentId}", "panguard/v1/agents/{agentId}/policy/applied/x", "panguard/v1//presence",
    "elsewhere",
)  # fmt: skip
"""Topics that are none of the table's: nobody but the manager has any business there, and it only to command."""

WILDCARDS = (
    "#", "+/+/+/+/+", "panguard/#", "panguard/v1/agents/#", "panguard/v1/agents/+/policy",
    "panguard/v1/agents/+/receipts", "panguard/v1/+/+/presence", "panguard/v1/registration/#",
    "$share/group/panguard/v1/agents/+/policy", "$SYS/#",
)  # fmt: skip
OF_ITSELF = {"agents/{agentId}/presence", "agents/{agentId}/receipts", "agents/{agentId}/policy"}
"""What an agent subscribes to under its own id. Mosquitto grants it under any id, and delivers by the login's."""

CLEARED_BY_THE_MANAGER = {"registration/{clientId}/reply", "panguard/v1/registration/#"}
"""What the manager reads at Mosquitto beyond the table, to clear what clients left on registration topics."""

END = "that was all"
Cell = tuple[str, str]


@dataclass
class Seen:
    """Results: the subscriptions granted, and for each client the publishers and topics that it received."""

    granted: set[Cell] = field(default_factory=set)
    live: dict[str, set[Cell]] = field(default_factory=dict)
    retained: dict[str, set[Cell]] = field(default_factory=dict)
    wills: dict[str, set[Cell]] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)


class Experiment:
    """Lets everybody try everything at one broker."""

    def __init__(self, fleet: Fleet, stack: ExitStack) -> None:
        self.fleet = fleet
        self.seen = Seen()
        self._stack = stack
        self._clients: dict[str, PahoClient] = {}
        self._kept: dict[str, list[MQTTMessage]] = {}

    def topic(self, pattern: str, client_id: str = CLIENT_ID) -> str:
        filled = pattern.replace("{agentId}", self.fleet.agent_ids["own"]).replace("{clientId}", client_id)
        filled = filled.replace("{organizationId}", "acme").replace("{event}", "agent_online")
        return filled if pattern in OUTSIDE else f"panguard/v1/{filled}"

    def _filter(self, who: str, pattern: str) -> str:
        """Return a client's filter for a pattern: the manager uses the wildcard for all topics of a kind."""
        if who != "manager" or pattern in OUTSIDE:
            return self.topic(pattern)
        return "panguard/v1/" + re.sub(r"\{\w+\}", "+", pattern)

    def run(self) -> Seen:
        for who in EVERYBODY:
            self._connect(who)
        self._speak()
        self.seen.live = self._heard()
        self._leave_wills()
        self.seen.wills = self._heard()
        self._retain()
        self._kept.clear()
        for who in sorted(self.seen.connected):
            self._clients[who].close()
            self._connect(who, first=False)
        self.seen.retained = self._heard()
        return self.seen

    def _connect(self, who: str, *, first: bool = True) -> None:
        """Connect a client and subscribe to everything, by name and by wildcard."""
        login = self.fleet.logins[who]
        client_id = CLIENT_ID if who == "registering" else f"{who}-{first}"
        client = PahoClient(self.fleet.port, client_id, username=login.username, password=login.password)
        self._stack.callback(client.close)
        if client.connect() != 0:
            return
        self.seen.connected.add(who)
        self._clients[who] = client
        named = [*MATRIX, *OUTSIDE]
        codes = client.subscribe_to_all([*(self._filter(who, pattern) for pattern in named), *WILDCARDS])
        granted = zip([*named, *WILDCARDS], codes, strict=True)
        self.seen.granted |= {(pattern, who) for pattern, code in granted if code < 128}

    def _speak(self) -> None:
        for pattern in (*MATRIX, *OUTSIDE):
            for who in EVERYBODY:
                self._publish(who, pattern, f"live|{pattern}|{who}", retain=False)

    def _retain(self) -> None:
        """Publish retained messages; allowed publishers go last, so that theirs do not hide a forbidden one."""
        for pattern in (*MATRIX, *OUTSIDE):
            may = MATRIX.get(pattern, (set(), set()))[0]
            for who in sorted(EVERYBODY, key=lambda who: (who in may, who == "own")):
                self._publish(who, pattern, f"retained|{pattern}|{who}", retain=True)

    def _publish(self, who: str, pattern: str, payload: str, *, retain: bool) -> None:
        client = self._clients.get(who)
        if client is None:
            return
        sent = client.paho.publish(self.topic(pattern), payload, 1, retain)
        commands = who == "manager" and pattern.startswith("$CONTROL")
        if self.fleet.kind == HARDENED or commands or who in MATRIX.get(pattern, (set(), set()))[0]:
            eventually(sent.is_published, what="an answer", pause=0.002)
        else:  # Mosquitto ends whoever publishes where it has no business
            eventually(lambda: not client.paho.is_connected(), what="the end", pause=0.002)
            client.close()
            self._kept.setdefault(who, []).extend(client.arrived.queue)
            self._connect(who)

    def _leave_wills(self) -> None:
        for pattern in (*MATRIX, *OUTSIDE):
            for who in EVERYBODY:
                login = self.fleet.logins[who]
                client_id = OTHER_CLIENT_ID if who == "registering" else f"will-of-{who}"
                with RawClient(self.fleet.port) as client:
                    will = (self.topic(pattern, OTHER_CLIENT_ID), f"will|{pattern}|{who}")
                    # Mosquitto does not even let in who leaves a will where it may not write.
                    client.connect(client_id, username=login.username, password=login.password, will=will)

    def _heard(self) -> dict[str, set[Cell]]:
        """Return what arrived since the last time, up to a word of the manager to all."""
        manager = self._clients["manager"]
        manager.publish(self.topic("manager/presence"), END)
        heard: dict[str, set[Cell]] = {}
        for who in sorted(self.seen.connected):
            messages = [*self._kept.pop(who, []), *self._clients[who].until(END)]
            words = [message.payload.decode().split("|") for message in messages]
            heard[who] = {(word[1], word[2]) for word in words if len(word) == 3}
        return heard


@pytest.fixture(scope="module", params=[HARDENED, MOSQUITTO])
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    if request.param == MOSQUITTO:
        request.getfixturevalue("has_mosquitto")
    with fleet_at(request.param, tmp_path_factory.mktemp("fleet")) as fleet, ExitStack() as stack:
        experiment = Experiment(fleet, stack)
        experiment.run()
        yield experiment


def _readers(kind: str, pattern: str) -> set[str]:
    readers = MATRIX[pattern][1]
    return readers | MANAGER if kind == MOSQUITTO and pattern in CLEARED_BY_THE_MANAGER else readers


def _expected(kind: str, who: str, patterns: set[str]) -> set[Cell]:
    return {(pattern, by) for pattern in patterns for by in MATRIX[pattern][0] if who in _readers(kind, pattern)}


def test_no_cell_is_missing() -> None:
    """The table here has each row of the topic table, and a new row fails until its cells are written out."""
    assert set(MATRIX) == {row.pattern for row in topics.TABLE}
    assert {row.pattern for row in topics.TABLE if row.retained} == RETAINED


def test_a_removed_agent_is_not_let_in(experiment: Experiment) -> None:
    """All of its cells are empty: its credential opens no connection, and no will is left by it."""
    assert experiment.seen.connected == set(EVERYBODY) - {"removed"}


def test_subscriptions(experiment: Experiment) -> None:
    """Granted for what one may receive, and to agents for no wildcard.

    Mosquitto grants an agent others' topics by name and delivers nothing for it.
    """
    for who in EVERYBODY:
        granted = {pattern for pattern, by in experiment.seen.granted if by == who}
        allowed = {pattern for pattern, (_, readers) in MATRIX.items() if who in readers}
        if who == "observer":
            assert {pattern for pattern in granted if pattern in MATRIX} == allowed
        elif experiment.fleet.kind == MOSQUITTO and who in ORGANIZATIONS and who in experiment.seen.connected:
            assert granted == allowed | OF_ITSELF, who
        elif experiment.fleet.kind == MOSQUITTO and who == "manager":
            assert granted == allowed | CLEARED_BY_THE_MANAGER & set(WILDCARDS)
        else:
            assert granted == allowed, who


@pytest.mark.parametrize("who", EVERYBODY)
def test_live_messages(experiment: Experiment, who: str) -> None:
    """Everybody hears exactly what the contract lets others say and lets this one hear, whatever was subscribed to."""
    assert experiment.seen.live.get(who, set()) == _expected(experiment.fleet.kind, who, set(MATRIX))


@pytest.mark.parametrize("who", EVERYBODY)
def test_last_wills(experiment: Experiment, who: str) -> None:
    """A will goes where its owner may publish, and nowhere else."""
    expected = _expected(experiment.fleet.kind, who, set(MATRIX))
    if who == "registering":  # a reply to another client is not its own
        expected -= {("registration/{clientId}/reply", "manager")}
    assert experiment.seen.wills.get(who, set()) == expected


@pytest.mark.parametrize("who", EVERYBODY)
def test_retained_messages(experiment: Experiment, who: str) -> None:
    """The embedded broker keeps only what is retained by the contract; Mosquitto cannot forbid the flag.

    There an agent or a registering client can leave a message on its own topics; nobody else ever can.
    """
    patterns = RETAINED if experiment.fleet.kind == HARDENED else set(MATRIX)
    newest = {
        pattern: "own" if "own" in publishers else max(publishers, key=EVERYBODY.index)
        for pattern, (publishers, _) in MATRIX.items()
    }
    expected = {(pattern, newest[pattern]) for pattern in patterns if who in _readers(experiment.fleet.kind, pattern)}
    expected -= {("manager/presence", "manager")}  # the word that ended the round before took its place
    assert experiment.seen.retained.get(who, set()) - {("manager/presence", "manager")} == expected
