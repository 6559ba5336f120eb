"""People are told at once of what got in, hurts, waits or is blind; in few messages; the rest is a number."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import get_args

import pytest

from manager.api.routes.notifications import MuteBody
from manager.cli.commands.notifications import TopicWord
from manager.domain.notifications.judgement import JudgementSettings, QuietHours
from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.groups import standing
from manager.domain.notifications.message import Change, Plain, Quoted
from schemas.threats import Severity
from tests.support.judged import START, Events, JudgedChannel, whole_text

HOUR = 3600.0
DAY = 24 * HOUR
NIGHT = QuietHours(start=8 * 60, end=16 * 60)
"""Quiet from the start of the tests, 08:00 UTC, for eight hours."""


def test_an_outage_of_300_hosts_at_three_sites_is_a_message_by_site_with_a_count_and_one_at_its_end() -> None:
    """Six messages in all, although the agents fall silent and come back one after the other."""
    events, channel = Events(), JudgedChannel()
    for number in range(300):
        site = f"site-{number % 3}"
        channel.take(events.make("agent_stale", START + 60 + number % 90, f"srv-{number}", site=site))
    channel.pass_until(START + HOUR)
    assert channel.titles() == [f"100 agents are blind in acme at site-{site}" for site in range(3)]
    assert all(660 <= at - START <= 670 for at, _ in channel.told)
    for number in range(300):
        channel.take(
            events.make("agent_online", START + HOUR + number % 120, f"srv-{number}", site=f"site-{number % 3}")
        )
    channel.pass_until(START + 2 * HOUR)
    assert channel.titles()[3:] == [f"No longer blind in acme at site-{site}" for site in range(3)]
    assert [message.change for _, message in channel.told] == 3 * [Change.OPENED] + 3 * [Change.CLOSED]


def test_hosts_that_stay_silent_after_an_outage_are_named_at_its_end_and_when_they_are_back() -> None:
    """The end of an outage says who is not back; their return is told, too."""
    events, channel = Events(), JudgedChannel()
    for number in range(30):
        channel.take(events.make("agent_stale", START, f"srv-{number}"))
    for number in range(28):
        channel.take(events.make("agent_online", START + HOUR, f"srv-{number}"))
    channel.pass_until(START + 2 * HOUR)
    assert channel.titles() == ["30 agents are blind in acme", "No longer blind, apart from 2 in acme"]
    assert "srv-28" in channel.texts()[1]
    assert "srv-29" in channel.texts()[1]
    for number in (28, 29):
        channel.take(events.make("agent_online", START + 3 * HOUR, f"srv-{number}"))
    channel.pass_until(START + 4 * HOUR)
    assert channel.titles()[2:] == ["No longer blind in acme"]


@pytest.mark.parametrize(("silent", "messages"), [(599.0, 0), (601.0, 2)])
def test_nobody_is_told_of_an_agent_that_is_silent_for_less_than_ten_minutes(silent: float, messages: int) -> None:
    """After ten minutes people are told of it, and of its end."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("agent_stale", START, "srv-1"))
    channel.take(events.make("agent_online", START + silent, "srv-1"))
    channel.pass_until(START + HOUR)
    assert len(channel.told) == messages


def test_another_host_that_falls_silent_beside_a_dead_one_is_told() -> None:
    """A host that is down for days does not hide the next one."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("agent_stale", START, "dead"))
    channel.take(events.make("agent_stale", START + 40 * HOUR, "srv-1"))
    channel.pass_until(START + 40 * HOUR + 600)
    at, message = channel.told[-1]
    assert (at, message.change) == (START + 40 * HOUR + 600, Change.UPDATED)
    assert "srv-1" in whole_text(message)


def test_an_agent_that_moved_to_another_site_while_silent_is_not_blind_for_ever() -> None:
    """Its return counts although it names another site than its silence did."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("agent_stale", START, "srv-1", site="old"))
    channel.take(events.make("agent_online", START + HOUR, "srv-1", site="new"))
    channel.pass_until(START + 2 * HOUR)
    assert channel.titles() == ["1 agent is blind in acme at old", "No longer blind in acme at old"]


