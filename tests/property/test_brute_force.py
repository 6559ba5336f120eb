"""The brute-force detector against a naive oracle that keeps every event."""

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detect.login_detector import LoginDetector
from agent.events import Event, EventKind
from tests.support.accounts import FakeAccounts
from tests.support.examples import examples

THRESHOLD = 5
WINDOW = 300.0

# Steps around the window's length, back as well as forth; few ports, so that lines share connections.
steps = st.sampled_from([0.0, 1.0, 60.0, 75.0, 100.0, 299.0, 300.0, 300.5, -1.0, -50.0, -300.0, -300.5])
lines = st.tuples(
    steps,
    st.sampled_from(["192.0.2.1", "192.0.2.2"]),
    st.integers(1, 12),
    st.sampled_from([1, 1, 1, 2, 7]),
    st.booleans(),
)


class Line(NamedTuple):
    """One drawn line: a password that sshd refused, or the naming of an invalid user."""

    at: float
    address: str
    port: int
    count: int
    judged: bool

    def event(self) -> Event:
        fields = {"sourceIp": self.address, "port": self.port, "user": "root"}
        if self.judged:
            return Event(
                self.at, EventKind.LOGIN_FAILED, fields | {"method": "password", "valid_user": 1}, count=self.count
            )
        return Event(self.at, EventKind.INVALID_USER, fields)


def events(drawn: list[tuple[float, str, int, int, bool]]) -> list[Line]:
    """Lines whose times go in the drawn steps."""
    at = 10_000.0
    made = []
    for step, address, port, count, judged in drawn:
        at += step
        made.append(Line(at, address, port, count if judged else 1, judged))
    return made


def weights(history: list[Line]) -> list[int]:
    """What each event adds: a connection's total is its judged failures, or one if it has none but other lines."""

    def total(some: list[Line], port: int) -> int:
        own = [event for event in some if event.port == port]
        return max(sum(event.count for event in own if event.judged), min(1, len(own)))

    return [
        total(history[: index + 1], event.port) - total(history[:index], event.port)
        for index, event in enumerate(history)
    ]


def expected(history: list[Line]) -> tuple[int, float, float] | None:
    """The detection that the last event of one address makes: count, first and last time."""
    counted = [(line.at, added) for line, added in zip(history, weights(history), strict=True) if added]
    if not counted or not weights(history)[-1]:
        return None
    attack: list[tuple[float, int]] = []  # the failures of the attack; empty while there is none
    valid: list[tuple[float, int]] = []  # all failures that no step back of the clock has made void
    newest, reported_to, told = counted[0][0], THRESHOLD, False
    for at, added in counted:
        if abs(at - newest) > WINDOW:
            attack = []
            valid = [old for old in valid if old[0] <= at] if at < newest else valid
            newest = at
        newest = max(newest, at)
        valid.append((at, added))
        if attack:
            attack.append((at, added))
        else:
            window = [old for old in valid if newest - WINDOW <= old[0]]
            if sum(weight for _, weight in window) >= THRESHOLD:
                attack, reported_to = window, THRESHOLD
        count = sum(weight for _, weight in attack)
        told = count >= reported_to and bool(attack)
        while told and reported_to <= count:
            reported_to *= 2
    return (sum(weight for _, weight in attack), min(at for at, _ in attack), newest) if told else None


@settings(max_examples=examples(500))
@given(st.lists(lines, max_size=60))
def test_detector_agrees_with_the_oracle(drawn: list[tuple[float, str, int, int, bool]]) -> None:
    """Whatever comes in whatever order, each detection is the one that a look at the whole history gives."""
    detector = LoginDetector(FakeAccounts())
    history: dict[str, list[Line]] = {}
    for line in events(drawn):
        own = history.setdefault(line.address, [])
        own.append(line)
        found = [
            (finding.count, finding.first_seen, finding.last_seen)
            for finding in detector.observe(line.event())
            if finding.rule_id == "sshd-brute-force"
        ]
        oracle = expected(own)
        assert found == ([] if oracle is None else [oracle])
