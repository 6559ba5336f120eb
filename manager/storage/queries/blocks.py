"""Block records for the API: emergency entries and manual blocks."""

from collections.abc import Collection
from typing import NamedTuple

from peewee import JOIN, Expression, fn

from manager.domain.networks import network_of
from manager.domain.response.manual_blocks import covering_values
from manager.storage.queries.enforcement import Enforcement, Reach, counted_in_store, reach_of_settings
from manager.storage.queries.reader import Page, Query, Reader, Record, keyset_page, moment
from manager.storage.tables import AgentTable, EmergencyEntryTable, IncidentResponseTable, IncidentTable


class BlockFilter(NamedTuple):
    """Filters of blocks; None matches any. `after` excludes blocks that expire by this time (seconds since 1970).

    `value` also matches the networks that contain it. `organizations` also match blocks in the whole fleet, whose reach
    counts the agents of these organizations.
    """

    after: float | None = None
    kind: str | None = None
    organizations: Collection[str] | None = None
    target: str | None = None
    incident_id: str | None = None
    value: str | None = None

    def conditions(self) -> list[Expression]:
        """Return the WHERE conditions."""
        entry = EmergencyEntryTable
        wanted = []
        if self.after is not None:
            wanted.append(entry.expires_at > self.after)
        if self.kind is not None:
            wanted.append(entry.kind == self.kind)
        if self.organizations is not None:
            of_them: Expression = entry.organization_id.in_(list(self.organizations))
            wanted.append(of_them | (entry.scope == "fleet") if self.organizations else of_them)
        if self.target is not None:
            wanted.append(entry.target == self.target)
        if self.incident_id is not None:
            wanted.append(entry.incident_id == self.incident_id)
        if self.value is not None:
            network = network_of(self.value)
            values = [] if network is None else list(covering_values(network))
            wanted.append(entry.value.in_([*values, self.value]))
        return wanted


def page(reader: Reader, wanted: BlockFilter, limit: int, cursor: str | None) -> Page:
    """Return blocks, newest first; those of one value with the agents that have accepted and that enforce each."""
    query, conditions = _selection(), wanted.conditions()
    if conditions:
        query = query.where(*conditions)
    rows, following = keyset_page(
        reader, query, at=EmergencyEntryTable.created_at, key=EmergencyEntryTable.id, limit=limit, cursor=cursor
    )
    enforcement = Enforcement(reader, (row["organization_id"] for row in rows), wanted.organizations)
    records = [{**record_of(row), **enforcement.reach(row).members()} for row in rows]
    if wanted.value is not None:
        records = [{**record, **enforcement.hosts(row)} for record, row in zip(records, rows, strict=True)]
    return records, following


def find(reader: Reader, block_id: str) -> Record | None:
    """Return one block, or None."""
    row = reader.row(_selection().where(EmergencyEntryTable.id == block_id))
    if row is None:
        return None
    return {**record_of(row), **Enforcement(reader, [row["organization_id"]]).reach(row).members()}


def organization_of(reader: Reader, entry_id: str) -> str | None:
    """Return the organization of an entry, or None."""
    row = reader.row(
        EmergencyEntryTable.select(EmergencyEntryTable.organization_id).where(EmergencyEntryTable.id == entry_id)
    )
    return None if row is None else row["organization_id"]


def response_counts(reader: Reader, after: float, organizations: Collection[str] | None) -> tuple[int, int]:
    """Return the number of entries that expire after a time, and of incidents that wait for approval."""
    entry, incident, response = EmergencyEntryTable, IncidentTable, IncidentResponseTable
    entries = entry.select(fn.COUNT(entry.id).alias("number"))
    waiting = incident.select(fn.COUNT(incident.id).alias("number")).join(
        response, on=(response.incident_id == incident.id)
    )
    waiting = waiting.where(response.state == "pending_approval", incident.merged_into.is_null())
    if organizations is not None:
        waiting = waiting.where(incident.organization_id.in_(list(organizations)))
    in_force = entries.where(*BlockFilter(after, organizations=organizations).conditions())
    return int(reader.rows(in_force)[0]["number"]), int(reader.rows(waiting)[0]["number"])


def reach_of_incidents(reader: Reader, incidents: list[Record]) -> dict[str, Reach]:
    """Return the reach of each incident's entries, by the incident's id.

    Args:
        reader: reads entries and agents.
        incidents: rows with `id` and `organization_id`.
    """
    entry = EmergencyEntryTable
    ids = [row["id"] for row in incidents]
    query = (
        entry.select(
            entry.incident_id, entry.kind, entry.scope, entry.target, entry.value, entry.organization_id, entry.number
        )
        .where(entry.incident_id.in_(ids), ~counted_in_store(entry))
        .order_by(entry.created_at, entry.id)
    )
    of_incident: dict[str, list[Record]] = {incident_id: [] for incident_id in ids}
    for row in reader.rows(query) if ids else ():
        of_incident[row["incident_id"]].append(row)
    busy = [row["organization_id"] for row in incidents if of_incident[row["id"]]]
    enforcement = Enforcement(reader, busy)
    settings = reach_of_settings(reader, ids)
    return {
        incident_id: enforcement.reach_of_all(entries, settings.get(incident_id))
        for incident_id, entries in of_incident.items()
    }


def record_of(row: Record) -> Record:
    """Return a block's record; `incidentKept` tells whether its incident is stored and can be undone as a whole."""
    return {
        "id": row["id"],
        "kind": row["kind"],
        "value": row["value"],
        "scope": row["scope"],
        "target": row["target"] or None,
        "hostname": row["hostname"],
        "organizationId": row["organization_id"] or None,
        "site": row["site"] or None,
        "reason": row["reason"],
        "addedBy": row["added_by"],
        "overrides": row["overrides"],
        "incidentId": row["incident_id"] or None,
        "incidentKept": row["kept"] is not None,
        "createdAt": moment(row["created_at"]),
        "expiresAt": moment(row["expires_at"]),
    }


def _selection() -> Query:
    entry, incident = EmergencyEntryTable, IncidentTable
    return entry.select(
        entry.id, entry.kind, entry.value, entry.scope, entry.target, entry.organization_id, entry.site, entry.reason,
        entry.incident_id, entry.created_at, entry.expires_at, entry.number, entry.added_by,
        entry.overrides, incident.id.alias("kept"), AgentTable.hostname.alias("hostname"),
    ).join(incident, JOIN.LEFT_OUTER, on=(incident.id == entry.incident_id)).switch(entry).join(
        AgentTable, JOIN.LEFT_OUTER, on=((entry.scope == "agent") & (AgentTable.agent_id == entry.target))
    )  # fmt: skip
