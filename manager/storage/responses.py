"""Responses and emergency entries in the store: written with the batch that made them, read back at a restart."""

import json
from collections.abc import Sequence
from typing import Any, cast

from peewee import Database

from manager.domain.response.emergency_entry import EmergencyEntry, Holder, Subject
from manager.domain.response.reaction import Response, ResponseState
from manager.engine.batch import Changes
from manager.storage.connection import BulkWriter

_RESPONSE = (
    "incident_id", "state", "reason", "at", "organization_wide", "granted_at", "made_by", "approval_expires_at",
    "approved_by",
)  # fmt: skip
_ENTRY = (
    "id", "scope", "target", "kind", "value", "organization_id", "site", "reason", "incident_id", "created_at",
    "expires_at",
)  # fmt: skip


class Responses:
    """The tables of responses and entries, in the writer's transaction and on its connection.

    Args:
        database: the writer's database.
        many: executes a statement for many rows.
    """

    def __init__(self, database: Database, many: BulkWriter) -> None:
        self._database = database
        self._many = many
        param = database.param
        updates = ", ".join(f"{column} = excluded.{column}" for column in _RESPONSE[1:])
        self._response_sql = (
            f"INSERT INTO incident_response ({', '.join(_RESPONSE)}) VALUES ({', '.join([param] * len(_RESPONSE))}) "
            f"ON CONFLICT (incident_id) DO UPDATE SET {updates}"
        )
        self._immunity_sql = f"UPDATE incident_response SET immunity = {param} WHERE incident_id = {param}"
        self._entry_sql = (
            f"INSERT INTO emergency_entry ({', '.join(_ENTRY)}) VALUES ({', '.join([param] * len(_ENTRY))}) "
            "ON CONFLICT DO NOTHING"
        )
        self._removal_sql = f"DELETE FROM emergency_entry WHERE id = {param}"

    def write(self, changes: Changes) -> None:
        """Write what the responder did."""
        if changes.responses:
            self._many(self._response_sql, [_response_row(response) for response in changes.responses.values()])
        if changes.entries_removed:
            self._many(self._removal_sql, [(entry.id,) for entry in changes.entries_removed])
        if changes.entries_added:
            self._many(self._entry_sql, [_entry_row(entry) for entry in changes.entries_added])
        if changes.immunity:
            self._many(
                self._immunity_sql,
                [(json.dumps(immunity), incident_id) for incident_id, immunity in changes.immunity.items()],
            )

    def entries(self) -> list[EmergencyEntry]:
        """Return every entry that is kept."""
        return [_entry(row) for row in self._all(f"SELECT {', '.join(_ENTRY)} FROM emergency_entry")]

    def responses(self) -> list[Response]:
        """Return the response of every incident that is kept."""
        return [_response(row) for row in self._all(f"SELECT {', '.join(_RESPONSE)} FROM incident_response")]

    def prune(self) -> None:
        """Delete the responses of incidents that are no longer kept."""
        self._database.execute_sql(
            "DELETE FROM incident_response WHERE incident_id NOT IN (SELECT id FROM incident) "
            "AND incident_id NOT IN (SELECT incident_id FROM emergency_entry)"
        )

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        return cast("list[tuple[Any, ...]]", self._database.execute_sql(sql).fetchall())


def _response_row(response: Response) -> tuple[Any, ...]:
    return (
        response.incident_id, response.state, response.reason, response.at, response.organization_wide,
        response.granted_at, json.dumps(response.made_by), response.approval_expires_at,
        response.approved_by,
    )  # fmt: skip


def _response(row: Sequence[Any]) -> Response:
    incident_id, state, reason, at, organization_wide, granted_at, made_by, approval_expires_at, approved_by = row
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
    )


def _entry_row(entry: EmergencyEntry) -> tuple[Any, ...]:
    subject = entry.subject
    return (
        entry.id, entry.scope, entry.target, subject.kind, subject.value, subject.organization_id, subject.site,
        entry.reason, entry.incident_id, entry.created_at, entry.expires_at,
    )  # fmt: skip


def _entry(row: Sequence[Any]) -> EmergencyEntry:
    id_, scope, target, kind, value, organization_id, site, reason, incident_id, created_at, expires_at = row
    return EmergencyEntry(
        id=id_,
        scope=cast("Holder", scope),
        target=target,
        subject=Subject(kind, value, organization_id, site),
        reason=reason,
        incident_id=incident_id,
        created_at=created_at,
        expires_at=expires_at,
    )
