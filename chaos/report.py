"""Writes `docs/reliability.md`: for each fault how often it was tried, and what became of the reports."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from chaos.fault import Fault
from chaos.run import Load, Row

_COLUMNS = ("fault", "door", "times", "sent", "stored", "lost", "doubled", "longest pause", "failed")


def write(path: Path, rows: Sequence[Row], faults: Sequence[Fault], seed: int, load: Load) -> None:
    """Write the page of one run."""
    kills = sum(row.strikes for row in rows if row.group in {"kill", "pause"})
    total = sum(row.strikes for row in rows)
    head = f"""# Reliability

Written by `make chaos`. A simulated fleet ({load.agents} agents, {load.rate:g} reports a second) reports all the
time; faults strike at seeded moments; at the end each report is looked up by its id, with its content. *Lost* is
neither stored nor refused; *doubled* is stored more than once; each incident must be opened once.

{total} faults, {kills} of them kills or stops. Seed {seed}; `make chaos CHAOS="--seed {seed}"` repeats its choices.
{os.cpu_count()} cores, {_memory()} GiB, Python {platform.python_version()}.

| {" | ".join(_COLUMNS)} |
|{"---|" * len(_COLUMNS)}
"""
    body = "".join(_line(row) for row in rows)
    limits = "".join(f"- {fault.name}: {fault.limits}.\n" for fault in faults if fault.limits)
    before = sum(row.before_copy for row in rows)
    after = (
        f"\n{before} reports of restored or damaged stores were stored after the copy, and are gone with it.\n"
        if before
        else ""
    )
    path.write_text(f"{head}{body}{after}\n## Limits\n\n{limits}")


def _line(row: Row) -> str:
    failed = "; ".join(row.failed).replace("|", "/").replace("\n", " ")[:200] or "-"
    cells = (
        row.fault,
        row.door,
        row.strikes,
        row.sent,
        row.stored,
        row.lost,
        row.doubled,
        f"{row.longest_pause:.1f} s",
    )
    return f"| {' | '.join(map(str, cells))} | {failed} |\n"


def _memory() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
