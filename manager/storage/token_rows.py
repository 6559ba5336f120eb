"""Enrollment tokens as rows and back again; what verifies a token lets in, too, so it is kept sealed."""

import json
from typing import Any

from manager.domain.tokens import Token
from manager.storage.seal import Seal

_PROOF_KEY = 32

TOKEN_COLUMNS = (
    "token_id", "proof_key", "created_at", "organization_id", "site", "tags", "expires_at", "max_uses", "uses",
    "revoked_at",
)  # fmt: skip
"""The columns that `TokenRows` writes and reads, in the order of its rows."""


class TokenRows:
    """Turns tokens into rows and back.

    Args:
        seal: encrypts their proof keys, each bound to its token's id.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def row(self, token: Token) -> tuple[Any, ...]:
        """Return the token's record, in the order of `TOKEN_COLUMNS`."""
        return (
            token.token_id, self._seal.close(token.proof_key, token.token_id), token.created_at,
            token.organization_id, token.site, json.dumps(token.tags), token.expires_at, token.max_uses, token.uses,
            token.revoked_at,
        )  # fmt: skip

    def token(self, row: tuple[Any, ...]) -> Token:
        """Return the token whose record `row` is; one of an earlier release stands there unsealed."""
        token_id, proof_key, created_at, organization_id, site, tags, expires_at, max_uses, uses, revoked_at = row
        kept = bytes(proof_key)
        return Token(
            token_id=token_id,
            proof_key=kept if len(kept) == _PROOF_KEY else self._seal.open(kept, token_id),
            created_at=created_at,
            organization_id=organization_id,
            site=site,
            tags=tuple(json.loads(tags)),
            expires_at=expires_at,
            max_uses=max_uses,
            uses=uses,
            revoked_at=revoked_at,
        )
