"""From the inbox to a handler: who sent it, whether the code is right, and what it says. Anything else is refused."""

from manager.engine.desk import Desk
from manager.engine.handlers import HANDLERS
from manager.engine.inbox import Inbound
from manager.engine.registration import register
from schemas.codes import has_mac
from schemas.decoding import DecodeError, decode
from schemas.topics import PRESENCE, REGISTRATION


def take_in(desk: Desk, message: Inbound) -> None:
    """Verify, decode and handle one message; one that is refused becomes a dead letter and changes nothing."""
    row = message.row
    counters = desk.fleet.counters
    counters[row.name] += 1
    if row is REGISTRATION:
        register(desk, message)
        return
    topic = message.topic
    if not message.payload and row is PRESENCE:
        return  # the echo of a presence that was cleared
    agent = desk.fleet.registry.find(message.identifier)
    if agent is None:
        if row is PRESENCE:
            desk.batch.clear_retained(row.address(message.identifier))
        desk.dead_letter(topic, "no such agent", message.payload)
        return
    if len(message.payload) > row.limit:
        desk.dead_letter(topic, f"{len(message.payload)} bytes; at most {row.limit} are taken", message.payload)
        return
    if not has_mac(agent.credential.mac_key, topic, message.payload):
        desk.dead_letter(topic, "no right code", message.payload)
        return
    try:
        decoded = decode(row.models[0], message.payload, row.limit)
    except DecodeError as error:
        desk.dead_letter(topic, str(error), message.payload)
        return
    HANDLERS[row](desk, agent, decoded, message.payload)
