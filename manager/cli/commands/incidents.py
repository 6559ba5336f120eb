"""`panguard manager incidents`: what several agents share, and what people decide on it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from manager.cli.support.completion import incidents, waiting_incidents
from manager.cli.support.connection import talks_to_manager
from manager.cli.support.durations import ago, moment
from manager.cli.support.options import IndicatorWord, Output, OutputOption, ResponseWord

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Incidents: what several agents share.", no_args_is_help=True)

COLUMNS = ("incident", "kind", "value", "organization", "agents", "opened", "last seen", "state", "response", "reason")
_PERCENTS = ("50", "95", "100")

IncidentId = Annotated[str, typer.Argument(help="the incident's id, inc-…", autocompletion=incidents)]


@app.command("list")
@talks_to_manager
def list_incidents(
    client: "ManagerClient",
    *,
    is_open: Annotated[bool | None, typer.Option("--open/--closed", help="only open ones, or only closed ones")] = None,
    kind: Annotated[IndicatorWord | None, typer.Option(help="only by what is shared")] = None,
    organization: Annotated[str | None, typer.Option(help="only this organization's")] = None,
    response: Annotated[ResponseWord | None, typer.Option(help="only what was answered in this way")] = None,
    since: Annotated[str | None, typer.Option(help="opened since: 15m, 24h, 7d, or a time in ISO 8601")] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List incidents, the last opened first."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    now = datetime.now(UTC)
    found = client.records(
        "/api/incidents",
        most=limit,
        open=None if is_open is None else str(is_open).lower(),
        kind=kind,
        org_id=organization,
        response=response,
        since=None if since is None else moment(since, now),
    )
    if output is Output.JSON:
        print_json(found)
    else:
        print_table(COLUMNS, [row_of(incident, now) for incident in found])


@app.command("show")
@talks_to_manager
def show_incident(client: "ManagerClient", incident_id: IncidentId, output: OutputOption = Output.TABLE) -> None:
    """Show an incident with its agents, what is in force for it, and how fast that was."""
    from manager.cli.support.printing import cell, print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.get(_path(incident_id))
    if output is Output.JSON:
        print_json(found)
        return
    members, entries, immunity = found.pop("members"), found.pop("entries"), found.pop("timeToImmunity")
    hidden = {"id", "agentIds", "entriesComplete"}
    rows = [(name, cell(found[name])) for name in found if name not in hidden]
    rows += [(f"applied by {percent} %", cell(_seconds(immunity[percent]))) for percent in _PERCENTS]
    print_table(("", found["id"]), rows)
    print_table(
        ("agent id", "hostname", "reported in time"),
        [(each["agentId"], each["hostname"], "yes" if each["actionable"] else "no") for each in members],
    )
    if entries:
        columns = ("block", "kind", "value", "scope", "for", "expires")
        print_table(
            columns,
            [[each[name] for name in ("id", "kind", "value", "scope", "target", "expiresAt")] for each in entries],
        )


@app.command("undo")
@talks_to_manager
def undo_incident(client: "ManagerClient", incident_id: IncidentId, output: OutputOption = Output.TABLE) -> None:
    """Take an incident's response away everywhere, and keep the incident from firing again."""
    _decided(client, incident_id, "undo", output)


@app.command("approve")
@talks_to_manager
def approve_incident(
    client: "ManagerClient",
    incident_id: Annotated[str, typer.Argument(help="the incident's id, inc-…", autocompletion=waiting_incidents)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Let an incident respond that waits for approval."""
    _decided(client, incident_id, "approve", output)


def row_of(incident: "Record", now: datetime) -> tuple[object, ...]:
    """Return an incident's row below `COLUMNS`."""
    return (
        incident["id"],
        incident["kind"],
        incident["value"],
        incident["organizationId"],
        incident["agentCount"],
        ago(incident["openedAt"], now),
        ago(incident["lastSeenAt"], now),
        _state(incident),
        incident["response"],
        incident["responseReason"],
    )


def _state(incident: "Record") -> str:
    if incident["mergedInto"] is not None:
        return f"merged into {incident['mergedInto']}"
    flags = [name for name in ("late", "chronic") if incident[name]]
    return " ".join(["open" if incident["closedAt"] is None else "closed", *flags])


def _decided(client: "ManagerClient", incident_id: str, decision: str, output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    now = client.answer("POST", f"{_path(incident_id)}/{decision}")["data"]
    if output is Output.JSON:
        print_json(now)
    else:
        print_lines(f"{now['id']} ({now['kind']} {now['value']}): {now['response']}, {now['responseReason']}")


def _path(incident_id: str) -> str:
    return f"/api/incidents/{quote(incident_id, safe='')}"


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f} s"
