"""When failed logins are an attack."""

from dataclasses import replace

import pytest

from agent.detect.brute_force import CAPACITY, LOGIN_MEMORY, USERS, BruteForceDetector, Detection
from agent.parse.sshd import FailedLogin, SuccessfulLogin

ATTACKER = "192.0.2.7"
DAY = 86_400.0


def failures(*times: float, address: str = ATTACKER, user: str = "root") -> list[FailedLogin]:
    """One refused password at each time, over a connection of its own."""
    return [FailedLogin(at, address, 1024 + number, user) for number, at in enumerate(times)]


def detections(detector: BruteForceDetector, events: list[FailedLogin]) -> list[Detection]:
    """What a detector says to some events."""
    return [found for event in events if (found := detector.observe(event)) is not None]


def counts(events: list[FailedLogin]) -> list[int]:
    """The counts of the detections that a fresh detector makes of some events."""
    return [found.count for found in detections(BruteForceDetector(), events)]


def test_five_failures_in_the_window_are_one_detection() -> None:
    """The fifth failure makes a detection that tells who, how often, when and as whom."""
    detector = BruteForceDetector()
    assert detections(detector, failures(0, 1, 2, 3)) == []
    assert detections(detector, failures(4, user="admin")) == [
        Detection(ATTACKER, count=5, first_seen=0, last_seen=4, users=("root", "admin"))
    ]


@pytest.mark.parametrize(("last", "expected"), [(300.0, [5]), (300.001, [])])
def test_window_includes_both_ends(last: float, expected: list[int]) -> None:
    """Five failures in exactly 300 seconds are an attack; a moment more and they are not."""
    assert counts(failures(0, 75, 150, 225, last)) == expected


def test_window_slides() -> None:
    """It is any 300 seconds that count, not those since the first failure."""
    assert counts(failures(0, 200, 400, 401, 402, 403)) == [5]


def test_repeated_as_the_count_doubles() -> None:
    """An attack that goes on is told at 5, 10, 20 and 40 failures, and not in between."""
    assert counts(failures(*range(79))) == [5, 10, 20, 40]


def test_folded_line_counts_its_repetitions() -> None:
    """A line that stands for many failures makes one detection, with its own count, and the next is at the doubling."""
    folded = replace(failures(0)[0], count=12)
    assert counts([folded, *failures(*range(1, 9))]) == [12, 20]


def test_quiet_gap_starts_anew() -> None:
    """After more than a window without failures an attack is a new one."""
    assert counts([*failures(*range(9)), *failures(*range(309, 314))]) == [5, 5]


def test_attack_that_slows_down_goes_on() -> None:
    """While no gap exceeds the window an attack's failures are added up, however slow."""
    assert counts([*failures(*range(5)), *failures(*range(300, 1800, 300))]) == [5, 10]


def test_clock_set_back_does_not_blind() -> None:
    """Failures are counted at once after the host's clock was set back."""
    assert counts([*failures(DAY), *failures(0, 1, 2, 3, 4)]) == [5]


def test_addresses_do_not_mix() -> None:
    """Failures of different addresses never add up."""
    events = [event for at in range(4) for address in ("a", "b") for event in failures(at, address=address)]
    assert counts(events) == []


def test_lines_about_one_attempt_count_once() -> None:
    """`Invalid user`, `Failed password` and `Connection closed` of one connection are one failure, not three."""
    judged = failures(0)[0]
    unjudged = replace(judged, judged=False)
    events = [replace(event, port=port) for port in range(4) for event in (unjudged, judged, unjudged)]
    assert counts(events) == []
    assert counts([*events, replace(judged, port=9)]) == [5]


def test_connections_without_a_judged_credential_count() -> None:
    """Where keys alone are allowed, connections that try unknown users are an attack too."""
    assert counts([replace(event, judged=False) for event in failures(0, 1, 2, 3, 4)]) == [5]


def test_last_login_is_told_for_seven_days() -> None:
    """A detection carries the address's latest login within seven days, and no older one."""
    detector = BruteForceDetector()
    detector.observe(SuccessfulLogin(5.0, ATTACKER, "root"))
    detector.observe(SuccessfulLogin(1.0, ATTACKER, "root"))
    assert [found.last_login for found in detections(detector, failures(*[LOGIN_MEMORY + 5] * 5))] == [5.0]
    assert [found.last_login for found in detections(detector, failures(*[LOGIN_MEMORY + 306] * 5))] == [None]


def test_logins_survive_a_restart() -> None:
    """A detector that is given the logins of an earlier one tells them."""
    earlier = BruteForceDetector()
    earlier.observe(SuccessfulLogin(7.0, ATTACKER, "root"))
    detector = BruteForceDetector(logins=earlier.logins)
    assert [found.last_login for found in detections(detector, failures(8, 8, 8, 8, 8))] == [7.0]


def test_memory_is_bounded() -> None:
    """Whatever a botnet does, no more than the capacity of addresses and logins and little of each is kept."""
    detector = BruteForceDetector(threshold=50)
    for number in range(CAPACITY + 10):
        detector.observe(SuccessfulLogin(0.0, f"login {number}", "root"))
        detector.observe(FailedLogin(0.0, f"failure {number}", 1, "root"))
    for number in range(1000):
        detector.observe(FailedLogin(0.0, ATTACKER, number, f"user {number}"))
    assert len(detector._sources) == len(detector.logins) == CAPACITY
    source = detector._sources[ATTACKER]
    assert len(source.recent) < 50
    assert len(source.users) == USERS
    assert len(source.connections) < 50


def test_least_recently_seen_address_makes_room() -> None:
    """An address that keeps failing is remembered while those that were seen once are forgotten."""
    detector = BruteForceDetector()
    found = []
    for number in range(2 * CAPACITY + 1):
        detector.observe(FailedLogin(0.0, f"other {number}", 1, "root"))
        if number % (CAPACITY // 2) == 0:
            found += detections(detector, failures(0))
    assert [detection.address for detection in found] == [ATTACKER]


def test_name_tried_most_comes_first() -> None:
    """A name that makes over a fifth of the tries is never lost among names tried once, and the most tried is first."""
    detector = BruteForceDetector()
    names = [name for number in range(27) for name in ("root", f"a{number}", f"b{number}")]
    found = detections(detector, [FailedLogin(0.0, ATTACKER, 1, name) for name in names[:80]])
    assert found[-1].count == 80
    assert found[-1].users[0] == "root"
    assert len(found[-1].users) == USERS


@pytest.mark.parametrize(("threshold", "window"), [(0, 300.0), (5, 0.0)])
def test_rule_that_makes_no_sense_is_refused(threshold: int, window: float) -> None:
    """A threshold below one or an empty window is an error, not a silent guard."""
    with pytest.raises(ValueError, match="detects nothing"):
        BruteForceDetector(threshold, window)
