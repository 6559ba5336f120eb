"""The digests of a story, against sums over the events between their times."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.judgement import JudgementSettings
from manager.domain.notifications.message import Change
from tests.support.judged import START, Events, JudgedChannel

DAY = 86_400.0
STEPS = st.lists(
    st.tuples(st.sampled_from([1.0, 3600.0, DAY - 1, DAY, 40_000.0]), st.integers(0, 9), st.integers(0, 9)), max_size=12
)


@given(STEPS, st.integers(0, 23))
def test_each_event_is_in_the_digest_of_its_day(steps: list[tuple[float, int, int]], hour: int) -> None:
    """A digest has the sums since the one before it; a day without anything has none."""
    first = START + ((hour - 8) * 3600.0 if hour > 8 else (hour + 16) * 3600.0)
    events, channel, at = Events(), JudgedChannel(JudgementSettings(digest_at=hour * 60)), START
    sums: dict[float, tuple[int, int]] = {}
    for pause, count, taken in steps:
        at += pause
        channel.take(events.make("threats_reported", at, count=count + taken, taken=taken))
        due = first
        while due <= at:
            due += DAY
        before = sums.get(due, (0, 0))
        sums[due] = before[0] + taken, before[1] + count + taken
    channel.pass_until(at + 2 * DAY)
    found = {when: text.splitlines()[1] for (when, _), text in zip(channel.told, channel.texts(), strict=True)}
    expected = {
        when: f"{taken} of {count} reported threats were blocked by the hosts"
        for when, (taken, count) in sums.items()
        if count
    }
    assert found == expected
    assert all(message.change is Change.DIGEST for _, message in channel.told)
