"""Enrollment tokens as people may see them: never a secret, nor what verifies one."""

import json

from manager.storage.queries.reader import Page, Reader, Record, cursor_after, moment, read_cursor
from manager.storage.tables import TokenTable


def page(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return tokens, newest first."""
    token = TokenTable
    query = token.select(
        token.token_id, token.created_at, token.organization_id, token.site, token.tags, token.expires_at,
        token.max_uses, token.uses, token.revoked_at,
    ).order_by(token.created_at.desc(), token.token_id.desc())  # fmt: skip
    if cursor is not None:
        created_at, token_id = read_cursor(cursor, float, str)
        same_moment = (token.created_at == created_at) & (token.token_id < token_id)
        query = query.where((token.created_at < created_at) | same_moment)
    rows = reader.rows(query.limit(limit + 1))
    last = rows[limit - 1] if len(rows) > limit else None
    following = None if last is None else cursor_after(last["created_at"], last["token_id"])
    return [record_of(row) for row in rows[:limit]], following


def record_of(row: Record) -> Record:
    """Return one token: whom it lets in, how often it did, and until when."""
    return {
        "tokenId": row["token_id"],
        "organizationId": row["organization_id"],
        "site": row["site"],
        "tags": json.loads(row["tags"]),
        "createdAt": moment(row["created_at"]),
        "expiresAt": moment(row["expires_at"]),
        "maxUses": row["max_uses"],
        "uses": row["uses"],
        "usesLeft": None if row["max_uses"] is None else max(0, row["max_uses"] - row["uses"]),
        "revokedAt": moment(row["revoked_at"]),
    }
