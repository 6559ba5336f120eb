"""A simulated agent's reports with a receipt, which it sends again as a guard does."""

from datetime import UTC, datetime

from schemas.generations import StoreGeneration
from schemas.threats import Receipt, Refusal
from simulate.kept_reports import KeptReports


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(1_800_000_000 + seconds, UTC)


def kept(*ids: str, most: int = 100) -> KeptReports:
    found = KeptReports(most)
    for place, report_id in enumerate(ids):
        found.keep([(report_id, report_id.encode())], Receipt(generation=1, mark=f"m{place}", sent_at=at(place)))
    return found


def ids(reports: KeptReports, now: float) -> list[str]:
    return [report_id for report_id, _ in reports.take(now)]


def test_a_generation_is_answered_once() -> None:
    """What was receipted since the ask is sent until its receipt, and not for an older or a repeated ask."""
    reports = kept("a", "b", "c")
    ask = StoreGeneration(number=2, resend_from=at(1))
    reports.hear(ask, 0)
    assert ids(reports, 0) == ["b", "c"]
    assert ids(reports, 1) == []
    assert ids(reports, 10) == ["b", "c"]
    stale = Receipt(stored=["b"], generation=1)
    assert reports.is_superseded(stale)
    reports.settle(Receipt(stored=["b"], refused=[Refusal(id="c", reason="no")], generation=2, sent_at=at(20)), 11)
    assert reports.again == 0
    reports.hear(ask, 12)
    reports.hear(StoreGeneration(number=1, resend_from=at(0)), 12)
    assert ids(reports, 100) == []


def test_the_oldest_go_first() -> None:
    """Beyond the limit the oldest are dropped, also of those to be sent again; the latest mark stays."""
    reports = kept("a", "b", most=2)
    reports.hear(StoreGeneration(number=2, resend_from=at(0)), 0)
    reports.keep([("c", b"c")], Receipt(generation=2, sent_at=at(5)))
    assert ids(reports, 0) == ["b"]
    assert reports.mark == "m1"
