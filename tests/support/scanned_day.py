"""A day of an internet-facing fleet: scans made by seed from lines of real logs, and planted logins after failures."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from uuid_utils.compat import uuid7

from agent.detect.detection_chain import DetectionChain
from agent.events import Record, RecordOrigin, Verdict
from agent.report.threat_report import report_body
from agent.respond.decision import decide
from schemas.policy import PolicySections
from schemas.presence import Mode
from schemas.threats import ResponseTaken
from tests.support.accounts import FakeAccounts

LOGS = Path("tests/transcripts/crowdsec-hub")
"""Lines of real logs, of CrowdSec's hub, with its licence."""

DAY = 86_400.0

_MESSAGE = re.compile(r"sshd(?:-session)?(?:\[\d+\]:| \d+ - (?:\[[^]]*\])?) ?(?P<message>.*)")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")
_PORT = re.compile(r"port \d+")
_USERS = ("root", "admin", "oracle", "postgres", "git", "test", "ubuntu", "pi", "deploy", "www")


class Line(NamedTuple):
    """One message of a host's sshd."""

    at: float
    host: int
    message: str


@dataclass(frozen=True)
class Planted:
    """A login after failures that was planted: where, by whom, from where, and when."""

    at: float
    host: int
    user: str
    source: str


@dataclass
class ScannedDay:
    """The lines of a day, in the order of time, and what was planted among them."""

    lines: list[Line] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)
    scans: int = 0


def scanned_day(hosts: int, seed: int, start: float, planted: list[float]) -> ScannedDay:
    """Return a day of a fleet.

    Each scanner takes some hosts in turn. It sends the lines of one real log with its own address, users and ports:
    guesses of passwords, unknown users, broken key exchanges. Administrators log in by key, and mistype at times.

    Args:
        hosts: the number of hosts.
        seed: of the dice.
        start: the day's first moment.
        planted: the times of logins after failures, in seconds from `start`; each on a host of its own.
    """
    dice, day = random.Random(seed), ScannedDay()  # noqa: S311 -- the same day each time
    for number in range(hosts):
        source = f"198.{18 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
        at = start + dice.uniform(0, DAY - 3600)
        for host in dice.sample(range(hosts), dice.choice([1, 2, 3, 4, 8])):
            day.scans += 1
            at += dice.uniform(1, 300)
            day.lines += _scan(dice, at, host, source)
    for host in range(hosts):
        for _ in range(dice.randint(1, 4)):
            day.lines += _work(dice, start + dice.uniform(0, DAY), host)
    for number, host in enumerate(dice.sample(range(hosts), len(planted))):
        each = Planted(start + planted[number], host, f"clerk{number}", f"203.0.113.{number + 1}")
        day.planted.append(each)
        day.lines += _break_in(each)
    day.lines.sort()
    return day


@cache
def _templates() -> tuple[tuple[str, ...], ...]:
    """Return the messages of each real log about a client that does not log in."""
    logs = []
    for path in sorted(LOGS.glob("*.log")):
        found = [match["message"] for match in map(_MESSAGE.search, path.read_text().splitlines()) if match]
        scans = tuple(text for text in found if text.startswith(("Invalid user", "Unable to negotiate")))
        if len(scans) > 1:
            logs.append(scans)
    return tuple(logs)


def _scan(dice: random.Random, at: float, host: int, source: str) -> Iterator[Line]:
    """Yield the lines of one scanner at one host; half of them guess passwords, too."""
    template = dice.choice(_templates())
    guesses = dice.random() < 0.5
    for text in template[: dice.randint(2, len(template))]:
        at += dice.uniform(0.2, 4.0)
        port = f"port {dice.randint(1024, 65_000)}"
        message = _PORT.sub(port, _ADDRESS.sub(source, text))
        user = dice.choice(_USERS)
        yield Line(at, host, re.sub(r"user \S+ from", f"user {user} from", message))
        if guesses:
            yield Line(at + 0.1, host, f"Failed password for invalid user {user} from {source} {port} ssh2")


def _work(dice: random.Random, at: float, host: int) -> Iterator[Line]:
    """Yield a login of an administrator by key; at times a password that is mistyped once, and then right."""
    source, port = f"192.0.2.{dice.randint(1, 30)}", dice.randint(1024, 65_000)
    if dice.random() < 0.1:
        yield Line(at, host, f"Failed password for anna from {source} port {port} ssh2")
        yield Line(at + 8, host, f"Accepted password for anna from {source} port {port} ssh2")
    else:
        yield Line(at, host, f"Accepted publickey for anna from {source} port {port} ssh2: ED25519 SHA256:{port}")


def _break_in(planted: Planted) -> Iterator[Line]:
    """Yield twelve failures of a user, and the login."""
    for number in range(12):
        text = f"Failed password for {planted.user} from {planted.source} port {20_000 + number} ssh2"
        yield Line(planted.at - 60 + number, planted.host, text)
    text = f"Accepted password for {planted.user} from {planted.source} port 30000 ssh2"
    yield Line(planted.at, planted.host, text)


class ScannedHost:
    """A host's detection and decisions in mode protection; every block that it decides on is taken."""

    def __init__(self) -> None:
        self._chain = DetectionChain(FakeAccounts(), UTC)
        self._origin = RecordOrigin("file:auth.log")

    def read(self, line: Line) -> list[bytes]:
        """Return the bodies of the reports on a line, without agentId."""
        stamp = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds")
        record = Record(f"{stamp} srv sshd[1]: {line.message}", self._origin, vouched=True)
        verdicts = self._chain.examine(record, line.at).threats
        self._chain.saved()
        return [report_body(str(uuid7()), each, _response(each, line.at)) for each in verdicts]


def _response(verdict: Verdict, now: float) -> ResponseTaken | None:
    decision = decide(
        verdict, sections=PolicySections(), mode=Mode.PROTECTION, protected=(), now=now, duration=4 * 3600.0, times=0
    )
    if decision.target is None or decision.response is None:
        return decision.response
    return decision.response.model_copy(update={"outcome": "taken"})
