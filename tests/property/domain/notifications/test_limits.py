"""The limit on messages: whatever happens, no window has more; whoever waits is told as soon as there is room.

Logins have further messages beyond it at a spacing, so that none waits for long.
"""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.judgement import JudgementSettings
from manager.domain.notifications.judgement.limits import MessageLimit
from manager.domain.notifications.message import Change, Message
from tests.support.judged import START, Events, JudgedChannel, whole_text

PAUSES = st.sampled_from([0.0, 1.0, 10.0, 60.0, 299.0, 300.0, 600.0])
ASKS = st.lists(st.tuples(PAUSES, st.integers(1, 8)), max_size=20)
LOGINS = st.lists(st.tuples(PAUSES, st.integers(0, 30), st.booleans()), min_size=1, max_size=40)


@given(ASKS, st.integers(1, 4), st.sampled_from([60.0, 200.0]))
def test_beyond_the_limit_one_message_is_allowed_at_each_spacing(
    asks: list[tuple[float, int]], most: int, spacing: float
) -> None:
    """It is shared by all groups that ask, and the time of the next one is known before."""
    limit, now, sent = MessageLimit(), 0.0, list[float]()
    for pause, groups in asks:
        now += pause
        left = max(0, most - sum(now - at < 300 for at in sent))
        used = min(groups, left or (now - max(sent) >= spacing))
        assert (limit.next_at(now, most, 300.0, spacing) == now) is (used > 0)
        room = limit.room(groups, now, most, 300.0, spacing)
        assert room.single + room.shared == used
        assert (room.single == groups) is (used == groups)
        sent += [now] * used
        limit.count(used, now)


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
    """Logins and other messages have a limit each, and every organization with a login is named within 66 seconds."""
    settings = JudgementSettings(most_messages=most, limit_window=600.0)
    events, channel, at = Events(), JudgedChannel(settings), START
    organizations: dict[str, float] = {}
    for pause, number, is_login in steps:
        at += pause
        organization = f"org-{number}."
        if is_login:
            organizations.setdefault(organization, at)
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
    for is_urgent, sent in times.items():
        allowed = most + 600 // 60 if is_urgent else most
        assert all(sum(begin <= when < begin + 600 for when in sent) <= allowed for begin in sent)
    for organization, first in organizations.items():
        told = [when for when, message in channel.told if _tells_of_login(message, organization)]
        assert min(told) <= first + 66


def _tells_of_login(message: Message, organization: str) -> bool:
    text = whole_text(message)
    return organization in text and ("Got in" in text or "suspicious" in text)
