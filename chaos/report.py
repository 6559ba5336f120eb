"""Writes `docs/reliability.md`: for each fault how often it was tried, and what became of the reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

from chaos.fault import Fault
from chaos.growth import Growth
from chaos.run import Row
from chaos.site import machine

_WIDTH = 120
_COLUMNS = (
    "fault", "door", "times", "kills", "sent", "stored", "lost", "doubled", "incidents (doubled)", "longest pause",
)  # fmt: skip
_COUNTS = (
    "strikes", "kills", "sent", "stored", "lost", "doubled", "altered", "refused", "before_copy", "incidents",
    "incidents_doubled", "seconds",
)  # fmt: skip
_SEVERAL_MANAGERS = "\n## Several managers\n"
_DOOR_NAMES = {"embedded": "the embedded broker", "mosquitto": "Mosquitto", "http": "the HTTP door"}
_LIMITS = (
    "The disk keeps what was synced: power cuts are not covered.",
    "Stops last seconds, not minutes.",
    "A pause runs from one receipt to the next while a report waits; three of ten strikes wait for no recovery.",
)


def results(seed: int, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the results of a run as JSON values, with the machine that it ran on."""
    return {"seed": seed, "machine": machine(), "rows": [row.members() for row in rows]}


def write(path: Path, runs: Sequence[Mapping[str, Any]], faults: Sequence[Fault], note: str = "") -> None:
    """Write the page of one run or of several; rows of one fault at one door are added up.

    Args:
        path: the page.
        runs: the results of the runs, from `results` or `python -m chaos.growth`.
        faults: all faults, for their limits.
        note: a sentence about the circumstances of the runs.
    """
    rows = _added_up([Row.of(members) for run in runs for members in run.get("rows", ())])
    growths = [Growth.of(run["growth"]) for run in runs if "growth" in run]
    machines = "; ".join(sorted({str(run["machine"]) for run in runs}))
    seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in runs if "seed" in run}))
    kills, strikes = sum(row.kills for row in rows), sum(row.strikes for row in rows)
    lost, doubled = sum(row.lost for row in rows), sum(row.doubled for row in rows)
    introduction = _wrapped(
        f'Written by `make chaos CHAOS="--report"`. A simulated fleet reports all the time ({_fleets(rows)}). Faults'
        " strike at seeded moments; at the end each report is looked up by its id, with its content. *Lost* is neither"
        " stored nor refused; *doubled* is stored more than once; *incidents doubled* are incidents of one address that"
        " were opened twice."
    )
    circumstances = _wrapped(
        f"{strikes:,} faults with {kills:,} kills: {lost} lost, {doubled} doubled. Seed {seeds}; {machines}. {note}"
    )
    head = f"""# Reliability

{introduction}

{circumstances}

| {" | ".join(_COLUMNS)} |
|{"---|" * len(_COLUMNS)}
"""
    body = "".join(map(_line, rows))
    after = f"{_failures(rows)}{_before_copy(rows)}{''.join(map(_growth, growths))}"
    path.write_text(f"{head}{body}{after}\n## Limits\n\n{_limits(faults, rows)}{_several_managers(path)}")


def _several_managers(path: Path) -> str:
    """Return the section of the page that stands: it is written by hand, of campaigns of the profile `scale`."""
    before, heading, section = (path.read_text() if path.exists() else "").partition(_SEVERAL_MANAGERS)
    return heading + section if before else ""


def _wrapped(text: str, start: str = "") -> str:
    return fill(
        text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """Return the results that a run with `-o json` printed to a file."""
    return dict(json.loads(path.read_text()))


def _added_up(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each fault and door, in the order of groups and names."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        place = (row.group, row.fault, row.door)
        found[place] = replace(row) if place not in found else _sum(found[place], row)
    return [found[place] for place in sorted(found)]


def _sum(first: Row, second: Row) -> Row:
    counts = {name: getattr(first, name) + getattr(second, name) for name in _COUNTS}
    pause = max(first.longest_pause, second.longest_pause)
    return replace(first, **counts, longest_pause=pause, failed=[*first.failed, *second.failed])


def _line(row: Row) -> str:
    cells = (
        row.fault,
        row.door,
        row.strikes,
        row.kills,
        f"{row.sent:,}",
        f"{row.stored:,}",
        row.lost,
        row.doubled,
        f"{row.incidents:,} ({row.incidents_doubled})",
        f"{row.longest_pause:.1f} s",
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def _fleets(rows: Sequence[Row]) -> str:
    loads = sorted({(row.agents, row.rate) for row in rows})
    return "; ".join(f"{agents:,} agents, {rate:g} reports a second" for agents, rate in loads)


def _failures(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row.failed]
    lines = (f"- {row.fault}, {row.door}: {' '.join('; '.join(row.failed).split())[:200]}\n" for row in failed)
    return f"\n## What failed\n\n{''.join(lines)}" if failed else ""


def _before_copy(rows: Sequence[Row]) -> str:
    gone = sum(row.before_copy for row in rows)
    return (
        f"\n{gone:,} reports were stored after a copy that was put back, and are gone with the store.\n" if gone else ""
    )


def _receipts(growth: Growth) -> float:
    """Return the receipts per second while the sizes were sampled."""
    first, last = growth.samples[0], growth.samples[-1]
    return (last.receipts - first.receipts) / (last.seconds - first.seconds)


def _growth(growth: Growth) -> str:
    seconds, readers = growth.samples[-1].seconds, growth.readers or "No"
    text = _wrapped(
        f"{growth.agents:,} agents at {_DOOR_NAMES[growth.door]} for {seconds:.0f} s, {growth.rate:,.0f} reports and"
        f" {growth.heartbeats:,.0f} heartbeats a second; {_receipts(growth):,.0f} reports a second had their receipt."
        f" Threats are kept for {growth.retention:.0f} s, ids twice as long. {readers} readers ask the manager"
        " without a pause, and a real guard sees an attacker each second. Largest size in each third of the time, MiB:"
    )
    head = f"\n## Growth\n\n{text}\n\n| file or memory | first | second | last |\n|---|---|---|---|\n"
    return head + "".join(
        f"| {name} | {' | '.join(f'{growth.largest(name, third) / 2**20:.2f}' for third in range(3))} |\n"
        for name in growth.samples[-1].sizes
    )


def _limits(faults: Sequence[Fault], rows: Sequence[Row]) -> str:
    tried = {row.fault for row in rows}
    own = [f"{fault.name}: {fault.limits}." for fault in faults if fault.limits and fault.name in tried]
    return "".join(f"{_wrapped(each, '- ')}\n" for each in (*_LIMITS, *own))
