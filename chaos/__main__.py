"""`python -m chaos`: strikes a manager with faults under load, and checks the simulator's ledger."""

import json
import secrets
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NoReturn

import typer

from chaos.fault import every_fault
from chaos.report import read, results, write
from chaos.run import Row, run_fault, share_out
from chaos.scale import firewall
from chaos.scale.campaign import run_campaign
from chaos.scale.faults import ScaleFault, plan
from chaos.scale.summary import read as read_lines
from chaos.scale.summary import summed, table
from chaos.site import DOORS, Load

_STOPPED = 143
REPORT = Path(__file__).parents[1] / "docs" / "reliability.md"


def main(
    *,
    profile: Annotated[
        Literal["one", "scale"], typer.Option(help="One manager, or a group of processes on PostgreSQL and Mosquitto.")
    ] = "one",
    faults: Annotated[int, typer.Option(help="Strikes of the profile scale.")] = 1000,
    kills: Annotated[int, typer.Option(help="Strikes of the profile one, over all faults and doors.")] = 1000,
    minutes: Annotated[float, typer.Option(help="No strike is begun after so many minutes.")] = 60.0,
    only: Annotated[str | None, typer.Option(help="Only faults whose group or name contains this.")] = None,
    door: Annotated[str | None, typer.Option(help=f"Only this door: {', '.join(DOORS)}.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice [default: a new one].")] = None,
    agents: Annotated[int, typer.Option(help="Simulated agents at each site.")] = 20,
    rate: Annotated[float, typer.Option(help="Reports a second at each site.")] = 60.0,
    report: Annotated[bool, typer.Option("--report", help="Write docs/reliability.md.")] = False,
    rows: Annotated[
        list[Path] | None,
        typer.Option(
            "--rows",
            help="Run nothing; take what earlier runs printed with -o json, or the --lines of the profile scale.",
        ),
    ] = None,
    lines: Annotated[
        Path | None,
        typer.Option(help="Append each verdict of the profile scale to this file, as it is given (JSON)."),
    ] = None,
    note: Annotated[str, typer.Option(help="A sentence for the page, for example on the load of the machine.")] = "",
    output: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="How to print the results.")
    ] = "table",
) -> None:
    """Strike managers with faults while a simulated fleet reports, and check that nothing is lost or doubled.

    Exits 0 if all that must hold held, 1 if something did not, 2 if there is nothing to run.
    """
    if rows and profile == "scale":
        _sum_up(read_lines(rows))
    if rows:
        _show_rows([read(path) for path in rows], report=report, note=note)
    if profile == "scale":
        firewall.enter_namespace()
    seed = secrets.randbelow(2**31) if seed is None else seed
    if profile == "scale":
        _strike_group(plan(faults, Random(seed), only), seed, Load(agents, rate), minutes, lines)
    chosen = [fault for fault in every_fault() if only is None or only in fault.group or only in fault.name]
    shares = [share for share in share_out(chosen, kills) if door in {None, share[1]}]
    if not shares:
        typer.echo("no fault of that name or group at that door", err=True)
        raise typer.Exit(2)
    typer.echo(f'seed {seed}: again with make chaos CHAOS="--seed {seed} --kills {kills}"', err=True)
    load, deadline = Load(agents, rate), time.monotonic() + minutes * 60
    done: list[Row] = []
    for number, (fault, at, strikes) in enumerate(shares):
        if time.monotonic() > deadline:
            break
        done.append(run_fault(fault, at, strikes, seed=seed + number, load=load, deadline=deadline, show=_show))
        _print_row(done[-1])
    if output == "json":
        typer.echo(json.dumps(results(seed, done)))
    if report:
        write(REPORT, [results(seed, done)], every_fault(), note)
    raise typer.Exit(1 if any(_is_surprise(row) for row in done) else 0)


def _strike_group(faults: list[ScaleFault], seed: int, load: Load, minutes: float, lines: Path | None) -> NoReturn:
    if not faults:
        typer.echo("no fault of that name or group", err=True)
        raise typer.Exit(2)
    if firewall.is_inside():
        firewall.open_loopback()
    typer.echo(f"seed {seed}: again with --profile scale --seed {seed} --faults {len(faults)}", err=True)
    told: list[dict[str, Any]] = []
    stops: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if stops:  # the group's processes are ended, too
            sys.exit(_STOPPED)
        stops.append(number)

    signal.signal(signal.SIGTERM, stop)

    def tell(members: dict[str, Any]) -> None:
        told.append(members)
        if lines is not None:
            with lines.open("a") as file:
                file.write(f"{json.dumps(members)}\n")

    run_campaign(
        faults,
        seed=seed,
        load=load,
        seconds=minutes * 60,
        show=lambda text: typer.echo(text, err=True),
        tell=tell,
        stopping=lambda: bool(stops),
    )
    typer.echo(json.dumps(told[-1], indent=2))
    _sum_up(told)


def _sum_up(lines: list[dict[str, Any]]) -> NoReturn:
    found = summed(lines)
    typer.echo(table(found))
    raise typer.Exit(0 if found.holds else 1)


def _show_rows(runs: list[dict[str, Any]], *, report: bool, note: str) -> NoReturn:
    kept = [Row.of(members) for run in runs for members in run.get("rows", ())]
    for row in kept:
        _print_row(row)
    if report:
        write(REPORT, runs, every_fault(), note)
    raise typer.Exit(1 if any(_is_surprise(row) for row in kept) else 0)


def _is_surprise(row: Row) -> bool:
    """Return whether a row fails that must hold, or holds though it is known to fail."""
    return row.holds == (row.expected is not None)


def _show(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text[:118]}")
        sys.stderr.flush()


def _print_row(row: Row) -> None:
    verdict = "holds" if row.holds else f"FAILS {'; '.join(row.failed)}"
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    sys.stderr.write(
        f"{clear}{row.fault} at {row.door}: {row.strikes} times, {row.kills} kills in {row.seconds:g} s,"
        f" sent {row.sent}, stored {row.stored}, lost {row.lost}, doubled {row.doubled},"
        f" incidents {row.incidents} ({row.incidents_doubled} doubled),"
        f" longest pause {row.longest_pause:g} s: {verdict}\n"
    )


if __name__ == "__main__":
    typer.run(main)
