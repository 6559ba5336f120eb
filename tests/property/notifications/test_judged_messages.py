"""What the judgement makes of hostile events stays text, short and with commands that can be copied."""

import re

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.event import KINDS
from manager.domain.notifications.judgement import JudgementSettings
from manager.domain.notifications.message import MOST_LINES
from manager.notifications.rendering.dialects import CARD, HTML, MARKDOWN, PLAIN, is_command
from tests.support.hostile_names import NAMES
from tests.support.judged import START, Events, JudgedChannel

_MEMBERS = ("type", "user", "sourceIp", "value", "reason", "process", "name", "channel", "author", "fileHash")
_LIVE = re.compile(r"@\w|https?:/|<[!@#]|<at>|<script|<img|javascript:")


@given(
    story=st.lists(
        st.tuples(st.sampled_from(sorted(KINDS)), NAMES, st.dictionaries(st.sampled_from(_MEMBERS), NAMES, max_size=6)),
        min_size=1,
        max_size=6,
    )
)
def test_messages_on_hostile_events(story: list[tuple[str, str, dict[str, str]]]) -> None:
    """Whatever hostnames and data are, each message has ten lines at most, and nothing live in any dialect."""
    events, channel = Events(), JudgedChannel(JudgementSettings(escalate_after=600.0))
    for number, (name, hostname, data) in enumerate(story):
        channel.take(events.make(name, START + number, hostname or "web-1", **data))
    channel.pass_until(START + 2 * 86_400)
    for _, message in [*channel.told, *channel.escalated]:
        assert message.command is None or is_command(message.command)
        for dialect in (PLAIN, MARKDOWN, HTML, CARD):
            shown = dialect.render(message)
            assert len(shown.whole.split(dialect.new_line)) <= MOST_LINES
            assert not _LIVE.search(shown.whole)
            assert not _LIVE.search(shown.title)