@pytest.mark.parametrize("period", [60.0, 300.0, 590.0])
def test_flapping_is_told_once(period: float) -> None:
    """An agent that is silent and back again for half a day is one message, at its third fall."""
    events, channel = Events(), JudgedChannel()
    at = START
    while at < START + 12 * HOUR:
        channel.take(events.make("agent_stale", at, "srv-1"))
        channel.take(events.make("agent_online", at + period, "srv-1"))
        at += 2 * period
    channel.pass_until(START + 20 * HOUR)
    assert channel.titles() == ["1 agent becomes silent or degraded again and again in acme"]
    assert channel.told[0][0] == START + 4 * period + 120


def test_a_flapping_agent_that_stays_silent_is_told_as_blind_after_an_hour() -> None:
    """The message on its flapping does not hide its end."""
    events, channel = Events(), JudgedChannel()
    for number in range(3):
        channel.take(events.make("agent_stale", START + number * 200, "srv-1"))
        if number < 2:
            channel.take(events.make("agent_online", START + number * 200 + 100, "srv-1"))
    channel.pass_until(START + 3 * HOUR)
    assert channel.titles()[1:] == ["1 agent is blind in acme"]
    assert channel.told[1][0] == START + 400 + HOUR


def test_hundreds_of_incidents_in_a_minute_that_wait_are_a_handful_of_messages() -> None:
    """Five messages until the last approval has expired: opened, two updates at most, a reminder, the end."""
    events, channel = Events(), JudgedChannel()
    for number in range(250):
        at, address = START + number * 0.24, f"198.51.{number // 250}.{number % 250}"
        incident = {"incidentId": f"inc-{number}", "kind": "source_ip", "value": address, "agents": 2}
        channel.take(events.make("incident_opened", at, **incident))
        channel.take(events.make("approval_waiting", at, **incident, expiresAt=at + 4 * HOUR))
    channel.pass_until(START + 5 * HOUR)
    assert 3 <= len(channel.told) <= 5
    assert channel.titles()[-2:] == [
        "250 responses wait for approval in acme",
        "No response waits for approval any longer in acme",
    ]


def test_hundreds_of_organizations_with_an_incident_in_a_minute_are_a_handful_of_messages() -> None:
    """The limit on messages holds whatever the groups: what it leaves no room for shares the last message."""
    events, channel = Events(), JudgedChannel()
    for number in range(250):
        at = START + number * 0.24
        members = {"incidentId": f"inc-{number}", "value": "198.51.100.1", "agents": 2, "expiresAt": at + 4 * HOUR}
        channel.take(events.make("approval_waiting", at, organization_id=f"org-{number}", **members))
    channel.pass_until(START + 600)
    assert len(channel.told) == 6


def test_a_thousand_blocked_incidents_are_one_number_in_the_digest() -> None:
    """Nobody is told at once of what was blocked and did not get in."""
    events, channel = Events(), JudgedChannel()
    for number in range(1000):
        at = START + 60 + number
        channel.take(events.make("threats_reported", at, count=5, taken=4))
        channel.take(events.make("incident_opened", at, kind="source_ip", value="198.51.100.1"))
        channel.take(events.make("incident_response", at, state="applied"))
    channel.pass_until(START + DAY - 1)
    assert channel.told == []
    channel.pass_until(START + DAY)
    assert channel.titles() == ["Digest of 1 d 0 h: 4000 threats blocked"]
    assert "4000 of 5000 reported threats were blocked by the hosts" in channel.texts()[0]


def test_there_is_no_digest_of_nothing() -> None:
    """A day without any event is no message."""
    channel = JudgedChannel()
    channel.pass_until(START + 3 * DAY)
    assert channel.told == []


