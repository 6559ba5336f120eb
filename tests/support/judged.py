"""A judged channel on a virtual clock: events go in at their times, and messages come out when they are due."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from manager.domain.notifications.event import KINDS, UNKNOWN, Event
from manager.domain.notifications.judgement import Judgement, JudgementSettings, QuietHours
from manager.domain.notifications.message import Message
from schemas.threats import Severity

START = 1_800_000_000.0
"""08:00 UTC on 15 January 2027."""


@dataclass
class Events:
    """Makes events with rising sequences."""

    sequence: int = 0

    def make(self, event_name: str, at: float, agent: str | None = None, /, **members: Any) -> Event:
        """Return the next event; `members` that an event does not have are its data."""
        self.sequence += 1
        own = ("organization_id", "site", "severity")
        known = {key: members.pop(key) for key in own if isinstance(members.get(key), str)}
        known.setdefault("severity", KINDS.get(event_name, UNKNOWN).severity)
        known.setdefault("organization_id", "acme")
        return Event(self.sequence, at, event_name, agent_id=agent, hostname=agent, data=members, **known)

    def login(self, at: float, host: str, source: str = "203.0.113.7", **data: Any) -> Event:
        """Return a login after failures."""
        evidence = {"type": "login_after_failures", "user": "dave", "sourceIp": source, "count": 12, "vouched": True}
        return self.make("suspicious_login", at, host, **{**evidence, "outcome": "taken", "action": "block_ip", **data})


@dataclass
class JudgedChannel:
    """Drives a judgement as a notifier does: takes each event when it comes, and ticks whenever that is due."""

    settings: JudgementSettings = field(default_factory=JudgementSettings)
    now: float = START
    restarts: bool = False
    """Whether the judgement is rebuilt from the JSON of its state before each call."""

    def __post_init__(self) -> None:
        self.judgement = Judgement(self.settings)
        self.judgement.tick(self.now)
        self.told: list[tuple[float, Message]] = []
        self.escalated: list[tuple[float, Message]] = []

    def take(self, event: Event, at: float | None = None, quiet: QuietHours | None = None) -> None:
        """Let time pass until the event comes (when it happens, unless `at` is given), and take it."""
        self.pass_until(max(self.now, event.at) if at is None else at)
        self._restart()
        self._keep(self.judgement.take(event, self.now, quiet))

    def take_all(self, events: Iterable[Event], quiet: QuietHours | None = None) -> None:
        """Take events in the order of time."""
        for event in sorted(events, key=lambda each: each.at):
            self.take(event, quiet=quiet)

    def pass_until(self, at: float) -> None:
        """Let time pass, with a tick whenever one is due."""
        while True:
            self._restart()
            self._keep(self.judgement.tick(self.now))
            self.escalated += [(self.now, each) for each in self.judgement.escalations(self.now)]
            self._keep(self.judgement.tick(self.now))
            due = self.judgement.due
            assert due > self.now, "a tick at its due time leaves something due"
            if due > at or due == inf:
                break
            self.now = due
        self.now = max(self.now, at)

    def titles(self) -> list[str]:
        """Return the titles of all messages."""
        return [text_of(message.title) for _, message in self.told]

    def texts(self) -> list[str]:
        """Return the whole text of each message."""
        return [whole_text(message) for _, message in self.told]

    def _keep(self, messages: list[Message]) -> None:
        for message in messages:
            assert 1 + len(message.lines) <= 10
            assert message.severity in Severity
            self.told.append((self.now, message))

    def _restart(self) -> None:
        if self.restarts:
            stored = json.dumps(self.judgement.state())
            self.judgement = Judgement.from_state(json.loads(stored), self.settings)


def text_of(line: Iterable[Any]) -> str:
    """Return a line as text."""
    return "".join(part.text for part in line)


def whole_text(message: Message) -> str:
    """Return title and lines of a message."""
    return "\n".join(text_of(line) for line in (message.title, *message.lines))
