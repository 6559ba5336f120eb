"""The judgement takes events with any data: the host writes most of it, an older or newer release the rest."""

import json
import re

from hypothesis import example, given
from hypothesis import strategies as st

from manager.domain.notifications.event import KINDS
from manager.domain.notifications.judgement import Judgement, JudgementSettings
from tests.support.judged import START, Events, JudgedChannel

_KEYS = (
    "type", "user", "sourceIp", "count", "taken", "outcome", "action", "value", "reason", "connections", "incidentId",
    "kind", "agents", "expiresAt", "sources", "name", "channel", "seconds", "author", "address", "until", "site",
    "agentId", "topic", "group", "state", "fileHash", "process", "vouched",
)  # fmt: skip
_NUMBERS = st.one_of(st.integers(-(2**63), 2**64), st.floats(allow_nan=True, allow_infinity=True))
_TEXTS = st.one_of(st.text(), st.sampled_from(["203.0.113.7", "203.0.113.0/24", "9999-12-31T23:59:59Z", "$(reboot)"]))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3)),
    max_leaves=5,
)
_DATA = st.lists(
    st.tuples(st.sampled_from([*KINDS, "of_a_newer_release"]), st.dictionaries(st.sampled_from(_KEYS), _VALUES)),
    max_size=8,
)
_COMMAND = re.compile(r"panguard [a-z]+ [a-z ]+( [A-Za-z0-9_.:/-]+)*( --for 4h)?")


@given(_DATA)
@example([(name, dict.fromkeys(_KEYS, unhashable)) for name in KINDS for unhashable in ([], {})])
def test_events_with_any_data_are_told_and_give_safe_commands(story: list[tuple[str, dict[str, object]]]) -> None:
    """No data raises; the state goes through JSON; each command is made of words, ids and addresses."""
    events, channel = Events(), JudgedChannel(JudgementSettings(escalate_after=600.0))
    for number, (name, data) in enumerate(story):
        event = events.make(name, START + number, "srv-1", **data)
        channel.take(event)
    channel.pass_until(START + 2 * 86_400)
    for _, message in [*channel.told, *channel.escalated]:
        assert message.command is None or _COMMAND.fullmatch(message.command)
    stored = json.loads(json.dumps(channel.judgement.state()))
    assert Judgement.from_state(stored, channel.settings).state() == channel.judgement.state()
