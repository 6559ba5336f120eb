"""Ownership of blocks: those on a host belong to the organization that the host is in.

A manual block of an agent or of a policy group goes along when its holder changes the organization. An agent's
emergency entries end: they are of incidents of the former organization, which the new one neither sees nor undoes.
"""

from manager.domain.agents.agent import Agent
from manager.domain.instant import Instant
from manager.domain.response import ResponseChanges
from manager.domain.response.manual_blocks import ManualBlock, ManualHolder
from manager.engine.commands import audit
from manager.engine.context import Context
from manager.engine.response import emergency_response, manual_response


def follow_agent(context: Context, agent: Agent) -> None:
    """Give an agent's own manual blocks to the organization that it is in, and end its entries of any other one.

    The rules of the new organization, such as its allowlist, hold for the blocks from then on.
    """
    entries = context.fleet.responder.entries
    ended = entries.remove_foreign(agent.agent_id, agent.organization_id)
    for entry in ended:
        after = {"reason": f"the host is in organization {agent.organization_id} now"}
        before = {**audit.entry_state(entry), "organizationId": entry.subject.organization_id}
        audit.add_entry(context, context.origin, "block.withdraw", entry.id, before=before, after=after)
    emergency_response.apply(context, ResponseChanges(removed=ended))
    held = list(entries.manual.list_of(ManualHolder("agent", agent.agent_id)))
    moved = [_reassign(context, block, agent.organization_id) for block in held]
    manual_response.withdraw_unblockable(context, moved)


def follow_groups(context: Context) -> None:
    """Give the manual blocks of policy groups to the groups' organizations; drop those of removed groups."""
    fleet = context.fleet
    manual = fleet.responder.entries.manual
    for holder in [holder for holder in manual.holders() if holder.scope == "group"]:
        group = fleet.policies.groups.find(holder.target)
        for block in list(manual.list_of(holder)):
            if group is not None:
                _reassign(context, block, group.organization_id or "")
                continue
            manual.remove(block)
            context.batch.changes.manual_removed.append(block)
            before, after = audit.manual_state(block), {"reason": "its policy group was removed"}
            audit.add_entry(context, context.origin, "block.withdraw", block.id, before=before, after=after)


class OwnershipCheck:
    """Runs once, with the first batch after a start: corrects what earlier releases, or a store that failed, left."""

    def __init__(self) -> None:
        self._is_due = True

    def tick(self, context: Context, _now: Instant) -> None:
        """Check all live blocks at the first call."""
        if not self._is_due:
            return
        self._is_due = False
        entries, registry = context.fleet.responder.entries, context.fleet.registry
        holders = {entry.target for entry in entries if entry.scope == "agent"}
        holders |= {holder.target for holder in entries.manual.holders() if holder.scope == "agent"}
        for agent_id in sorted(holders):
            agent = registry.find(agent_id)
            if agent is not None:
                follow_agent(context, agent)
        follow_groups(context)


def _reassign(context: Context, block: ManualBlock, organization_id: str) -> ManualBlock:
    """Give a block to an organization, none for the whole fleet, unless it has it already; return it."""
    if block.organization_id == organization_id:
        return block
    reassigned = context.fleet.responder.entries.manual.reassign(block, organization_id)
    context.batch.changes.manual_moved.append(reassigned)
    before = {**audit.manual_state(block), "organizationId": block.organization_id or None}
    after = {**audit.manual_state(block), "organizationId": organization_id or None}
    audit.add_entry(context, context.origin, "block.move", block.id, before=before, after=after)
    return reassigned
