"""The window of reports on their way, without a broker."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report.delivery import Delivery
from agent.report.outbox import Outbox
from agent.storage.database import Database
from schemas.threats import Deferral, Receipt, Severity, ThreatReport
from schemas.topics import THREATS
from tests.unit.agent.fake_link import FakeLink

AGENT = "ag-00000000000000aa"


def _add(outbox: Outbox, database: Database, ids: Iterable[str], size: int = 0) -> None:
    with database.transaction() as connection:
        for report_id in ids:
            body = (
                b'{"id":"%b","threat":{"type":"x","confidence":1.0,"evidence":{"pad":"%b"}},'
                b'"timestamp":"2026-01-01T00:00:00Z"}'
            ) % (report_id.encode(), b"x" * size)
            outbox.add(connection, report_id, body, 0.0, Severity.HIGH)


def _sent(link: FakeLink) -> list[str]:
    return [ThreatReport.model_validate_json(payload).id for payload in link.take(THREATS)]


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, 10_000, 100_000_000)


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def delivery(outbox: Outbox) -> Delivery:
    return Delivery(outbox, window=3, receipt_timeout=30)


def test_no_more_than_the_window_is_on_its_way(
    database: Database, outbox: Outbox, delivery: Delivery, link: FakeLink
) -> None:
    """Receipts, and nothing else, move the window on."""
    _add(outbox, database, "abcde")
    delivery.opened(link, AGENT, bytes(32), 0)
    assert _sent(link) == ["a", "b", "c"]
    delivery.tick(1)
    assert _sent(link) == []
    delivery.receipt(Receipt(stored=["b"]), 2, 0)
    assert _sent(link) == ["d"]


def test_the_window_is_bounded_in_bytes_too(database: Database, outbox: Outbox, link: FakeLink) -> None:
    """Of large reports fewer are on their way: over 2 MiB none is added."""
    _add(outbox, database, [f"t{number}" for number in range(30)], size=200_000)
    Delivery(outbox, window=200, receipt_timeout=30).opened(link, AGENT, bytes(32), 0)
    assert len(_sent(link)) == 11


@pytest.mark.parametrize("way", ["stored", "refused", "deferred", "sent again", "a new link"])
def test_the_bytes_of_the_window_are_given_back(database: Database, outbox: Outbox, link: FakeLink, way: str) -> None:
    """However a report leaves the window its bytes leave it too: as many large ones as at first go at once, again."""
    _add(outbox, database, [f"t{number:02}" for number in range(70)], size=200_000)
    delivery, now = Delivery(outbox, window=200, receipt_timeout=30), 0.0
    delivery.opened(link, AGENT, bytes(32), now)
    for _ in range(4):
        sent = _sent(link)
        assert len(sent) == 11
        now += 1.0
        match way:
            case "stored":
                delivery.receipt(Receipt(stored=sent), now, 0)
            case "refused":
                delivery.receipt(Receipt(refused=[{"id": each, "reason": "no"} for each in sent]), now, 0)
            case "deferred":
                delivery.receipt(Receipt(deferred=[Deferral(ids=sent, retry_after=3600)]), now, 0)
            case "sent again":
                now = delivery.due
                delivery.tick(now)
            case _:
                delivery.opened(link, AGENT, bytes(32), now)
    delivery.receipt(Receipt(stored=_sent(link)), now, 0)
    assert len(_sent(link)) == 11


def test_patience_doubles_until_a_receipt(
    database: Database, outbox: Outbox, delivery: Delivery, link: FakeLink
) -> None:
    """Without receipts the same report goes again after 30, 60, 120 s; a receipt makes it 30 again."""
    _add(outbox, database, "ab")
    delivery.opened(link, AGENT, bytes(32), 0)
    assert _sent(link) == ["a", "b"]
    for now, expected in ((29.9, []), (30, ["a", "b"]), (89.9, []), (90, ["a", "b"]), (209, []), (210, ["a", "b"])):
        delivery.tick(now)
        assert _sent(link) == expected, now
    delivery.receipt(Receipt(stored=["a"]), 211, 0)
    delivery.tick(240)
    assert _sent(link) == ["b"]


def test_a_new_link_sends_everything_again(
    database: Database, outbox: Outbox, delivery: Delivery, link: FakeLink
) -> None:
    """What was on its way when a link ended goes first on the next one; between links nothing goes."""
    _add(outbox, database, "abcd")
    delivery.opened(link, AGENT, bytes(32), 0)
    delivery.closed()
    delivery.tick(100)
    _sent(link)
    assert delivery.due == float("inf")
    delivery.opened(link, AGENT, bytes(32), 200)
    assert _sent(link) == ["a", "b", "c"]


def test_a_deferred_report_makes_way_and_comes_back(
    database: Database, outbox: Outbox, delivery: Delivery, link: FakeLink
) -> None:
    """A deferral frees the window at once; the report goes again when its time is over, also over a new link."""
    _add(outbox, database, "abcd")
    delivery.opened(link, AGENT, bytes(32), 0)
    _sent(link)
    delivery.receipt(Receipt(deferred=[Deferral(ids=["a"], retry_after=10)]), 1, 0)
    assert _sent(link) == ["d"]
    delivery.receipt(Receipt(stored=["b", "c", "d"]), 2, 0)
    delivery.opened(link, AGENT, bytes(32), 5)
    delivery.tick(10.9)
    assert _sent(link) == []
    assert delivery.due == 11
    delivery.tick(11)
    assert _sent(link) == ["a"]


def test_a_link_that_fails_in_the_middle_loses_nothing(
    database: Database, outbox: Outbox, delivery: Delivery, link: FakeLink
) -> None:
    """A publish that is refused leaves the report waiting for the next link."""
    _add(outbox, database, "ab")
    link.open = False
    delivery.opened(link, AGENT, bytes(32), 0)
    second = FakeLink()
    delivery.opened(second, AGENT, bytes(32), 1)
    assert _sent(second) == ["a", "b"]


@given(st.data())
def test_everything_is_stored_whatever_receipts_say_on_the_way(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """For any mix of receipts, deferrals, losses and reconnects a manager that answers in the end has every report."""
    database = Database.open(tmp_path_factory.mktemp("delivery") / "guard.db")
    outbox = Outbox(database, 1_000, 1_000_000)
    delivery, link, now = Delivery(outbox, window=3, receipt_timeout=30), FakeLink(), 0.0
    ids = [f"t{number}" for number in range(data.draw(st.integers(0, 8)))]
    _add(outbox, database, ids)
    delivery.opened(link, AGENT, bytes(32), now)
    stored: set[str] = set()
    for _ in range(data.draw(st.integers(0, 10))):
        now += data.draw(st.floats(0, 100))
        sent = _sent(link)
        match data.draw(st.sampled_from(["store", "defer", "lose", "reconnect"])):
            case "store":
                stored.update(sent)
                delivery.receipt(Receipt(stored=sent), now, 0)
            case "defer":
                delivery.receipt(Receipt(deferred=[Deferral(ids=sent, retry_after=50)]), now, 0)
            case "reconnect":
                delivery.opened(link, AGENT, bytes(32), now)
        delivery.tick(now)
    for _ in range(40):
        sent = _sent(link)
        stored.update(sent)
        delivery.receipt(Receipt(stored=sent), now, 0)
        now += 1_000
        delivery.tick(now)
    assert stored == set(ids)
    assert len(outbox) == 0
    database.close()