def test_a_login_after_failures_is_told_within_seconds_in_quiet_hours_too() -> None:
    """Quiet hours hold back what else happens until they end, never a suspicious login."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("block_ineffective", START + 10, "srv-1", value="203.0.113.9"), quiet=NIGHT)
    channel.take(events.login(START + 20, "srv-2"), quiet=NIGHT)
    channel.pass_until(START + DAY - 1)
    (login_at, login), (block_at, block) = channel.told
    assert (login_at, login.severity) == (START + 25, Severity.CRITICAL)
    assert block_at == START + 8 * HOUR
    assert "203.0.113.9" in whole_text(block)


def test_a_message_on_a_login_says_what_happened_where_what_was_done_and_the_command_that_acts() -> None:
    """Text from outside is quoted; the rest is the manager's own."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.login(START, "srv-2", "203.0.113.7", user="@channel", outcome="refused: it logged in before"))
    channel.pass_until(START + 10)
    ((_, message),) = channel.told
    assert message.command == "panguard manager blocks add 203.0.113.7 --for 4h"
    assert message.lines[0] == (
        Quoted("srv-2"), Plain(": "), Plain("login after failures"), Plain(", user "), Quoted("@channel"),
        Plain(" from "), Quoted("203.0.113.7"), Plain(" after 12 failures"),
        Plain("; nothing was done: the response was refused"), Plain(": "), Quoted("it logged in before"),
    )  # fmt: skip


@pytest.mark.parametrize("source", ["$(reboot)", "1.2.3.4; reboot", "fe80::1%eth0", "", None, 7])
def test_a_text_that_is_no_address_gets_into_no_command(source: object) -> None:
    """A command is copied into a shell."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("suspicious_login", START, "srv-2", type="login_after_failures", sourceIp=source))
    channel.pass_until(START + 10)
    assert channel.told[0][1].command is None


def test_a_person_who_mistyped_is_a_number_in_the_digest() -> None:
    """A login after a few mistakes of a known user is of severity low: nobody is told at once."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.login(START + 60, "srv-2", severity=Severity.LOW))
    channel.pass_until(START + DAY)
    assert channel.titles() == ["Digest of 1 d 0 h: 0 threats blocked"]
    assert "1 login after a few mistakes" in channel.texts()[0]


def test_the_same_malware_on_several_hosts_is_told_at_once() -> None:
    """An incident of a file hash is no blocked attack: the file is there."""
    events, channel = Events(), JudgedChannel()
    incident = {"kind": "file_hash", "value": 64 * "a", "incidentId": "inc-1", "agents": 2}
    channel.take(events.make("incident_opened", START, severity=Severity.CRITICAL, **incident))
    channel.pass_until(START + 10)
    assert channel.told[0][1].command == "panguard manager incidents show inc-1"


def test_a_backlog_older_than_30_minutes_is_one_summary() -> None:
    """It names who got in and counts the rest; what still stands is told with it, what is over is not told again."""
    events, channel = Events(), JudgedChannel()
    back = START + 5 * HOUR
    backlog = [events.login(START + 60 + number, f"srv-{number}") for number in range(3)]
    backlog += [events.make("agent_stale", START + 100 + number, f"web-{number}", site="x") for number in range(20)]
    backlog += [events.make("agent_online", START + HOUR, f"web-{number}", site="x") for number in range(15)]
    backlog += [events.make("block_ineffective", START + 200, "srv-9", value="203.0.113.9")]
    backlog += [
        events.make("agent_stale", START + 2 * HOUR, "short"),
        events.make("agent_online", START + 2 * HOUR + 60, "short"),
    ]
    for event in backlog:
        channel.take(event, at=back)
    channel.pass_until(back + 2 * HOUR)
    assert channel.titles() == ["Got in: 3 suspicious events, not told in time"]
    text = channel.texts()[0]
    for expected in (
        "srv-0",
        "srv-1",
        "srv-2",
        "5 agents are blind in acme at x",
        "15 agents were blind and are well again",
    ):
        assert expected in text
    assert "1 response did harm or failed" in text


