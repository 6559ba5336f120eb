"""Agents as rows and back again; secrets leave memory only encrypted with the manager's store key."""

import json
import os
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from manager.domain.agents.agent import Agent, Credential, Door, Host, InForce, Reason, RegistrationStamp, State, Vitals
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.tokens import Token


class Seal:
    """Encrypts small secrets (AES-256-GCM), each bound to the name of what it belongs to.

    Args:
        store_key: the manager's, 32 bytes.
    """

    def __init__(self, store_key: bytes) -> None:
        self._cipher = AESGCM(store_key)

    def close(self, plain: bytes, name: str) -> bytes:
        """Return a secret as the store may have it."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, name.encode())

    def open(self, sealed: bytes, name: str) -> bytes:
        """Return the secret again.

        Raises:
            InvalidTag: it was sealed by another manager's key, for another name, or is damaged.
        """
        return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode())


_SECRET = 32

COLUMNS = (
    "number", "agent_id", "organization_id", "hostname", "os", "arch", "version", "site", "tags", "addresses",
    "gateways", "ip", "door", "token_id", "keys", "mqtt_digest", "http_digest", "registered_at", "state",
    "state_since", "reason", "session", "heartbeat_sequence", "last_heartbeat", "clock_offset", "clock_origin",
    "clock_session", "stamp_sent_at", "stamp_digest", "stamp_reply", "cpu", "memory", "uptime", "mode",
    "events_processed", "events_total", "threats_detected", "actions_executed", "outbox_size", "outbox_dropped",
    "policy_version", "policy_digest", "policy_state", "policy_error", "policy_applied_at", "blocklist_sequence",
)  # fmt: skip
"""The columns that `AgentRows` writes and reads, in the order of its rows."""


class AgentRows:
    """Turns agents into rows and back.

    Args:
        seal: encrypts the agents' keys, each bound to its agent's id.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal_of_keys = seal
        self._sealed: dict[str, tuple[Credential, bytes]] = {}

    def row(self, agent: Agent) -> tuple[Any, ...]:
        """Return the agent's record, in the order of `COLUMNS`."""
        host, credential, clock, vitals, force = (
            agent.host, agent.credential, agent.clock, agent.vitals, agent.in_force,
        )  # fmt: skip
        stamp = agent.stamp
        return (
            agent.number, agent.agent_id, agent.organization_id, host.hostname, host.os, host.arch, host.version,
            host.site, json.dumps(host.tags), json.dumps(host.addresses), json.dumps(host.gateways), host.ip,
            agent.door, agent.token_id, self._seal(agent), credential.mqtt_digest, credential.http_digest,
            agent.registered_at, agent.state, agent.state_since, agent.reason, agent.session,
            agent.heartbeat_sequence, agent.last_heartbeat, clock.seconds, clock.origin, clock.session,
            stamp.sent_at if stamp else None, stamp.digest if stamp else None, stamp.reply if stamp else None,
            vitals.cpu, vitals.memory, vitals.uptime, vitals.mode, vitals.events_processed, vitals.events_total,
            vitals.threats_detected, vitals.actions_executed, vitals.outbox_size, vitals.outbox_dropped,
            force.version, force.digest, force.state, force.error, force.applied_at, force.blocklist_sequence,
        )  # fmt: skip

    def agent(self, row: tuple[Any, ...]) -> Agent:
        """Return the agent whose record `row` is; it has not been heard since the start."""
        (
            number, agent_id, organization_id, hostname, os_, arch, version, site, tags, addresses, gateways, ip,
            door, token_id, keys, mqtt_digest, http_digest, registered_at, state, state_since, reason, session,
            heartbeat_sequence, last_heartbeat, clock_offset, clock_origin, clock_session, stamp_sent_at,
            stamp_digest, stamp_reply, cpu, memory, uptime, mode, events_processed, events_total, threats_detected,
            actions_executed, outbox_size, outbox_dropped, policy_version, policy_digest, policy_state, policy_error,
            policy_applied_at, blocklist_sequence,
        ) = row  # fmt: skip
        opened = self._seal_of_keys.open(keys, agent_id)
        return Agent(
            number=number,
            agent_id=agent_id,
            organization_id=organization_id,
            host=Host(
                hostname, os_, arch, version, site, _texts(tags), _texts(addresses), _texts(gateways), ip
            ),
            credential=Credential(opened[:_SECRET], opened[_SECRET:], mqtt_digest, http_digest),
            token_id=token_id,
            door=Door(door),
            registered_at=registered_at,
            state=State(state),
            state_since=state_since,
            reason=Reason(reason),
            session=session,
            heartbeat_sequence=heartbeat_sequence,
            last_heartbeat=last_heartbeat,
            clock=ClockOffset(clock_offset, clock_origin, clock_session),
            stamp=None if stamp_digest is None else RegistrationStamp(stamp_sent_at, stamp_digest, stamp_reply),
            vitals=Vitals(
                cpu, memory, uptime, mode, events_processed, events_total, threats_detected, actions_executed,
                outbox_size, outbox_dropped,
            ),
            in_force=InForce(
                policy_version, policy_digest, policy_state, policy_error, blocklist_sequence, policy_applied_at,
                policy_applied_at or 0.0,
            ),
        )  # fmt: skip

    def _seal(self, agent: Agent) -> bytes:
        """Encrypt an agent's keys, once for each credential."""
        kept = self._sealed.get(agent.agent_id)
        if kept is not None and kept[0] is agent.credential:
            return kept[1]
        plain = agent.credential.secret + agent.credential.mac_key
        sealed = self._seal_of_keys.close(plain, agent.agent_id)
        self._sealed[agent.agent_id] = (agent.credential, sealed)
        return sealed

    def forget(self, agent_id: str) -> None:
        """Drop what is kept of a removed agent."""
        self._sealed.pop(agent_id, None)


@lru_cache(1024)
def _texts(column: str) -> tuple[str, ...]:
    return tuple(json.loads(column)) if column != "[]" else ()


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


_NONCE = 12
