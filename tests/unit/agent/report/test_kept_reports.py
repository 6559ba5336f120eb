"""Reports with a receipt: the limits, the generations, and a full disk."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report.kept_reports import KEPT_FOR, KeptReports
from agent.report.outbox import Outbox
from agent.storage.database import Database
from schemas.generations import StoreGeneration
from schemas.limits import MIB
from schemas.succession import TrustedKeys
from schemas.threats import Receipt, Refusal, Severity

BODY = b'{"id":"x"}'
EPOCH = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(EPOCH + seconds, UTC)


@dataclass
class Keeper:
    """Outbox and kept reports of one guard, whose time a test sets."""

    database: Database
    most: int = 100
    most_bytes: int = MIB
    now: float = EPOCH
    kept: KeptReports = field(init=False)

    def __post_init__(self) -> None:
        self.start()
        self.kept.pin(TrustedKeys("k" * 43))

    def start(self) -> None:
        self.kept = KeptReports(
            self.database, self.most, self.most_bytes, address="http://manager", time=lambda: self.now
        )
        self.outbox = Outbox(self.database, 1_000, MIB)

    def receipted(self, ids: Iterable[str], generation: int = 1, mark: str | None = None) -> None:
        """Add reports to the outbox, and apply their receipt."""
        receipt = Receipt(stored=list(ids), generation=generation, mark=mark, sent_at=at(self.now - EPOCH))
        with self.database.transaction() as connection:
            for report_id in receipt.stored:
                self.outbox.add(connection, report_id, BODY, self.now, Severity.HIGH)
        self.outbox.settle(
            receipt.stored, [], self.now, lambda connection, reports: self.kept.keep(connection, reports, receipt)
        )

    def ids(self) -> list[str]:
        return [row[0] for row in self.database.connection.execute("SELECT id FROM kept_reports ORDER BY sequence")]

    def again(self) -> list[str]:
        return [entry.id for entry in self.kept.first_again(1_000)]


@pytest.fixture
def keeper(database: Database) -> Keeper:
    return Keeper(database)


def test_the_oldest_go_first(database: Database) -> None:
    """Beyond the number and beyond the bytes the oldest reports are dropped, also after a restart."""
    keeper = Keeper(database, most=3)
    keeper.receipted("abcd")
    assert keeper.ids() == ["b", "c", "d"]
    keeper.most, keeper.most_bytes = 10, 2 * len(BODY)
    keeper.start()
    keeper.receipted("e")
    assert (keeper.ids(), len(keeper.kept)) == (["d", "e"], 2)


def test_none_are_kept_where_the_limit_is_none(database: Database) -> None:
    """With a capacity of 0 a receipt ends a report."""
    keeper = Keeper(database, most=0)
    keeper.receipted("ab")
    assert (keeper.ids(), len(keeper.outbox)) == ([], 0)


def test_a_generation_is_answered_once(keeper: Keeper) -> None:
    """What a generation asks for is marked once: neither a replay nor a restart nor an older one marks it again."""
    keeper.receipted("a")
    keeper.now += 100
    keeper.receipted("bc")
    ask = StoreGeneration(number=5, resend_from=at(50), resend_within=30)
    assert keeper.kept.hear(ask) == 2
    assert keeper.again() == ["b", "c"]
    keeper.kept.settle(Receipt(stored=["b", "c"], generation=5), keeper.now)
    assert keeper.again() == []
    for replayed in (ask, StoreGeneration(number=4, resend_from=at(0))):
        assert keeper.kept.hear(replayed) is None
    keeper.start()
    assert (keeper.kept.hear(ask), keeper.kept.again, keeper.kept.spread) == (None, 0, 30)


def test_a_marked_report_survives_a_restart(keeper: Keeper) -> None:
    """Reports to send again are still to be sent after the guard was killed."""
    keeper.receipted("ab")
    keeper.kept.hear(StoreGeneration(number=2, resend_from=at(0)))
    keeper.start()
    assert keeper.again() == ["a", "b"]


def test_a_receipt_of_the_new_generation_needs_no_answer(keeper: Keeper) -> None:
    """A report that the present generation has stored is not sent again when its ask comes later."""
    keeper.receipted("a", generation=1)
    keeper.receipted("b", generation=7)
    assert keeper.kept.hear(StoreGeneration(number=7, resend_from=at(0))) == 1
    assert keeper.again() == ["a"]


def test_a_late_receipt_of_a_lost_generation_ends_nothing(keeper: Keeper) -> None:
    """A receipt that was given before the loss and arrives after the ask leaves the report to be sent."""
    keeper.receipted("a", generation=1)
    keeper.kept.hear(StoreGeneration(number=2, resend_from=at(0)))
    assert keeper.kept.settle(Receipt(stored=["a"], generation=1), keeper.now) == 0
    assert keeper.again() == ["a"]
    assert keeper.kept.is_superseded(1)
    assert not keeper.kept.is_superseded(2)
    assert not keeper.kept.is_superseded(None)


def test_a_report_that_is_refused_now_is_a_dead_letter(keeper: Keeper) -> None:
    """A report that the manager refuses when it is sent again is kept as a dead letter with the reason."""
    keeper.receipted("ab")
    keeper.kept.hear(StoreGeneration(number=2, resend_from=at(0)))
    refused = Receipt(stored=["b"], refused=[Refusal(id="a", reason="no")], generation=2)
    assert keeper.kept.settle(refused, keeper.now) == 2
    assert (keeper.ids(), keeper.outbox.dead_letters, len(keeper.kept)) == (["b"], 1, 1)


def test_reports_are_kept_for_a_day(keeper: Keeper) -> None:
    """Reports older than 24 hours are neither kept nor sent again, however old the ask is."""
    keeper.receipted("a")
    keeper.now += KEPT_FOR / 2
    keeper.receipted("b")
    keeper.now += KEPT_FOR / 2 + 1
    assert keeper.kept.hear(StoreGeneration(number=2, resend_from=at(-KEPT_FOR))) == 1
    assert keeper.again() == ["b"]
    keeper.kept.expire(0)
    assert keeper.ids() == ["a", "b"]
    keeper.kept.expire(600)
    assert keeper.ids() == ["b"]


def test_the_latest_mark_is_stated(keeper: Keeper) -> None:
    """Heartbeats state the mark of the latest receipt that had one, also after a restart."""
    keeper.receipted("a", mark="m1")
    keeper.receipted("b", mark="m2")
    keeper.receipted("c")
    assert keeper.kept.mark_to_state() == "m2"
    keeper.start()
    assert keeper.kept.mark_to_state() == "m2"


def test_a_session_states_the_mark_from_before_it_first(keeper: Keeper) -> None:
    """Three heartbeats of a session state the mark from before it, and those after a kill again, until all have."""
    keeper.receipted("a", mark="lost")
    keeper.kept.begin_session()
    assert keeper.kept.mark_to_state() == "lost"
    keeper.receipted("b", mark="newer")
    assert keeper.kept.mark_to_state() == "lost"
    keeper.start()
    keeper.kept.begin_session()
    assert [keeper.kept.mark_to_state() for _ in range(4)] == ["lost", "lost", "lost", "newer"]
    keeper.kept.begin_session()
    keeper.receipted("c", mark="newest")
    assert [keeper.kept.mark_to_state() for _ in range(4)] == ["newer", "newer", "newer", "newest"]


def test_another_manager_gets_nothing(keeper: Keeper) -> None:
    """Under another manager's key reports and generations of the former one are forgotten."""
    keeper.receipted("a", generation=9, mark="m")
    keeper.kept.hear(StoreGeneration(number=9))
    keeper.kept.pin(TrustedKeys("k" * 43))
    assert keeper.ids() == ["a"]
    keeper.kept.pin(TrustedKeys("o" * 43))
    assert (keeper.ids(), keeper.kept.mark_to_state()) == ([], None)
    assert keeper.kept.hear(StoreGeneration(number=3)) == 0


