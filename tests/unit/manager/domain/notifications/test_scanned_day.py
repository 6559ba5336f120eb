"""A day of real-looking scans at 300 internet-facing hosts, from the lines of their logs to the messages."""

import json
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from manager.domain.agents.liveness import LivenessTimes
from manager.domain.agents.registry import Takeover
from manager.domain.notifications.event import Event
from manager.domain.notifications.message import Change
from manager.engine.settings import EngineSettings
from schemas import topics
from schemas.threats import Severity
from tests.support.attacks import trusted
from tests.support.engine import Bench
from tests.support.judged import JudgedChannel, whole_text
from tests.support.scanned_day import DAY, ScannedDay, ScannedHost, scanned_day

pytestmark = pytest.mark.long("tests/property/domain/notifications/test_grouped_logins.py")

HOSTS = 300
HOUR = 3600.0
_MINUTE = 60.0
_SETTINGS = EngineSettings(takeover=Takeover.ALLOW, times=LivenessTimes(stale_after=10 * DAY))
"""Silence is no subject here: nobody sends heartbeats all day."""


class Fleet:
    """Hosts with the guard's own detection and decisions, and the manager's engine with its store."""

    def __init__(self, directory: Path) -> None:
        self.bench = Bench(directory, _SETTINGS)
        self._agents = trusted(self.bench, *(f"srv-{number}" for number in range(HOSTS)))
        self._hosts = [ScannedHost() for _ in range(HOSTS)]
        self.start = self.bench.wall + _MINUTE
        self._first = self.bench.rows("SELECT coalesce(max(sequence), 0) FROM event")[0][0]

    def replay(self, day: ScannedDay) -> list[Event]:
        """Give the day's lines to the hosts and their reports to the engine; return the events that it stored."""
        bench = self.bench
        for minute, lines in groupby(day.lines, key=lambda line: line.at // _MINUTE):
            bench.elapsed = max(bench.elapsed, (minute + 1) * _MINUTE - bench.began)
            for line in lines:
                for body in self._hosts[line.host].read(line):
                    agent = self._agents[line.host]
                    report = json.dumps(json.loads(body) | {"agentId": agent.agent_id}).encode()
                    bench.put(topics.THREATS, agent.agent_id, agent.coded(topics.THREATS, report))
            while len(bench.engine.inbox):
                bench.engine.step(bench.now)
        bench.elapsed += _MINUTE
        bench.engine.step(bench.now)
        return self._events()

    def _events(self) -> list[Event]:
        rows = self.bench.rows(
            "SELECT sequence, at, name, severity, organization_id, site, document FROM event"
            f" WHERE sequence > {self._first} ORDER BY sequence"
        )
        events = []
        for sequence, at, name, severity, organization_id, site, text in rows:
            document = json.loads(text)
            agent_id, hostname = document.get("agentId"), document.get("hostname")
            data = document.get("data") or {}
            event = Event(sequence, at, name, Severity(severity), organization_id, agent_id, hostname, site, data)
            events.append(event)
        return events


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScannedDay, list[Event]]:
    """A day with ten logins after failures within five minutes, and the events that the engine stored of it."""
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    day = scanned_day(HOSTS, seed=7, start=fleet.start, planted=[8 * HOUR + 30.0 * number for number in range(10)])
    events = fleet.replay(day)
    assert fleet.bench.failures() == {}
    assert day.scans > 3 * HOSTS
    return day, events


@pytest.mark.timeout(300)
def test_a_day_of_scans_with_ten_logins_of_one_attacker_is_three_messages(
    recorded: tuple[ScannedDay, list[Event]],
) -> None:
    """The first login within seconds, the others five minutes later, and the digest: each host, user and source."""
    day, events = recorded
    channel = JudgedChannel(now=day.lines[0].at)
    for event in events:
        channel.take(event)
    channel.pass_until(day.lines[0].at + DAY)
    assert [message.change for _, message in channel.told] == [Change.OPENED, Change.UPDATED, Change.DIGEST]
    text = "\n".join(channel.texts()[:2])
    assert all(f"srv-{each.host}" in text for each in day.planted)
    first = min(each.at for each in day.planted)
    assert all(first <= at <= first + 600 for at, _ in channel.told[:2])


@pytest.mark.timeout(300)
def test_logins_over_a_whole_day_of_scans_are_told_within_seconds_each(
    recorded: tuple[ScannedDay, list[Event]],
) -> None:
    """Two hours apart, each of the ten is a message of its own; the scans themselves are the digest alone."""
    day, events = recorded
    spread, number = [], 0
    for event in events:
        if event.name == "suspicious_login" and event.severity is Severity.CRITICAL:
            number += 1
            spread.append(replace(event, at=day.lines[0].at + number * 2 * HOUR))
        else:
            spread.append(event)
    channel = JudgedChannel(now=day.lines[0].at)
    channel.take_all(spread)
    channel.pass_until(day.lines[0].at + DAY)
    logins = [(at, message) for at, message in channel.told if message.change is not Change.DIGEST]
    assert len(channel.told) - len(logins) == 1
    delays = [at - day.lines[0].at - turn * 2 * HOUR for turn, (at, _) in enumerate(logins, 1)]
    assert all(5 <= delay <= 6 for delay in delays)
    named = [whole_text(message) for _, message in logins]
    assert all(any(f"srv-{each.host}:" in text and each.source in text for text in named) for each in day.planted)
