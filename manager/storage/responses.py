"""Stores responses, emergency entries and manual blocks with each batch, and reads them back at a restart."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from manager.domain.response.emergency_entry import EmergencyEntry, Holder, Subject
from manager.domain.response.manual_blocks import ManualBlock, ManualHolder, ManualScope
from manager.domain.response.response_changes import Response, ResponseState
from manager.engine.batch import Changes
from manager.storage.health import StoreHealth
from manager.storage.statements import Statements


class StoredResponses:
    """Reads and writes responses and emergency entries in the writer's transaction.

    Args:
        statements: those of the writer's database.
        health: recognizes damaged rows.
    """

    def __init__(self, statements: Statements, health: StoreHealth) -> None:
        self._statements = statements
        self._health = health

    def write(self, changes: Changes) -> None:
        """Write responses, entries, manual blocks, and times to acceptance and immunity."""
        write = self._statements.execute_many
        if changes.responses:
            write("responses.upsert", [_response_row(response) for response in changes.responses.values()])
        if changes.entries_added:
            write("responses.insert_entry", [_entry_row(entry) for entry in changes.entries_added])
        if changes.entries_moved:
            write("responses.move_entry", [(entry.incident_id, entry.id) for entry in changes.entries_moved])
        if changes.entries_removed:  # last: one batch may add an entry and remove it again
            write("responses.delete_entry", [(entry.id,) for entry in changes.entries_removed])
        self._write_manual(changes)
        if changes.work:
            write("incidents.insert_work", [tuple(work) for work in changes.work])
        for name, figures in (("acceptance", changes.acceptance), ("immunity", changes.immunity)):
            if figures:
                write(
                    f"responses.set_{name}", [(json.dumps(each), incident_id) for incident_id, each in figures.items()]
                )

    def _write_manual(self, changes: Changes) -> None:
        """Write manual blocks: those of one batch may be added, moved and removed."""
        write = self._statements.execute_many
        if changes.manual_added:
            write("responses.insert_manual_block", [_manual_row(block) for block in changes.manual_added])
        if changes.manual_moved:
            write("responses.move_manual_block", [(block.organization_id, block.id) for block in changes.manual_moved])
        if changes.manual_removed:
            write("responses.delete_entry", [(block.id,) for block in changes.manual_removed])

    def entries(self, agent_ids: Iterable[str] = ()) -> list[EmergencyEntry]:
        """Return every entry; what many of them have alike is one object.

        Args:
            agent_ids: the ids in memory, which the entries of these agents share.
        """
        alike: dict[Any, Any] = {agent_id: agent_id for agent_id in agent_ids}
        with self._health.content("emergency_entry"):
            return [_entry(row, alike.setdefault) for row in self._statements.each("responses.load_entries")]

    def manual_blocks(self) -> list[ManualBlock]:
        """Return every manual block."""
        with self._health.content("emergency_entry"):
            return [_manual(row) for row in self._statements.rows("responses.load_manual_blocks")]

    def responses(self) -> list[Response]:
        """Return every response."""
        with self._health.content("incident_response"):
            return [response_of_row(row) for row in self._statements.rows("responses.load")]


def _response_row(response: Response) -> tuple[Any, ...]:
    return (
        response.incident_id, response.state, response.reason, response.at, response.organization_wide,
        response.granted_at, json.dumps(response.made_by), response.approval_expires_at,
        response.approved_by, response.members_missing,
    )  # fmt: skip


def response_of_row(row: Sequence[Any]) -> Response:
    """Return the response of a row in the column order of `responses.upsert`."""
    (
        incident_id, state, reason, at, organization_wide, granted_at, made_by, approval_expires_at, approved_by,
        members_missing,
    ) = row  # fmt: skip
    return Response(
        incident_id=incident_id,
        state=ResponseState(state),
        reason=reason,
        at=at,
        organization_wide=bool(organization_wide),
        granted_at=granted_at,
        made_by=tuple(json.loads(made_by)),
        approval_expires_at=approval_expires_at,
        approved_by=approved_by,
        members_missing=bool(members_missing),
    )


def _entry_row(entry: EmergencyEntry) -> tuple[Any, ...]:
    subject = entry.subject
    return (
        entry.id, entry.scope, entry.target, subject.kind, subject.value, subject.organization_id, subject.site,
        entry.reason, entry.incident_id, entry.created_at, entry.expires_at, entry.number,
    )  # fmt: skip


def _entry(row: Sequence[Any], one: Callable[[Any, Any], Any]) -> EmergencyEntry:
    """Return the entry of a row; `one` returns the object that stands for all that equal a value."""
    id_, scope, target, kind, value, organization_id, site, reason, incident_id, created_at, expires_at, number = row
    subject = Subject(kind, value, organization_id, site)
    return EmergencyEntry(
        id=id_,
        scope=cast("Holder", one(scope, scope)),
        target=one(target, target),
        subject=one(subject, subject),
        reason=one(reason, reason),
        incident_id=one(incident_id, incident_id),
        created_at=one(created_at, created_at),
        expires_at=one(expires_at, expires_at),
        number=number,
    )


def _manual_row(block: ManualBlock) -> tuple[Any, ...]:
    return (
        block.id, *block.holder, block.organization_id, block.value, block.reason, block.added_by, block.created_at,
        block.expires_at, block.overrides, block.number,
    )  # fmt: skip


def _manual(row: Sequence[Any]) -> ManualBlock:
    id_, scope, target, *members = row
    return ManualBlock(id_, ManualHolder(cast("ManualScope", scope), target), *members)
