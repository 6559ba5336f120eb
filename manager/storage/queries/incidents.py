"""Incident records for the API: indicator, members, response."""

import json
from collections.abc import Collection
from typing import NamedTuple

from peewee import JOIN, Expression, fn

from manager.domain.response.progress import PERCENTS
from manager.storage.queries import blocks, incident_details
from manager.storage.queries.reader import Page, Query, Reader, Record, keyset_page, moment
from manager.storage.tables import AgentTable, IncidentMemberTable, IncidentResponseTable, IncidentTable

AGENTS_SHOWN = 200
"""The maximum number of agents listed for an incident in a list; `agentCount` is their full number."""

MEMBERS_SHOWN = 1000
"""The maximum number of members and of entries in a single incident's record."""


class Size(NamedTuple):
    """The number of an incident's agents, of those that vouched for its indicator, and the first agents by id."""

    agents: int
    vouched: int
    first_agents: list[str]


class IncidentFilter(NamedTuple):
    """Filters of incidents; None matches any. `since` is the time of opening, in seconds since 1970."""

    is_open: bool | None = None
    kind: str | None = None
    organizations: Collection[str] | None = None
    response: str | None = None
    chronic: bool | None = None
    merged: bool | None = None
    since: float | None = None
    value: str | None = None

    def conditions(self) -> list[Expression]:
        """Return the WHERE conditions."""
        incident = IncidentTable
        wanted = []
        if self.is_open is not None:
            wanted.append(incident.closed_at.is_null(self.is_open))
        if self.kind is not None:
            wanted.append(incident.kind == self.kind)
        if self.organizations is not None:
            wanted.append(incident.organization_id.in_(list(self.organizations)))
        if self.response is not None:
            wanted.append(IncidentResponseTable.state == self.response)
        if self.chronic is not None:
            wanted.append(incident.chronic == self.chronic)
        if self.merged is not None:
            wanted.append(incident.merged_into.is_null(not self.merged))
        if self.since is not None:
            wanted.append(incident.opened_at >= self.since)
        if self.value is not None:
            wanted.append(incident.value == self.value)
        return wanted


def page(reader: Reader, wanted: IncidentFilter, limit: int, cursor: str | None) -> Page:
    """Return incidents, the last opened first."""
    query, conditions = _selection(), wanted.conditions()
    if conditions:
        query = query.where(*conditions)
    rows, following = keyset_page(
        reader, query, at=IncidentTable.opened_at, key=IncidentTable.id, limit=limit, cursor=cursor
    )
    found = sizes(reader, [row["id"] for row in rows], AGENTS_SHOWN)
    reach = blocks.reach_of_incidents(reader, rows)
    work = incident_details.work_of(reader, rows)
    return [
        {
            **record_of(row, found[row["id"]].first_agents, found[row["id"]]),
            **reach[row["id"]].members(),
            **work[row["id"]],
        }
        for row in rows
    ], following


def find(reader: Reader, incident_id: str) -> Record | None:
    """Return an incident with its members, entries, newest threats, users and timeline, or None."""
    row = reader.row(_selection().where(IncidentTable.id == incident_id))
    if row is None:
        return None
    member, agent = IncidentMemberTable, AgentTable
    query = member.select(member.agent_id, member.actionable, member.vouched, agent.hostname).where(
        member.incident == incident_id
    )
    query = query.join(agent, JOIN.LEFT_OUTER, on=(agent.agent_id == member.agent_id)).order_by(member.agent_id)
    members = reader.rows(query.limit(MEMBERS_SHOWN))
    size = sizes(reader, [incident_id])[incident_id]
    entries, more = blocks.page(reader, blocks.BlockFilter(incident_id=incident_id), MEMBERS_SHOWN, None)
    return {
        **record_of(row, [each["agent_id"] for each in members], size),
        **blocks.reach_of_incidents(reader, [row])[incident_id].members(),
        **incident_details.work_of(reader, [row])[incident_id],
        **incident_details.details(reader, row),
        "members": [
            {
                "agentId": each["agent_id"],
                "hostname": each["hostname"],
                "actionable": bool(each["actionable"]),
                "vouched": bool(each["vouched"]),
            }
            for each in members
        ],
        "entries": entries,
        "entriesComplete": more is None,
    }


def open_count(reader: Reader, organizations: Collection[str] | None) -> int:
    """Return the number of open incidents of organizations; None for all."""
    if organizations is None:
        return int(reader.select("incidents.count_open")[0][0])
    query = IncidentTable.select(fn.COUNT(IncidentTable.id).alias("incidents"))
    query = query.where(*IncidentFilter(is_open=True, organizations=organizations).conditions())
    return int(reader.rows(query)[0]["incidents"])


def record_of(row: Record, agent_ids: list[str], size: Size) -> Record:
    """Return an incident's record; `agent_ids` may list fewer agents than it has."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "value": row["value"],
        "organizationId": row["organization_id"],
        "site": row["site"] or None,
        "agentIds": agent_ids,
        "agentCount": size.agents,
        "vouchedAgentCount": size.vouched,
        "openedAt": moment(row["opened_at"]),
        "firstSeenAt": moment(row["first_seen_at"]),
        "lastSeenAt": moment(row["last_seen_at"]),
        "closedAt": moment(row["closed_at"]),
        "late": bool(row["late"]),
        "chronic": bool(row["chronic"]),
        "mergedInto": row["merged_into"],
        "reportCount": row["report_count"],
        "returnCount": row["return_count"],
        "response": row["state"],
        "responseReason": row["reason"],
        "respondedAt": moment(row["at"]),
        "organizationWide": bool(row["organization_wide"]),
        "approvalExpiresAt": moment(row["approval_expires_at"]),
        "approvedBy": row["approved_by"],
        "timeToAcceptance": _seconds_by_percent(row["acceptance"]),
        "timeToImmunity": _seconds_by_percent(row["immunity"]),
    }


def _selection() -> Query:
    incident, response = IncidentTable, IncidentResponseTable
    return incident.select(
        incident.id, incident.kind, incident.value, incident.organization_id, incident.site, incident.opened_at,
        incident.first_seen_at, incident.last_seen_at, incident.closed_at, incident.late, incident.chronic,
        incident.merged_into, incident.report_count, incident.return_count, response.state, response.reason,
        response.at, response.organization_wide, response.approval_expires_at, response.approved_by,
        response.acceptance, response.immunity,
    ).join(response, JOIN.LEFT_OUTER, on=(response.incident_id == incident.id))  # fmt: skip


def sizes(reader: Reader, incident_ids: list[str], limit: int = 0) -> dict[str, Size]:
    """Return the size of each incident by its id, with the first agents up to a limit."""
    params = {"incident_ids": json.dumps(incident_ids), "limit": limit}
    return {
        incident_id: Size(agents, vouched, json.loads(first_agents))
        for incident_id, agents, vouched, first_agents in reader.select("incidents.sizes", params)
    }


def _seconds_by_percent(column: str | None) -> dict[str, float | None]:
    """Return the seconds from the first report until each percentage of the targets, null where it is not reached."""
    known = json.loads(column) if column else {}
    return {str(percent): known.get(str(percent)) for percent in PERCENTS}