def test_the_end_of_what_a_summary_told_is_told() -> None:
    """An outage that began in the backlog closes like any other."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("agent_stale", START, "srv-1"), at=START + HOUR)
    channel.take(events.make("agent_online", START + 2 * HOUR, "srv-1"))
    channel.pass_until(START + 3 * HOUR)
    assert channel.titles() == ["Not told in time: 1 event, the last 1 h 0 min ago", "No longer blind in acme"]


def test_an_acknowledged_group_is_not_escalated_and_another_one_is_once() -> None:
    """Whoever acknowledges a group, or works on its incident, keeps it from the second channel."""
    settings = JudgementSettings(escalate_after=1800.0)
    events, channel = Events(), JudgedChannel(settings)
    channel.take(events.login(START, "srv-1", "203.0.113.1"))
    channel.take(events.make("approval_waiting", START, incidentId="inc-7", value="203.0.113.2", expiresAt=START + 9e4))
    channel.take(events.make("block_ineffective", START, "srv-3", value="203.0.113.3", incidentId="inc-8"))
    channel.pass_until(START + 600)
    group = channel.told[0][1].group
    channel.take(events.make("notification_acknowledged", START + 700, group=group, author="anna"))
    channel.take(events.make("incident_work", START + 800, incidentId="inc-8", action="acknowledge", author="anna"))
    channel.pass_until(START + DAY / 2)
    ((at, message),) = channel.escalated
    assert at == START + 30 + 1800
    assert "203.0.113.2" in whole_text(message)
    assert whole_text(message).startswith("Nobody has acknowledged for 30 min: 1 response waits for approval")


def test_maintenance_mutes_a_site_until_its_end() -> None:
    """What still stands at the end is told then; a suspicious login is told meanwhile."""
    events, channel = Events(), JudgedChannel()
    end = START + 2 * HOUR
    channel.take(events.make("notifications_muted", START, site="here", until=end, author="anna"))
    for number in range(2):
        channel.take(events.make("agent_stale", START + 60, f"srv-{number}", site="here"))
    channel.take(events.make("agent_online", START + HOUR, "srv-0", site="here"))
    channel.take(events.make("agent_stale", START + HOUR, "other", site="there"))
    channel.take(events.login(START + HOUR, "srv-9", site="here"))
    channel.pass_until(START + 3 * HOUR)
    assert channel.titles() == [
        "Got in: 1 suspicious event in acme",
        "1 agent is blind in acme at there",
        "1 agent is blind in acme at here",
    ]
    assert channel.told[2][0] == end


def test_an_unmuted_group_is_told_again() -> None:
    """The end of a mute before its time."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("notifications_muted", START, topic="got_in", until=START + DAY))
    channel.take(events.login(START + 60, "srv-1"))
    channel.take(events.make("notifications_unmuted", START + 120, topic="got_in"))
    channel.take(events.login(START + 180, "srv-2"))
    channel.pass_until(START + HOUR)
    assert channel.titles() == ["1 notice in acme", "Got in: 1 suspicious event in acme"]
    assert "srv-2" in channel.texts()[1]


def test_further_logins_of_a_group_are_told_together_after_five_minutes_with_every_host() -> None:
    """None is missed where there are more than lines: the last line names the hosts of the rest."""
    events, channel = Events(), JudgedChannel()
    for number in range(30):
        channel.take(events.login(START + number, f"srv-{number}", f"203.0.113.{number}"))
    channel.pass_until(START + 400)
    assert len(channel.told) == 2
    assert channel.told[1][0] == channel.told[0][0] + 300
    text = "\n".join(channel.texts())
    assert all(f"srv-{number}" in text for number in range(30))


def test_a_login_that_the_guard_cannot_prove_is_named_after_those_that_it_can() -> None:
    """Lines that any local user may write do not crowd out a proven login."""
    events, channel = Events(), JudgedChannel()
    for number in range(50):
        channel.take(events.login(START + number * 0.01, "forged", f"198.51.100.{number}", vouched=False))
    channel.take(events.login(START + 1, "srv-1"))
    channel.pass_until(START + 10)
    assert "srv-1" in "".join(part.text for part in channel.told[0][1].lines[0])