def test_a_failed_transaction_counts_for_nothing(keeper: Keeper) -> None:
    """After a transaction that was rolled back numbers and mark are those of the database."""
    keeper.receipted("a", mark="m1")

    def failing(connection: sqlite3.Connection, reports: Sequence[tuple[str, bytes]]) -> None:
        keeper.kept.keep(connection, reports, Receipt(mark="m2"))
        raise sqlite3.OperationalError

    with keeper.database.transaction() as connection:
        keeper.outbox.add(connection, "b", BODY, 0.0, Severity.HIGH)
    with pytest.raises(sqlite3.OperationalError):
        keeper.outbox.settle(["b"], [], 0.0, failing)
    keeper.kept.recount()
    assert (len(keeper.kept), keeper.kept.mark_to_state(), len(keeper.outbox)) == (1, "m1", 1)


def test_a_full_disk_drops_kept_reports_first(keeper: Keeper) -> None:
    """When the disk is full the kept reports go, and a report that did not fit into the outbox fits then."""
    connection = keeper.database.connection
    large = b'{"id":"%b"}' % (b"x" * 20_000)
    receipt = Receipt(stored=[f"k{number}" for number in range(10)])
    with keeper.database.transaction():
        keeper.kept.keep(connection, [(report_id, large) for report_id in receipt.stored], receipt)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")

    def add() -> None:
        with keeper.database.transaction():
            assert keeper.outbox.add(connection, "new", large, 0.0, Severity.HIGH)

    with pytest.raises(sqlite3.OperationalError) as full:
        add()
    keeper.outbox.recount()
    assert not keeper.kept.make_room(sqlite3.OperationalError("something else"))
    assert keeper.kept.make_room(full.value)
    assert (len(keeper.kept), keeper.ids()) == (0, [])
    add()
    assert len(keeper.outbox) == 1
    assert not keeper.kept.make_room(full.value)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("receipt"), st.lists(st.integers(0, 8), max_size=4, unique=True), st.integers(1, 4)),
            st.tuples(st.just("ask"), st.integers(0, 60), st.integers(1, 4)),
            st.tuples(st.just("settle"), st.lists(st.integers(0, 8), max_size=4, unique=True), st.integers(1, 4)),
            st.tuples(st.just("restart"), st.none(), st.none()),
        ),
        max_size=25,
    )
)
def test_what_is_sent_again_is_what_a_list_says(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple]) -> None:  # type: ignore[type-arg]
    """Kept and marked reports are those of a naive list, after any receipts, asks and restarts."""
    database = Database.open(tmp_path_factory.mktemp("kept") / "guard.db")
    keeper, newest = Keeper(database, most=5), 0
    rows: list[tuple[str, float, int, bool]] = []  # id, time of receipt, generation, to be sent again
    try:
        for number, (step, what, generation) in enumerate(steps):
            keeper.now = EPOCH + 10 * number
            if step == "receipt":
                ids = [f"{number}-{each}" for each in what]
                keeper.receipted(ids, generation)
                rows = [*rows, *((report_id, keeper.now, generation, False) for report_id in ids)][-5:]
            elif step == "ask":
                keeper.kept.hear(StoreGeneration(number=generation, resend_from=at(what)))
                if generation > newest:
                    newest = generation
                    rows = [
                        (name, receipted, of, again or (of < newest and receipted >= EPOCH + what))
                        for name, receipted, of, again in rows
                    ]
            elif step == "settle":
                ids = [rows[each][0] for each in what if each < len(rows)]
                keeper.kept.settle(
                    Receipt(stored=ids, generation=generation, sent_at=at(keeper.now - EPOCH)), keeper.now
                )
                if generation >= newest:
                    rows = [
                        (name, keeper.now, generation, False) if again and name in ids else (name, receipted, of, again)
                        for name, receipted, of, again in rows
                    ]
            else:
                keeper.start()
            assert keeper.ids() == [name for name, *_ in rows]
            assert keeper.again() == [name for name, _, _, again in rows if again]
            assert (len(keeper.kept), keeper.kept.again) == (len(rows), len(keeper.again()))
    finally:
        database.close()
