"""Measures the console in a real Chromium over a fleet of 10,000 agents: first screen, list, filter, scroll.

Run as ``python -m benchmarks.console [--quick] [-o json]``. Beside each round stands a reference of the same run, a
small answer of the same server in the same browser, because other load of the machine changes both alike.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.large_store import LargeStore
from manager.data_directory import DataDirectory
from manager.storage.sealed_values import key_for
from schemas.keys import ManagerKeyring
from tests.support.browser import Browser
from tests.support.processes import ManagerProcess
from tests.support.waiting import eventually

_OBSERVE = """
    new MutationObserver((_, observer) => {
        if (!document.querySelector("[data-verdict]")) return;
        observer.disconnect();
        requestAnimationFrame(() => setTimeout(() => { window.shownAt = performance.now(); }));
    }).observe(document, {childList: true, subtree: true});
"""
_PAINTED = "const painted = (then) => requestAnimationFrame(() => setTimeout(then));"
_FILTER = (
    _PAINTED
    + """
    const input = document.querySelector("input[name=text]");
    const began = performance.now();
    input.value = arguments[0];
    input.dispatchEvent(new Event("input"));
    return new Promise((resolve) => painted(() => resolve(performance.now() - began)));
"""
)
_SCROLL = (
    _PAINTED
    + """
    const rows = document.querySelector(".rows");
    const began = performance.now();
    rows.scrollTop = arguments[0] * rows.scrollHeight;
    return new Promise((resolve) => painted(() => resolve(performance.now() - began)));
"""
)
_READ_ALL = """
    const began = performance.now(), wanted = arguments[0];
    location.hash = "#/agents";
    return new Promise((resolve) => {
        const look = () => document.querySelector("main [role=status]")?.textContent.startsWith(wanted)
            ? resolve(performance.now() - began) : setTimeout(look, 10);
        look();
    });
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure in milliseconds: the best and the middle of the rounds, and what is to be reached."""

    measure: str
    best: float
    median: float
    to_reach: str


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean little")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    figures = measure(500, 2_000, 2) if options.quick else measure(10_000, 100_000, 7)
    if options.output == "json":
        sys.stdout.write(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    else:
        Console().print(table(figures))
    return 0


def measure(agents: int, threats: int, rounds: int) -> list[Figure]:
    """Return the figures of a fleet."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        home = Path(name)
        manager = ManagerProcess(home, environment={"PANGUARD_STALE_AFTER": "3600"})
        with DataDirectory(manager.data) as directory:
            seed = key_for(directory.key_file, directory.store)
            LargeStore(directory.store, ManagerKeyring(seed).store_key, agents, threats)
        (home / "browser").mkdir()
        with manager, Browser(home / "browser") as browser:
            if manager.running is None:
                raise RuntimeError("the manager did not come up")
            _sign_in(browser, manager.http, (manager.data / "admin.token").read_text().strip())
            return _rounds(browser, manager.http, psutil.Process(manager.running.process.pid), agents, rounds)


def _rounds(browser: Browser, url: str, process: psutil.Process, agents: int, rounds: int) -> list[Figure]:
    found: dict[str, list[float]] = {}

    def note(what: str, value: float) -> None:
        found.setdefault(what, []).append(value)

    for each in range(rounds):
        browser.open(f"{url}/health/live")
        note("reference: a small answer", float(browser.run("return performance.now()")))
        before = _cpu(process)
        browser.open(f"{url}/#/now")
        note("first screen", float(eventually(lambda: browser.run("return window.shownAt"), what="the first screen")))
        note("first screen, manager's CPU", (_cpu(process) - before) * 1000)
        note("first screen, requests", len([one for one in browser.requests() if "/api/" in one]))
        before = _cpu(process)
        note("all agents read", float(browser.run(_READ_ALL, f"{agents} of {agents}")))
        note("all agents read, manager's CPU", (_cpu(process) - before) * 1000)
        for text in ("srv-9", "srv-99", f"nobody-{each}", ""):
            note("filter", float(browser.run(_FILTER, text)))
        for place in (0.2, 0.5, 0.9, 0.1):
            note("scroll", float(browser.run(_SCROLL, place)))
    to_reach = {"first screen": "1000", "filter": "100", "scroll": "100"}
    return [
        Figure(what, round(min(values), 1), round(statistics.median(values), 1), to_reach.get(what, ""))
        for what, values in found.items()
    ]


def _sign_in(browser: Browser, url: str, token: str) -> None:
    browser.before_each_page(_OBSERVE)
    browser.open(f"{url}/")
    eventually(lambda: browser.run("return !!document.getElementById('token')"), what="the sign-in")
    script = "const i = document.getElementById('token'); i.value = arguments[0]; i.form.requestSubmit()"
    browser.run(script, token)
    eventually(lambda: browser.run("return !!document.querySelector('[data-verdict]')"), what="a verdict")


def _cpu(process: psutil.Process) -> float:
    """Return the CPU seconds of the manager and its broker."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def table(figures: list[Figure]) -> Table:
    """Return the table of a run."""
    shown = Table("measure", "best, ms", "median, ms", "to reach, ms")
    for figure in figures:
        shown.add_row(*(str(cell) for cell in astuple(figure)))
    return shown


if __name__ == "__main__":
    sys.exit(main())