def test_a_clock_that_steps_back_by_a_year_silences_nobody() -> None:
    """What was told, limited or waited for by the wrong time is no reason to wait for that time to come again."""
    events, channel = Events(), JudgedChannel(JudgementSettings(most_messages=1))
    ahead = START + 365 * DAY
    channel.take(events.make("agent_stale", ahead, "srv-1"))
    channel.take(events.login(ahead + 1, "srv-2"))
    channel.pass_until(ahead + 700)
    channel.take(events.login(ahead + 701, "srv-3"))
    channel.now = START
    channel.take(events.make("agent_online", START, "srv-1"), at=START)
    channel.pass_until(START + HOUR + 60)
    told = [title for (at, _), title in zip(channel.told, channel.titles(), strict=True) if at < START + DAY]
    assert sorted(told) == ["Got in: 1 suspicious event in acme (2 in all)", "No longer blind in acme"]


def test_trouble_of_the_store_is_told_although_its_event_comes_with_its_end() -> None:
    """The store cannot hold the event before it commits again; a hiccup of seconds is told to nobody."""
    events, channel = Events(), JudgedChannel()
    for lasted, at in ((5.0, START + 100), (900.0, START + 2000)):
        since = datetime.fromtimestamp(at - lasted, UTC).isoformat()
        channel.take(events.make("store_unavailable", at, reason="disk full", since=since))
        channel.take(events.make("store_available", at))
    channel.pass_until(START + HOUR)
    assert channel.titles() == ["The manager has trouble in acme", "The manager's trouble is over in acme"]
    assert "the store is not available: disk full (for 15 min)" in channel.texts()[0]


def test_trouble_of_the_store_in_quiet_hours_is_told_after_them_although_it_is_over() -> None:
    """The commits that failed in the night are known in the morning."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("store_unavailable", START + 60, reason="disk full"), quiet=NIGHT)
    channel.take(events.make("store_available", START + 960), quiet=NIGHT)
    channel.pass_until(START + 9 * HOUR)
    ((at, message),) = channel.told
    assert (at, message.severity) == (START + 8 * HOUR, Severity.HIGH)
    assert "the store is not available: disk full; this lasted 15 min and is over" in whole_text(message)


def test_a_broker_that_is_not_reached_is_told_after_ten_minutes() -> None:
    """It is trouble of the manager, no blind agent; a restart of the broker is told to nobody."""
    events, channel = Events(), JudgedChannel()
    for at, lasts in ((START, 300.0), (START + HOUR, 1200.0)):
        channel.take(events.make("broker_unavailable", at, reason="the connection to the broker ended"))
        channel.take(events.make("broker_available", at + lasts))
    channel.pass_until(START + 2 * HOUR)
    assert channel.titles() == ["The manager has trouble in acme", "The manager's trouble is over in acme"]
    assert channel.told[0][0] == START + HOUR + 600


def test_a_site_whose_line_flaps_is_one_message() -> None:
    """All its agents fall and come back four times within two hours, never silent for ten minutes."""
    events, channel = Events(), JudgedChannel()
    for turn in range(4):
        for name, later in (("agent_stale", 0), ("agent_online", 300)):
            for number in range(100):
                at = START + turn * 1800 + later + number % 90
                channel.take(events.make(name, at, f"srv-{number}", site="here"), at=max(at, channel.now))
    channel.pass_until(START + 6 * HOUR)
    assert channel.titles() == ["100 agents become silent or degraded again and again in acme at here"]


def test_an_outage_of_more_hosts_than_are_remembered_is_counted_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 20,000 agents of a site, 200 here, only their number is known."""
    assert standing._MOST == 20_000
    monkeypatch.setattr(standing, "_MOST", 200)
    events, channel = Events(), JudgedChannel()
    for number in range(205):
        channel.take(events.make("agent_stale", START, f"srv-{number}"))
    for number in range(205):
        channel.take(events.make("agent_online", START + HOUR, f"srv-{number}"))
    channel.pass_until(START + 2 * HOUR)
    assert channel.titles() == ["205 agents are blind in acme", "No longer blind in acme"]


