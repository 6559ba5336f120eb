"""Lost commits against the list of all reports that were ever made: in the end each is stored once.

The manager's engine on a real store, and the guard's outbox, kept reports, delivery and resending on real databases,
joined by a broker that loses and repeats what it likes. The store is copied and restored, and either side is killed.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from agent.report.delivery import Delivery
from agent.report.kept_reports import KeptReports
from agent.report.outbox import Outbox
from agent.report.resending import Resending
from agent.storage.database import Database
from schemas import topics
from schemas.decoding import decode
from schemas.limits import MIB
from schemas.message_codes import has_mac, has_signature
from schemas.presence import ManagerKeys
from schemas.succession import TrustedKeys
from schemas.threats import Receipt, Severity
from tests.support.engine import Bench
from tests.support.examples import examples
from tests.support.simulated import SimulatedAgent, iso
from tests.unit.agent.fake_link import FakeLink

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "report",
                "report",
                "exchange",
                "exchange",
                "exchange without heartbeats",
                "exchange without reports",
                "exchange without receipts",
                "exchange without keys",
                "copy",
                "restore",
                "kill manager",
                "kill guard",
                "repeat keys",
                "repeat receipts",
                "wait",
            ]
        ),
        st.integers(0, 20),
    ),
    min_size=4,
    max_size=22,
)


class Guard:
    """The part of a guard that reports, over the agent's keys."""

    def __init__(self, bench: Bench, agent: SimulatedAgent, path: Path, most: int) -> None:
        self.bench, self.agent, self.path, self.most = bench, agent, path, most
        self.link = FakeLink()
        self.sign_key = bench.keyring.sign_public
        self.receipts: list[bytes] = []
        self.sent = 0
        self.start()

    def start(self) -> None:
        """Start it on its database."""
        self.database = Database.open(self.path)
        self.kept = KeptReports(
            self.database, self.most, MIB, address="mqtt://broker", time=lambda: self.bench.now.wall
        )
        self.kept.pin(TrustedKeys(self.sign_key))
        self.outbox = Outbox(self.database, 1_000, MIB)
        self.delivery = Delivery(self.outbox, 200, 30.0, self.kept)
        self.resending = Resending(self.kept, lambda: self.delivery.is_idle, 30.0)
        self.connect()

    def kill(self) -> None:
        self.database.close()
        self.start()

    def connect(self) -> None:
        """Open a link; what the former one carried is gone."""
        self.link.published.clear()
        now = self.bench.now.monotonic
        self.delivery.opened(self.link, self.agent.agent_id, self.agent.keys.mac_key, now)
        self.resending.opened(self.link, self.agent.agent_id, self.agent.keys.mac_key, now)
        self.kept.begin_session()
        self.silent = 0

    def report(self) -> str:
        report_id = str(uuid7())
        threat = {"type": "brute_force", "confidence": 80.0, "evidence": {"sourceIp": "203.0.113.9"}, "count": 1}
        body = {"id": report_id, "threat": threat, "timestamp": iso(self.bench.wall)}
        with self.database.transaction() as connection:
            assert self.outbox.add(connection, report_id, json.dumps(body).encode(), 0.0, Severity.HIGH)
        return report_id

    def hear_keys(self, payload: bytes) -> None:
        """Handle the manager's keys as the guard does: what is not signed by the trusted key has no effect."""
        assert has_signature(self.bench.keyring.sign_key.public_key(), topics.MANAGER_KEYS.below_root(), payload)
        generation = decode(ManagerKeys, payload, topics.MANAGER_KEYS.limit).generation
        if generation is not None:
            self.resending.hear(generation, self.bench.now.monotonic)

    def hear_receipt(self, payload: bytes) -> None:
        topic = topics.RECEIPTS.below_root(self.agent.agent_id)
        assert has_mac(self.agent.keys.mac_key, topic, payload)
        receipt, now = decode(Receipt, payload, topics.RECEIPTS.limit), self.bench.now
        self.resending.receipt(receipt, now.monotonic, now.wall)
        self.delivery.receipt(receipt, now.monotonic, now.wall)

    def tick(self) -> list[bytes]:
        """Run what is due; return the messages with reports."""
        now = self.bench.now.monotonic
        self.delivery.tick(now)
        self.resending.tick(now)
        messages = self.link.take(topics.THREATS)
        self.sent += len(messages)
        return messages


