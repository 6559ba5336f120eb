"""The simulator's ledger: records every report, and checks the reports against the manager's stored threats.

Pure: no clock and no I/O. Times are seconds on the simulator's monotonic clock.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import orjson

_MEMBERS = ("type", "severity", "confidence", "technique", "count", "evidence")
_PRECISION = "milliseconds"
_SHARES = ("50", "95", "100")


@dataclass(slots=True)
class LedgerEntry:
    """One report: the content that was sent, and the manager's answer.

    Attributes:
        digest: The digest of its content.
        made_at: The time at which it was added to the agent's outbox.
        receipted_at: The time of its receipt; None without one.
        refusal: The reason, if the manager refused it.
    """

    digest: bytes
    made_at: float
    receipted_at: float | None = None
    refusal: str | None = None


class Stored(NamedTuple):
    """One record in the manager's list of threats."""

    report_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Balance:
    """The result of a check, by ids.

    Attributes:
        sent: Reports that were created.
        stored: Reports that the manager has stored.
        lost: Reports neither stored nor refused.
        lost_after_receipt: Lost reports with a receipt, as after restoring an older copy of the store.
        doubled: Reports stored more than once.
        altered: Reports stored with other content than was sent.
        late: Stored reports with a late receipt or without one.
        refused: Reports refused by receipt.
        receipted: Reports with a receipt as stored.
        unsent: Ids stored for an agent of the simulation that the agent has not sent.
        time_to_receipt: The seconds from a report to its receipt as stored, within which 50, 95 and 100 percent had it.
    """

    sent: int = 0
    stored: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    receipted: int = 0
    lost_after_receipt: int = 0
    unsent: list[str] = field(default_factory=list)
    time_to_receipt: Mapping[str, float | None] = field(default_factory=lambda: percentiles(()))

    @property
    def is_even(self) -> bool:
        """Whether every report is stored exactly once with its sent content; late reports count as stored."""
        return not (self.lost or self.doubled or self.altered or self.refused)


def digest_of(threat: Mapping[str, Any], timestamp: str) -> bytes:
    """Return the digest of a report's content: detection time to the millisecond, verdict and evidence.

    Raises:
        ValueError: the timestamp is invalid.
    """
    content = {name: threat.get(name) for name in _MEMBERS}
    content["confidence"] = float(content["confidence"] or 0)
    content["timestamp"] = datetime.fromisoformat(timestamp).isoformat(timespec=_PRECISION)
    raw = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(raw, digest_size=16).digest()


def percentiles(times: Iterable[float]) -> dict[str, float | None]:
    """Return the time within which 50, 95 and 100 percent of some lie, to the millisecond; None where there is none."""
    ordered = sorted(times)
    if not ordered:
        return dict.fromkeys(_SHARES)
    return {share: round(ordered[-(-len(ordered) * int(share) // 100) - 1], 3) for share in _SHARES}


def check(entries: Mapping[str, LedgerEntry], stored: Iterable[Stored], late_after: float) -> Balance:
    """Compare the created reports with the manager's stored reports, by id.

    Args:
        entries: Reports by id.
        stored: The manager's records of the simulation's agents.
        late_after: Seconds after which a receipt is late.
    """
    counts: Counter[str] = Counter()
    altered, unsent = set(), set()
    for record in stored:
        entry = entries.get(record.report_id)
        if entry is None:
            unsent.add(record.report_id)
            continue
        counts[record.report_id] += 1
        if record.digest != entry.digest:
            altered.add(record.report_id)
    lost = [name for name, entry in entries.items() if not counts[name] and entry.refusal is None]
    return Balance(
        sent=len(entries),
        stored=len(counts),
        lost=lost,
        lost_after_receipt=sum(entries[name].receipted_at is not None for name in lost),
        doubled=[name for name in entries if counts[name] > 1],
        altered=[name for name in entries if name in altered],
        late=[name for name, entry in entries.items() if counts[name] and _is_late(entry, late_after)],
        refused=[name for name, entry in entries.items() if entry.refusal is not None],
        receipted=sum(entry.receipted_at is not None for entry in entries.values()),
        unsent=sorted(unsent),
        time_to_receipt=percentiles(
            entry.receipted_at - entry.made_at for entry in entries.values() if entry.receipted_at is not None
        ),
    )


def _is_late(entry: LedgerEntry, late_after: float) -> bool:
    return entry.receipted_at is None or entry.receipted_at - entry.made_at > late_after


class Ledger:
    """Entries by report id, and the longest pause between receipts while a report waited."""

    def __init__(self) -> None:
        self.entries: dict[str, LedgerEntry] = {}
        self.receipts: list[str] = []
        """The reports with a receipt as stored, in its order; another thread may read it meanwhile."""
        self.waiting = 0
        self._longest_pause = 0.0
        self._pause_from = 0.0

    def made(self, report_id: str, digest: bytes, now: float) -> None:
        """Record a new report."""
        self.entries[report_id] = LedgerEntry(digest, now)
        if not self.waiting:
            self._pause_from = now
        self.waiting += 1

    def receipted(self, report_id: str, now: float) -> bool:
        """Record a receipt as stored; return whether it is the first receipt of this report."""
        entry = self._settled(report_id, now)
        if entry is not None:
            entry.receipted_at = now
            self.receipts.append(report_id)
        return entry is not None

    def refused(self, report_id: str, reason: str, now: float) -> bool:
        """Record a refusal; return whether it is the first receipt of this report."""
        entry = self._settled(report_id, now)
        if entry is not None:
            entry.refusal = reason
        return entry is not None

    def longest_pause(self, now: float) -> float:
        """Return the longest time without a receipt while a report waited, including the current wait."""
        return max(self._longest_pause, now - self._pause_from) if self.waiting else self._longest_pause

    def _settled(self, report_id: str, now: float) -> LedgerEntry | None:
        entry = self.entries.get(report_id)
        if entry is None or entry.receipted_at is not None or entry.refusal is not None:
            return None
        self._longest_pause = max(self._longest_pause, now - self._pause_from)
        self._pause_from = now
        self.waiting -= 1
        return entry
