"""Converts agents and tokens to rows and back; secrets of agents and enrollment tokens are encrypted."""

import json
import os
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from manager.domain.access import AccessToken, Role
from manager.domain.agents.agent import STAMP_IN_STORE, Agent, Credential, Door, InForce, Reason, State, Vitals
from manager.domain.agents.clock_offset import ClockOffset
from manager.domain.agents.condition import Condition, EnforcedMeasures
from manager.domain.agents.host import Host
from manager.domain.agents.shared_values import remembering, shared_percentage
from manager.domain.agents.tokens import Token

_NONCE = 12

_TEXTS_SHARED = 20_000
"""The number of texts that are shared; an agent may state others with each heartbeat, and is read again and again."""

_DOORS = {door.value: door for door in Door}
_STATES = {state.value: state for state in State}
_REASONS = {reason.value: reason for reason in Reason}
"""The members by their stored values: a dict costs a quarter of a call of the class."""


class SecretCipher:
    """Encrypts short secrets with AES-256-GCM, each bound to the name of its owner.

    Args:
        store_key: the manager's store key, 32 bytes.
    """

    def __init__(self, store_key: bytes) -> None:
        self._cipher = AESGCM(store_key)

    def encrypt(self, plain: bytes, name: str) -> bytes:
        """Return the encrypted secret."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, name.encode())

    def decrypt(self, encrypted: bytes, name: str) -> bytes:
        """Return the plain secret.

        Raises:
            InvalidTag: it was encrypted with another key or for another name, or is damaged.
        """
        return self._cipher.decrypt(encrypted[:_NONCE], encrypted[_NONCE:], name.encode())


class AgentRows:
    """Converts agents to rows in the column order of `agents.upsert`, and back.

    Texts that many agents share are one object.

    Args:
        cipher: encrypts the agents' keys, each bound to the agent's id.
    """

    def __init__(self, cipher: SecretCipher) -> None:
        self._cipher = cipher
        self._texts: dict[Any, Any] = {}

    def to_row(self, agent: Agent) -> tuple[Any, ...]:
        """Return an agent's row."""
        host, credential = agent.host, agent.credential
        keys = mqtt_digest = http_digest = None
        if not credential.is_stored:
            keys = self._cipher.encrypt(credential.sealed_part, agent.agent_id)
            mqtt_digest, http_digest = credential.mqtt_digest, credential.http_digest
        stamp = agent.stamp
        if stamp is STAMP_IN_STORE:
            stamp = None
        return (
            agent.number, agent.agent_id, agent.organization_id, host.hostname, host.os, host.arch, host.version,
            host.site, json.dumps(host.tags), json.dumps(host.addresses), json.dumps(host.gateways), host.ip,
            agent.door, agent.token_id, keys, mqtt_digest, http_digest,
            agent.registered_at, agent.state, agent.state_since, agent.reason, agent.session,
            stamp.sent_at if stamp else None, stamp.digest if stamp else None, stamp.reply if stamp else None,
            *stated_row(agent)[:-1],
            json.dumps(host.reported_tags), json.dumps(sorted(agent.operator_set)), agent.registered_in,
            host.reported_site,
        )  # fmt: skip

    def to_agent(self, row: tuple[Any, ...]) -> Agent:
        """Return the agent of a row, with no contact since the manager's start.

        Raises:
            InvalidTag: its keys were encrypted with another store key, or are damaged.
        """
        (
            number, agent_id, organization_id, hostname, os_, arch, version, site, tags, addresses, gateways, ip,
            door, token_id, keys, http_digest, registered_at, state, state_since, reason, session,
            heartbeat_sequence, last_heartbeat, clock_offset, clock_origin, clock_session, has_stamp, cpu, memory,
            uptime, mode, events_processed, events_total, threats_detected, actions_executed, outbox_size,
            outbox_dropped, policy_version, policy_digest, policy_state, policy_error, policy_applied_at,
            blocklist_sequence, health, enforcement, mode_wanted, trial_seconds_left, enforced, reported_tags,
            operator_set, registered_in, reported_site,
        ) = row  # fmt: skip
        if len(self._texts) > _TEXTS_SHARED:
            self._texts.clear()
        one = self._texts.setdefault
        if state_since == registered_at:
            state_since = registered_at  # one object, as of an agent that registered since the manager's start
        return Agent(
            number=number,
            agent_id=agent_id,
            organization_id=one(organization_id, organization_id),
            host=Host.of(
                hostname, os_, arch, version, site=site, tags=_texts(tags), addresses=_texts(addresses),
                gateways=_texts(gateways), ip=ip, reported_tags=_texts(reported_tags), reported_site=reported_site,
            ),
            credential=Credential(self._cipher.decrypt(keys, agent_id) + http_digest, is_stored=True),
            token_id=one(token_id, token_id),
            door=_DOORS[door],
            registered_at=registered_at,
            state=_STATES[state],
            state_since=state_since,
            reason=_REASONS[reason],
            session=session,
            heartbeat_sequence=heartbeat_sequence,
            last_heartbeat=last_heartbeat,
            clock=ClockOffset(clock_offset, clock_origin, clock_session),
            stamp=STAMP_IN_STORE if has_stamp else None,
            vitals=Vitals(
                shared_percentage(cpu), shared_percentage(memory), uptime, one(mode, mode), events_processed,
                events_total, threats_detected, actions_executed, outbox_size, outbox_dropped, sources=None,
            ),
            in_force=InForce.of(
                policy_version, policy_digest, policy_state, error=policy_error,
                blocklist_sequence=blocklist_sequence, applied_at=policy_applied_at,
            ),
            condition=Condition(
                health, enforcement, mode_wanted, trial_seconds_left, None if enforced is None else _measures(enforced)
            ).shared(),
            operator_set=_set(operator_set),
            registered_in=one(registered_in, registered_in),
        )  # fmt: skip


