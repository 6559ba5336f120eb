"""Commands about the signing key: rotation, rollback, and the state of the fleet's change to the new key."""

import secrets
from collections import Counter
from typing import Any

import structlog

from manager.domain.agents.agent import Agent, Door
from manager.domain.instant import Instant
from manager.domain.signing_keys import SEED_LENGTH, SIGNING_KEYS, RotationError, SigningKeys
from manager.engine.batch import Publication, Undo
from manager.engine.commands.key_requests import ReadKeys, RollBackKeys, RotateKeys
from manager.engine.context import Context
from manager.engine.fleet import Fleet
from manager.errors import Conflict
from schemas import message_codes
from schemas.model import iso, utc
from schemas.presence import ManagerKeys
from schemas.topics import MANAGER_KEYS

log = structlog.get_logger(__name__)

ENDED_EVERY = 60.0
"""Seconds between two looks for rotations whose period has ended."""

_AGREEMENT = 600.0
_NAMED = 20


def keys_publication(fleet: Fleet, wall: float) -> Publication:
    """Return the publication of the manager's keys: features, rotations that guards may follow, and the generation."""
    keyring, keys, history = fleet.keyring, fleet.signing_keys, fleet.store_history
    message = ManagerKeys(
        sign_key=keyring.sign_public,
        seal_key=keyring.seal_public,
        sent_at=utc(wall),
        accepts=list(fleet.features),
        successions=list(keys.at(wall).links) or None,
        generation=history.message(wall, len(fleet.registry)) if history.runs else None,
    )
    payload = message_codes.with_signature(keyring.sign_key, MANAGER_KEYS.below_root(), message.body())
    return Publication(MANAGER_KEYS.address(), payload, retained=True, subject=SIGNING_KEYS)


def read_keys(context: Context, _request: ReadKeys) -> dict[str, Any]:
    """Return the state of the signing key."""
    return _record(context.fleet, context.batch.now.wall)


def rotate_keys(context: Context, request: RotateKeys) -> dict[str, Any]:
    """Replace the signing key: everything is signed with the new one from now on, and published again.

    Raises:
        Conflict: the manager's clock differs from the fleet's, or too many rotations are under way.
    """
    fleet, wall = context.fleet, context.batch.now.wall
    difference = fleet.clock_trust.difference()
    if difference is not None and abs(difference) > _AGREEMENT:
        raise Conflict(
            f"the manager's clock and those of its agents differ by {abs(difference):.0f} s, and the 30 days of a"
            " rotation are dated by it: set the clock first"
        )
    try:
        keys = fleet.signing_keys.rotate(secrets.token_bytes(SEED_LENGTH), wall, compromised=request.compromised)
    except RotationError as error:
        raise Conflict(str(error)) from error
    if not request.dry_run:
        _use(context, keys)
        log.info("signing_key_rotated", number=keys.number, compromised=request.compromised)
    return _record(fleet, wall)


def roll_back_keys(context: Context, request: RollBackKeys) -> dict[str, Any]:
    """Make the former signing key the active one again.

    Raises:
        Conflict: there is no rotation that can be taken back.
    """
    fleet, wall = context.fleet, context.batch.now.wall
    try:
        keys = fleet.signing_keys.rollback(wall)
    except RotationError as error:
        raise Conflict(str(error)) from error
    if not request.dry_run:
        _use(context, keys)
        log.info("signing_key_rolled_back", number=keys.number)
    return _record(fleet, wall)


def end_rotations(context: Context, now: Instant) -> None:
    """Forget seeds of keys whose 30 days have ended, once the clock is trusted, and publish the keys without them."""
    fleet = context.fleet
    keys = fleet.signing_keys.at(now.wall)
    if keys is not fleet.signing_keys and fleet.clock_trust.is_trusted(now):
        fleet.use_signing_keys(keys)
        context.batch.changes.sealed[SIGNING_KEYS] = keys.dump()
        context.batch.publications.append(keys_publication(fleet, now.wall))
        log.info("signing_key_rotation_ended", number=keys.number)


def record_trusted_key(fleet: Fleet, agent: Agent, sign_key: str) -> None:
    """Record the newest key that an agent trusts; log one that this store has never had."""
    keys, agent_id = fleet.trusted_keys, agent.agent_id
    if keys.stated.get(agent_id) == sign_key:
        return
    was_foreign = agent_id in keys.foreign
    keys.record(agent_id, sign_key, is_known=_state_of(fleet, agent, sign_key) != "foreign")
    if not was_foreign and agent_id in keys.foreign and len(keys.foreign) <= _NAMED:
        log.error("signing_key_unknown", agent_id=agent_id, sign_key=sign_key)


def _use(context: Context, keys: SigningKeys) -> None:
    """Sign with other keys from now on, and publish everything that is retained again."""
    before = context.fleet.signing_keys
    _sign_with(context, keys)

    def revert(corrections: Context) -> None:
        _sign_with(corrections, before)

    context.batch.undo.append(Undo("sealed", SIGNING_KEYS, revert))


def _sign_with(context: Context, keys: SigningKeys) -> None:
    fleet, batch = context.fleet, context.batch
    fleet.use_signing_keys(keys)
    _judge_trusted_keys(fleet)
    batch.changes.sealed[SIGNING_KEYS] = keys.dump()
    batch.publications.insert(0, keys_publication(fleet, batch.now.wall))
    for policy in fleet.policies.effective.values():
        policy.published = False
        batch.changes.policies[policy.agent_id] = policy
    context.policy_queue.add(fleet.policies.effective)
    context.blocklist_messages.publish_all()


def _judge_trusted_keys(fleet: Fleet) -> None:
    agents = fleet.registry.agents

    def is_known(agent_id: str, sign_key: str) -> bool:
        return agent_id not in agents or _state_of(fleet, agents[agent_id], sign_key) != "foreign"

    fleet.trusted_keys.judge(is_known)


def _record(fleet: Fleet, wall: float) -> dict[str, Any]:
    keys = fleet.signing_keys.at(wall)
    ends = {link.predecessor: link.until for link in keys.links}
    states = {agent.agent_id: _state(fleet, agent) for agent in fleet.registry.agents.values()}
    counts = Counter(states.values())
    behind = [agent for agent in fleet.registry.agents.values() if states[agent.agent_id] == "former"]
    return {
        "signKey": keys.public,
        "number": keys.number,
        "former": [
            {
                "signKey": each.public,
                "until": iso(ends[each.public].timestamp()) if each.public in ends else None,
                "compromised": each.compromised,
            }
            for each in keys.former
        ],
        "canRollBack": _can_roll_back(keys, wall),
        "agents": {name: counts[name] for name in ("changed", "former", "foreign", "unknown", "http")},
        "behind": [{"agentId": agent.agent_id, "hostname": agent.host.hostname} for agent in behind[:_NAMED]],
    }


def _state(fleet: Fleet, agent: Agent) -> str:
    return _state_of(fleet, agent, fleet.trusted_keys.stated.get(agent.agent_id))


def _state_of(fleet: Fleet, agent: Agent, known: str | None) -> str:
    if agent.door is Door.HTTP:
        return "http"
    if known is None:
        return "unknown"
    if known == fleet.keyring.sign_public:
        return "changed"
    return "former" if any(each.public == known for each in fleet.signing_keys.former) else "foreign"


def _can_roll_back(keys: SigningKeys, wall: float) -> bool:
    try:
        keys.rollback(wall)
    except RotationError:
        return False
    return True
