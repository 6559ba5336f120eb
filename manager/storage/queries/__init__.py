"""What people and tools read of the store: records as the wire writes them. Nothing here can write."""

from collections.abc import Sequence

from peewee import Database

from manager.domain.policies.fleet_policies import Scope
from manager.storage.queries import (
    agents,
    audit,
    blocks,
    dead_letters,
    incidents,
    overview,
    policies,
    summary,
    threats,
    tokens,
)
from manager.storage.queries.reader import Page, Reader, Record


class StoreQueries:
    """Every query, on a database that only reads; each thread that asks has a connection of its own.

    All lists come in pages: the records, and the cursor of the next page or None at the end.

    Args:
        database: what `manager.storage.connection.open_reader` returned.

    Raises:
        StoreUnavailable: by any query, if the database cannot be read just now.
        Invalid: by any list, if the cursor is none that a list gave out.
    """

    def __init__(self, database: Database) -> None:
        self._reader = Reader(database)

    def agents(
        self,
        *,
        status: str | None = None,
        organization_id: str | None = None,
        tags: Sequence[str] = (),
        hostname: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return agents in the order in which they first registered; one must carry all of `tags`."""
        return agents.page(
            self._reader,
            agents.AgentFilter(status, organization_id, tuple(tags), hostname),
            limit,
            cursor,
        )

    def agent(self, agent_id: str) -> Record | None:
        """Return one agent with its newest threats, or None if none such is registered."""
        record = agents.one(self._reader, agent_id)
        if record is not None:
            record["recentThreats"] = threats.recent(self._reader, agent_id)
        return record

    def agent_counts(self) -> dict[str, int]:
        """Return how many agents are in each state, and how many there are."""
        return agents.counts(self._reader)

    def overview(self, now: float) -> Record:
        """Return the fleet at a glance; `now` is in seconds since 1970."""
        return overview.overview(self._reader, now)

    def threats(
        self,
        *,
        since: float | None = None,
        severity: str | None = None,
        type_: str | None = None,
        organization_id: str | None = None,
        agent_id: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return threats, the last stored first; `since` is when the manager received them."""
        wanted = threats.ThreatFilter(since, severity, type_, organization_id, agent_id)
        return threats.page(self._reader, wanted, limit, cursor)

    def threat_summary(self, *, now: float, period: str, organization_id: str | None = None) -> Record:
        """Return what threatened the fleet, or one organization, within one of `summary.PERIODS` that ends now."""
        return summary.threat_summary(self._reader, now, period, organization_id)

    def active_policy(self) -> Record | None:
        """Return the fleet's policy as earlier admin tools know it, or None if there is none."""
        return policies.active(self._reader)

    def policy_document(self, scope: Scope) -> Record | None:
        """Return what was last set for a scope, with its revision; None if nothing ever was."""
        return policies.newest(self._reader, scope)

    def policy_history(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return every change of the fleet's policies, newest first."""
        return policies.history(self._reader, limit, cursor)

    def policy_documents(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return the documents that scopes have now, the last set first."""
        return policies.current(self._reader, limit, cursor)

    def policy_differences(self, before: int, after: int | None = None) -> list[Record]:
        """Return what differs between the documents of two revisions; NotFound if there is no such one yet."""
        return policies.compared(self._reader, before, after)

    def hostnames(self, agent_ids: Sequence[str]) -> dict[str, str]:
        """Return the hostnames of agents."""
        return agents.hostnames(self._reader, agent_ids)

    def incidents(
        self,
        *,
        is_open: bool | None = None,
        kind: str | None = None,
        organization_id: str | None = None,
        response: str | None = None,
        chronic: bool | None = None,
        merged: bool | None = None,
        since: float | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return incidents, the last opened first; `since` is when they opened."""
        wanted = incidents.IncidentFilter(is_open, kind, organization_id, response, chronic, merged, since)
        return incidents.page(self._reader, wanted, limit, cursor)

    def incident(self, incident_id: str) -> Record | None:
        """Return one incident with its members and entries, or None if none such is kept."""
        return incidents.one(self._reader, incident_id)

    def blocks(
        self,
        *,
        after: float,
        kind: str | None = None,
        organization_id: str | None = None,
        target: str | None = None,
        incident_id: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return what incidents have put in force beyond a time, newest first."""
        wanted = blocks.BlockFilter(after, kind, organization_id, target, incident_id)
        return blocks.page(self._reader, wanted, limit, cursor)

    def tokens(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return the enrollment tokens without what proves them, newest first."""
        return tokens.page(self._reader, limit, cursor)

    def dead_letters(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return messages that changed nothing, newest first."""
        return dead_letters.page(self._reader, limit, cursor)

    def audit(
        self,
        *,
        since: float | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return who changed what, newest first; `since` is in seconds since 1970."""
        return audit.page(self._reader, audit.AuditFilter(since, actor, action, target), limit, cursor)


__all__ = ["Page", "Record", "StoreQueries"]
