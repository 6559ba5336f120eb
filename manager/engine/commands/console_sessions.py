"""Session commands: a person signs in at the console, and out; only the SHA-256 of the cookie is kept."""

from manager.domain.console_sessions import ConsoleSession
from manager.engine.commands.access_requests import CloseSession, OpenSession, RecordRefusedSignIns
from manager.engine.commands.audit import add_entry
from manager.engine.context import Context


def open_session(context: Context, request: OpenSession) -> ConsoleSession:
    """Open a session; with the maximum of one token's sessions, the one that was idle longest ends."""
    batch, origin = context.batch, context.origin._replace(actor=request.author)
    now = batch.now.wall
    session = ConsoleSession(request.session_id, request.token_digest, now, now)
    ended = context.fleet.sessions.open(session)
    if ended is not None:
        batch.changes.sessions[ended.id] = None
    batch.changes.sessions[session.id] = session
    batch.event("signed_in", data={"name": request.author, "address": origin.address})
    add_entry(context, origin, "session.open", request.author, before=None, after=None)
    return session


def close_session(context: Context, request: CloseSession) -> str:
    """End a session, if it has not ended."""
    if context.fleet.sessions.close(request.session_id) is not None:
        context.batch.changes.sessions[request.session_id] = None
        add_entry(context, context.origin, "session.close", request.author, before=None, after=None)
    return request.session_id


def record_refused_sign_ins(context: Context, request: RecordRefusedSignIns) -> None:
    """Tell of an address that guesses at tokens."""
    context.batch.event("sign_in_refused", data={"address": request.address, "count": request.count})
