"""`panguard manager incidents show`: one incident with its hosts, users, threats, timeline and blocks."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from manager.cli.support.completion import incidents
from manager.cli.support.counting import counted
from manager.cli.support.durations import ago, relative
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import WideOutput, WideOutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

IncidentId = Annotated[str, typer.Argument(help="the incident's id, inc-…", autocompletion=incidents)]

_SHOWN = 20
"""The most hosts, users, threats and blocks in each table; `-o wide` has all."""

_PERCENTS = ("50", "95", "100")


@with_manager_client
def show_incident(
    client: "ManagerClient", incident_id: IncidentId, output: WideOutputOption = WideOutput.TABLE
) -> None:
    """Show an incident: its hosts, users, threats, timeline and blocks, its times to immunity, and how to undo it."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.wrapping import print_details, print_wrapped  # noqa: PLC0415 -- the same

    found = client.get(path_of(incident_id))
    if output is WideOutput.JSON:
        print_json(found)
        return
    wide, now = output is WideOutput.WIDE, datetime.now(UTC)
    print_details(f"incident {found['id']}", _summary(found, now))
    _print_hosts(found, wide=wide)
    _print_part("users", ("user", "threats"), [(each["user"], each["count"]) for each in found["users"]], wide=wide)
    columns = ("threat", "when", "user", "severity", "type", "hostname")
    _print_part("newest threats", columns, [_threat(each, now) for each in found["threats"]], wide=wide)
    print_lines("", "timeline")
    print_wrapped(_event(each) for each in found["timeline"])
    if found["response"] == "pending_approval":
        print_lines("", f"to approve it: panguard manager incidents approve {found['id']}")
    if found["entries"]:
        columns = ("block", "for", "enforced", "accepted", "expires", "kind")
        _print_part("blocks", columns, [_block(each, now) for each in found["entries"]], kept=2, wide=wide)
        print_lines("", f"to lift its blocks: panguard manager incidents undo {found['id']}")


def path_of(incident_id: str) -> str:
    """Return the API path of an incident."""
    return f"/api/incidents/{quote(incident_id, safe='')}"


def response_word(incident: "Record") -> str | None:
    """Return the state of an incident's response; `recorded` where it is applied and no target enforces it."""
    enforced = incident["enforcedCount"] or any(incident["timeToImmunity"].values())
    if incident["response"] == "applied" and not enforced:
        return "recorded"
    response: str | None = incident["response"]
    return response


def state_text(incident: "Record") -> str:
    """Return whether an incident is open, closed or merged, and its flags."""
    if incident["mergedInto"] is not None:
        return f"merged into {incident['mergedInto']}"
    flags = [name for name in ("late", "chronic") if incident[name]]
    return " ".join(["open" if incident["closedAt"] is None else "closed", *flags])


def work_text(incident: "Record") -> str:
    """Return the state of people's work on an incident, and who set it."""
    return f"{incident['workState']} by {incident['workBy']}" if incident["workBy"] else str(incident["workState"])


def vouched_text(incident: "Record") -> str:
    """Return the number of agents that vouched for an incident's indicator, and of all."""
    return f"{incident['vouchedAgentCount']} of {counted(incident['agentCount'], 'agent')}"


def _summary(incident: "Record", now: datetime) -> list[tuple[str, object]]:
    targets = incident["targetCount"]
    rows: list[tuple[str, object]] = [
        ("value", incident["value"]),
        ("kind", incident["kind"]),
        ("organization", incident["organizationId"]),
        ("site", incident["site"]),
        ("state", state_text(incident)),
        ("work", work_text(incident)),
        ("opened", f"{incident['openedAt']} ({ago(incident['openedAt'], now)})"),
        ("last seen", f"{incident['lastSeenAt']} ({ago(incident['lastSeenAt'], now)})"),
        ("closed", incident["closedAt"]),
        ("reports", incident["reportCount"]),
        ("vouched", vouched_text(incident)),
        ("response", response_word(incident)),
        ("why", incident["responseReason"]),
        ("reach", "the whole organization" if incident["organizationWide"] else None),
        ("approve until", incident["approvalExpiresAt"]),
        ("approved by", incident["approvedBy"]),
        ("accepted", f"{incident['acceptedCount']} of {targets}{_delays(incident['timeToAcceptance'])}"),
        ("enforced", f"{incident['enforcedCount']} of {targets}{_delays(incident['timeToImmunity'])}"),
    ]
    rows += [
        ("not enforced", f"{each['hostname']} ({each['agentId']}): {each['reason']}")
        for each in incident["notEnforced"]
    ]
    unnamed = targets - incident["enforcedCount"] - len(incident["notEnforced"])
    if unnamed > 0 and incident["notEnforced"]:
        rows.append(("not enforced", f"and {counted(unnamed, 'more host')}"))
    return [(name, value) for name, value in rows if value is not None]


def _delays(reached: "Record") -> str:
    """Return the seconds until shares of the targets were reached, as far as they were."""
    known = [f"{percent} % after {reached[percent]:.2f} s" for percent in _PERCENTS if reached[percent] is not None]
    return f" ({', '.join(known)})" if known else ""


def _print_hosts(incident: "Record", *, wide: bool) -> None:
    members = sorted(incident["members"], key=lambda each: each["hostname"] or "")
    timely = sum(each["actionable"] for each in members)
    counts = f"{counted(incident['agentCount'], 'host')}, {timely:,} in time, {incident['vouchedAgentCount']:,} vouched"
    rows = [(each["hostname"], each["agentId"], _yes(each["vouched"]), _yes(each["actionable"])) for each in members]
    left = incident["agentCount"] - len(members)
    _print_part(counts, ("hostname", "agent id", "vouched", "in time"), rows, kept=2, wide=wide)
    if left > 0 and wide:
        from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

        print_lines(f"… and {left:,} more, which no answer of the manager names")


def _print_part(
    title: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], *, wide: bool, kept: int = 1
) -> None:
    """Print a part of the record as a table under its title: some rows, or all if `wide`; nothing without rows."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- the same

    if not rows:
        return
    shown = rows if wide else rows[:_SHOWN]
    print_lines("", title)
    print_fitted(columns, shown, kept=kept, wide=wide, more="-o wide")
    if len(rows) > len(shown):
        print_lines(f"… and {len(rows) - len(shown):,} more: -o wide has all")


def _threat(threat: "Record", now: datetime) -> tuple[object, ...]:
    members = ("user", "severity", "type", "hostname")
    return threat["id"], ago(threat["eventTime"], now), *(threat[name] for name in members)


def _block(block: "Record", now: datetime) -> tuple[object, ...]:
    place = block["target"] if block["scope"] == "agent" else f"{block['scope']} {block['target'] or ''}".strip()
    counts = (f"{block[member]} of {block['targetCount']}" for member in ("enforcedCount", "acceptedCount"))
    return block["id"], place, *counts, relative(block["expiresAt"], now), block["kind"]


def _event(event: "Record") -> str:
    by = f" by {event['by']}" if event["by"] else ""
    text = f": {event['text']}" if event["text"] else ""
    return f"{event['at']}  {event['event']}{by}{text}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