def test_approvals_that_only_widen_a_block_are_told_once_and_then_in_the_digest() -> None:
    """The agents that see the address have their blocks: a new fleet's first day of scans is three messages."""
    events, channel = Events(), JudgedChannel(JudgementSettings(escalate_after=1800.0))
    for number in range(150):
        at = START + 60 + number * 500
        members = {"incidentId": f"inc-{number}", "value": "198.51.100.1", "agents": 3, "agentsBlocked": True}
        channel.take(events.make("approval_waiting", at, **members, expiresAt=at + DAY))
    channel.pass_until(START + 2 * DAY - 1)
    assert [message.change for _, message in channel.told] == [Change.OPENED, Change.DIGEST, Change.CLOSED]
    assert "now: 150 responses wait for approval" in channel.texts()[1]
    assert channel.escalated == []


def test_an_approval_without_any_block_is_told_beside_those_that_only_widen_one() -> None:
    """It is told as soon as the group may have another message."""
    events, channel = Events(), JudgedChannel()
    for number, blocked in enumerate((True, True, False)):
        at = START + 60 + number * 60
        members = {"incidentId": f"inc-{number}", "value": f"198.51.100.{number}", "agentsBlocked": blocked}
        channel.take(events.make("approval_waiting", at, **members, expiresAt=at + DAY))
    channel.pass_until(START + 2 * HOUR)
    assert [at - START for at, _ in channel.told] == [90, 990]
    assert "198.51.100.2" in channel.texts()[1]


def test_a_login_from_a_new_address_is_no_login_after_mistakes_in_the_digest() -> None:
    """Each number says what was counted."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.login(START + 60, "srv-1", severity=Severity.LOW, type="new_source"))
    channel.pass_until(START + DAY)
    assert channel.texts() == ["Digest of 1 d 0 h: 0 threats blocked\n1 other login of low severity"]


def test_a_digest_with_every_number_says_all_of_them_in_seven_lines() -> None:
    """Seven leave room for title, command and link in ten; the last of them has the rest."""
    events, channel = Events(), JudgedChannel()
    at = START + 60
    channel.take(events.make("threats_reported", at, count=3, taken=2))
    channel.take(events.make("notifications_muted", at, topic="notice", until=at + HOUR))
    channel.take(events.make("agent_cloned", at, "srv-1"))
    channel.take(events.make("agent_stale", at, "srv-2"))
    channel.take(events.make("approval_waiting", at, incidentId="inc-1", value="203.0.113.9", expiresAt=at + 2 * DAY))
    channel.take(events.make("incident_response", at, state="applied"))
    channel.take(events.make("incident_opened", at, kind="source_ip"))
    for name in ("agent_offline", "agent_registered", "agent_removed", "blocks_added", "policy_created", "signed_in"):
        channel.take(events.make(name, at, "srv-3"))
    for kind in ("login_after_failures", "new_source"):
        channel.take(events.login(at, "srv-4", severity=Severity.LOW, type=kind))
    channel.pass_until(START + DAY)
    ((_, digest),) = [each for each in channel.told if each[1].change is Change.DIGEST]
    text = whole_text(digest)
    assert len(digest.lines) == 7
    for expected in (
        "Digest of 1 d 0 h: 2 threats blocked", "2 of 3 reported threats", "now: 1 response waits for approval",
        "now: 1 agent is blind", "1 login after a few mistakes", "1 other login of low severity",
        "1 incident on several hosts", "1 decision to respond", "1 event of muted groups", "1 sign-off of an agent",
        "1 agent registered", "1 agent removed", "1 block by hand", "1 change of policies", "1 sign-in",
    ):  # fmt: skip
        assert expected in text


def test_more_logins_than_are_told_by_themselves_are_told_as_such() -> None:
    """The line names the host and that there are more, and what they are."""
    events, channel = Events(), JudgedChannel()
    members = {"severity": Severity.CRITICAL, "limit": 30, "vouched": False}
    channel.take(events.make("alerts_limited", START, "srv-1", **members))
    channel.pass_until(START + 10)
    assert "srv-1: more than 30 suspicious events in a minute, severity critical, not proven" in channel.texts()[0]


def test_a_refused_sign_in_is_told_by_address_and_number_of_tokens() -> None:
    """It has no name: nobody is known by a wrong token."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("sign_in_refused", START, address="192.0.2.1", count=5))
    channel.pass_until(START + 60)
    assert "sign-in refused: 5 wrong tokens from 192.0.2.1" in channel.texts()[0]


