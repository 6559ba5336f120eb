"""Measures receipts while channels deliver, hang or are gone: each report makes an event that every channel is told.

Run as ``python -m benchmarks.notifications [--quick]``. The answer to a report over HTTP is its receipt.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2

from benchmarks import interpreter
from tests.support.processes import ManagerProcess
from tests.support.receivers import closed_port, http_receiver, silent_receiver

_CHANNELS = 4
_AGENTS = 25
"""Of one agent only some events a minute are told."""

_WARM_UP = 20


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    reports = 30 if parser.parse_args(arguments).quick else 500
    interpreter.announce()
    sys.stdout.write(
        f"{_CHANNELS} channels; {reports} critical reports, one after another; ms from report to receipt\n"
    )
    sys.stdout.write(f"{'channels':12} {'p50':>8} {'p95':>8} {'p99':>8}\n")
    for name in ("none", "deliver", "hang", "are gone"):
        with tempfile.TemporaryDirectory() as directory, _channels(name) as urls:
            p50, p95, p99 = _measure(Path(directory), urls, reports)
        sys.stdout.write(f"{name:12} {p50:8.1f} {p95:8.1f} {p99:8.1f}\n")
    return 0


@contextmanager
def _channels(name: str) -> Iterator[list[str]]:
    """Yield the addresses of webhooks that answer, never answer, or are not there."""
    with ExitStack() as stack:
        ports: list[int] = []
        if name == "deliver":
            ports = [stack.enter_context(http_receiver()).port for _ in range(_CHANNELS)]
        elif name == "hang":
            ports = [stack.enter_context(silent_receiver()) for _ in range(_CHANNELS)]
        elif name == "are gone":
            ports = [closed_port() for _ in range(_CHANNELS)]
        yield [f"http://127.0.0.1:{port}/" for port in ports]


def _measure(directory: Path, urls: list[str], reports: int) -> tuple[float, float, float]:
    manager = ManagerProcess(directory / "home")
    manager.data.mkdir(mode=0o700)
    tables = [f'[notifications.hook{n}]\ntype = "webhook"\nurl = "{url}"\n' for n, url in enumerate(urls)]
    (manager.data / "manager.toml").write_text("rate_limit = 0\n" + "".join(tables))
    with manager:
        channels = [f"hook{n}" for n in range(len(urls))]
        manager.request("PUT", "/api/policies/global", {"alerting": {"channels": channels, "minimumSeverity": "low"}})
        with manager.client() as client:
            agents = [_joined(client, number) for number in range(_AGENTS)]
            times = []
            for number in range(_WARM_UP + reports):
                path, headers = agents[number % _AGENTS]
                began = time.perf_counter()
                answer = client.post(path, json=_report(number), headers=headers)
                times.append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()
    cuts = quantiles(times[_WARM_UP:], n=100)
    return cuts[49], cuts[94], cuts[98]


def _joined(client: httpx2.Client, number: int) -> tuple[str, dict[str, str]]:
    """Register an agent; return the path of its reports and its headers."""
    host = {"hostname": f"web-{number}", "os": "Debian 12", "arch": "x64", "version": "1.0"}
    joined = client.post("/api/agents/register", json=host).json()
    return f"/api/agents/{joined['agentId']}/events", {"Authorization": f"Bearer {joined['token']}"}


def _report(number: int) -> dict[str, Any]:
    details = {"sourceIp": f"203.0.113.{number % 250}"}
    return {"events": [{"id": f"e-{number}", "type": "malware", "severity": "critical", "details": details}]}


if __name__ == "__main__":
    raise SystemExit(main())
