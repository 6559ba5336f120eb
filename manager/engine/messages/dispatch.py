"""From the inbox to a handler: who sent it, whether the code is right, and what it says. Anything else is refused."""

from manager.engine.context import Context
from manager.engine.inbox import Inbound
from manager.engine.messages.handlers import HANDLERS
from manager.engine.messages.registration import register
from schemas.codes import has_mac
from schemas.decoding import DecodeError, decode
from schemas.topics import PRESENCE, REGISTRATION


def dispatch(context: Context, message: Inbound) -> None:
    """Verify, decode and handle one message; one that is refused becomes a dead letter and changes nothing."""
    row = message.row
    counters = context.fleet.counters
    counters[row.name] += 1
    if row is REGISTRATION:
        register(context, message)
        return
    topic = message.topic
    if not message.payload and row is PRESENCE:
        return  # the echo of a presence that was cleared
    agent = context.fleet.registry.find(message.identifier)
    if agent is None:
        if row is PRESENCE:
            context.batch.clear_retained(row.address(message.identifier))
        context.dead_letter(topic, "no such agent", message.payload)
        return
    if len(message.payload) > row.limit:
        context.dead_letter(topic, f"{len(message.payload)} bytes; at most {row.limit} are taken", message.payload)
        return
    if not has_mac(agent.credential.mac_key, topic, message.payload):
        context.dead_letter(topic, "no right code", message.payload)
        return
    try:
        decoded = decode(row.models[0], message.payload, row.limit)
    except DecodeError as error:
        context.dead_letter(topic, str(error), message.payload)
        return
    HANDLERS[row](context, agent, decoded, message.payload)
