"""Access commands: create, rotate and revoke access tokens; only the SHA-256 of a token's text is kept."""

import hashlib
import secrets
from dataclasses import replace

from manager.domain.access import LIVE_TOKENS, AccessToken, is_reserved
from manager.engine.batch import Undo
from manager.engine.commands.access_requests import CreateAccess, NewAccess, RevokeAccess, RotateAccess
from manager.engine.context import Context
from manager.errors import Conflict, NotFound

PREFIX = "pga_"
"""The beginning of every access token, by which scanners for leaked secrets find one."""


def create_access(context: Context, request: CreateAccess) -> NewAccess:
    """Create an access token.

    Raises:
        Conflict: an unrevoked token has the name, in any case; it stands for another actor; or there are too many.
    """
    access, now = context.fleet.access, context.batch.now.wall
    if is_reserved(request.name):
        raise Conflict(f"the audit log uses the name {request.name} for another actor; choose another")
    known = access.look_alike(request.name)
    if known is not None:
        raise Conflict(f"an access token named {known.name} exists: rotate it, revoke it first, or choose another name")
    if access.live(now) >= LIVE_TOKENS:
        raise Conflict(f"there are {LIVE_TOKENS} access tokens: revoke those that nobody uses")
    text = _new_text()
    token = AccessToken(request.name, _digest(text), request.role, request.organizations, now, now, request.expires_at)
    former = access.get(request.name)
    access.add(token)
    _undo(context, token.name, former)
    return _stored(context, token, text)


def rotate_access(context: Context, request: RotateAccess) -> NewAccess:
    """Replace a token's text; the old one is refused from now on.

    Raises:
        NotFound: there is no such token, or it is revoked.
    """
    access, now = context.fleet.access, context.batch.now.wall
    token = access.get(request.name)
    if token is None or token.revoked_at is not None:
        raise NotFound(f"Access token {request.name} not found, or revoked: create one")
    expires_at = request.expires_at
    if expires_at is None and token.lifetime is not None:
        expires_at = now + token.lifetime
    text = _new_text()
    _undo(context, token.name, replace(token))
    access.rotate(token, _digest(text), now, expires_at)
    return _stored(context, token, text)


def revoke_access(context: Context, request: RevokeAccess) -> str:
    """Revoke a token: it is refused from now on, and its streams end."""
    token = context.fleet.access.get(request.name)
    if token is None:
        raise NotFound(f"Access token {request.name} not found")
    if token.revoked_at is None:
        _undo(context, token.name, replace(token))
        token.revoked_at = context.batch.now.wall
        context.batch.changes.access[token.name] = token
    return token.name


def _undo(context: Context, name: str, former: AccessToken | None) -> None:
    """Have a token be as before, or not be, if the store rejects the change of it."""

    def revert(corrections: Context) -> None:
        access = corrections.fleet.access
        known = access.get(name)
        if former is not None:
            access.restore(former)
        elif known is not None:
            access.discard(known)

    context.batch.undo.append(Undo("access", name, revert))


def _stored(context: Context, token: AccessToken, text: str) -> NewAccess:
    context.batch.changes.access[token.name] = token
    return NewAccess(token.name, text, token)


def _new_text() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