@pytest.mark.parametrize("late", [False, True], ids=["told in time", "in a summary"])
@pytest.mark.parametrize("claimed", [False, True], ids=["not proven", "proven, a hostile guard says"])
def test_a_flood_of_two_hosts_does_not_hide_the_login_on_another_one(claimed: bool, late: bool) -> None:
    """The host with the most gives way: the login after more than are remembered is in a line of its own."""
    events, channel = Events(), JudgedChannel()
    forged = {"severity": Severity.CRITICAL if claimed else Severity.MEDIUM, "vouched": claimed}
    flood = [
        events.login(START + 1, f"noisy-{number % 2}", f"10.0.{number // 250}.{number % 250}", **forged)
        for number in range(1100)
    ]
    login = events.login(START + 2, "victim-db", severity=Severity.CRITICAL)
    for event in [*flood, login]:
        channel.take(event, at=START + HOUR if late else START + 2)
    channel.pass_until(START + HOUR + 60 if late else START + 60)
    (text,) = channel.texts()
    assert "victim-db: login after failures, user dave" in text
    assert "Got in: 1101 suspicious events" in text
    assert channel.told[0][1].severity is Severity.CRITICAL


def test_a_host_whose_only_login_gave_way_is_named() -> None:
    """With one login on each of more hosts than are remembered, the hosts of those dropped are in the last line."""
    events, channel = Events(), JudgedChannel()
    for number in range(501):
        kind = {"vouched": number != 250}
        channel.take(events.login(START, f"srv-{number}", **kind))
    group = channel.judgement.state()["occurrences"]
    assert [each["untold_hosts"] for each in group.values()] == [["srv-250"]]


