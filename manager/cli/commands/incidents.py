"""`panguard manager incidents`: list, show, undo and approve incidents."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.commands.incident_details import (
    IncidentId,
    path_of,
    response_word,
    show_incident,
    state_text,
    vouched_text,
    work_text,
)
from manager.cli.support.completion import waiting_incidents
from manager.cli.support.durations import ago, parse_time
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import IndicatorWord, Output, OutputOption, ResponseWord

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Incidents: indicators shared by several agents.", no_args_is_help=True)

_COLUMNS = (
    "incident", "value", "response", "opened", "state", "work", "vouched", "organization", "last seen", "kind",
    "reason",
)  # fmt: skip
Note = Annotated[str | None, typer.Option(help="a note for colleagues, at most 1,000 characters")]


@app.command("list")
@with_manager_client
def list_incidents(
    client: "ManagerClient",
    *,
    is_open: Annotated[bool | None, typer.Option("--open/--closed", help="only open or only closed incidents")] = None,
    value: Annotated[str | None, typer.Option(help="only of this address, file hash or technique")] = None,
    kind: Annotated[IndicatorWord | None, typer.Option(help="only this kind of indicator")] = None,
    organization: Annotated[str | None, typer.Option(help="only this organization")] = None,
    response: Annotated[ResponseWord | None, typer.Option(help="only incidents with this response state")] = None,
    since: Annotated[str | None, typer.Option(help="opened since: 15m, 24h, 7d, or a time in ISO 8601")] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List incidents, the last opened first."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    now = datetime.now(UTC)
    found = client.first_records(
        "/api/incidents",
        limit,
        open=None if is_open is None else str(is_open).lower(),
        value=value,
        kind=kind,
        org_id=organization,
        response=response,
        since=None if since is None else parse_time(since, now),
    )
    if output is Output.JSON:
        print_json(found)
    else:
        print_fitted(_COLUMNS, [_row(incident, now) for incident in found], kept=2)


app.command("show")(show_incident)


@app.command("acknowledge")
@with_manager_client
def acknowledge(
    client: "ManagerClient", incident_id: IncidentId, note: Note = None, output: OutputOption = Output.TABLE
) -> None:
    """Say that you look into an incident; colleagues see it in the list."""
    _work_on(client, incident_id, "acknowledge", note, output)


@app.command("note")
@with_manager_client
def add_note(
    client: "ManagerClient",
    incident_id: IncidentId,
    text: Annotated[str, typer.Argument(help="the note, at most 1,000 characters")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Add a note to an incident's timeline."""
    _work_on(client, incident_id, "note", text, output)


@app.command("close")
@with_manager_client
def close(
    client: "ManagerClient", incident_id: IncidentId, note: Note = None, output: OutputOption = Output.TABLE
) -> None:
    """Say that the work on an incident is done: its blocks stay, and further reports reopen it."""
    _work_on(client, incident_id, "close", note, output)


@app.command("undo")
@with_manager_client
def undo_incident(client: "ManagerClient", incident_id: IncidentId, output: OutputOption = Output.TABLE) -> None:
    """Withdraw an incident's response everywhere, and prevent further responses of the incident.

    Guards with a fence that are online over MQTT also end blocks of the address that they decided by themselves, and
    block it for five minutes not again; not where a person or a policy document blocks it, nor for a private address.
    """
    _decide(client, incident_id, "undo", output)


@app.command("approve")
@with_manager_client
def approve_incident(
    client: "ManagerClient",
    incident_id: Annotated[str, typer.Argument(help="the incident's id, inc-…", autocompletion=waiting_incidents)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Approve the response of an incident that waits for it."""
    _decide(client, incident_id, "approve", output)


def _row(incident: "Record", now: datetime) -> tuple[object, ...]:
    return (
        incident["id"],
        incident["value"],
        response_word(incident),
        ago(incident["openedAt"], now),
        state_text(incident),
        work_text(incident),
        vouched_text(incident),
        incident["organizationId"],
        ago(incident["lastSeenAt"], now),
        incident["kind"],
        incident["responseReason"],
    )


def _work_on(client: "ManagerClient", incident_id: str, action: str, note: str | None, output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    body = None if note is None else {"note": note}
    now = client.answer("POST", f"{path_of(incident_id)}/{action}", body=body)["data"]
    if output is Output.JSON:
        print_json(now)
    else:
        print_lines(f"{now['id']} ({now['kind']} {now['value']}): {work_text(now)}")


def _decide(client: "ManagerClient", incident_id: str, decision: str, output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    now = client.answer("POST", f"{path_of(incident_id)}/{decision}")["data"]
    if output is Output.JSON:
        print_json(now)
    else:
        print_lines(f"{now['id']} ({now['kind']} {now['value']}): {response_word(now)}, {now['responseReason']}")
        if decision == "undo" and now["kind"] == "source_ip":
            print_lines(
                "guards with a fence end blocks of their own too, if they are online over MQTT; elsewhere:"
                f" panguard guard unblock {now['value']}"
            )
