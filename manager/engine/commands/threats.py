"""Threat command: a person recognizes a threat as their own doing."""

from manager.engine.batch import Recognition
from manager.engine.commands.audit import AuditState, add_entry
from manager.engine.commands.requests import RecognizeThreat
from manager.engine.context import Context
from schemas.model import iso


def recognize_threat(context: Context, request: RecognizeThreat) -> bool:
    """Record that a threat is a person's own doing, or take that back; blocks and incidents stay as they are."""
    key, changes = (request.threat_id, request.agent_id), context.batch.changes
    known = changes.recognitions[key] if key in changes.recognitions else context.archive.recognition(*key)
    if (known is not None) == request.recognized:
        return False
    new = Recognition(context.batch.now.wall, request.author, request.note) if request.recognized else None
    changes.recognitions[key] = new
    action = "threat.recognize" if request.recognized else "threat.unrecognize"
    add_entry(context, context.origin, action, request.threat_id, before=_state(known), after=_state(new))
    data = {"threatId": request.threat_id, "recognized": request.recognized, "author": request.author}
    agent = context.fleet.registry.find(request.agent_id)
    context.batch.event("threat_recognized", agent, data=data, organization_id=request.organization_id)
    return True


def _state(recognition: Recognition | None) -> AuditState:
    if recognition is None:
        return None
    return {"at": iso(recognition.at), "by": recognition.author, "note": recognition.note}