class Fleet:
    """A manager, two guards, and all that was ever said."""

    def __init__(self, home: Path, most: int) -> None:
        (home / "store").mkdir()
        self.home = home
        self.bench = Bench(home / "store")
        token = self.bench.token()
        agents = [self.bench.enroll(name, token) for name in ("a", "b")]
        self.guards = [Guard(self.bench, agent, home / f"{agent.hostname}.db", most) for agent in agents]
        self.keys: list[bytes] = []
        self.made: list[tuple[SimulatedAgent, str]] = []
        self.copies = 0
        self.copy()

    def close(self) -> None:
        self.bench.database.close()
        for guard in self.guards:
            guard.database.close()

    def exchange(
        self, *, heartbeats: bool = True, reports: bool = True, receipts: bool = True, keys: bool = True
    ) -> None:
        """Let two seconds pass, in which each guard sends a heartbeat and what is due, and hears the answers.

        Of the heartbeats of one session two may be lost.
        """
        bench = self.bench
        bench.pass_time(2)
        for guard in self.guards:
            heartbeat = guard.agent.heartbeat(bench.wall, receipt_mark=guard.kept.mark_to_state())
            guard.silent += not heartbeats
            if heartbeats or guard.silent > 2:
                bench.receive(topics.HEARTBEAT, guard.agent.agent_id, heartbeat)
        for guard in self.guards:
            messages = guard.tick()
            for message in messages if reports else ():
                bench.receive(topics.THREATS, guard.agent.agent_id, message)
        bench.pass_time(1)
        said = bench.publisher.take(topics.MANAGER_KEYS.address())
        self.keys += said
        for guard in self.guards:
            told = bench.publisher.take(topics.RECEIPTS.address(guard.agent.agent_id))
            guard.receipts += told
            for payload in told if receipts else ():
                guard.hear_receipt(payload)
            for payload in said if keys else ():
                guard.hear_keys(payload)

    def copy(self) -> None:
        self.bench.pass_time(6)  # what is written some seconds later
        self.bench.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.copies += 1
        shutil.copytree(self.bench.directory, self.home / f"copy-{self.copies}")

    def restore(self, number: int) -> None:
        """Put one of the copies in the place of the store; guards connect anew and read the retained keys."""
        self.bench.database.close()
        shutil.rmtree(self.bench.directory)
        shutil.copytree(self.home / f"copy-{1 + number % self.copies}", self.bench.directory)
        self.bench.build()
        self.reconnect()

    def reconnect(self) -> None:
        self.bench.pass_time(1)
        for guard in self.guards:
            guard.agent.session += 1
            guard.agent.sequence = 0
            guard.connect()
            presence = guard.agent.presence("online", self.bench.wall)
            self.bench.receive(topics.PRESENCE, guard.agent.agent_id, presence)

    def step(self, step: str, number: int) -> None:
        guard, (word, _, without) = self.guards[number % 2], step.partition(" without ")
        actions: dict[str, Callable[[], object]] = {
            "report": lambda: self.made.append((guard.agent, guard.report())),
            "exchange": lambda: self.exchange(**({without: False} if without else {})),
            "copy": self.copy,
            "restore": lambda: self.restore(number),
            "kill manager": self.restart,
            "kill guard": guard.kill,
            "repeat keys": lambda: self.keys and guard.hear_keys(self.keys[number // 2 % len(self.keys)]),
            "repeat receipts": lambda: (
                guard.receipts and guard.hear_receipt(guard.receipts[number // 2 % len(guard.receipts)])
            ),
            "wait": lambda: self.bench.pass_time(30 * number, step=30),
        }
        actions[word]()

    def restart(self) -> None:
        """Kill the manager, and start it again."""
        self.bench.crash()
        self.reconnect()

    def settle(self) -> None:
        """Exchange until nothing waits, with the newest keys read anew, as by a guard that connects."""
        for _ in range(60):
            for guard in self.guards:
                for payload in self.keys[-1:]:
                    guard.hear_keys(payload)
            self.exchange()
            if not any(len(guard.outbox) or guard.kept.again for guard in self.guards):
                break
            self.bench.pass_time(20, step=5)

    def stored(self) -> list[tuple[str, str]]:
        numbers = {agent.number: agent.agent_id for agent in self.bench.fleet.registry.agents.values()}
        rows = self.bench.rows("SELECT agent_number, threat_id FROM threat")
        return sorted((numbers[number], threat_id) for number, threat_id in rows)


def _script(text: str) -> list[tuple[str, int]]:
    """Return the steps of a text such as `report 0, exchange without keys, restore 1`; a number left out is 0."""
    words = [each.strip().rpartition(" ") for each in text.split(",")]
    return [(step, int(number)) if number.isdigit() else (f"{step} {number}".strip(), 0) for step, _, number in words]


_STALE_RECEIPT = _script("report 0, exchange, restore 0, exchange, repeat receipts 0")
"""A receipt from before the loss comes again after the ask was heard."""

_LATE_RECEIPT = _script(
    "report 0, exchange, report 0, exchange without receipts, restore 0, exchange without reports, repeat receipts 2"
)
"""A receipt from before the loss comes for the first time after the ask was heard."""

_HIDDEN_MARK = _script("report 0, exchange, restore 0, report 0, exchange without heartbeats, kill guard, exchange")
"""A receipt of the restored store comes before the first heartbeat."""

_TWO_LOSSES = _script(
    "report 0, report 1, exchange, wait 10, restore 0, exchange without keys, exchange without keys,"
    " exchange without keys, report 0, report 1, exchange without keys, wait 10, copy, report 0, exchange without keys,"
    " restore 1, exchange without keys"
)
"""Guards hear of the second loss alone, which has a later copy."""

_RUNNING_COPY = _script("report 0, exchange, copy, report 1, exchange, restore 1, report 0, report 1, exchange")
"""A copy that was made while the manager ran: a part of its run is lost."""


@settings(max_examples=examples(25))
@example(steps=_STALE_RECEIPT, repeats=[0])
@example(steps=_LATE_RECEIPT, repeats=[])
@example(steps=_HIDDEN_MARK, repeats=[])
@example(steps=_TWO_LOSSES, repeats=[0, 1, 2])
@example(steps=_RUNNING_COPY, repeats=[])
@given(steps=_STEPS, repeats=st.lists(st.integers(0, 50), max_size=5))
def test_every_report_is_stored_once_in_the_end(steps: list[tuple[str, int]], repeats: list[int]) -> None:
    """Whatever was lost: each report is in the store once, nothing waits, and repeated asks bring nothing more."""
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        fleet = Fleet(Path(home), most=1_000)
        stack.callback(fleet.close)
        for step, number in steps:
            fleet.step(step, number)
        fleet.settle()
        assert [len(guard.outbox) + guard.kept.again for guard in fleet.guards] == [0, 0]
        assert fleet.stored() == sorted((agent.agent_id, report_id) for agent, report_id in fleet.made)
        assert fleet.bench.failures() == {}
        sent = [guard.sent for guard in fleet.guards]
        for number in repeats:
            for guard in fleet.guards:
                guard.hear_keys(fleet.keys[number % len(fleet.keys)])
            fleet.exchange()
        assert [guard.sent for guard in fleet.guards] == sent


@settings(max_examples=examples(10))
@given(steps=_STEPS)
def test_beyond_its_limit_a_guard_loses_the_oldest_alone(steps: list[tuple[str, int]]) -> None:
    """With room for two reports: what is stored is stored once, and of the reports in the end the two newest are."""
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        fleet = Fleet(Path(home), most=2)
        stack.callback(fleet.close)
        for step, number in steps:
            fleet.step(step, number)
        fleet.settle()
        stored = fleet.stored()
        assert len(set(stored)) == len(stored)
        for guard in fleet.guards:
            mine = [(agent.agent_id, name) for agent, name in fleet.made if agent is guard.agent]
            assert set(mine[-2:]) <= set(stored)