@pytest.mark.parametrize("scope", [{"topic": "got_in"}, {"topic": "got_in", "site": "here"}, {"organization_id": None}])
def test_a_mute_that_could_hide_an_intrusion_is_told_at_once(scope: dict[str, str | None]) -> None:
    """In quiet hours too, beside other notices, and whatever else is muted."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("sign_in_refused", START, address="192.0.2.1", count=5), quiet=None)
    channel.pass_until(START + 60)
    members = {"until": START + 30 * DAY, "author": "mallory", **scope}
    event = events.make("notifications_muted", START + 60, **members)
    channel.take(replace(event, organization_id=scope.get("organization_id", "acme")), quiet=NIGHT)
    channel.pass_until(START + 120)
    assert "720.0 h: muted by " in channel.texts()[-1]
    assert "mallory" in channel.texts()[-1]
    assert channel.told[-1][1].severity is Severity.HIGH


def test_a_login_that_is_muted_is_no_login_that_was_told() -> None:
    """The digest counts it once: among what was muted."""
    events, channel = Events(), JudgedChannel()
    channel.take(events.make("notifications_muted", START, topic="got_in", until=START + HOUR, author="anna"))
    channel.take(events.login(START + 60, "srv-1"))
    channel.pass_until(START + DAY)
    (digest,) = [text for text in channel.texts() if text.startswith("Digest")]
    assert "1 event of muted groups" in digest
    assert "suspicious" not in digest


def test_organizations_that_use_up_the_limit_do_not_delay_a_login_in_another_one() -> None:
    """It is told within 66 seconds, with its host, user and address, although two others have a login a minute."""
    events, channel = Events(), JudgedChannel()
    forged = {"severity": Severity.MEDIUM, "vouched": False}
    for minute in range(22):
        for organization in ("a", "b"):
            source = f"198.51.100.{minute}"
            channel.take(
                events.login(START + minute * 60, "noisy", source, organization_id=organization, **forged),
            )
    at = START + 22 * 60
    for organization in ("c", "d"):
        login = events.login(at, f"db-{organization}", severity=Severity.CRITICAL, organization_id=organization)
        channel.take(login)
    channel.pass_until(at + 66)
    text = "\n".join(channel.texts())
    for organization in ("c", "d"):
        assert f"db-{organization}: login after failures, user dave from 203.0.113.7" in text


def test_the_same_login_again_with_a_lower_severity_is_as_severe_as_before() -> None:
    """What is told together has the highest severity of all."""
    events, channel = Events(), JudgedChannel()
    for severity in (Severity.MEDIUM, Severity.CRITICAL, Severity.MEDIUM):
        channel.take(events.login(START, "srv-1", severity=severity))
    channel.pass_until(START + 10)
    assert channel.told[0][1].severity is Severity.CRITICAL


def test_every_topic_that_a_mute_may_have_mutes_a_kind_of_group() -> None:
    """The API and the command take the kinds of groups, all of them."""
    kinds = {kind.value for kind in GroupKind}
    topic = MuteBody.model_json_schema()["properties"]["topic"]
    assert set(topic["anyOf"][0]["enum"]) == kinds
    assert set(get_args(TopicWord)) == kinds


def test_an_agent_that_flaps_for_days_is_told_once_a_day() -> None:
    """Flips are no way to be blind for half of each hour without people being told again."""
    events, channel = Events(), JudgedChannel()
    for half_hour in range(3 * 48):
        channel.take(events.make("agent_degraded", START + half_hour * 1800, "srv-1"))
        channel.take(events.make("agent_recovered", START + half_hour * 1800 + 900, "srv-1"))
    flapping = [at for at, message in channel.told if "again and again" in whole_text(message)]
    assert [round((at - START) / HOUR) for at in flapping] == [1, 25, 49]


@pytest.mark.parametrize("late", [False, True], ids=["told in time", "in a summary"])
def test_somebody_got_in_only_where_a_login_is(late: bool) -> None:
    """Critical threats, and a refused sudo, have a title without it; with a login among them the number of logins."""
    for logins, others, title in (
        (0, 1, "1 suspicious event, no login"),
        (0, 3, "3 suspicious events, no login among them"),
        (2, 0, "Got in: 2 suspicious events"),
        (1, 2, "Got in: 3 suspicious events, 1 login among them"),
    ):
        events, channel = Events(), JudgedChannel()
        kinds = [("critical_threat", "brute_force"), ("suspicious_login", "privilege_misuse")]
        found = [events.login(START + 1, f"srv-{number}") for number in range(logins)]
        for number in range(others):
            name, kind = kinds[number % 2]
            found.append(events.make(name, START + 1, f"db-{number}", type=kind, severity=Severity.CRITICAL, count=5))
        for event in found:
            channel.take(event, at=START + HOUR if late else START + 2)
        channel.pass_until(START + HOUR + 60 if late else START + 60)
        assert channel.titles() == [f"{title}, not told in time" if late else f"{title} in acme"]


def test_an_escalation_counts_what_was_told() -> None:
    """The group's title, after its message: of everything in it."""
    events, channel = Events(), JudgedChannel(JudgementSettings(escalate_after=15 * 60))
    channel.take(events.login(START + 1, "srv-1"))
    channel.take(events.make("critical_threat", START + 1, "db-1", type="brute_force", severity=Severity.CRITICAL))
    channel.pass_until(START + HOUR)
    ((_, message),) = channel.escalated
    title = "Nobody has acknowledged for 15 min: Got in: 2 suspicious events, 1 login among them in acme"
    assert whole_text(message).startswith(title)
