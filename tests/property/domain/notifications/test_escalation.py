"""Escalation against an oracle that knows when each group was told and acknowledged."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.notifications.judgement import JudgementSettings
from tests.support.judged import START, Events, JudgedChannel

AFTER = 1800.0
GROUPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 60.0, 600.0, 3600.0]),
        st.sampled_from(["login", "block", "notice"]),
        st.one_of(st.none(), st.sampled_from([0.0, 600.0, 1799.0, 1801.0, 7200.0])),
        st.booleans(),
    ),
    max_size=8,
)


@given(GROUPS)
def test_a_group_is_escalated_once_if_nobody_acknowledged_it_in_time(
    groups: list[tuple[float, str, float | None, bool]],
) -> None:
    """Half an hour after its first message, unless somebody acknowledged it or works on its incident before."""
    events, channel, at = Events(), JudgedChannel(JudgementSettings(escalate_after=AFTER, most_messages=100)), START
    expected, acknowledgements, stories = [], [], []
    for number, (pause, kind, acknowledged, by_incident) in enumerate(groups):
        at += pause
        organization, incident = f"org-{number}", f"inc-{number}"
        members = {"organization_id": organization, "incidentId": incident, "value": "203.0.113.9"}
        name = {"login": "suspicious_login", "block": "block_ineffective", "notice": "agent_cloned"}[kind]
        story = events.make(name, at, "srv-1", type="login_after_failures", **members)
        stories.append(story)
        told = at + (5 if kind == "login" else 30)
        if kind != "notice" and (acknowledged is None or acknowledged > AFTER):
            expected.append((told + AFTER, organization))
        if acknowledged is not None:
            group = f"{'got_in' if kind == 'login' else 'we_hurt' if kind == 'block' else 'notice'}-{story.sequence}"
            acknowledgements.append((told + acknowledged, group, incident, by_incident))
    for when, group, incident, by_incident in acknowledgements:
        if by_incident:
            stories.append(events.make("incident_work", when, incidentId=incident, action="acknowledge", author="anna"))
        else:
            stories.append(events.make("notification_acknowledged", when, group=group, author="anna"))
    channel.take_all(stories)
    channel.pass_until(at + 86_400)
    assert sorted((when, message.organization_id) for when, message in channel.escalated) == sorted(expected)
