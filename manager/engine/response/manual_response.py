"""Manual response: writes manual blocks that were added or removed into policies, blocklists and the batch."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from manager.domain.agents.agent import Agent
from manager.domain.instant import Instant
from manager.domain.networks import Network, network_of, overlap
from manager.domain.policies.fleet_policies import Scope, policy_of
from manager.domain.policies.resolution import expiry_of, value_of
from manager.domain.policies.rules import effects
from manager.domain.response.blocklists import EntryKey, entry_key, manual_key
from manager.domain.response.manual_block_rules import ManualBlockRules
from manager.domain.response.manual_blocks import ManualBlock, ManualHolder
from manager.engine.batch import Undo
from manager.engine.commands import audit
from manager.engine.context import Context
from manager.engine.origin import RESPONDER
from manager.engine.response import emergency_response


def organizations_of(context: Context, holder: ManualHolder) -> list[str]:
    """Return the organizations whose hosts a holder's blocks are for, sorted."""
    registry = context.fleet.registry
    if holder.scope == "organization":
        return [holder.target]
    if holder.scope == "agent":
        agent = registry.find(holder.target)
        return [] if agent is None else [agent.organization_id]
    group = context.fleet.policies.groups.find(holder.target) if holder.scope == "group" else None
    if group is not None and group.organization_id is not None:
        return [group.organization_id]
    known = {agent.organization_id for agent in registry.agents.values()}
    return sorted(known | context.fleet.blocklists.sequences.keys())


def rules_for(context: Context, holder: ManualHolder, operator_address: str | None = None) -> ManualBlockRules:
    """Return the never-block rules for a holder's manual blocks, as of now."""
    fleet, organization_ids = context.fleet, organizations_of(context, holder)
    return ManualBlockRules(
        fleet.responder.never_block,
        organization_ids,
        allowlisted=fleet.allowlist.overlaps,
        operator_address=operator_address,
        now=context.batch.now.wall,
    )


def apply(context: Context, added: Iterable[ManualBlock], removed: Iterable[ManualBlock]) -> list[ManualBlock]:
    """Publish and store manual blocks that are in the fleet's memory already, or not any more.

    Emergency entries that find no room beside them are evicted.

    Returns:
        The added blocks, each with the number of the policy or blocklist that has it.
    """
    new, gone = list(added), list(removed)
    if not new and not gone:
        return []
    fleet, changes = context.fleet, context.batch.changes
    organizations, agent_ids = _touched(context, [*new, *gone])
    evicted = [
        *(entry for each in organizations for entry in fleet.responder.entries.make_room("organization", each)),
        *(entry for each in agent_ids for entry in fleet.responder.entries.make_room("agent", each)),
    ]
    for entry in evicted:
        if entry.scope == "organization":
            organizations[entry.target].add(entry_key(entry))
    first = fleet.policies.revision + 1
    subject = new[0].id if new else None
    for change in fleet.blocklists.publish(organizations, fleet.policies.advance):
        emergency_response.publish_change(context, change, subject)
    layers = {agent_id: fleet.responder.entries.agent_layer(agent_id) for agent_id in agent_ids}
    emergency_response.publish_policies(context, fleet.policies.set_emergency(layers, context.batch.now.wall))
    changes.entries_removed += evicted
    changes.manual_removed += gone
    numbered = [replace(block, number=_number(context, block, first)) for block in new]
    changes.manual_added += numbered
    if subject is not None:
        context.batch.undo.append(Undo("manual_added", subject, partial(_revert, added=new, replaced=gone)))
    return numbered


def end(context: Context, blocks: list[ManualBlock], *, is_whole: bool = False) -> None:
    """Publish and store that manual blocks ended, which are out of the fleet's memory already.

    Each holds again if the store rejects its end. `is_whole` tells that the command is about nothing else.
    """
    apply(context, (), blocks)
    for block in blocks:
        revert = partial(_hold_again, block=block)
        context.batch.undo.append(Undo("manual_removed", block.id, revert, is_whole=is_whole))


def _hold_again(context: Context, block: ManualBlock) -> None:
    """Restore a block that the store has still."""
    manual = context.fleet.responder.entries.manual
    if manual.find(block.holder, block.value) is None:
        manual.add(block)
        apply(context, (), [block])
        context.batch.changes.manual_removed.remove(block)


def _revert(context: Context, added: list[ManualBlock], replaced: list[ManualBlock]) -> None:
    """Take back blocks that the store rejected; those that they replaced, which it has still, hold again."""
    manual = context.fleet.responder.entries.manual
    gone = [block for new in added if (block := manual.get(new.id)) is not None]
    for block in gone:
        manual.remove(block)
    for block in replaced:
        if manual.find(block.holder, block.value) is None:
            manual.add(block)
    apply(context, (), gone)


def remove_rejected(context: Context, block_ids: set[str]) -> None:
    """Remove blocks that the store rejected, where the reverting of a block that replaced one has it hold again."""
    manual = context.fleet.responder.entries.manual
    gone = [block for block_id in sorted(block_ids) if (block := manual.get(block_id)) is not None]
    for block in gone:
        manual.remove(block)
    apply(context, (), gone)


def tick(context: Context, now: Instant) -> None:
    """Expire manual blocks."""
    manual = context.fleet.responder.entries.manual
    expiry = manual.next_expiry()
    if expiry is not None and expiry <= now.wall:
        apply(context, (), manual.expire(now.wall))


