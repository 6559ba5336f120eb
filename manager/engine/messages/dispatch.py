"""Dispatch: verifies each message of the broker and calls the handler of its topic."""

from manager.engine.context import Context
from manager.engine.inbox import Inbound
from manager.engine.messages.handlers import HANDLERS
from manager.engine.messages.registration import register
from manager.engine.messages.verification import InvalidMessage, verify
from schemas.topics import PRESENCE, REGISTRATION


def dispatch(context: Context, message: Inbound) -> None:
    """Handle one message; an invalid one becomes a dead letter and changes nothing."""
    row = message.row
    context.fleet.counters[row.name] += 1
    if row is REGISTRATION:
        register(context, message)
        return
    if not message.payload and row is PRESENCE:
        return  # the echo of a cleared presence
    found = verify(context.fleet.registry.find, row, message.identifier, message.topic, message.payload)
    if isinstance(found, InvalidMessage):
        if found.unknown_agent and row is PRESENCE:
            context.batch.clear_retained(row.address(message.identifier))
        context.dead_letter(message.topic, found.reason, message.payload)
        return
    HANDLERS[row](context, found.agent, found.content, message.payload)
