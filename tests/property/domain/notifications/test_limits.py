"""The limit on messages: whatever happens, no window has more; whoever waits is told as soon as there is room."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.judgement import JudgementSettings
from manager.domain.notifications.judgement.limits import MessageLimit
from manager.domain.notifications.message import Change
from tests.support.judged import START, Events, JudgedChannel, whole_text

PAUSES = st.sampled_from([0.0, 1.0, 10.0, 60.0, 299.0, 300.0, 600.0])
ASKS = st.lists(st.tuples(PAUSES, st.integers(1, 8)), max_size=20)
LOGINS = st.lists(st.tuples(PAUSES, st.integers(0, 30), st.booleans()), min_size=1, max_size=40)


@given(ASKS, st.integers(1, 4))
def test_each_window_has_at_most_the_allowed_messages_and_uses_them_all(
    asks: list[tuple[float, int]], most: int
) -> None:
    """All groups that ask are told, alone or together, if a message is left; none are if none is."""
    limit, now, sent = MessageLimit(), 0.0, list[float]()
    for pause, groups in asks:
        now += pause
        left = most - sum(now - at < 300 for at in sent)
        room = limit.room(groups, now, most, 300.0)
        used = room.single + room.shared
        assert used == min(groups, left)
        assert (room.single == groups) is (left >= groups)
        assert (limit.next_at(now, most, 300.0) == now) is (left > 0)
        sent += [now] * used
        limit.count(used, now)


@given(LOGINS, st.integers(1, 3))
def test_a_flood_of_logins_takes_no_room_from_other_messages_and_loses_none(
    steps: list[tuple[float, int, bool]], most: int
) -> None:
    """Logins and other messages have a limit each, and every organization with a login is in a message."""
    settings = JudgementSettings(most_messages=most, limit_window=600.0)
    events, channel, at = Events(), JudgedChannel(settings), START
    organizations: set[str] = set()
    for pause, number, is_login in steps:
        at += pause
        organization = f"org-{number}."
        if is_login:
            organizations.add(organization)
            channel.take(events.login(at, "srv-1", organization_id=organization))
        else:
            members = {"value": "203.0.113.9", "organization_id": organization}
            channel.take(events.make("block_ineffective", at, "srv-1", **members))
    channel.pass_until(at + 40_000)
    times = defaultdict(list)
    for when, message in channel.told:
        if message.change is not Change.DIGEST:
            text = whole_text(message)
            times["Got in" in text or "suspicious" in text].append(when)
    for sent in times.values():
        assert all(sum(begin <= when < begin + 600 for when in sent) <= most for begin in sent)
    assert sum(text.count("Got in") for text in channel.texts()) + _further(channel) >= len(organizations)


def _further(channel: JudgedChannel) -> int:
    """Return the number of groups that shared messages count without naming them."""
    lines = [line for text in channel.texts() for line in text.splitlines() if line.startswith("and ")]
    return sum(int(line.split()[1]) for line in lines)
