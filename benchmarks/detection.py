"""Measures detection: log lines a second from the file to committed reports, and fail2ban's filter beside it.

`python -m benchmarks.detection`, with `--quick` on a tenth of the lines. CPU time of this process, the best of three.
fail2ban is measured with ``fail2ban-regex`` and its sshd filter where that is in PATH.
"""

import argparse
import contextlib
import os
import resource
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from agent.clock import Clock
from agent.pipeline import Pipeline
from agent.report.outbox import Outbox
from agent.sources.file_source import FileSource
from agent.sources.log_file import NOWHERE
from agent.storage.database import Database

LINES = 100_000
REPEATS = 3
FASTEST_FAIL2BAN = 2.5
"""Target: times fail2ban's lines a second (design of the guard, section 5)."""


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the lines")
    count = LINES // 10 if parser.parse_args().quick else LINES
    print(f"{count} lines; CPU time, the best of {REPEATS} runs")
    with tempfile.TemporaryDirectory() as folder:
        for name, messages in MIXES.items():
            path = Path(folder) / "auth.log"
            write(path, messages, count)
            with Path(os.devnull).open("w") as silence, contextlib.redirect_stderr(silence):
                ours = max(lines_a_second(path, Path(folder) / f"{name}{run}", count) for run in range(REPEATS))
            theirs = fail2ban(path, count)
            beside = f"fail2ban {theirs:8.0f} lines/s, {ours / theirs:4.1f} times" if theirs else "no fail2ban here"
            print(f"{name:28} {ours:8.0f} lines/s   {beside}")
    if shutil.which("fail2ban-regex"):
        print(f"to reach: at least {FASTEST_FAIL2BAN} times fail2ban")


def attack(number: int) -> str:
    """A refused password of one of a thousand addresses."""
    return f"Failed password for root from 198.51.{number % 4}.{number % 250} port {1024 + number % 60_000} ssh2"


def botnet(number: int) -> str:
    """A refused password of an address that never comes again."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return f"Failed password for invalid user u{number % 97} from {address} port {1024 + number % 60_000} ssh2"


def ordinary(number: int) -> str:
    """What sshd and PAM write about logins that succeed."""
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


def write(path: Path, message: object, count: int) -> None:
    """Write a log of so many lines, a hundred a second."""
    begin = datetime.now(UTC).timestamp() - count / 100
    with path.open("w") as log:
        for number in range(count):
            stamp = datetime.fromtimestamp(begin + number / 100, UTC).isoformat(timespec="microseconds")
            log.write(f"{stamp} srv sshd[{1000 + number % 30_000}]: {message(number)}\n")  # type: ignore[operator]


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


def fail2ban(path: Path, count: int) -> float | None:
    """Lines for each second of CPU of fail2ban's sshd filter; None where it is not installed."""
    program = shutil.which("fail2ban-regex")
    if program is None:
        return None
    spent = []
    for lines in (path, Path("/dev/null")):  # the second one is its start
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([program, str(lines), "sshd"], check=False, capture_output=True)  # noqa: S603 -- fail2ban itself
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return count / (spent[0] - spent[1])


if __name__ == "__main__":
    main()