def withdraw_unblockable(context: Context, blocks: Iterable[ManualBlock] | None = None) -> None:
    """Withdraw manual blocks that the never-block rules refuse since the allowlist or the fleet changed.

    Logins count only when a block is added: whoever blocks an address means it, and a later login with a stolen
    password must not lift the block.

    Args:
        context: the batch that is decided.
        blocks: the blocks to check; None for all live ones.
    """
    manual, withdrawn = context.fleet.responder.entries.manual, []
    rules: dict[ManualHolder, ManualBlockRules] = {}
    for block in list(manual if blocks is None else blocks):
        network = network_of(block.value)
        if block.holder not in rules:
            rules[block.holder] = rules_for(context, block.holder)
        refusal = rules[block.holder].lasting_refusal(network) if network is not None else None
        if refusal is None:
            continue
        manual.remove(block)
        withdrawn.append(block)
        after = {"reason": refusal.reason}
        audit.add_entry(context, RESPONDER, "block.withdraw", block.id, before=audit.manual_state(block), after=after)
    apply(context, (), withdrawn)


def admit(context: Context, agent: Agent, own: Iterable[str]) -> None:
    """Withdraw the blocks of an enrolled agent's own addresses; give a new organization the fleet-wide blocks.

    Args:
        context: the batch that is decided.
        agent: the agent.
        own: its addresses and gateways.
    """
    manual, blocklists = context.fleet.responder.entries.manual, context.fleet.blocklists
    regroup(context, [agent.agent_id])
    networks = (network_of(value) for value in own)
    about = (
        each
        for network in networks
        if network
        for each in (*manual.list_covering(network), *manual.list_embedding(network))
    )
    withdraw_unblockable(context, {each.id: each for each in about}.values())
    values = manual.in_organization(agent.organization_id)
    if values and agent.organization_id not in blocklists.sequences:
        touched = {agent.organization_id: {manual_key(value) for value in values}}
        for change in blocklists.publish(touched, context.fleet.policies.advance):
            emergency_response.publish_change(context, change)


def regroup(context: Context, agent_ids: Iterable[str]) -> None:
    """Give agents whose groups may have changed the manual blocks of their groups, and make room for these."""
    fleet = context.fleet
    entries = fleet.responder.entries
    if not any(holder.scope == "group" for holder in entries.manual.holders()):
        return
    regrouped = list(agent_ids)
    context.batch.changes.entries_removed += [
        entry for agent_id in regrouped for entry in entries.make_room("agent", agent_id)
    ]
    layers = {agent_id: entries.agent_layer(agent_id) for agent_id in regrouped}
    emergency_response.publish_policies(context, fleet.policies.set_emergency(layers, context.batch.now.wall))


def holds_in(context: Context, holder: ManualHolder | Scope, organization_id: str | None) -> bool:
    """Return whether a holder's blocks, or a policy document, hold on a host of an organization; None for any."""
    kind = holder.scope if isinstance(holder, ManualHolder) else holder.kind
    if organization_id is None or kind in {"fleet", "global"}:
        return True
    if kind == "organization":
        return holder.target == organization_id
    registry = context.fleet.registry
    agent_ids = [holder.target] if kind == "agent" else context.fleet.policies.members(holder.target)
    agents = (registry.find(agent_id) for agent_id in agent_ids)
    return any(agent is not None and agent.organization_id == organization_id for agent in agents)


def blocked_by_documents(
    context: Context, network: Network, organization_id: str | None = None
) -> Iterator[tuple[Scope, str]]:
    """Yield the policy documents that block an address of a network, each with the value that does.

    With an organization only the documents that hold on one of its hosts.
    """
    for scope in context.fleet.policies.documents:
        for value, expires_at in blocks_of_document(context, scope):
            blocked = network_of(value)
            if expires_at <= context.batch.now.wall or blocked is None or not overlap(blocked, network):
                continue
            if holds_in(context, scope, organization_id):
                yield scope, value


def blocks_of_document(context: Context, scope: Scope) -> Iterator[tuple[str, float]]:
    """Yield the addresses that a scope's document blocks, each with its end in seconds since 1970 or infinity."""
    document = context.fleet.policies.document(scope)
    policy = {} if document is None else policy_of(scope, document)
    for part in (policy, *effects(policy)):
        for entry in (part.get("blocklist") or {}).get("ips", ()):
            yield value_of(entry), expiry_of(entry)


def forget_agent(context: Context, agent_id: str) -> None:
    """Drop a removed agent's own manual blocks."""
    manual = context.fleet.responder.entries.manual
    removed = list(manual.list_of(ManualHolder("agent", agent_id)))
    for block in removed:
        manual.remove(block)
    context.batch.changes.manual_removed += removed


def _touched(context: Context, blocks: Iterable[ManualBlock]) -> tuple[dict[str, set[EntryKey]], list[str]]:
    """Return the entries to publish of each organization, and the agents whose own policies change."""
    organizations: dict[str, set[EntryKey]] = {}
    agent_ids: dict[str, None] = {}
    held: dict[ManualHolder, set[EntryKey]] = {}
    for block in blocks:
        held.setdefault(block.holder, set()).add(manual_key(block.value))
    for holder, values in held.items():
        if holder.scope == "agent":
            agent_ids[holder.target] = None
            continue
        if holder.scope == "group":
            agent_ids.update(dict.fromkeys(context.fleet.policies.members(holder.target)))
            continue
        for organization_id in organizations_of(context, holder):
            organizations.setdefault(organization_id, set()).update(values)
    return organizations, list(agent_ids)


def _number(context: Context, block: ManualBlock, first: int) -> int | None:
    """Return the version or sequence with a block; for the whole fleet and a group the first of the change.

    All versions and sequences come from one counter, so that whatever has the change is at least at the first.
    """
    if block.holder.scope in {"fleet", "group"}:
        return first
    if block.holder.scope == "organization":
        return context.fleet.blocklists.sequences.get(block.holder.target)
    policy = context.fleet.policies.effective.get(block.holder.target)
    return policy.version if policy is not None else None
