"""The window of reports on their way, without a broker."""

from collections.abc import Iterable
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.report.delivery import Delivery
from agent.report.outbox import Outbox
from agent.storage.database import Database
from schemas.limits import THREAT_LIMIT
from schemas.message_codes import has_mac, without_mac
from schemas.report_batches import FEATURE, PATIENCE, is_batch
from schemas.threats import Deferral, Receipt, Severity, ThreatReport, ThreatReportBatch
from schemas.topics import THREATS
from tests.unit.agent.fake_link import FakeLink

AGENT = "ag-00000000000000aa"


def _add(
    outbox: Outbox, database: Database, ids: Iterable[str], size: int = 0, severity: Severity = Severity.HIGH
) -> None:
    with database.transaction() as connection:
        for report_id in ids:
            body = (
                b'{"id":"%b","threat":{"type":"x","confidence":1.0,"evidence":{"pad":"%b"}},'
                b'"timestamp":"2026-01-01T00:00:00Z"}'
            ) % (report_id.encode(), b"x" * size)
            outbox.add(connection, report_id, body, 0.0, severity)


def _sent(link: FakeLink) -> list[str]:
    return [ThreatReport.model_validate_json(payload).id for payload in link.take(THREATS)]


def _messages(link: FakeLink) -> list[str | list[str]]:
    """Return what was sent in each message: the id of a report alone, or the ids of several."""
    found: list[str | list[str]] = []
    for payload in link.take(THREATS):
        assert has_mac(bytes(32), THREATS.below_root(AGENT), payload)
        assert len(payload) <= THREAT_LIMIT
        if is_batch(payload):
            batch = ThreatReportBatch.model_validate_json(payload)
            found.append([report.id for report in batch.reports])
        else:
            found.append(ThreatReport.model_validate_json(payload).id)
    return found


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


def test_a_deferred_report_that_a_full_outbox_dropped_is_forgotten(database: Database, link: FakeLink) -> None:
    """No deadline in the past is left of it, so the guard does not poll without a pause."""
    outbox = Outbox(database, 3, 100_000_000)
    delivery = Delivery(outbox, window=3, receipt_timeout=30)
    _add(outbox, database, "abc", severity=Severity.LOW)
    delivery.opened(link, AGENT, bytes(32), 0)
    delivery.receipt(Receipt(deferred=[Deferral(ids=["a", "b", "c"], retry_after=5)]), 1, 0)
    _sent(link)
    _add(outbox, database, "d")
    assert outbox.get("c") is None
    delivery.tick(6)
    assert _sent(link) == ["a", "b", "d"]
    delivery.receipt(Receipt(stored=["a", "b", "d"]), 7, 0)
    delivery.tick(8)
    assert delivery.due == float("inf")


def test_a_deferred_report_waits_for_room_without_a_deadline(
    database: Database, outbox: Outbox, link: FakeLink
) -> None:
    """While the window is full the guard sleeps until a retransmission; a receipt makes the report due at once."""
    _add(outbox, database, "abc")
    delivery = Delivery(outbox, window=2, receipt_timeout=30)
    delivery.opened(link, AGENT, bytes(32), 0)
    delivery.receipt(Receipt(deferred=[Deferral(ids=["a"], retry_after=5)]), 1, 0)
    assert _sent(link) == ["a", "b", "c"]
    delivery.tick(7)
    assert (_sent(link), delivery.due) == ([], 30)
    delivery.receipt(Receipt(stored=["b"]), 8, 0)
    assert delivery.due == 6
    delivery.tick(8)
    assert (_sent(link), delivery.due) == (["a"], 31)


def test_a_report_alone_is_sent_again_beside_batches_without_a_receipt(
    database: Database, outbox: Outbox, link: FakeLink
) -> None:
    """In the same tick, or its deadline would lie in the past."""
    delivery = Delivery(outbox, window=4, receipt_timeout=30)
    delivery.accept([FEATURE])
    _add(outbox, database, "ab")
    delivery.opened(link, AGENT, bytes(32), 0)
    _add(outbox, database, "c")
    delivery.pump(0)
    assert [sorted(each) for each in _messages(link)] == [["a", "b"], ["c"]]
    delivery.tick(100)
    assert sorted(_sent(link)) == ["a", "b", "c"]
    assert delivery.due > 100


