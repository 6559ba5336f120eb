"""The judgement after a restart at any point."""

from hypothesis import given

from manager.domain.notifications.judgement import JudgementSettings
from tests.property.domain.notifications.stories import Step, play, settings_of, steps


@given(steps, settings_of)
def test_restarts_at_any_point_change_no_message(story: list[Step], settings: JudgementSettings) -> None:
    """Rebuilt from the JSON of its state before each call, the judgement sends the same messages at the same times."""
    restarted, running = (play(story, settings, restarts=each) for each in (True, False))
    assert restarted.told == running.told
    assert restarted.escalated == running.escalated


@given(steps, settings_of)
def test_each_message_has_an_id_of_its_own(story: list[Step], settings: JudgementSettings) -> None:
    """No two messages of a channel have the same id, so a receiver may drop what it has seen."""
    channel = play(story, settings, restarts=False)
    ids = [message.id for _, message in [*channel.told, *channel.escalated]]
    assert len(ids) == len(set(ids))
