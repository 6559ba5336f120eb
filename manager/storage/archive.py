"""The archive: incidents and their members, the reports behind them, and the history of policies."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from peewee import Database, DatabaseError, InterfaceError

from manager.domain.correlation import Incident, Indicator, PastReport, Report
from manager.domain.correlation.indicators import SITELESS
from manager.domain.policies.fleet_policies import Revision, Scope
from manager.engine.batch import Changes
from manager.errors import StoreUnavailable
from manager.storage.connection import BulkWriter

_COLUMNS = (
    "id", "organization_id", "site", "kind", "value", "opened_at", "first_seen_at", "last_seen_at", "closed_at",
    "late", "chronic", "merged_into", "report_count", "return_count", "announced_members",
)  # fmt: skip
_INCIDENT = ", ".join(f"incident.{column}" for column in _COLUMNS)


class StoredArchive:
    """The incident tables, in the writer's transaction and on its connection.

    Args:
        database: the writer's database.
        many: executes a statement for many rows.
    """

    def __init__(self, database: Database, many: BulkWriter) -> None:
        self._database = database
        self._many = many
        param = database.param
        marks = ", ".join([param] * len(_COLUMNS))
        updates = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS if column != "id")
        self._incident_sql = (
            f"INSERT INTO incident ({', '.join(_COLUMNS)}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {updates}"
        )
        self._member_sql = (
            f"INSERT INTO incident_member (incident_id, agent_id, actionable) VALUES ({param}, {param}, {param}) "
            "ON CONFLICT (incident_id, agent_id) DO UPDATE SET actionable = "
            "max(incident_member.actionable, excluded.actionable)"
        )

    def write(self, changes: Changes) -> None:
        """Write incidents and the members that they gained."""
        if changes.incidents:
            self._many(self._incident_sql, [_row(incident) for incident in changes.incidents.values()])
        if changes.members:
            self._many(self._member_sql, changes.members)

    def live(self, since: float) -> list[Incident]:
        """Return the unmerged incidents that are open or were last seen since a time."""
        param = self._database.param
        return list(
            self._found(
                f"SELECT {_INCIDENT} FROM incident WHERE merged_into IS NULL "
                f"AND (closed_at IS NULL OR last_seen_at >= {param})",
                (since,),
            )
        )

    def find(self, incident_id: str) -> Incident | None:
        """Return an incident by its id.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        sql = f"SELECT {_INCIDENT} FROM incident WHERE id = {self._database.param}"
        return next(self._found(sql, (incident_id,)), None)

    def revisions(self) -> Iterator[Revision]:
        """Yield every change of the fleet's policies, oldest first.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        sql = "SELECT revision, scope, document, at, author FROM policy_revision ORDER BY revision"
        for revision, scope, document, at, author in self._read(sql, ()):
            yield Revision(revision, Scope.parse(scope), None if document is None else json.loads(document), at, author)

    def recent(self, since: float) -> Iterator[Report]:
        """Yield the reports with event times since a time."""
        rows = self._database.execute_sql(
            "SELECT agent_id, organization_id, site, threat_id, event_time, received_at, source_ip, file_hash, "
            "technique, time_known FROM threat JOIN agent ON agent.number = threat.agent_number "
            f"WHERE event_time >= {self._database.param}",
            (since,),
        )
        for (
            agent_id, organization_id, site, threat_id, event_time, received, source_ip, file_hash, technique, known,
        ) in rows:  # fmt: skip
            yield Report(
                agent_id,
                organization_id,
                site,
                threat_id,
                event_time,
                received,
                source_ip,
                file_hash,
                technique,
                bool(known),
            )

    def telling(self, since: float) -> Iterator[tuple[str, str | None, str, float, dict[str, Any]]]:
        """Yield what reports since a time said of logins and paths: organization, site, agent, receipt, evidence."""
        rows = self._database.execute_sql(
            "SELECT organization_id, site, agent_id, received_at, document FROM threat "
            f"JOIN agent ON agent.number = threat.agent_number WHERE event_time >= {self._database.param} "
            "AND (document LIKE '%\"lastLogin\"%' OR document LIKE '%\"filePath\"%')",
            (since,),
        )
        for organization_id, site, agent_id, received_at, document in rows:
            evidence = json.loads(document).get("threat", {}).get("evidence", {})
            yield organization_id, site, agent_id, received_at, evidence

    def prune(self, before: float) -> None:
        """Delete closed incidents that were last seen before a time."""
        param = self._database.param
        old = f"SELECT id FROM incident WHERE closed_at IS NOT NULL AND last_seen_at < {param}"
        self._database.execute_sql(f"DELETE FROM incident_member WHERE incident_id IN ({old})", (before,))
        self._database.execute_sql(
            f"DELETE FROM incident WHERE closed_at IS NOT NULL AND last_seen_at < {param}", (before,)
        )

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterable[PastReport]:
        """Return the reports of an indicator with start ≤ event time < end.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        param = self._database.param
        condition, value = _condition(indicator, param)
        sql = (
            "SELECT event_time, agent_id, received_at, time_known, site FROM threat "
            "JOIN agent ON agent.number = threat.agent_number "
            f"WHERE event_time >= {param} AND event_time < {param} AND organization_id = {param} AND {condition}"
        )
        rows = self._read(sql, (start, end, indicator.organization_id, *value))
        return [
            PastReport(event_time, agent_id, received, bool(known))
            for event_time, agent_id, received, known, site in rows
            if indicator.site is None or (site or SITELESS) == indicator.site
        ]

    def incidents(self, indicator: Indicator, start: float, end: float, /) -> Iterable[Incident]:
        """Return the unmerged incidents of an indicator that touch a span of event time.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        param = self._database.param
        sql = (
            f"SELECT {_INCIDENT} FROM incident WHERE merged_into IS NULL AND organization_id = {param} "
            f"AND kind = {param} AND value = {param} AND last_seen_at >= {param} AND first_seen_at < {param} "
            f"AND coalesce(site, '') = {param}"
        )
        return list(self._found(sql, (*_key(indicator), start, end, indicator.site or "")))

    def incident_count(self, indicator: Indicator, before: float, /) -> int:
        """Return how many unmerged incidents of an indicator were last seen before a time.

        Raises:
            StoreUnavailable: the store cannot be read just now.
        """
        param = self._database.param
        sql = (
            f"SELECT count(*) FROM incident WHERE merged_into IS NULL AND organization_id = {param} "
            f"AND kind = {param} AND value = {param} AND last_seen_at < {param} AND coalesce(site, '') = {param}"
        )
        return int(self._read(sql, (*_key(indicator), before, indicator.site or ""))[0][0])

    def _found(self, sql: str, params: Sequence[Any]) -> Iterator[Incident]:
        for row in self._read(sql, params):
            members = self._read(
                "SELECT agent_id, actionable FROM incident_member WHERE incident_id = "
                f"{self._database.param} ORDER BY agent_id",
                (row[0],),
            )
            yield _incident(row, {agent_id: bool(actionable) for agent_id, actionable in members})

    def _read(self, sql: str, params: Sequence[Any]) -> list[Any]:
        try:
            return list(self._database.execute_sql(sql, params).fetchall())
        except (DatabaseError, InterfaceError) as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error


def _key(indicator: Indicator) -> tuple[str, str, str]:
    return indicator.organization_id, indicator.kind, indicator.value


def _condition(indicator: Indicator, param: str) -> tuple[str, tuple[str, ...]]:
    """Return what the columns say of an indicator; addresses and hashes stand there in normal form."""
    if indicator.kind == "technique":
        return f"(technique = {param} OR technique LIKE {param})", (indicator.value, f"{indicator.value}.%")
    return f"{indicator.kind} = {param}", (indicator.value,)


def _row(incident: Incident) -> tuple[Any, ...]:
    return (
        incident.id, incident.organization_id, incident.site, incident.kind, incident.value, incident.opened_at,
        incident.first_seen_at, incident.last_seen_at, incident.closed_at, incident.late, incident.chronic,
        incident.merged_into, incident.report_count, incident.return_count, incident.announced_members,
    )  # fmt: skip


def _incident(row: Sequence[Any], members: dict[str, bool]) -> Incident:
    (
        id_, organization_id, site, kind, value, opened_at, first_seen_at, last_seen_at, closed_at, late, chronic,
        merged_into, report_count, return_count, announced_members,
    ) = row  # fmt: skip
    return Incident(
        id=id_,
        indicator=Indicator(kind, value, organization_id, site),
        members=members,
        opened_at=opened_at,
        first_seen_at=first_seen_at,
        last_seen_at=last_seen_at,
        closed_at=closed_at,
        late=bool(late),
        chronic=bool(chronic),
        merged_into=merged_into,
        report_count=report_count,
        return_count=return_count,
        announced_members=announced_members,
    )
