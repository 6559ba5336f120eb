"""Read-only queries of the store for the API: records in the wire format."""

from collections.abc import Collection, Sequence

from peewee import Database

from manager.domain.policies.fleet_policies import Scope
from manager.engine.events import StoredEvent
from manager.engine.notifications import NotificationRow, StoredCursor, ToldEvent
from manager.storage.health import StoreHealth
from manager.storage.queries import (
    agents,
    blocks,
    events,
    incidents,
    notifications,
    operators,
    overview,
    policies,
    protection,
    situation,
    summary,
    threat_search,
    threats,
)
from manager.storage.queries.reader import Page, Reader, Record
from manager.storage.running_figures import RunningFigures

Organizations = Collection[str] | None
"""The organizations that a query is limited to; None for all."""


class StoreQueries:
    """All queries, on a read-only database; each thread has its own connection.

    A list returns one page: its records, and the cursor of the next page, or None at the end.

    Args:
        database: opened by `manager.storage.connection.open_reader`.
        health: records damage that a query finds.
        figures: those of the store's writer in this process; None to count everything for each answer.

    Raises:
        StoreUnavailable: by any query, if the database cannot be read.
        Invalid: by any list, if the cursor was not returned by a list.
    """

    def __init__(
        self, database: Database, health: StoreHealth | None = None, figures: RunningFigures | None = None
    ) -> None:
        self._reader = Reader(database, health)
        self._figures = figures

    def agents(
        self,
        *,
        status: str | None = None,
        organizations: Organizations = None,
        tags: Sequence[str] = (),
        hostnames: Sequence[str] | None = None,
        health: str | None = None,
        unenforced: bool | None = None,
        unconfirmed: bool | None = None,
        site: str | None = None,
        version: str | None = None,
        mode: str | None = None,
        enforcement: Sequence[str] = (),
        group: str | None = None,
        brief: bool = False,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return agents in the order of their first registration; each has all of `tags`, and is in `group`."""
        return agents.page(
            self._reader,
            agents.AgentFilter(
                status,
                organizations,
                tuple(tags),
                None if hostnames is None else tuple(hostnames),
                health,
                unenforced,
                unconfirmed,
                site,
                version,
                mode,
                tuple(enforcement),
            ),
            limit,
            cursor,
            group,
            brief=brief,
        )

    def agent(self, agent_id: str) -> Record | None:
        """Return a registered agent with its newest threats and changes of state, or None."""
        record = agents.find(self._reader, agent_id)
        if record is not None:
            record["recentThreats"] = threats.recent(self._reader, agent_id)
            record["history"] = agents.history(self._reader, agent_id)
        return record

    def agent_vitals(self, agent_id: str, now: float) -> Record | None:
        """Return a registered agent's vitals over the last 24 hours, or None; `now` is in seconds since 1970."""
        return agents.vitals(self._reader, agent_id, now)

    def agent_counts(self) -> dict[str, int]:
        """Return the number of agents in each state and in all."""
        return agents.counts(self._reader)

    def overview(self, now: float, organizations: Organizations = None) -> Record:
        """Return the fleet overview; `now` is in seconds since 1970."""
        return overview.overview(self._reader, now, organizations, self._figures)

    def situation(self, now: float, organizations: Organizations = None) -> Record:
        """Return who may have got in, whom blocks hurt, the approvals that wait, the agents that are not seen."""
        return situation.situation(self._reader, now, organizations)

    def threats(
        self,
        *,
        since: float | None = None,
        severity: str | None = None,
        type_: str | None = None,
        source_ip: str | None = None,
        technique: str | None = None,
        organizations: Organizations = None,
        agent_id: str | None = None,
        recognized: bool | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return threats, the last stored first, and `since` is the time of receipt.

        With a source address or a technique: the newest event first, and `since` is the time of the event.
        """
        wanted = threats.ThreatFilter(since, severity, type_, organizations, agent_id, recognized)
        if source_ip is None and technique is None:
            return threats.page(self._reader, wanted, limit, cursor)
        return threat_search.page(self._reader, threat_search.SearchKey(source_ip, technique), wanted, limit, cursor)

    def threats_of_id(
        self, threat_id: str, agent_id: str | None = None, organizations: Organizations = None
    ) -> list[Record]:
        """Return the threats with an id: several where agents gave the same id to a report."""
        return threats.find(self._reader, threat_id, agent_id, organizations)

    def threat_summary(self, *, now: float, period: str, organizations: Organizations = None) -> Record:
        """Return the threat summary of one of `summary.PERIODS` that ends now, for the fleet or organizations."""
        return summary.threat_summary(self._reader, now, period, organizations)

    def active_policy(self) -> Record | None:
        """Return the fleet's policy as a named list of rules, or None."""
        return policies.active(self._reader)

    def policy_document(self, scope: Scope) -> Record | None:
        """Return a scope's last revision, or None."""
        return policies.last_of(self._reader, scope)

    def policy_history(self, *, organizations: Organizations = None, limit: int, cursor: str | None = None) -> Page:
        """Return every policy revision, newest first."""
        return policies.history(self._reader, organizations, limit, cursor)

    def policy_documents(self, *, organizations: Organizations = None, limit: int, cursor: str | None = None) -> Page:
        """Return the current documents, the last set first."""
        return policies.current(self._reader, organizations, limit, cursor)

    def policy_groups(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return the current documents of groups, the last set first."""
        return policies.groups(self._reader, limit, cursor)

    def policy_differences(
        self, before: int, after: int | None = None, organizations: Organizations = None
    ) -> list[Record]:
        """Return the differences between the documents of two revisions; NotFound if one does not exist yet."""
        return policies.compared(self._reader, before, after, organizations)

    def organization_of_agent(self, agent_id: str) -> str | None:
        """Return the organization of a registered agent, or None."""
        return agents.organization_of(self._reader, agent_id)

    def organization_of_block(self, entry_id: str) -> str | None:
        """Return the organization of an emergency entry, or None."""
        return blocks.organization_of(self._reader, entry_id)

    def hostnames(self, agent_ids: Sequence[str], organizations: Organizations = None) -> dict[str, str]:
        """Return the hostnames of those agents that belong to organizations."""
        return agents.hostnames(self._reader, agent_ids, organizations)

    def incidents(
        self,
        *,
        is_open: bool | None = None,
        kind: str | None = None,
        organizations: Organizations = None,
        response: str | None = None,
        chronic: bool | None = None,
        merged: bool | None = None,
        since: float | None = None,
        value: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return incidents, the last opened first; `since` is the time of opening."""
        wanted = incidents.IncidentFilter(is_open, kind, organizations, response, chronic, merged, since, value)
        return incidents.page(self._reader, wanted, limit, cursor)

    def incident(self, incident_id: str) -> Record | None:
        """Return an incident with its members and entries, or None."""
        return incidents.find(self._reader, incident_id)

    def response_counts(self, *, after: float, organizations: Organizations) -> tuple[int, int]:
        """Return the number of entries that expire after a time, and of incidents that wait for approval."""
        return blocks.response_counts(self._reader, after, organizations)

    def blocks(
        self,
        *,
        after: float,
        kind: str | None = None,
        organizations: Organizations = None,
        target: str | None = None,
        incident_id: str | None = None,
        value: str | None = None,
        limit: int,
        cursor: str | None = None,
    ) -> Page:
        """Return emergency entries and manual blocks, newest first."""
        wanted = blocks.BlockFilter(after, kind, organizations, target, incident_id, value)
        return blocks.page(self._reader, wanted, limit, cursor)

    def protection_forecast(
        self, *, since: float, now: float, organizations: Organizations = None, group: str | None = None
    ) -> Record:
        """Return the forecast of automatic blocking of the measures from `since` to `now`, in seconds since 1970.

        Raises:
            NotFound: there is no such policy group.
        """
        agents = None if group is None else protection.agents_of_group(self._reader, group, organizations)
        wanted = protection.ForecastFilter(since, now, None if organizations is None else tuple(organizations), agents)
        return protection.protection_forecast(self._reader, wanted)

    def block(self, block_id: str) -> Record | None:
        """Return one emergency entry or manual block, or None."""
        return blocks.find(self._reader, block_id)

    def tokens(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return enrollment tokens, newest first, without secrets and proof keys."""
        return operators.tokens_page(self._reader, limit, cursor)

    def access(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return access tokens without their texts, newest first."""
        return operators.access_page(self._reader, limit, cursor)

    def dead_letters(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return dead letters (messages that changed nothing), newest first."""
        return operators.dead_letters_page(self._reader, limit, cursor)

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
        """Return audit entries, newest first; `since` is in seconds since 1970."""
        return operators.audit_page(self._reader, operators.AuditFilter(since, actor, action, target), limit, cursor)

    def event_bounds(self) -> tuple[int, int]:
        """Return the lowest and the highest sequence of the stored events; (1, 0) where there is none."""
        return events.bounds(self._reader)

    def events(self, *, after: int, organizations: Organizations = None, limit: int) -> list[StoredEvent]:
        """Return the first stored events after a sequence."""
        return events.after(self._reader, after, organizations, limit)

    def count_events(self, *, after: int, organizations: Organizations = None) -> int:
        """Return the number of stored events after a sequence."""
        return events.count_after(self._reader, after, organizations)

    def notification_cursors(self) -> dict[str, StoredCursor]:
        """Return the stored cursors of channels, by channel."""
        return notifications.cursors(self._reader)

    def pending_notifications(self, channel: str) -> list[NotificationRow]:
        """Return the messages of a channel that are not delivered, in the order in which they were made."""
        return notifications.pending(self._reader, channel)

    def notification_group_is_stored(self, group: str) -> bool:
        """Return whether a stored message is of a group."""
        return notifications.group_is_stored(self._reader, group)

    def events_to_tell(self, *, after: int, limit: int) -> list[ToldEvent]:
        """Return the first events after a sequence, with the channels that were chosen for each."""
        return notifications.events_to_tell(self._reader, after, limit)

    def untold_events(self, *, after: int, last: int) -> list[ToldEvent]:
        """Return the events on an intrusion in a range of sequences that were deleted before a channel took them."""
        return notifications.untold_events(self._reader, after, last)

    def mutes(self, now: float, organizations: Organizations = None) -> list[Record]:
        """Return the mutes in force; of some organizations and of the whole fleet, or all."""
        return notifications.mutes(self._reader, now, organizations)

    def notifications(self, *, channel: str | None = None, limit: int, cursor: str | None = None) -> Page:
        """Return messages to channels, newest first."""
        return notifications.page(self._reader, channel, limit, cursor)


__all__ = ["Page", "Record", "StoreQueries"]
