"""The brute-force detector against a naive oracle that keeps every event."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.detect.brute_force import BruteForceDetector
from agent.parse.sshd import FailedLogin

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


def events(drawn: list[tuple[float, str, int, int, bool]]) -> list[FailedLogin]:
    """Failed logins whose times go in the drawn steps."""
    at = 10_000.0
    made = []
    for step, address, port, count, judged in drawn:
        at += step
        made.append(FailedLogin(at, address, port, "root", count if judged else 1, judged))
    return made


def attack(history: list[FailedLogin]) -> list[FailedLogin]:
    """The events since the last jump of more than the window, forth or back."""
    begin = 0
    for index in range(1, len(history)):
        if abs(history[index].at - max(event.at for event in history[begin:index])) > WINDOW:
            begin = index
    return history[begin:]


def weights(history: list[FailedLogin]) -> list[int]:
    """What each event adds: a connection's total is its judged failures, or one if it has none but other lines."""

    def total(some: list[FailedLogin], port: int) -> int:
        own = [event for event in some if event.port == port]
        return max(sum(event.count for event in own if event.judged), min(1, len(own)))

    return [
        total(history[: index + 1], event.port) - total(history[:index], event.port)
        for index, event in enumerate(history)
    ]


def expected(history: list[FailedLogin]) -> tuple[int, float, float] | None:
    """The detection that the last event of one address makes: count, first and last time."""
    current = attack(history)
    added = weights(current)
    count, since, reported_to = 0, 0.0, THRESHOLD
    for index, event in enumerate(current):
        newest = max(seen.at for seen in current[: index + 1])
        if count:
            count += added[index]
            since = min(since, event.at) if added[index] else since
        else:
            window = [number for number in range(index + 1) if added[number] and current[number].at >= newest - WINDOW]
            if added[index] and sum(added[number] for number in window) >= THRESHOLD:
                count = sum(added[number] for number in window)
                since = min(current[number].at for number in window)
        told = count >= reported_to and added[index] > 0
        while told and reported_to <= count:
            reported_to *= 2
        if told and index == len(current) - 1:
            return count, since, newest
    return None


@settings(max_examples=500)
@given(st.lists(lines, max_size=60))
def test_detector_agrees_with_the_oracle(drawn: list[tuple[float, str, int, int, bool]]) -> None:
    """Whatever comes in whatever order, each detection is the one that a look at the whole history gives."""
    detector = BruteForceDetector(THRESHOLD, WINDOW)
    history: dict[str, list[FailedLogin]] = {}
    for event in events(drawn):
        own = history.setdefault(event.address, [])
        own.append(event)
        found = detector.observe(event)
        assert (found and (found.count, found.first_seen, found.last_seen)) == expected(own)
