"""Suspicious logins of two organizations, against a simulation that looks at all of them every five seconds."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.judgement import JudgementSettings
from manager.domain.notifications.message import Change
from tests.support.judged import START, Events, JudgedChannel, whole_text

TICK = 5.0
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 5.0, 10.0, 295.0, 300.0, 900.0, 3600.0, 4000.0]), st.sampled_from(["acme", "zeta"])
    ),
    min_size=1,
    max_size=20,
)


@dataclass
class Group:
    """The logins of one organization, and the messages on them: the time and the hosts of each."""

    messages: list[tuple[float, set[str]]] = field(default_factory=list)
    pending: list[tuple[float, str]] = field(default_factory=list)
    number: int = 0
    newest: float = 0.0

    def look(self, at: float) -> None:
        if not self.pending:
            self.number = 0 if at >= self.newest + 3600 else self.number
            return
        gap = (0.0, 300.0, 900.0)[min(self.number, 2)]
        is_over = not self.number or at >= self.messages[-1][0] + gap
        if at >= self.pending[0][0] + 5 and is_over:
            self.messages.append((at, {host for _, host in self.pending}))
            self.pending, self.number = [], self.number + 1


@given(STEPS)
def test_each_login_is_told_in_one_message_the_first_of_a_group_within_five_seconds(
    steps: list[tuple[float, str]],
) -> None:
    """Later ones of a group wait for five minutes after its first message, then fifteen; it ends after a quiet hour."""
    events, channel = Events(), JudgedChannel(JudgementSettings(most_messages=100))
    groups, logins, at = {"acme": Group(), "zeta": Group()}, [], START
    for number, (pause, organization) in enumerate(steps):
        at += pause
        logins.append((at, organization, f"srv-{number}."))
        channel.take(events.login(at, f"srv-{number}.", organization_id=organization))
    channel.pass_until(at + 10_000)
    now = START
    while now <= at + 10_000:
        for organization, group in groups.items():
            group.look(now)
            for when, where, host in logins:
                if when == now and where == organization:
                    group.pending.append((now, host))
                    group.newest = now
                    group.look(now)
        now += TICK
    for organization, group in groups.items():
        found = [
            (when, {host for _, _, host in logins if host in whole_text(message)})
            for when, message in channel.told
            if message.organization_id == organization and message.change is not Change.DIGEST
        ]
        assert found == group.messages
