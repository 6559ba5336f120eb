"""The durable outbox and its bounds."""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report.outbox import Outbox, coded, retry_dead_letters
from agent.storage.database import Database
from schemas import limits, message_codes
from schemas.threats import Severity, ThreatReport
from schemas.topics import THREATS

BODY = b'{"id":"t","threat":{"type":"x","confidence":1.0},"timestamp":"2026-01-01T00:00:00Z"}'


def _add(
    outbox: Outbox, database: Database, *ids: str, body: bytes = BODY, severity: Severity = Severity.HIGH
) -> list[bool]:
    with database.transaction() as connection:
        return [outbox.add(connection, report_id, body, 0.0, severity) for report_id in ids]


def test_reports_wait_in_order_over_a_restart(database: Database, tmp_path: Path) -> None:
    """What was committed is there for the next process, in the order in which it came."""
    _add(Outbox(database, 10, 10_000), database, "b", "a", "c")
    again = Database.open(tmp_path / "guard.db")
    outbox = Outbox(again, 10, 10_000)
    assert [entry.id for entry in outbox.after(0, 10)] == ["b", "a", "c"]
    assert len(outbox) == 3
    again.close()


def test_a_report_goes_out_with_the_same_valid_bytes_each_time() -> None:
    """The bytes of a report depend on agentId and secret alone, and are a rightly coded ThreatReport."""
    first = coded([BODY], "ag-00000000000000aa", bytes(32))
    assert first == coded([BODY], "ag-00000000000000aa", bytes(32))
    assert message_codes.has_mac(bytes(32), THREATS.below_root("ag-00000000000000aa"), first)
    assert ThreatReport.model_validate_json(first).agent_id == "ag-00000000000000aa"


def test_a_full_outbox_drops_what_is_new_and_counts_it(database: Database) -> None:
    """By number and by bytes, the oldest reports stay; the count of drops is kept."""
    outbox = Outbox(database, 2, 10_000)
    assert _add(outbox, database, "a", "b", "c") == [True, True, False]
    assert Outbox(database, 10, 2 * len(BODY)).add(database.connection, "d", BODY, 0.0, Severity.HIGH) is False
    assert [entry.id for entry in outbox.after(0, 10)] == ["a", "b"]
    assert Outbox(database, 2, 10_000).dropped == 2


def test_a_full_outbox_drops_the_lowest_severity_first_and_of_it_the_newest(database: Database) -> None:
    """What is worse finds room as long as something lesser waits; every drop is counted."""
    outbox = Outbox(database, 3, 10_000)
    _add(outbox, database, "low1", "low2", severity=Severity.LOW)
    _add(outbox, database, "medium", severity=Severity.MEDIUM)
    assert _add(outbox, database, "critical", severity=Severity.CRITICAL) == [True]
    assert [entry.id for entry in outbox.after(0, 10)] == ["low1", "medium", "critical"]
    assert _add(outbox, database, "low3", severity=Severity.LOW) == [False]
    assert _add(outbox, database, "high1", "high2", "high3") == [True, True, False]
    assert [entry.id for entry in outbox.after(0, 10)] == ["critical", "high1", "high2"]
    assert (len(outbox), outbox.dropped) == (3, 5)


@given(
    st.lists(st.tuples(st.sampled_from(list(Severity)), st.integers(60, 200)), max_size=30),
    st.integers(1, 6),
    st.integers(100, 900),
)
def test_a_bounded_outbox_is_the_naive_one(reports: list[tuple[Severity, int]], most: int, most_bytes: int) -> None:
    """The oracle keeps a list, and looks for what to drop by sorting it."""
    with tempfile.TemporaryDirectory() as home:
        database = Database.open(Path(home) / "guard.db")
        outbox = Outbox(database, most, most_bytes)
        kept: list[tuple[int, int, Severity, int]] = []  # rank, number, severity, size
        dropped = 0
        for number, (severity, size) in enumerate(reports):
            _add(outbox, database, str(number), body=b"{" + b" " * (size - 2) + b"}", severity=severity)
            rank = list(Severity).index(severity)
            lesser = sorted((each for each in kept if each[0] < rank), key=lambda each: (each[0], -each[1]))
            gone: list[tuple[int, int, Severity, int]] = []
            while lesser and not _fits([each for each in kept if each not in gone], size, most, most_bytes):
                gone.append(lesser.pop(0))
            if _fits([each for each in kept if each not in gone], size, most, most_bytes):
                kept = [each for each in kept if each not in gone] + [(rank, number, severity, size)]
                dropped += len(gone)
            else:
                dropped += 1
            assert [entry.id for entry in outbox.after(0, 100)] == [str(each[1]) for each in kept]
        assert (len(outbox), outbox.dropped) == (len(kept), dropped)
        database.close()


