"""Contacts: connections to sshd that name no user, from scanners, load balancers and monitoring."""

from itertools import pairwise

from agent.detect.address_table import AddressState, Tally
from agent.events import Finding

THRESHOLD = 5
"""The number of contacts within `WINDOW` that is reported."""

WINDOW = 300.0

_CONFIDENCE = 50
_KEPT = 8
_SHORTEST_INTERVAL = 3.0
_JITTER = 0.2
_SECOND = 1.0


class SshScans:
    """Counts contacts by source: missing or bad identification, failed key exchange, login timeout, dropped connection.

    `THRESHOLD` contacts within `WINDOW` are a scan, reported again each time the count doubles; at a steady interval
    they are a probe, reported once. Both are low and never reach the threshold for a response by themselves, because
    nothing is guessed.
    """

    def observe(self, source: AddressState, address: str, at: float, count: int = 1) -> list[Finding]:
        """Count a contact; return the findings that it completes."""
        times = source.contacts or []
        if times and abs(at - times[-1]) > WINDOW:
            times, source.contact = [], None
        times = source.contacts = (times + [at] * min(count, _KEPT))[-_KEPT:]
        if source.contact is None:
            recent = [time for time in times if abs(at - time) <= WINDOW]
            if len(recent) < THRESHOLD:
                return []
            source.contact = Tally(THRESHOLD, max(len(recent), count), min(recent))
        else:
            source.contact.add(count, at)
        steady = _steady(times)
        if not source.contact.due() or (steady and source.contact.count >= 2 * THRESHOLD):
            return []
        return [
            Finding(
                rule_id="sshd-probe" if steady else "sshd-scan",
                type="probe" if steady else "scan",
                severity="low",
                confidence=_CONFIDENCE,
                technique="T1595",
                count=source.contact.count,
                first_seen=source.contact.first_seen,
                last_seen=at,
                evidence={"sourceIp": address, "targetService": "sshd"},
                target="sourceIp",
            )
        ]


def _steady(times: list[float]) -> bool:
    """Return whether the times are evenly spaced, within the one second to which logs round."""
    intervals = [after - before for before, after in pairwise(times)]
    shortest, longest = min(intervals), max(intervals)
    return shortest >= _SHORTEST_INTERVAL and longest - shortest <= max(2 * _SECOND, _JITTER * longest)
