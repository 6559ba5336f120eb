"""Operators' lists for the API: the audit log, enrollment and access tokens, dead letters."""

import json
from typing import NamedTuple

from peewee import Expression

from manager.storage.queries import agents
from manager.storage.queries.reader import Page, Reader, Record, keyset_page, moment
from manager.storage.tables import AccessTokenTable, AuditEntryTable, DeadLetterTable, TokenTable


class AuditFilter(NamedTuple):
    """Filters of audit entries; None matches any. `since` is in seconds since 1970; `action` may be the first word."""

    since: float | None = None
    actor: str | None = None
    action: str | None = None
    target: str | None = None

    def conditions(self) -> list[Expression]:
        """Return the WHERE conditions."""
        entry, conditions = AuditEntryTable, []
        if self.since is not None:
            conditions.append(entry.at >= self.since)
        if self.actor is not None:
            conditions.append(entry.actor == self.actor)
        if self.action is not None:
            conditions.append((entry.action == self.action) | entry.action.startswith(f"{self.action}."))
        if self.target is not None:
            conditions.append(entry.target == self.target)
        return conditions


def audit_page(reader: Reader, wanted: AuditFilter, limit: int, cursor: str | None) -> Page:
    """Return audit entries, newest first, each about an agent with its hostname."""
    query = AuditEntryTable.select()
    conditions = wanted.conditions()
    if conditions:
        query = query.where(*conditions)
    records, following = reader.page(query, AuditEntryTable.id, _audit_record, limit, cursor)
    hosts = {record["target"] for record in records if record["target"].startswith("ag-")}
    names = agents.hostnames(reader, sorted(hosts), None) if hosts else {}
    return [{**record, "hostname": names.get(record["target"])} for record in records], following


def tokens_page(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return enrollment tokens, newest first, without secrets and proof keys."""
    token = TokenTable
    query = token.select(
        token.token_id, token.created_at, token.organization_id, token.site, token.tags, token.expires_at,
        token.max_uses, token.uses, token.revoked_at, token.name, token.rate, token.ephemeral, token.rotated_at,
    )  # fmt: skip
    rows, following = keyset_page(reader, query, at=token.created_at, key=token.token_id, limit=limit, cursor=cursor)
    return [_token_record(row) for row in rows], following


def access_page(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return access tokens, newest first, without their digests."""
    token = AccessTokenTable
    query = token.select(
        token.name, token.role, token.organizations, token.created_at, token.rotated_at, token.expires_at,
        token.last_used_at, token.revoked_at,
    )  # fmt: skip
    rows, following = keyset_page(reader, query, at=token.created_at, key=token.name, limit=limit, cursor=cursor)
    return [_access_record(row) for row in rows], following


def dead_letters_page(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return dead letters (messages that changed nothing), newest first."""
    return reader.page(DeadLetterTable.select(), DeadLetterTable.id, _dead_letter_record, limit, cursor)


def _audit_record(row: Record) -> Record:
    return {
        "id": row["id"],
        "at": moment(row["at"]),
        "actor": row["actor"],
        "role": row["role"],
        "action": row["action"],
        "target": row["target"],
        "address": row["address"],
        "requestId": row["request_id"],
        "before": None if row["before"] is None else json.loads(row["before"]),
        "after": None if row["after"] is None else json.loads(row["after"]),
    }


def _token_record(row: Record) -> Record:
    return {
        "tokenId": row["token_id"],
        "name": row["name"],
        "organizationId": row["organization_id"],
        "site": row["site"],
        "tags": json.loads(row["tags"]),
        "createdAt": moment(row["created_at"]),
        "expiresAt": moment(row["expires_at"]),
        "maxUses": row["max_uses"],
        "uses": row["uses"],
        "rate": row["rate"],
        "ephemeral": bool(row["ephemeral"]),
        "rotatedAt": moment(row["rotated_at"]),
        "usesLeft": None if row["max_uses"] is None else max(0, row["max_uses"] - row["uses"]),
        "revokedAt": moment(row["revoked_at"]),
    }


def _access_record(row: Record) -> Record:
    return {
        "name": row["name"],
        "role": row["role"],
        "organizations": json.loads(row["organizations"]) or None,
        "createdAt": moment(row["created_at"]),
        "rotatedAt": moment(row["rotated_at"]),
        "expiresAt": moment(row["expires_at"]),
        "lastUsedAt": moment(row["last_used_at"]),
        "revokedAt": moment(row["revoked_at"]),
    }


def _dead_letter_record(row: Record) -> Record:
    """Return a dead letter's record; bytes that are not UTF-8 are escaped."""
    return {
        "id": row["id"],
        "receivedAt": moment(row["received_at"]),
        "topic": row["topic"],
        "reason": row["reason"],
        "size": row["size"],
        "payload": bytes(row["payload"]).decode("utf-8", "backslashreplace"),
    }
