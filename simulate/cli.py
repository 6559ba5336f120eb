"""The command `panguard simulate`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from schemas.durations import parse_seconds

if TYPE_CHECKING:
    from simulate.fleet import Progress, Show
    from simulate.plan import Plan
    from simulate.result import Result

_FAILED, _UNUSABLE = 1, 2
_LINE_EVERY = 5.0


def simulate(
    *,
    manager: Annotated[
        str | None,
        typer.Option(
            help="The agents' door: the broker, mqtt://host:port or mqtts://host:port, or the manager itself,"
            " http://host:port or https://host:port [default: MANAGER_URL].",
            show_default=False,
        ),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="Connect the agents over HTTP to MANAGER_URL and ignore --manager.")
    ] = False,
    agents: Annotated[int, typer.Option(help="Number of simulated agents.")] = 10,
    threats: Annotated[int, typer.Option(help="Number of reports of all agents.")] = 100,
    rate: Annotated[float, typer.Option(help="Reports per second of all agents.")] = 10.0,
    shared_attackers: Annotated[
        float, typer.Option(help="Share of the reports, 0 to 1, whose source address several agents report.")
    ] = 0.2,
    unvouched: Annotated[
        float, typer.Option(help="Share of the reports, 0 to 1, whose source address is not vouched.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of hostnames, attackers, severities, times and planted faults.")] = 1,
    heartbeats: Annotated[bool, typer.Option("--heartbeats", help="Send heartbeats every 30 s.")] = False,
    connections: Annotated[
        int | None,
        typer.Option(
            help="Number of HTTP connections that the agents share [default: one per agent]. Over MQTT each agent has"
            " its own connection, because it has its own login and last will.",
            show_default=False,
        ),
    ] = None,
    cuts: Annotated[
        int, typer.Option(help="Number of connections to cut without a sign-off while reports are sent.")
    ] = 0,
    repeats: Annotated[float, typer.Option(help="Share of the reports, 0 to 1, that are sent twice.")] = 0.0,
    late_after: Annotated[
        float,
        typer.Option(
            parser=parse_seconds,
            metavar="DURATION",
            help="Time from a report to its receipt above which the report is late: 90s, 15m.",
        ),
    ] = 60.0,
    patience: Annotated[
        float,
        typer.Option(
            parser=parse_seconds,
            metavar="DURATION",
            help="Time without progress after which the simulation stops waiting: 90s, 15m.",
        ),
    ] = 120.0,
    state: Annotated[
        Path | None,
        typer.Option(
            help="A directory with the agents' identities: the next run with the same seed connects them again"
            " instead of registering them."
        ),
    ] = None,
    enroll_token_file: Annotated[
        Path | None, typer.Option(help="A file with the enrollment token [default: PANGUARD_ENROLL_TOKEN].")
    ] = None,
    auth_token_file: Annotated[
        Path | None, typer.Option(help="A file with the admin token [default: MANAGER_AUTH_TOKEN].")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(envvar="PANGUARD_CA_FILE", help="Trusted certificates, PEM [default: the system's].")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow connections without TLS to other machines.")
    ] = False,
    output: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="Output format of the result.")
    ] = "table",
) -> None:
    """Connect many simulated agents to a manager, report threats, and check id by id that each is stored once.

    It connects to two addresses and no other: the door given by --manager, and the manager's HTTP address in
    MANAGER_URL, where the reports are checked with the admin token. Attackers have addresses that are reserved for
    tests and documentation (198.18.0.0/15, 2001:db8::/32); nothing is sent to them. The agents register in the fleet,
    and stay there as offline; `panguard manager agents remove` removes them.

    Exits 0 if all reports match, 1 if a report was lost, doubled, altered or refused, 2 if nothing could be simulated.
    """
    from simulate.errors import SimulationError  # noqa: PLC0415 -- a help text needs none of this
    from simulate.plan import Plan  # noqa: PLC0415

    try:
        admin = _admin_url(manager)
        plan = Plan(
            manager=admin if http or manager is None else manager,
            admin=admin,
            enroll_token=_secret(enroll_token_file, "PANGUARD_ENROLL_TOKEN", "enrollment token", "--enroll-token-file"),
            auth_token=_secret(auth_token_file, "MANAGER_AUTH_TOKEN", "admin token", "--auth-token-file"),
            agents=agents,
            threats=threats,
            rate=rate,
            shared_attackers=shared_attackers,
            unvouched=unvouched,
            seed=seed,
            heartbeats=heartbeats,
            connections=connections,
            cuts=cuts,
            repeats=repeats,
            late_after=late_after,
            patience=patience,
            state=state,
            ca_file=ca_file,
            insecure=insecure,
        )
        result = _run(plan)
    except SimulationError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(_UNUSABLE) from error
    typer.echo(json.dumps(result.members()) if output == "json" else _as_text(result))
    raise typer.Exit(0 if result.is_even else _FAILED)


def _admin_url(manager: str | None) -> str:
    """Return the manager's HTTP address: MANAGER_URL, or `--manager` if that is an HTTP address.

    Raises:
        PlanError: neither is set to an HTTP address.
    """
    from simulate.errors import PlanError  # noqa: PLC0415 -- a help text needs none of this

    named = os.environ.get("MANAGER_URL") or (manager if manager and manager.startswith("http") else None)
    if named is None:
        raise PlanError("the reports are checked at the manager's HTTP address: set MANAGER_URL to http://host:port")
    return named


def _secret(file: Path | None, variable: str, what: str, option: str) -> str:
    """Return a token from its file, or from the environment.

    Raises:
        PlanError: neither is set.
    """
    from simulate.errors import PlanError  # noqa: PLC0415 -- a help text needs none of this

    if file is None:
        text = os.environ.get(variable, "").strip()
    else:
        try:
            text = file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise PlanError(f"{file} cannot be read: name the file with the {what} by {option}") from error
    if not text:
        raise PlanError(f"there is no {what}: set {variable}, or name a file by {option}")
    return text


def _run(plan: "Plan") -> "Result":
    """Run a plan; the first Ctrl-C ends its schedule, the second stops the simulation."""
    from simulate.simulation import Simulation  # noqa: PLC0415 -- a help text needs none of this

    addresses = " and ".join(dict.fromkeys([str(plan.door), str(plan.admin_address)]))
    typer.echo(f"connecting {plan.agents} simulated agents, seed {plan.seed}; to {addresses} and no other", err=True)
    with _progress() as show:
        simulation = Simulation(plan, show)
        simulation.start()
        try:
            return simulation.result()
        except KeyboardInterrupt:
            simulation.stop()
            return simulation.result()


@contextmanager
def _progress() -> Iterator["Show"]:
    """Show progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""
    import time  # noqa: PLC0415 -- a help text needs none of this

    if sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, console=Console(file=sys.stderr), transient=True) as bars:
            task = bars.add_task("connecting", total=None)
            yield lambda state: bars.update(task, description=_line(state), completed=state.done, total=state.total)
        return
    shown = 0.0

    def show(state: "Progress") -> None:
        nonlocal shown
        if time.monotonic() - shown >= _LINE_EVERY:
            shown = time.monotonic()
            sys.stderr.write(f"{_line(state)}: {state.done} of {state.total}\n")

    yield show


def _line(state: "Progress") -> str:
    return f"{state.phase}, {state.connected} connected, {state.waiting} reports wait"


def _as_text(result: "Result") -> str:
    members = result.members()
    examples = members.pop("examples")
    members["addresses"] = " ".join(result.addresses)
    lines = [f"{name:18} {value}" for name, value in members.items()]
    return "\n".join(lines + [f"{kind:18} {' '.join(ids)}" for kind, ids in examples.items()])
