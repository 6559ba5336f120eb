"""Kept reports on their way again: after the outbox, spread over time, each until its receipt."""

from itertools import chain

import pytest

from agent.report.resending import INTERVAL, Resending
from agent.storage.database import Database
from schemas.generations import StoreGeneration
from schemas.message_codes import has_mac
from schemas.report_batches import AT_ONCE
from schemas.threats import Deferral, Receipt, ThreatReportBatch
from schemas.topics import THREATS
from tests.unit.agent.fake_link import FakeLink
from tests.unit.agent.report.test_kept_reports import Keeper, at

AGENT = "ag-00000000000000aa"


class Sender:
    """A guard with kept reports and a link; the outbox is idle while `idle` says so."""

    def __init__(self, database: Database, number: int = 120) -> None:
        self.keeper, self.link, self.idle = Keeper(database, most=1_000), FakeLink(), True
        self.ids = [f"t{each:03}" for each in range(number)]
        body = b'{"id":"%b","threat":{"type":"x","confidence":1.0},"timestamp":"2026-01-01T00:00:00Z"}'
        receipt = Receipt(stored=self.ids, generation=1, sent_at=at(0))
        with database.transaction() as connection:
            self.keeper.kept.keep(connection, [(each, body % each.encode()) for each in self.ids], receipt)
        self.resending = self.start()

    def start(self) -> Resending:
        self.resending = Resending(self.keeper.kept, lambda: self.idle, 30.0, lambda seconds: seconds / 2)
        self.resending.opened(self.link, AGENT, bytes(32), 0)
        return self.resending

    def ask(self, now: float = 0, number: int = 2) -> None:
        self.resending.hear(StoreGeneration(number=number, resend_from=at(0), resend_within=100), now)

    def sent(self) -> list[list[str]]:
        found = []
        for payload in self.link.take(THREATS):
            assert has_mac(bytes(32), THREATS.below_root(AGENT), payload)
            batch = ThreatReportBatch.model_validate_json(payload)
            assert batch.resent
            found.append([each.id for each in batch.reports])
        return found

    def receipt(self, ids: list[str], now: float, generation: int = 2) -> None:
        self.resending.receipt(Receipt(stored=ids, generation=generation, sent_at=at(now)), now, now)


@pytest.fixture
def sender(database: Database) -> Sender:
    return Sender(database)


def test_nothing_is_sent_unasked(sender: Sender) -> None:
    """Without an ask no kept report is sent, and there is no deadline."""
    sender.resending.hear(StoreGeneration(number=2), 0)
    sender.resending.tick(1_000)
    assert (sender.sent(), sender.resending.due) == ([], float("inf"))


def test_all_are_sent_in_pieces(sender: Sender) -> None:
    """From a time within the spread on, 50 reports go out at a time, the next after the receipt and a second."""
    sender.ask()
    sender.resending.tick(49.9)
    assert (sender.sent(), sender.resending.due) == ([], 50)
    now, got = 50.0, []
    while sender.resending.due < float("inf"):
        assert sender.resending.due <= now
        sender.resending.tick(now)
        (batch,) = sender.sent()
        got.append(batch)
        sender.resending.tick(now + INTERVAL)
        assert sender.sent() == []
        sender.receipt(batch, now + 0.1)
        now += INTERVAL
    assert [len(batch) for batch in got] == [AT_ONCE, AT_ONCE, 20]
    assert list(chain.from_iterable(got)) == sender.ids


def test_the_outbox_goes_first(sender: Sender) -> None:
    """While a report of the outbox waits, no kept report is sent."""
    sender.ask()
    sender.idle = False
    sender.resending.tick(60)
    assert sender.sent() == []
    sender.idle = True
    sender.resending.tick(sender.resending.due)
    assert len(sender.sent()) == 1


def test_without_a_receipt_they_are_sent_again_alone(sender: Sender) -> None:
    """After the timeout the same reports go out again, each in a message of its own, and the timeout doubles."""
    sender.ask()
    sender.resending.tick(50)
    sender.sent()
    sender.resending.tick(80)
    assert sender.sent() == [[each] for each in sender.ids[:AT_ONCE]]
    assert sender.resending.due == 80 + 60


def test_what_the_manager_defers_waits(sender: Sender) -> None:
    """Deferred reports are sent again after the delay that the manager names."""
    sender.ask()
    sender.resending.tick(50)
    (batch,) = sender.sent()
    sender.resending.receipt(Receipt(deferred=[Deferral(ids=batch[:1], retry_after=5)], generation=2), 51, 51)
    sender.resending.tick(55)
    assert sender.sent() == []
    sender.resending.tick(56)
    assert sender.sent() == [batch]


def test_a_new_link_goes_on(sender: Sender) -> None:
    """On a new link reports without a receipt are sent again at once; nothing is sent while there is none."""
    sender.ask()
    sender.resending.tick(50)
    (batch,) = sender.sent()
    sender.resending.closed()
    sender.resending.tick(60)
    assert sender.sent() == []
    sender.resending.opened(sender.link, AGENT, bytes(32), 70)
    sender.resending.tick(70)
    assert sender.sent() == [batch]


def test_a_restarted_guard_waits_for_its_turn(sender: Sender) -> None:
    """After a restart a guard begins at a random time within the spread, as a fleet that comes back at once must."""
    sender.ask()
    sender.keeper.start()
    sender.start()
    sender.resending.tick(49)
    assert sender.sent() == []
    sender.resending.tick(50)
    assert sender.sent() == [sender.ids[:AT_ONCE]]


def test_a_late_receipt_of_the_lost_store_ends_nothing(sender: Sender) -> None:
    """A receipt of the generation before the loss leaves the reports in flight to be sent again."""
    sender.ask()
    sender.resending.tick(50)
    (batch,) = sender.sent()
    sender.receipt(batch, 51, generation=1)
    assert sender.keeper.kept.again == len(sender.ids)
    sender.receipt(batch, 52)
    assert sender.keeper.kept.again == len(sender.ids) - AT_ONCE