@given(st.data())
def test_nothing_is_due_in_the_past_after_a_tick(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """For any mix of receipts, deferrals, batches and reports that push others out of the outbox."""
    with closing(Database.open(tmp_path_factory.mktemp("delivery") / "guard.db")) as database:
        outbox, link, now = Outbox(database, 4, 1_000_000), FakeLink(), 0.0
        delivery = Delivery(outbox, window=data.draw(st.integers(1, 4)), receipt_timeout=30)
        delivery.accept([FEATURE] if data.draw(st.booleans()) else [])
        delivery.opened(link, AGENT, bytes(32), now)
        for number in range(data.draw(st.integers(1, 15))):
            now += data.draw(st.sampled_from([0.0, 1.0, 10.0, 100.0]))
            _add(outbox, database, [f"t{number}"], severity=data.draw(st.sampled_from([Severity.LOW, Severity.HIGH])))
            sent = [
                each for message in _messages(link) for each in ([message] if isinstance(message, str) else message)
            ]
            deferred = data.draw(st.sets(st.sampled_from(sent))) if sent else set()
            stored = data.draw(st.sets(st.sampled_from(sent))) - deferred if sent else set()
            receipt = Receipt(
                stored=sorted(stored), deferred=[Deferral(ids=sorted(deferred), retry_after=5)] if deferred else []
            )
            delivery.receipt(receipt, now, 0)
            delivery.tick(now)
            assert delivery.due > now


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


@pytest.fixture
def batching(outbox: Outbox) -> Delivery:
    """A delivery to a manager that takes batches."""
    delivery = Delivery(outbox, window=200, receipt_timeout=30)
    delivery.accept([FEATURE, "something later"])
    return delivery


def test_what_waits_together_goes_in_one_message(
    database: Database, outbox: Outbox, batching: Delivery, link: FakeLink
) -> None:
    """Fifty reports at most in each message; one that waits alone goes as it always did."""
    ids = [f"t{number:03}" for number in range(70)]
    _add(outbox, database, ids)
    batching.opened(link, AGENT, bytes(32), 0)
    assert _messages(link) == [ids[:50], ids[50:]]
    batching.receipt(Receipt(stored=ids), 1, 0)
    _add(outbox, database, ["alone"])
    batching.pump(2)
    assert _messages(link) == ["alone"]


def test_a_report_has_the_same_bytes_alone_and_in_a_batch(
    database: Database, outbox: Outbox, batching: Delivery, link: FakeLink
) -> None:
    """The manager tells a repetition from other content by them."""
    _add(outbox, database, "ab")
    batching.opened(link, AGENT, bytes(32), 0)
    (batch,) = link.take(THREATS)
    batching.accept([])
    batching.opened(link, AGENT, bytes(32), 1)
    alone = [without_mac(payload) for payload in link.take(THREATS)]
    assert without_mac(batch) == b'{"reports":[%b]}' % b",".join(alone)


@pytest.mark.parametrize("features", [[], ["threats"], ["something else"]])
def test_a_manager_that_does_not_list_batches_gets_none(
    database: Database, outbox: Outbox, link: FakeLink, features: list[str]
) -> None:
    """Before the keys, and after keys without the word, each report goes alone."""
    _add(outbox, database, "abc")
    delivery = Delivery(outbox, window=200, receipt_timeout=30)
    delivery.opened(link, AGENT, bytes(32), 0)
    assert _messages(link) == ["a", "b", "c"]
    delivery.accept(features)
    delivery.opened(link, AGENT, bytes(32), 1)
    assert _messages(link) == ["a", "b", "c"]


@given(sizes=st.lists(st.sampled_from([0, 100, 60_000, 130_000, 261_000]), min_size=1, max_size=8))
def test_no_message_is_larger_than_its_limit(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    """However large the reports are, a message keeps the limit, and all go in their order."""
    with closing(Database.open(tmp_path_factory.mktemp("guard") / "guard.db")) as database:
        outbox, link = Outbox(database, 10_000, 100_000_000), FakeLink()
        for number, size in enumerate(sizes):
            _add(outbox, database, [f"t{number:02}"], size)
        delivery = Delivery(outbox, window=200, receipt_timeout=30)
        delivery.accept([FEATURE])
        delivery.opened(link, AGENT, bytes(32), 0)
        sent = [each for message in _messages(link) for each in ([message] if isinstance(message, str) else message)]
    assert sent == [f"t{number:02}" for number in range(len(sizes))]


def test_a_batch_without_a_receipt_is_sent_alone_after_a_minute(
    database: Database, outbox: Outbox, batching: Delivery, link: FakeLink
) -> None:
    """It goes again as a batch, then report by report, until the manager's keys are heard again."""
    _add(outbox, database, "abc")
    batching.opened(link, AGENT, bytes(32), 0)
    assert _messages(link) == [["a", "b", "c"]]
    batching.tick(30)
    assert _messages(link) == [["a", "b", "c"]]
    assert batching.due == PATIENCE
    batching.tick(PATIENCE - 0.1)
    assert _messages(link) == []
    batching.tick(PATIENCE)
    assert _messages(link) == ["a", "b", "c"]
    _add(outbox, database, "de")
    batching.pump(70)
    assert _messages(link) == ["d", "e"]
    batching.receipt(Receipt(stored=list("abcde")), 71, 0)
    batching.accept([FEATURE])
    _add(outbox, database, "fg")
    batching.tick(80)
    assert _messages(link) == [["f", "g"]]
    assert batching.due == 80 + 30


def test_keys_that_are_heard_again_do_not_count_the_time_before(
    database: Database, outbox: Outbox, batching: Delivery, link: FakeLink
) -> None:
    """Reports that went alone since have no batch that could be unanswered."""
    _add(outbox, database, "ab")
    batching.opened(link, AGENT, bytes(32), 0)
    batching.tick(PATIENCE)
    _messages(link)
    batching.accept([FEATURE])
    batching.tick(PATIENCE + 1)
    assert _messages(link) == []
    batching.tick(PATIENCE + 70)
    assert _messages(link) == [["a", "b"]]


def test_one_report_of_a_batch_that_is_never_answered_ends_batches(
    database: Database, outbox: Outbox, batching: Delivery, link: FakeLink
) -> None:
    """Receipts for the others do not hide it: it goes alone, where it can be refused."""
    _add(outbox, database, "abc")
    batching.opened(link, AGENT, bytes(32), 0)
    batching.receipt(Receipt(stored=["a", "c"]), 1, 0)
    _messages(link)
    batching.tick(PATIENCE)
    assert _messages(link) == ["b"]


def test_deferred_reports_come_back_together(
    database: Database, outbox: Outbox, batching: Delivery, link: FakeLink
) -> None:
    """A batch over the budget is deferred by its ids, and goes again in one message."""
    _add(outbox, database, "abcd")
    batching.opened(link, AGENT, bytes(32), 0)
    _messages(link)
    batching.receipt(Receipt(stored=["d"], deferred=[Deferral(ids=["a", "b", "c"], retry_after=10)]), 1, 0)
    assert _messages(link) == []
    batching.tick(11)
    assert _messages(link) == [["a", "b", "c"]]


def test_the_window_holds_for_batches(database: Database, outbox: Outbox, link: FakeLink) -> None:
    """No more reports are on their way than the window has, and little more than 2 MiB of them."""
    _add(outbox, database, [f"t{number:03}" for number in range(100)], size=100_000)
    delivery = Delivery(outbox, window=60, receipt_timeout=30)
    delivery.accept([FEATURE])
    delivery.opened(link, AGENT, bytes(32), 0)
    assert sum(len(message) for message in _messages(link)) == 22
    _add(outbox, database, [f"u{number:03}" for number in range(100)])
    small = Delivery(outbox, window=60, receipt_timeout=30)
    small.accept([FEATURE])
    outbox.settle([f"t{number:03}" for number in range(100)], [], 0)
    small.opened(link, AGENT, bytes(32), 1)
    assert [len(message) for message in _messages(link)] == [50, 10]
