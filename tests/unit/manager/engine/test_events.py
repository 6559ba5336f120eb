"""Events: stored with their batch in a sequence without gaps, bounded, and announced after the commit."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.domain.notifications.event import KINDS
from manager.engine.batch import Batch
from manager.engine.events import EventRow
from manager.engine.notifications import ChannelCursor, RecordNotifications
from manager.errors import StoreUnavailable
from manager.storage.store import PeeweeStore
from schemas import topics
from tests.support.engine import Bench
from tests.unit.manager.engine.test_piecewise_commit import reject

pytestmark = pytest.mark.usefixtures("each_system")

PASSING = {"policy_applied", "indicator_refused"}
"""The events that are published and not stored: each heartbeat or report may bring one."""


def _names(bench: Bench) -> list[str]:
    return [name for (name,) in bench.rows("SELECT name FROM event ORDER BY sequence")]


def _threat_counts(bench: Bench) -> list[tuple[int, str]]:
    rows = bench.rows("SELECT document, severity FROM event WHERE name = 'threats_reported' ORDER BY sequence")
    return [(json.loads(document)["data"]["count"], severity) for document, severity in rows]


def test_every_event_that_the_engine_makes_is_worth_telling_or_only_passes() -> None:
    """Each name in the code is one of `KINDS`, or of the few that are published and not stored."""
    named = set(_named_in_code(Path("manager/engine")))
    assert named - set(KINDS) == PASSING
    assert len(named) > len(PASSING) + 5


def _named_in_code(directory: Path) -> Iterator[str]:
    for path in directory.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "event":
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield name.value


def test_events_are_stored_with_their_batch_in_a_sequence_without_gaps(bench: Bench) -> None:
    """Over batches, a crash and a restart each event has the sequence after the one before it."""
    heard: list[EventRow] = []
    bench.engine.listeners.append(heard.append)
    agent = bench.enroll("web-1", bench.token(site="vienna"))
    bench.receive(topics.PRESENCE, agent.agent_id, agent.presence("offline", bench.wall))
    bench.crash()
    bench.engine.listeners.append(heard.append)
    bench.enroll("web-2")
    rows = bench.rows("SELECT sequence, name, document FROM event ORDER BY sequence")
    assert [sequence for sequence, *_ in rows] == [*range(1, len(rows) + 1)]
    assert [(row.sequence, row.event.event, row.body.decode()) for row in heard] == rows
    found = bench.rows("SELECT severity, site, organization_id FROM event WHERE name = 'agent_registered' LIMIT 1")
    assert found == [("low", "vienna", "default")]


def test_heartbeats_that_tell_nothing_write_nothing(bench: Bench) -> None:
    """A heartbeat without news makes no event and no transaction."""
    agent = bench.enroll("web-1")
    bench.pass_time(10)
    before, committed = len(_names(bench)), reject(bench, lambda _changes: False)
    for _ in range(20):
        bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
    assert (len(_names(bench)), committed) == (before, [])


def test_threats_of_a_second_are_one_event_and_none_is_left_out(bench: Bench) -> None:
    """The first report is announced with its own batch, those of the second after it together."""
    agent = bench.enroll("web-1")
    for number in range(5):
        bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"t-{number}"))
    bench.pass_time(2)
    assert _threat_counts(bench) == [(1, "medium"), (4, "medium")]
    bench.pass_time(5)
    assert len(_threat_counts(bench)) == 2


def test_threats_that_the_store_rejects_are_not_counted(bench: Bench) -> None:
    """A batch of which one report does not fit is announced with those that were stored."""
    agent = bench.enroll("web-1")
    reject(bench, lambda changes: any(row.threat_id == "bad" for row in changes.threats))
    for name in ("a", "bad", "b"):
        bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, name))
    bench.engine.step(bench.now)
    assert _threat_counts(bench) == []
    bench.pass_time(2)
    assert [count for count, _ in _threat_counts(bench)] == [2]


def test_events_of_a_batch_that_waits_for_the_store_are_stored_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store cannot commit, nothing is announced; afterwards each event is announced once."""
    agent = bench.enroll("web-1")
    heard: list[EventRow] = []
    bench.engine.listeners.append(heard.append)
    before = len(_names(bench))
    bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, "t-1"))
    with monkeypatch.context() as patch:

        def failing(_changes: object) -> None:
            raise StoreUnavailable("the disk is full")

        patch.setattr(bench.store, "commit", failing)
        for _ in range(3):
            bench.engine.step(bench.now)
    assert heard == []
    bench.pass_time(3)
    names = ["threats_reported", "store_unavailable", "store_available"]
    assert _names(bench)[before:] == [row.event.event for row in heard] == names


@pytest.mark.parametrize("batches", [(3, 4), (12,), (1, 1, 1, 1, 1, 1)])
def test_the_oldest_events_make_room(bench: Bench, batches: tuple[int, ...]) -> None:
    """Of all events the newest five are kept, whatever the size of a batch; sequences are never used again."""
    store = PeeweeStore(bench.database, bench.keyring.store_key, events_kept=5)
    highest = 0
    for size in batches:
        batch = Batch(bench.now)
        for _ in range(size):
            batch.event("incident_work")
        store.commit(batch.changes)
        highest += size
        kept = [sequence for (sequence,) in bench.rows("SELECT sequence FROM event ORDER BY sequence")]
        assert kept == [*range(max(1, highest - 4), highest + 1)]


def test_events_on_an_intrusion_have_a_bound_of_their_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the others' bound they stay while a chosen channel has not taken them: the newest three here."""
    monkeypatch.setattr("manager.storage.events.UNTOLD_KEPT", 3)
    store = PeeweeStore(bench.database, bench.keyring.store_key, events_kept=2)
    batch = Batch(bench.now)
    batch.changes.notifications = [
        RecordNotifications(ChannelCursor("night", 4)),
        RecordNotifications(ChannelCursor("day", 99)),
    ]
    for number in range(1, 11):
        batch.event("suspicious_login" if number != 8 else "incident_work")
        batch.changes.events[-1].alerting = '{"channels":["%s"]}' % ("night" if number != 5 else "day")
    store.commit(batch.changes)
    assert bench.rows("SELECT sequence FROM event ORDER BY sequence") == [(9,), (10,)]
    assert bench.rows("SELECT sequence FROM untold_event ORDER BY sequence") == [(6,), (7,)]
    store.commit(batch.changes)
    assert bench.rows("SELECT sequence FROM untold_event ORDER BY sequence") == [(14,), (16,), (17,)]
