"""`panguard manager threats`: reported threats."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from manager.cli.support.agent_lookup import find_agent_id
from manager.cli.support.completion import agents as complete_agents
from manager.cli.support.durations import ago, parse_time
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption, SeverityWord

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Threats reported by the fleet.", no_args_is_help=True)

ThreatId = Annotated[str, typer.Argument(help="the threat's id, as `threats list -o json` shows it")]
OfAgent = Annotated[
    str | None, typer.Option("--agent", help="of this agent, by id or hostname", autocompletion=complete_agents)
]

_COLUMNS = (
    "threat", "source", "severity", "type", "when", "hostname", "response", "technique", "confidence", "evidence",
)  # fmt: skip
_EVIDENCE_SHOWN = 120
_THREAT_MEMBERS = (
    "type", "severity", "confidence", "technique", "ruleId", "count", "firstSeen", "lastSeen", "vouched",
)  # fmt: skip


@app.command("list")
@with_manager_client
def list_threats(
    client: "ManagerClient",
    *,
    since: Annotated[str | None, typer.Option(help="received since: 15m, 24h, 7d, or a time in ISO 8601")] = None,
    severity: Annotated[SeverityWord | None, typer.Option(help="only this severity")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="only this type")] = None,
    source: Annotated[str | None, typer.Option(help="only from this address, the newest event first")] = None,
    technique: Annotated[
        str | None, typer.Option(help="only this ATT&CK technique with its sub-techniques, the newest event first")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="only this organization")] = None,
    agent: Annotated[
        str | None, typer.Option(help="only this agent, by id or hostname", autocompletion=complete_agents)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List threats, newest first."""
    found = client.first_records(
        "/api/threats",
        limit,
        since=None if since is None else parse_time(since, datetime.now(UTC)),
        severity=severity,
        type=type_,
        source=source,
        technique=technique,
        org_id=organization,
        agentId=None if agent is None else find_agent_id(client, agent),
    )
    if output is Output.JSON:
        from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

        print_json(found)
    else:
        print_threats(found)


@app.command("show")
@with_manager_client
def show_threat(
    client: "ManagerClient",
    threat_id: ThreatId,
    *,
    agent: OfAgent = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one threat: what the agent reported, with all its evidence, and what was done."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.wrapping import print_details  # noqa: PLC0415 -- the same

    found = client.get(f"/api/threats/{quote(threat_id, safe='')}", **_query(client, agent))
    if output is Output.JSON:
        print_json(found)
        return
    threat = found["threat"]
    rows = [
        ("agent", f"{found['hostname']} ({found['agentId']})"),
        ("organization", found["organizationId"]),
        ("event time", found["eventTime"] + ("" if found["timeKnown"] else " (the agent's clock is not known)")),
        ("received", found["receivedAt"]),
        *((name, threat[name]) for name in _THREAT_MEMBERS if threat.get(name) is not None),
        *((f"evidence {name}", value) for name, value in (threat.get("evidence") or {}).items()),
        (
            "response",
            json.dumps(found["response"]) if isinstance(found.get("response"), dict) else found.get("response"),
        ),
        ("same source or hash", found["correlatedWith"] or None),
        ("recognized", _recognized_text(found["recognized"])),
    ]
    print_details(f"threat {found['id']}", rows)


@app.command("recognize")
@with_manager_client
def recognize_threat(
    client: "ManagerClient",
    threat_id: ThreatId,
    *,
    note: Annotated[str | None, typer.Option(help="a note for colleagues, at most 1,000 characters")] = None,
    agent: OfAgent = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say that a threat, such as a login after failures, is your own doing; blocks and incidents stay.

    The first screen of the console does not count it among those who got in any more.
    """
    path = _recognition_of(threat_id)
    body = None if note is None else {"note": note}
    _print_recognition(client.answer("POST", path, _query(client, agent), body=body)["data"], output)


@app.command("unrecognize")
@with_manager_client
def unrecognize_threat(
    client: "ManagerClient", threat_id: ThreatId, *, agent: OfAgent = None, output: OutputOption = Output.TABLE
) -> None:
    """Take back that a threat is somebody's own doing."""
    _print_recognition(client.answer("DELETE", _recognition_of(threat_id), _query(client, agent))["data"], output)


def print_threats(threats: Sequence["Record"]) -> None:
    """Print threats as a table."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load

    now = datetime.now(UTC)
    print_fitted(_COLUMNS, [_row(report, now) for report in threats], kept=2)


def response_text(response: object) -> object:
    """Return a response's action, with its outcome unless it was taken."""
    if not isinstance(response, dict):
        return response
    action, outcome = response.get("action"), response.get("outcome")
    return action if outcome in {None, "taken"} else f"{action} ({outcome})"


def _query(client: "ManagerClient", agent: str | None) -> dict[str, str | None]:
    return {"agentId": None if agent is None else find_agent_id(client, agent)}


def _recognition_of(threat_id: str) -> str:
    return f"/api/threats/{quote(threat_id, safe='')}/recognize"


def _print_recognition(now: "Record", output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(now)
        return
    recognized = _recognized_text(now["recognized"]) or "nobody says any more that it is their own doing"
    print_lines(f"{now['id']} ({now['threat']['type']} on {now['hostname']}): {recognized}")


def _recognized_text(recognized: "Record | None") -> str | None:
    if recognized is None:
        return None
    note = f": {recognized['note']}" if recognized["note"] else ""
    return f"{recognized['by']} says that it is their own doing, {recognized['at']}{note}"


def _row(report: "Record", now: datetime) -> tuple[object, ...]:
    threat, response = report["threat"], report.get("response")
    evidence = dict(threat.get("evidence") or {})
    return (
        report["id"],
        evidence.pop("sourceIp", None),
        threat.get("severity", "medium"),
        threat["type"],
        ago(report["eventTime"], now),
        report["hostname"],
        response_text(response),
        threat.get("technique"),
        f"{threat['confidence']:.0f} %",
        json.dumps(evidence)[:_EVIDENCE_SHOWN] if evidence else None,
    )
