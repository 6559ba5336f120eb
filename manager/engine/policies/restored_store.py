"""Detection of a store that was restored from an older copy: guards hold newer policies or blocklists than it has.

Versions and sequences continue above those of the guards, so that guards obey again. The data that was stored after the
copy is missing, which only people can mend: the log, the audit log and a warning name it.
"""

import structlog

from manager.domain.agents.agent import Agent
from manager.engine.commands.audit import add_entry
from manager.engine.context import Context
from manager.engine.origin import MANAGER
from manager.engine.policies.blocklist_messages import sequence_value

log = structlog.get_logger(__name__)

WARNING = "restored_store"
"""The name of the warning that guards know more than the store."""

_BELIEVED = 1_000_000
"""The most revisions by which a number without a proof may be ahead; a lying agent cannot use up the numbers."""

_PAUSE = 60.0
"""Seconds between two continuations of one organization's sequence: each has its guards read the snapshot again."""

_LOGGED = 20
"""The maximum number of agents that are logged by name."""


def follow_policy(context: Context, agent: Agent, version: int, *, proven: bool) -> None:
    """Continue above the policy version that an agent states; without a proof only if it is believable."""
    policies = context.fleet.policies
    if not proven and version - policies.revision > _BELIEVED:
        context.fleet.counters["claims_ignored"] += 1
        return
    _record(context, agent, "policy version", version, policies.effective[agent.agent_id].version)
    context.fleet.counters["revisions_raised"] += 1
    context.batch.save_policy(policies.continue_above(agent.agent_id, version, context.batch.now.wall))
    context.batch.changes.fleet_revision = policies.revision
    context.policy_queue.add([agent.agent_id])


def follow_sequence(context: Context, agent: Agent, sequence: int) -> None:
    """Continue above the blocklist sequence that an agent states, if it is believable, and publish the snapshot.

    The change that is published leaves a gap below it, so that every guard of the organization replaces its entries by
    the snapshot: also the entries that the store does not know, which nobody could undo.
    """
    fleet, now, organization_id = context.fleet, context.batch.now, agent.organization_id
    known = fleet.blocklists.sequences.get(organization_id, 0)
    if sequence - fleet.policies.revision > _BELIEVED:
        fleet.counters["claims_ignored"] += 1
        return
    _record(context, agent, "blocklist sequence", sequence, known)
    continued = fleet.restored_store.continued
    if now.monotonic - continued.get(organization_id, -_PAUSE) < _PAUSE:
        return
    continued[organization_id] = now.monotonic
    fleet.counters["revisions_raised"] += 1
    fleet.policies.revision = max(fleet.policies.revision, sequence + 1)
    change = fleet.blocklists.leave_gap(organization_id, fleet.policies.advance())
    context.batch.publications.append(context.blocklist_messages.change(change, now.wall))
    key, value = sequence_value(organization_id, change.sequence)
    context.batch.changes.meta[key] = value
    context.batch.changes.fleet_revision = fleet.policies.revision


def _record(context: Context, agent: Agent, what: str, stated: int, stored: int) -> None:
    """Log the agent once, add one audit entry for all agents, and set the warning."""
    found = context.fleet.restored_store
    if not found.agents:
        before, after = {what: stored}, {what: stated, "agentId": agent.agent_id}
        add_entry(context, MANAGER, "store.restored", "store", before=before, after=after)
    if agent.agent_id not in found.agents and len(found.agents) < _LOGGED:
        log.error("store_older_than_guards", agent_id=agent.agent_id, what=what, guard=stated, store=stored)
    found.agents.add(agent.agent_id)
    found.highest = max(found.highest, stated)
    count = len(found.agents)
    context.fleet.warnings[WARNING] = (
        f"{count} {'guard knows' if count == 1 else 'guards know'} more than the store: it was restored from an older "
        f"copy. Policies continue above revision {found.highest}; policy changes, blocks and registrations from the "
        "time after the copy are missing, and threats that no guard sends again, so check "
        "`panguard manager policies history` and set them again"
    )
