"""Rules for the failed ssh logins of one source: many within minutes, or slow guessing over a day."""

from collections import Counter
from datetime import UTC, datetime

from agent.analyze.known_login_sources import KnownLoginSources
from agent.detect.address_table import FAILURES, AddressState, Failure, Tally
from agent.events import Finding, Severity

THRESHOLD = 5
"""The number of failures within `WINDOW` that counts as an attack."""

WINDOW = 300.0
"""The window of an attack in seconds, both ends included."""

SLOW_THRESHOLD = 10
"""The number of failures within `SLOW_WINDOW` that counts as an attack by a source that did not log in."""

SLOW_WINDOW = 86_400.0

HIGH_FROM = 20
"""The number of failures from which an attack has severity high."""

CONFIDENCE = 90
"""The confidence for five failures within the window; above the default threshold for a response, 85."""

SLOW_CONFIDENCE = 85

_NETWORK_FROM = 3
_FORGIVEN_USERS = 3
_FORGIVEN = 30


class SshFailures:
    """Counts failures by source: an IPv4 address, or an IPv6 /64.

    - `THRESHOLD` failures within `WINDOW` begin an attack. It is reported then, and each time its count doubles. A gap
            of more than the window ends it. So does a time as far *back*: the clock was set back, and without this rule
      nothing would be detected until it catches up.
    - `SLOW_THRESHOLD` failures within a day, of a source that did not log in within seven days, are a slow attack.
    - In an IPv6 /64 the address is reported if it fails often enough by itself, the /64 if three addresses share the
      failures.

    Args:
        acquaintances: The known pairs of user and source.
    """

    def __init__(self, acquaintances: KnownLoginSources) -> None:
        self._acquaintances = acquaintances

    def observe(self, source: AddressState, failure: Failure) -> list[Finding]:
        """Count a failure; return the findings that it completes."""
        at, weight = failure.at, failure.weight
        gap = abs(at - source.newest)
        if gap > WINDOW:
            source.attack, source.throttled = None, False
            if at < source.newest:
                source.failures = [old for old in source.failures if old.at <= at]
            source.newest = at
            if gap > SLOW_WINDOW:
                source.slow, source.users = None, None
        elif at > source.newest:
            source.newest = at
        source.count_user(failure.user, weight)
        failures = source.failures
        if failures and (len(failures) >= FAILURES or at - failures[0].at > SLOW_WINDOW):
            del failures[0]
        failures.append(failure)
        attacks, is_slow = source.attack is not None, source.slow is not None
        kept = 0 if attacks and is_slow else sum([old.weight for old in failures])  # counted only to begin an attack
        if kept < THRESHOLD and not attacks and not is_slow:
            return []  # most sources fail once or twice
        slow = self._slow(source, failure, kept)
        fast = self._fast(source, failure, kept)
        return [finding for finding in (fast, slow) if finding is not None]

    def _fast(self, source: AddressState, failure: Failure, kept: int) -> Finding | None:
        if source.attack is not None:
            source.attack.add(failure.weight, failure.at)
        elif kept >= THRESHOLD:
            self._begin(source)
        attack = source.attack
        if attack is None:
            return None
        protected = self._acquaintances.protected_users(source.key, source.newest)
        throttle = bool(protected) and _goes_too_far(source, attack, protected)
        newly = throttle and not source.throttled
        source.throttled = throttle
        if not (attack.due() or newly):
            return None
        severity: Severity = "high" if attack.count >= HIGH_FROM or throttle else "medium"
        strangers = any(user not in protected for user in source.users or ())
        if protected and not throttle:
            severity = "medium" if strangers else "low"
        recent = [old for old in source.failures if old.at >= source.newest - WINDOW]
        evidence, target = self._evidence(source, recent)
        return Finding(
            rule_id="sshd-brute-force" if target == "sourceIp" else "sshd-brute-force-network",
            type="brute_force",
            severity=severity,
            confidence=CONFIDENCE,
            technique="T1110",
            count=attack.count,
            first_seen=attack.first_seen,
            last_seen=source.newest,
            evidence=evidence,
            target=target,
            acquainted=bool(protected) and not throttle,
            throttle=throttle,
        )

    def _begin(self, source: AddressState) -> None:
        """Begin an attack if the window has enough failures."""
        recent = [old for old in source.failures if old.at >= source.newest - WINDOW]
        count = sum(old.weight for old in recent)
        if count < THRESHOLD:
            return
        by_address = _by_address(recent)
        if len(by_address) < _NETWORK_FROM and max(by_address.values()) < THRESHOLD:
            return
        source.attack = Tally(THRESHOLD, count, min(old.at for old in recent))

    def _slow(self, source: AddressState, failure: Failure, kept: int) -> Finding | None:
        slow = source.slow
        if slow is None:
            if kept < SLOW_THRESHOLD:
                return None
            recent = [old for old in source.failures if failure.at - old.at <= SLOW_WINDOW]
            count = sum(old.weight for old in recent)
            if count < SLOW_THRESHOLD:
                return None
            slow = source.slow = Tally(SLOW_THRESHOLD, count, min(old.at for old in recent))
        else:
            slow.add(failure.weight, failure.at)
        if source.attack is not None or self._acquaintances.last_login(source.key, failure.at) is not None:
            return None
        if not slow.due():
            return None
        evidence, target = self._evidence(source, source.failures)
        return Finding(
            rule_id="sshd-slow-brute-force",
            type="brute_force",
            severity="high" if slow.count >= HIGH_FROM else "medium",
            confidence=SLOW_CONFIDENCE,
            technique="T1110",
            count=slow.count,
            first_seen=slow.first_seen,
            last_seen=source.newest,
            evidence=evidence,
            target=target,
        )

    def _evidence(self, source: AddressState, failures: list[Failure]) -> tuple[dict[str, str | int], str]:
        """Return the evidence, and the key of the target in it."""
        by_address = _by_address(failures)
        address = max(by_address, key=by_address.__getitem__)
        evidence: dict[str, str | int] = {"sourceIp": address, "targetService": "sshd"}
        target = "sourceIp"
        if len(by_address) >= _NETWORK_FROM:
            evidence["sourceNetwork"], target = source.key, "sourceNetwork"
        if source.top_users:
            evidence["user"] = source.top_users[0]
            valid = [old.valid_user for old in source.failures if old.user == evidence["user"]]
            if valid:
                evidence["userExists"] = valid[-1]
        login = self._acquaintances.last_login(source.key, source.newest)
        if login is not None:
            evidence["lastLogin"] = iso(login)
        return evidence, target


def _goes_too_far(source: AddressState, attack: Tally, protected: frozenset[str]) -> bool:
    others = sum(user not in protected for user in source.users or ())
    return others >= _FORGIVEN_USERS or attack.count >= _FORGIVEN


def _by_address(failures: list[Failure]) -> Counter[str]:
    found: Counter[str] = Counter()
    for failure in reversed(failures):  # of two addresses with equally many failures the later one is named
        if failure.address:
            found[failure.address] += failure.weight
    return found


def iso(at: float) -> str:
    """Return epoch seconds in the contract's time format."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