def _fits(kept: list[tuple[int, int, Severity, int]], size: int, most: int, most_bytes: int) -> bool:
    return len(kept) < most and sum(each[3] for each in kept) + size <= most_bytes


@pytest.mark.parametrize(("most", "most_bytes"), [(3, 10_000), (100, 3 * len(BODY))])
def test_a_receipt_makes_room(database: Database, most: int, most_bytes: int) -> None:
    """Stored reports are gone, refused ones are dead letters, unknown ids and repeats change nothing."""
    outbox = Outbox(database, most, most_bytes)
    _add(outbox, database, "a", "b", "c")
    assert outbox.settle(["a", "strange"], [("b", "no"), ("strange", "no")], 5.0) == (1, 1)
    assert outbox.settle(["a"], [("b", "no")], 5.0) == (0, 0)
    assert [entry.id for entry in outbox.after(0, 10)] == ["c"]
    assert (len(outbox), outbox.dead_letters) == (1, 1)
    assert _add(outbox, database, "d", "e", "f") == [True, True, False]


def test_a_report_that_can_never_be_sent_blocks_nothing(database: Database) -> None:
    """One over the contract's size becomes a dead letter at once."""
    outbox = Outbox(database, 3, limits.MIB)
    assert _add(outbox, database, "huge", body=b"{" + b" " * limits.THREAT_LIMIT + b"}") == [False]
    assert (len(outbox), outbox.dead_letters, outbox.dropped) == (0, 1, 0)


def test_dead_letters_are_bounded(database: Database) -> None:
    """Of very many the newest 1,000 stay."""
    outbox = Outbox(database, 2_000, limits.MIB)
    ids = [f"t{number}" for number in range(1_200)]
    _add(outbox, database, *ids)
    outbox.settle([], [(report_id, "no") for report_id in ids], 0.0)
    assert outbox.dead_letters == 1_000


def test_a_failed_transaction_leaves_no_trace(database: Database) -> None:
    """Reports of a transaction that was rolled back do not count after `recount`."""
    outbox = Outbox(database, 3, 10_000)
    with pytest.raises(sqlite3.IntegrityError):
        _add(outbox, database, "a", "a")
    outbox.recount()
    assert len(outbox) == 0
    assert list(outbox.after(0, 10)) == []


def test_dead_letters_are_sent_again_beside_a_running_guard(database: Database, tmp_path: Path) -> None:
    """Another process moves them back whole and in order; the guard sees them, and its counts stay right."""
    outbox = Outbox(database, 10, 10_000)
    _add(outbox, database, "a", "b", "c")
    outbox.settle([], [("a", "no"), ("b", "no")], 5.0)
    last = [entry.sequence for entry in outbox.after(0, 10)][-1]
    other = Database.open(tmp_path / "guard.db")
    assert retry_dead_letters(other) == (2, 0)
    assert retry_dead_letters(other) == (0, 0)
    other.close()
    assert [(entry.id, entry.body) for entry in outbox.after(last, 10)] == [("a", BODY), ("b", BODY)]
    assert (len(outbox), outbox.dead_letters) == (3, 0)
    assert outbox.settle(["a", "b", "c"], [], 6.0) == (3, 0)
    assert (len(outbox), Outbox(database, 10, 10_000).dropped) == (0, 0)


def test_a_dead_letter_that_was_too_large_stays(database: Database) -> None:
    """Only its beginning is kept, which is no report."""
    outbox = Outbox(database, 10, 10**9)
    large = BODY[:-1] + b',"note":"' + b"x" * limits.THREAT_LIMIT + b'"}'
    assert _add(outbox, database, "large", body=large) == [False]
    assert retry_dead_letters(database) == (0, 1)
    assert outbox.dead_letters == 1


def test_a_report_that_waits_again_already_is_not_doubled(database: Database) -> None:
    """A dead letter whose id waits is dropped for the one that waits."""
    outbox = Outbox(database, 10, 10_000)
    _add(outbox, database, "a")
    outbox.settle([], [("a", "no")], 5.0)
    _add(outbox, database, "a")
    assert retry_dead_letters(database) == (0, 0)
    assert [entry.id for entry in outbox.after(0, 10)] == ["a"]