def set_vitals(agent: Agent, row: tuple[Any, ...]) -> None:
    """Set the values of an agent that are in its row of vitals, in the order of `warm_agents.vitals`."""
    (
        _, heartbeat_sequence, last_heartbeat, clock_offset, clock_origin, clock_session, cpu, memory, uptime,
        events_processed, events_total, threats_detected, actions_executed, outbox_size, outbox_dropped,
        trial_seconds_left,
    ) = row  # fmt: skip
    agent.heartbeat_sequence, agent.last_heartbeat = heartbeat_sequence, last_heartbeat
    agent.clock = ClockOffset(clock_offset, clock_origin, clock_session)
    agent.vitals = Vitals(
        shared_percentage(cpu), shared_percentage(memory), uptime, agent.vitals.mode, events_processed, events_total,
        threats_detected, actions_executed, outbox_size, outbox_dropped, sources=None,
    )  # fmt: skip
    if trial_seconds_left != agent.condition.trial_seconds_left:
        agent.condition = agent.condition.changed(trial_seconds_left=trial_seconds_left)


def stated_row(agent: Agent) -> tuple[Any, ...]:
    """Return an agent's row in the parameter order of `agents.update_stated`."""
    force, condition = agent.in_force, agent.condition
    return (
        agent.vitals.mode, force.version, force.digest, force.state, force.error, force.applied_at,
        force.blocklist_sequence, condition.health, condition.enforcement, condition.mode_wanted,
        None if condition.enforced is None else condition.enforced.to_json(), agent.number,
    )  # fmt: skip


def vitals_row(agent: Agent) -> tuple[Any, ...]:
    """Return an agent's row in the column order of `agents.upsert_vitals`."""
    clock, vitals, condition = agent.clock, agent.vitals, agent.condition
    return (
        agent.number, agent.heartbeat_sequence, agent.last_heartbeat, clock.seconds, clock.origin, clock.session,
        vitals.cpu, vitals.memory, vitals.uptime, vitals.events_processed, vitals.events_total,
        vitals.threats_detected, vitals.actions_executed, vitals.outbox_size, vitals.outbox_dropped,
        vitals.sources, condition.trial_seconds_left,
    )  # fmt: skip


def _parsed_texts(column: str) -> tuple[str, ...]:
    return tuple(json.loads(column)) if column != "[]" else ()


_texts = remembering(_parsed_texts, len, 1024)


@lru_cache(16)
def _set(column: str) -> frozenset[Any]:
    return frozenset(_texts(column))


_measures = remembering(EnforcedMeasures.of_json, len, 1024, longest=1024)


_PROOF_KEY = 32


class TokenRows:
    """Converts enrollment tokens to rows in the column order of `tokens.upsert`, and back.

    Args:
        cipher: encrypts the proof keys, each bound to the token's id.
    """

    def __init__(self, cipher: SecretCipher) -> None:
        self._cipher = cipher

    def to_row(self, token: Token) -> tuple[Any, ...]:
        """Return a token's row."""
        return (
            token.token_id, self._cipher.encrypt(token.proof_key, token.token_id), token.created_at,
            token.organization_id, token.site, json.dumps(token.tags), token.expires_at, token.max_uses, token.uses,
            token.revoked_at, token.name, token.rate, token.ephemeral, token.rotated_at,
        )  # fmt: skip

    def to_token(self, row: tuple[Any, ...]) -> Token:
        """Return the token of a row; the proof key of an earlier release is stored unencrypted.

        Raises:
            InvalidTag: its proof key was encrypted with another store key, or is damaged.
        """
        (
            token_id, proof_key, created_at, organization_id, site, tags, expires_at, max_uses, uses, revoked_at, name,
            rate, ephemeral, rotated_at,
        ) = row  # fmt: skip
        stored = bytes(proof_key)
        return Token(
            token_id=token_id,
            proof_key=stored if len(stored) == _PROOF_KEY else self._cipher.decrypt(stored, token_id),
            created_at=created_at,
            organization_id=organization_id,
            site=site,
            tags=tuple(json.loads(tags)),
            expires_at=expires_at,
            max_uses=max_uses,
            uses=uses,
            revoked_at=revoked_at,
            name=name,
            rate=rate,
            ephemeral=bool(ephemeral),
            rotated_at=rotated_at,
        )


def access_row(token: AccessToken) -> tuple[Any, ...]:
    """Return an access token's row, in the column order of `access.upsert`."""
    return (
        token.name, token.digest, token.role, json.dumps(token.organizations), token.created_at, token.rotated_at,
        token.expires_at, token.last_used_at, token.revoked_at,
    )  # fmt: skip


def access_token(row: tuple[Any, ...]) -> AccessToken:
    """Return the access token of a row."""
    name, digest, role, organizations, *times = row
    return AccessToken(name, bytes(digest), Role(role), _texts(organizations), *times)
