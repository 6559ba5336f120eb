"""Enrollment token commands: create, rotate and revoke; only the key that verifies proofs is stored."""

from dataclasses import replace

from manager.domain.agents.tokens import Token
from manager.engine.batch import Undo
from manager.engine.commands.requests import CreateToken, RevokeToken, RotateToken
from manager.engine.context import Context
from manager.errors import Conflict, NotFound
from schemas.keys import EnrollmentToken


def create_token(context: Context, request: CreateToken) -> EnrollmentToken:
    """Create an enrollment token.

    Raises:
        Conflict: a token that is not revoked has the name.
    """
    fleet = context.fleet
    if request.name is not None and _named(context, request.name) is not None:
        raise Conflict(f"an enrollment token named {request.name} exists: rotate it, or revoke it first")
    token = _new_text(context)
    stored = Token(
        token_id=token.token_id,
        proof_key=token.proof_key,
        created_at=context.batch.now.wall,
        organization_id=request.organization_id,
        site=request.site,
        tags=request.tags,
        expires_at=request.expires_at,
        max_uses=request.max_uses,
        name=request.name,
        rate=request.rate,
        ephemeral=request.ephemeral,
    )
    fleet.tokens[token.token_id] = stored
    _undo(context, token.token_id, None)
    context.batch.changes.tokens[token.token_id] = stored
    return token


def rotate_token(context: Context, request: RotateToken) -> EnrollmentToken:
    """Replace a token's secret: the old text enrolls nobody from now on; agents that registered with it stay.

    Raises:
        NotFound: there is no such token, or it is revoked.
    """
    stored = find_token(context, request.token_id)
    if stored.revoked_at is not None:
        raise NotFound(f"Token {request.token_id} not found, or revoked: create one")
    made = _new_text(context)
    token = EnrollmentToken(stored.token_id, made.secret, made.sign_key, made.ca_fingerprint)
    _undo(context, stored.token_id, replace(stored))
    stored.proof_key, stored.rotated_at = token.proof_key, context.batch.now.wall
    context.batch.changes.tokens[stored.token_id] = stored
    return token


def revoke_token(context: Context, request: RevokeToken) -> str:
    """Revoke an enrollment token; agents that registered with it stay.

    Raises:
        NotFound: there is no such token.
    """
    token = find_token(context, request.token_id)
    if token.revoked_at is None:
        _undo(context, token.token_id, replace(token))
        token.revoked_at = context.batch.now.wall
        context.batch.changes.tokens[token.token_id] = token
    return token.token_id


def find_token(context: Context, id_or_name: str) -> Token:
    """Return the token with an id, or the one that is not revoked with a name.

    Raises:
        NotFound: there is no such token.
    """
    token = context.fleet.tokens.get(id_or_name) or _named(context, id_or_name)
    if token is None:
        raise NotFound(f"Token {id_or_name} not found")
    return token


def _undo(context: Context, token_id: str, former: Token | None) -> None:
    """Have a token be as before, or not be, if the store rejects the change of it; its uses stay counted."""

    def revert(corrections: Context) -> None:
        tokens = corrections.fleet.tokens
        known = tokens.pop(token_id, None)
        if former is not None:
            tokens[token_id] = former if known is None else replace(former, uses=known.uses)

    context.batch.undo.append(Undo("tokens", token_id, revert))


def _named(context: Context, name: str) -> Token | None:
    return next((each for each in context.fleet.tokens.values() if each.name == name and each.revoked_at is None), None)


def _new_text(context: Context) -> EnrollmentToken:
    return EnrollmentToken.new(context.fleet.keyring.sign_public, context.fleet.settings.ca_fingerprint)
