"""Verification of agents' messages: sender, size, message code and form."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from manager.domain.agents.agent import Agent, Credential
from manager.engine.inbox import Inbound
from manager.engine.messages.report_decoding import decode_reports
from schemas.decoding import DecodeError, decode
from schemas.fast_heartbeats import fast_heartbeat
from schemas.message_codes import has_mac, without_mac
from schemas.topics import HEARTBEAT, THREATS, Topic


class VerifiedMessage(Struct, frozen=True, gc=False):
    """A message with a valid code: its sender, its decoded content, and the keys of the sender that made the code."""

    agent: Agent
    content: Any
    credential: Credential


class InvalidMessage(Struct, frozen=True, gc=False):
    """A message that changes nothing, with the reason; `unknown_agent` if the registry has no such sender."""

    reason: str
    unknown_agent: bool = False


def verify(
    find_agent: Callable[[str], Agent | None], row: Topic, identifier: str, topic: str, payload: bytes
) -> VerifiedMessage | InvalidMessage:
    """Return the sender and the content of an agent's message, or the reason why it is invalid.

    Args:
        find_agent: returns the agent with an id.
        row: the topic's row in the topic table.
        identifier: the agent id in the topic.
        topic: the topic below the root; its text is covered by the message code.
        payload: the message.
    """
    agent = find_agent(identifier)
    if agent is None:
        return InvalidMessage("no such agent", unknown_agent=True)
    if len(payload) > row.limit:
        return InvalidMessage(f"{len(payload)} bytes; at most {row.limit} are taken")
    credential = agent.credential
    if not has_mac(credential.mac_key, topic, payload):
        return InvalidMessage("no right code")
    try:
        return VerifiedMessage(agent, _decoded(row, agent.agent_id, payload), credential)
    except DecodeError as error:
        return InvalidMessage(str(error))


def verify_ahead(
    find_agent: Callable[[str], Agent | None], messages: Iterable[Inbound], is_over: Callable[[], bool]
) -> None:
    """Verify reports before their batch, until there is no time left; `verified_ahead` returns the result in the batch.

    Args:
        find_agent: returns the agent with an id.
        messages: waiting messages; those of other topics, and invalid ones, are left to the batch.
        is_over: returns whether the time is over.
    """
    for message in messages:
        if is_over():
            return
        if message.row is THREATS and message.verified is None:
            found = verify(find_agent, message.row, message.identifier, message.topic, message.payload)
            message.verified = found if isinstance(found, VerifiedMessage) else None


def verified_ahead(find_agent: Callable[[str], Agent | None], message: Inbound) -> VerifiedMessage | None:
    """Return a message that was verified before its batch; None if its sender is removed or has other keys by now."""
    found: VerifiedMessage | None = message.verified
    if found is None or find_agent(message.identifier) is not found.agent:
        return None
    return found if found.agent.credential is found.credential else None


def _decoded(row: Topic, agent_id: str, payload: bytes) -> Any:
    """Return the content of a message with a right code.

    Raises:
        DecodeError: it is not the message of its topic.
    """
    if row is THREATS:
        return decode_reports(agent_id, payload)
    fast = fast_heartbeat(without_mac(payload)) if row is HEARTBEAT else None
    return fast or decode(row.models[0], payload, row.limit)
