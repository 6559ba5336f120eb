"""Ports of the HTTP server: submitting commands to the engine, and queries that read the store."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from manager.domain.policies.fleet_policies import Scope
from manager.engine.events import StoredEvent

Record = dict[str, Any]
Organizations = Collection[str] | None
"""The organizations that a query is limited to; None for all."""

Page = tuple[list[Record], str | None]
"""The records of a page, and the cursor of the next one; None at the end."""


class FutureLike(Protocol):
    """Receiver of the engine's reply: an asyncio future, or a request of the fast lane, which has no task."""

    def done(self) -> bool:
        """Return whether the reply is no longer wanted."""
        ...

    def set_result(self, value: Any, /) -> None:
        """Handle the engine's reply."""
        ...

    def set_exception(self, error: Exception, /) -> None:
        """Handle the engine's error."""
        ...


class _Discard:
    """Receiver that ignores the reply."""

    @staticmethod
    def done() -> bool:
        """Return True: the reply is not wanted."""
        return True

    def set_result(self, value: Any, /) -> None:
        """Do nothing."""

    def set_exception(self, error: Exception, /) -> None:
        """Do nothing."""


DISCARD: FutureLike = _Discard()
"""The receiver for commands whose reply is not needed."""


class CommandGateway(Protocol):
    """Submits commands to the engine; requests change the state only through it."""

    async def submit(self, request: Any) -> Any:
        """Submit a command of `manager.engine.commands` and return the engine's reply, after the commit.

        Raises:
            ManagerError: the engine refused the command, or StoreUnavailable if it cannot commit.
        """
        ...

    def submit_nowait(self, request: Any, future: FutureLike) -> None:
        """Submit a command without waiting; `future` gets the reply in the thread of the server's event loop.

        Raises:
            StoreUnavailable: too many requests wait for a reply.
        """
        ...


class Notifications(Protocol):
    """The state of the notification channels; safe from any thread."""

    def records(self) -> list[Record]:
        """Return the channels with their state."""
        ...

    def pause(self, channel: str, until: float | None) -> None:
        """Deliver nothing to a channel until a time, in seconds since 1970; None continues."""
        ...

    def test_result(self, channel: str, test_id: str) -> tuple[bool, str | None]:
        """Return whether a test was tried, and the reason why it was not delivered; None for a delivered one."""
        ...


class NoNotifications:
    """A manager without channels."""

    @staticmethod
    def records() -> list[Record]:
        """Return no channel."""
        return []

    @staticmethod
    def pause(channel: str, until: float | None) -> None:
        """Do nothing."""

    @staticmethod
    def test_result(channel: str, test_id: str) -> tuple[bool, str | None]:
        """Return that no test was tried."""
        del channel, test_id
        return False, None


class Queries(Protocol):
    """Read-only queries, as records with wire names; lists come in pages. Called in the API's reader threads."""

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
        """Return agents in the order in which they first registered."""
        ...

    def agent(self, agent_id: str) -> Record | None:
        """Return one agent with its newest threats; None if it is unknown."""
        ...

    def agent_vitals(self, agent_id: str, now: float) -> Record | None:
        """Return an agent's vitals over the last 24 hours; None if it is unknown."""
        ...

    def agent_counts(self) -> dict[str, int]:
        """Return the number of agents in each state, and of all as `total`."""
        ...

    def overview(self, now: float, organizations: Organizations = None) -> Record:
        """Return the summary of the fleet."""
        ...

    def situation(self, now: float, organizations: Organizations = None) -> Record:
        """Return who may have got in, whom blocks hurt, the approvals that wait, the agents that are not seen."""
        ...

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
        """Return threats, the last stored first; with a source address or a technique, the newest event first."""
        ...

    def threats_of_id(
        self, threat_id: str, agent_id: str | None = None, organizations: Organizations = None
    ) -> list[Record]:
        """Return the threats with an id."""
        ...

    def threat_summary(self, *, now: float, period: str, organizations: Organizations = None) -> Record:
        """Return the counts of threats of the fleet, or of organizations, within a period that ends now."""
        ...

    def active_policy(self) -> Record | None:
        """Return the rules of the global policy in the form of `POST /api/policy`; None if there are none."""
        ...

    def policy_document(self, scope: Scope) -> Record | None:
        """Return the newest revision of a scope."""
        ...

    def policy_history(self, *, organizations: Organizations = None, limit: int, cursor: str | None = None) -> Page:
        """Return every change of the fleet's policies, newest first."""
        ...

    def policy_documents(self, *, organizations: Organizations = None, limit: int, cursor: str | None = None) -> Page:
        """Return the current document of each scope, the last set first."""
        ...

    def policy_groups(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return the current document of each group, the last set first."""
        ...

    def policy_differences(
        self, before: int, after: int | None = None, organizations: Organizations = None
    ) -> list[Record]:
        """Return the differences between the documents of two revisions; None is the newest revision."""
        ...

    def organization_of_agent(self, agent_id: str) -> str | None:
        """Return the organization of a registered agent; None if it is unknown."""
        ...

    def organization_of_block(self, entry_id: str) -> str | None:
        """Return the organization of an emergency entry; None if it is unknown."""
        ...

    def hostnames(self, agent_ids: Sequence[str], organizations: Organizations = None) -> dict[str, str]:
        """Return the hostnames of those agents that belong to organizations."""
        ...

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
        """Return incidents, the last opened first."""
        ...

    def incident(self, incident_id: str) -> Record | None:
        """Return one incident with its members and entries."""
        ...

    def response_counts(self, *, after: float, organizations: Organizations) -> tuple[int, int]:
        """Return the number of entries that expire after a time, and of incidents that wait for approval."""
        ...

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
        """Return emergency entries and manual blocks that expire after a time, newest first."""
        ...

    def block(self, block_id: str) -> Record | None:
        """Return one emergency entry or manual block, or None."""
        ...

    def protection_forecast(
        self, *, since: float, now: float, organizations: Organizations = None, group: str | None = None
    ) -> Record:
        """Return the forecast of automatic blocking of the measures from `since` to `now`, in seconds since 1970."""
        ...

    def tokens(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return enrollment tokens without their secrets, newest first."""
        ...

    def access(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return access tokens without their texts, newest first."""
        ...

    def dead_letters(self, *, limit: int, cursor: str | None = None) -> Page:
        """Return rejected messages, newest first."""
        ...

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
        """Return audit records, newest first; `since` is in seconds since 1970."""
        ...

    def event_bounds(self) -> tuple[int, int]:
        """Return the lowest and the highest sequence of the stored events; (1, 0) where there is none."""
        ...

    def events(self, *, after: int, organizations: Organizations = None, limit: int) -> list[StoredEvent]:
        """Return the first stored events after a sequence."""
        ...

    def count_events(self, *, after: int, organizations: Organizations = None) -> int:
        """Return the number of stored events after a sequence."""
        ...

    def notification_group_is_stored(self, group: str) -> bool:
        """Return whether a stored message is of a group."""
        ...

    def mutes(self, now: float, organizations: Organizations = None) -> list[Record]:
        """Return the mutes in force, the oldest first; of some organizations and of the whole fleet, or all."""
        ...

    def notifications(self, *, channel: str | None = None, limit: int, cursor: str | None = None) -> Page:
        """Return messages to channels, newest first."""
        ...
