"""The check of the simulator's ledger against the manager's: planted faults are found, a clean run is even."""

from dataclasses import replace

import pytest

from simulate.ledger import Balance, Ledger, LedgerEntry, Stored, check, digest_of

LATE_AFTER = 60.0
SENT = {
    f"r{number}": LedgerEntry(bytes([number]), made_at=float(number), receipted_at=number + 1.0) for number in range(5)
}
STORED = [Stored(name, entry.digest) for name, entry in SENT.items()]


def _ids(balance: Balance) -> dict[str, list[str]]:
    kinds = ("lost", "doubled", "altered", "late", "refused", "unsent")
    return {kind: found for kind in kinds if (found := getattr(balance, kind))}


def test_a_clean_run_is_even() -> None:
    """Every report stored once, as it was sent, with its receipt: nothing is amiss."""
    balance = check(SENT, STORED, LATE_AFTER)
    assert (balance.sent, balance.stored, balance.receipted, _ids(balance), balance.is_even) == (5, 5, 5, {}, True)


def test_the_time_to_receipt_is_by_the_share_of_reports_that_had_one() -> None:
    """Half of the reports, 95 percent and all of them had their receipt within these times; one without is left out."""
    entries = {str(n): LedgerEntry(b"", made_at=100.0, receipted_at=100.0 + n / 100) for n in range(100, 0, -1)}
    entries["none"] = LedgerEntry(b"", made_at=0.0)
    assert check(entries, [], LATE_AFTER).time_to_receipt == {"50": 0.5, "95": 0.95, "100": 1.0}
    assert check({}, [], LATE_AFTER).time_to_receipt == {"50": None, "95": None, "100": None}


@pytest.mark.parametrize("receipted_at", [None, 3.0])
def test_a_planted_loss_is_found(receipted_at: float | None) -> None:
    """A report that the manager does not have is lost, whether or not it has given a receipt for it."""
    entries = SENT | {"r2": replace(SENT["r2"], receipted_at=receipted_at)}
    balance = check(entries, [record for record in STORED if record.report_id != "r2"], LATE_AFTER)
    assert (_ids(balance), balance.stored, balance.is_even) == ({"lost": ["r2"]}, 4, False)


def test_a_planted_duplicate_is_found() -> None:
    """A report that the manager lists twice is doubled, and stored once."""
    balance = check(SENT, [*STORED, STORED[3]], LATE_AFTER)
    assert (_ids(balance), balance.stored, balance.is_even) == ({"doubled": ["r3"]}, 5, False)


@pytest.mark.parametrize(("receipted_at", "found"), [(61.0, {}), (61.1, {"late": ["r1"]}), (None, {"late": ["r1"]})])
def test_a_planted_late_report_is_found(receipted_at: float | None, found: dict[str, list[str]]) -> None:
    """A stored report is late from above 60 s to its receipt, or without one; that alone keeps the ledger even."""
    entries = SENT | {"r1": replace(SENT["r1"], receipted_at=receipted_at)}
    balance = check(entries, STORED, LATE_AFTER)
    assert (_ids(balance), balance.is_even) == (found, True)


def test_other_content_is_found() -> None:
    """A report that is stored with another content than was sent is altered."""
    balance = check(SENT, [*STORED[:4], Stored("r4", b"other")], LATE_AFTER)
    assert (_ids(balance), balance.is_even) == ({"altered": ["r4"]}, False)


def test_a_refused_report_is_not_lost() -> None:
    """A refusal is the manager's word: the report counts as refused, and the ledger is not even."""
    entries = SENT | {"r0": LedgerEntry(b"\0", 0.0, refusal="the id has other content")}
    balance = check(entries, STORED[1:], LATE_AFTER)
    assert (_ids(balance), balance.is_even) == ({"refused": ["r0"]}, False)


def test_a_report_that_was_not_sent_is_named() -> None:
    """A record that is stored for these agents and stands in no book is told, and makes nothing uneven."""
    balance = check(SENT, [*STORED, Stored("older", b"")], LATE_AFTER)
    assert (_ids(balance), balance.stored, balance.is_even) == ({"unsent": ["older"]}, 5, True)


def test_content_is_compared_by_what_was_reported() -> None:
    """The digest names verdict, evidence and time to the millisecond, however the manager writes them down."""
    threat = {"type": "brute_force", "confidence": 90, "evidence": {"sourceIp": "198.18.0.1"}, "count": 7}
    written = {**threat, "confidence": 90.0, "severity": None, "ruleId": "x"}
    digest = digest_of(threat, "2026-01-01T00:00:00.250Z")
    assert digest == digest_of(written, "2026-01-01T00:00:00.250000+00:00")
    assert digest != digest_of({**threat, "count": 8}, "2026-01-01T00:00:00.250Z")
    assert digest != digest_of({**threat, "evidence": {"sourceIp": "198.18.0.2"}}, "2026-01-01T00:00:00.250Z")
    assert digest != digest_of(threat, "2026-01-01T00:00:00.251Z")


def test_a_pause_counts_only_while_a_report_waits() -> None:
    """The longest pause is between receipts, or from a first report to its receipt, never while nothing waits."""
    ledger = Ledger()
    ledger.made("a", b"", 10.0)
    ledger.made("b", b"", 11.0)
    ledger.receipted("a", 12.0)
    assert ledger.longest_pause(12.0) == 2.0
    ledger.receipted("b", 15.0)
    assert (ledger.waiting, ledger.longest_pause(100.0)) == (0, 3.0)
    ledger.made("c", b"", 100.0)
    assert ledger.longest_pause(102.0) == 3.0
    assert ledger.longest_pause(104.0) == 4.0
    ledger.refused("c", "no", 105.0)
    assert ledger.longest_pause(200.0) == 5.0


def test_only_the_first_word_on_a_report_counts() -> None:
    """A receipt that comes twice, or for an unknown report, changes nothing."""
    ledger = Ledger()
    ledger.made("a", b"", 0.0)
    assert ledger.receipted("a", 1.0)
    assert not ledger.receipted("a", 50.0)
    assert not ledger.refused("a", "no", 50.0)
    assert not ledger.receipted("unknown", 50.0)
    assert (ledger.entries["a"].receipted_at, ledger.entries["a"].refusal, ledger.waiting) == (1.0, None, 0)
