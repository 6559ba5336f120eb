"""Measures a guard at rest: its memory, and its share of a core over a minute, beside fail2ban's server.

`python -m benchmarks.at_rest`, with `--quick` for ten seconds. The guard is connected to a manager with its embedded
broker and sends its heartbeats, with the intervals that it has by default. Each of both follows an empty log file of
its own. Their time is the same minute.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks import interpreter
from benchmarks.fail2ban import Fail2ban

SECONDS = 60.0
SETTLED = 15.0
"""Seconds after the start from which a process counts as resting."""

MOST_RSS, MOST_PSS, MOST_CPU = 64.0, 60.0, 1.0
"""Targets: MiB, MiB, percent of a core (design of the guard, section 5)."""

_MIB = 1024 * 1024


def main() -> int:
    """Measure and print the table; return 1 if the guard takes more than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten seconds")
    seconds = 10.0 if parser.parse_args().quick else SECONDS
    interpreter.announce()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        folder = Path(directory)
        processes = {"guard": stack.enter_context(guard(folder))}
        processes |= fail2ban(stack, folder)
        time.sleep(SETTLED)
        before = {name: cpu(process) for name, process in processes.items()}
        time.sleep(seconds)
        print(f"{'':16}{'RSS, MiB':>10}{'PSS, MiB':>10}{'% of a core':>14}   over {seconds:.0f} s")
        well = True
        for name, process in processes.items():
            share = (cpu(process) - before[name]) / seconds * 100
            memory = process.memory_full_info()
            print(f"{name:16}{memory.rss / _MIB:10.1f}{memory.pss / _MIB:10.1f}{share:14.2f}")
            if name == "guard":
                well = memory.rss / _MIB <= MOST_RSS and memory.pss / _MIB <= MOST_PSS and share <= MOST_CPU
    print(f"{'to reach':16}{MOST_RSS:10.0f}{MOST_PSS:10.0f}{MOST_CPU:14.0f}")
    if len(processes) == 1:
        print(
            "fail2ban is not installed here (fail2ban-server and its configuration): there is nothing beside the guard"
        )
    return 0 if well else 1


@contextlib.contextmanager
def guard(folder: Path) -> Iterator[psutil.Process]:
    """Run a manager and a guard that is connected to it; yields the guard's process."""
    panguard = Path(sys.executable).with_name("panguard")
    log = folder / "auth.log"
    log.touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PANGUARD_")}
    commands = [
        [str(panguard), "manager", "start", "--data-dir", str(folder / "manager"), "--port", "0", "--mqtt-port", "0"],
        [str(panguard), "guard", "start", "--data-dir", str(folder / "guard"), "--watch-log", str(log)],
    ]
    with ExitStack() as stack:
        ready = ""
        for command in commands:
            if ready:
                address = next(word for word in ready.split() if word.startswith("mqtt=")).removeprefix("mqtt=")
                command += ["--manager", address, "--enroll-token-file", str(folder / "manager" / "enroll.token")]
            process = stack.enter_context(
                subprocess.Popen(  # noqa: S603 -- our own command
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
                )
            )
            stack.callback(process.terminate)
            ready = "" if process.stdout is None else process.stdout.readline()
            if not ready:
                raise RuntimeError(f"{' '.join(command[:3])} did not come up")
        yield psutil.Process(process.pid)


def fail2ban(stack: ExitStack, folder: Path) -> dict[str, psutil.Process]:
    """Run fail2ban's server with an sshd jail on an empty log; nothing where it is not installed."""
    peer = Fail2ban.find()
    if peer is None:
        return {}
    home = folder / "fail2ban"
    home.mkdir()
    log = home / "auth.log"
    log.touch()
    server = stack.enter_context(peer.server(log, home))
    return {} if server is None else {"fail2ban-server": server}


def cpu(process: psutil.Process) -> float:
    """Seconds of CPU of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    raise SystemExit(main())
