"""Measures detection: log lines a second from the file to committed reports, beside fail2ban where that is in PATH.

`python -m benchmarks.detection`, with `--quick` on a tenth of the lines. Lines for each second of CPU: the guard as it
reads a file, through its database; fail2ban's sshd filter alone (``fail2ban-regex``, which matches and does not count
or store); and, where it can be started, ``fail2ban-server`` with its sshd jail on the same file. All take turns in each
round; the figures are medians over the rounds. Pin it to one core (``taskset -c 1``) on a busy machine.
"""

import argparse
import contextlib
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import Clock
from agent.memory import relax_garbage_collector
from agent.pipeline import Pipeline
from agent.report.outbox import Outbox
from agent.sources.file_source import FileSource
from agent.sources.log_file import NOWHERE
from agent.storage.database import Database
from benchmarks import interpreter
from benchmarks.fail2ban import Fail2ban

LINES = 50_000
ROUNDS = 3
Messages = Callable[[int], str]
FASTEST_FAIL2BAN = 2.5
"""Target: times fail2ban's lines a second (design of the guard, section 5)."""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines")
    count = LINES // 10 if parser.parse_args().quick else LINES
    interpreter.announce()
    peer = Fail2ban.find()
    relax_garbage_collector()
    print(f"{count} lines; lines for each second of CPU, medians of {ROUNDS} rounds")
    if peer is None:
        print("fail2ban is not installed here (fail2ban-regex, fail2ban-server): there is nothing to compare with")
    for name, messages in MIXES.items():
        with tempfile.TemporaryDirectory() as folder:
            compare(name, messages, count, Path(folder), peer)
    if peer is not None:
        print(f"to reach: at least {FASTEST_FAIL2BAN} times fail2ban")


def compare(name: str, messages: Messages, count: int, folder: Path, peer: Fail2ban | None) -> None:
    """Measure one mix, and print its line of the table."""
    path = folder / "auth.log"
    write(path, messages, count)
    rounds: dict[str, list[float]] = {"guard": [], "filter": [], "server": []}
    for number in range(ROUNDS):
        with Path(os.devnull).open("w") as silence, contextlib.redirect_stderr(silence):
            rounds["guard"].append(lines_a_second(path, folder / str(number), count))
        if peer is not None:
            rounds["filter"].append(count / peer.filter_seconds(path))
            server = peer.server_seconds(path, folder / f"fail2ban{number}")
            rounds["server"] += [] if server is None else [count / server]
    ours = statistics.median(rounds["guard"])
    words = [f"{name:24} guard {ours:7.0f}"]
    for other in ("filter", "server"):
        if rounds[other]:
            ratio = statistics.median(mine / its for mine, its in zip(rounds["guard"], rounds[other], strict=True))
            words.append(f"fail2ban's {other} {statistics.median(rounds[other]):7.0f}, {ratio:4.2f} times")
    print("   ".join(words), flush=True)


def attack(number: int) -> str:
    """A refused password of one of a thousand addresses."""
    return f"Failed password for root from 198.51.{number % 4}.{number % 250} port {1024 + number % 60_000} ssh2"


def botnet(number: int) -> str:
    """A refused password of an address that never comes again."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return f"Failed password for invalid user u{number % 97} from {address} port {1024 + number % 60_000} ssh2"


def ordinary(number: int) -> str:
    """The lines of sshd and PAM about logins that succeed."""
    port = 1024 + number // 4 % 60_000
    return (
        f"Accepted publickey for deploy from 203.0.113.20 port {port} ssh2: ED25519 SHA256:47DEQpj8HBSa+/TImW5JCeuQ",
        "pam_unix(sshd:session): session opened for user deploy(uid=1001) by (uid=0)",
        f"Disconnected from user deploy 203.0.113.20 port {port}",
        "pam_unix(sshd:session): session closed for user deploy",
    )[number % 4]


def mixed(number: int) -> str:
    """One line in three is an attacker's."""
    return attack(number) if number % 3 == 0 else ordinary(number)


MIXES = {"a thousand attackers": attack, "a botnet, one try each": botnet, "logins": ordinary, "mixed": mixed}


def write(path: Path, message: Messages, count: int) -> None:
    """Write a log of so many lines, a hundred a second."""
    begin = datetime.now(UTC).timestamp() - count / 100
    with path.open("w") as log:
        for number in range(count):
            stamp = datetime.fromtimestamp(begin + number / 100, UTC).isoformat(timespec="microseconds")
            log.write(f"{stamp} srv sshd[{1000 + number % 30_000}]: {message(number)}\n")


def lines_a_second(path: Path, folder: Path, count: int) -> float:
    """Read a log as the guard does, through its database, and return lines for each second of CPU."""
    folder.mkdir()
    database = Database.open(folder / "guard.db")
    source = FileSource(path, NOWHERE.to_json(), interval=0.0, now=0.0, wall=time.time)
    pipeline = Pipeline(
        sources=[source],
        database=database,
        outbox=Outbox(database, 100_000, 1 << 30),
        respond=lambda _verdict, _past: None,
        clock=Clock(time.time, lambda: 0.0),
    )
    begin = cpu()
    while pipeline.events_total < count:
        pipeline.tick(0.0)
    spent = cpu() - begin
    pipeline.close()
    database.close()
    return count / spent


def cpu() -> float:
    """Seconds of CPU of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
