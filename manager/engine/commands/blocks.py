"""Block commands: add manual blocks, remove one block, lift every block of an address."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from manager.domain.agents.agent import Agent, Door, State
from manager.domain.correlation.indicators import Indicator, normal_address
from manager.domain.networks import Network, network_of, overlap
from manager.domain.policies.fleet_policies import GLOBAL, Scope
from manager.domain.response import EmergencyEntry, ResponseChanges, Subject
from manager.domain.response.feed import FeedPart
from manager.domain.response.manual_block_rules import ManualBlockRules
from manager.domain.response.manual_blocks import FLEET, ManualBlock, ManualHolder, manual_value, written
from manager.domain.response.never_block import WIDEST, unblockable
from manager.domain.response.never_list import LIFT_TIME
from manager.domain.response.taken_back import Remembered, remember
from manager.engine.batch import Undo
from manager.engine.commands import audit
from manager.engine.commands.block_requests import (
    AddBlocks,
    BlocksAdded,
    FeedContent,
    LiftAddress,
    Lifted,
    NewBlock,
    ReadFeed,
    RefusedBlock,
)
from manager.engine.commands.fleet import find_agent
from manager.engine.commands.incidents import record_lift
from manager.engine.commands.requests import RemoveBlock
from manager.engine.context import Context
from manager.engine.fleet import new_entry_id
from manager.engine.policies.never_lists import lift_on_hosts, publish_never_list, restore_lifts
from manager.engine.response import emergency_response, manual_response
from manager.errors import Conflict, Invalid, NotFound

_NAMED = 20
"""The most refused blocks that an error names."""


def add_blocks(context: Context, request: AddBlocks) -> BlocksAdded:
    """Add manual blocks, all or none, and publish them at once.

    Raises:
        Invalid: a value is no address and no CIDR.
        Conflict: a never-block rule refuses one, or they find no room.
        NotFound: there is no such agent.
    """
    if len(request.blocks) == 1 and not request.dry_run:
        manual_value(request.blocks[0].value)
    organization_id = _organization_of(context, request)
    rules = manual_response.rules_for(context, request.holder, context.origin.address)
    blocks: dict[str, ManualBlock] = {}
    refused: list[RefusedBlock] = []
    for index, wanted in enumerate(request.blocks):
        checked = _checked(context, request, wanted, rules, organization_id)
        if isinstance(checked, ManualBlock):
            blocks[checked.value] = checked
        else:
            refused.append(RefusedBlock(index, wanted.value, *checked))
    exempt = {
        value: organizations
        for value in blocks
        if (network := network_of(value)) is not None and (organizations := rules.exempt(network))
    }
    manual = context.fleet.responder.entries.manual
    manual.check_room(request.holder, blocks)
    new, room = manual.count_new(request.holder, blocks), manual.room(request.holder)
    if request.dry_run:
        return BlocksAdded(tuple(blocks.values()), tuple(refused), exempt, new, room)
    if refused:
        raise _refusal(refused, len(request.blocks))
    _end_lifts(context, request, blocks)
    replaced = [block for new in blocks.values() if (block := manual.add(new)) is not None]
    added = manual_response.apply(context, blocks.values(), replaced)
    before = {block.value: block for block in replaced}
    for block in added:
        old = before.get(block.value)
        state = None if old is None else audit.manual_state(old)
        audit.add_entry(context, context.origin, "block.add", block.id, before=state, after=audit.manual_state(block))
    data: dict[str, object] = {"count": len(added), "scope": request.holder.scope, "target": request.holder.target}
    data["values"] = [block.value for block in added[:_NAMED]]
    context.batch.event("blocks_added", data=data, organization_id=organization_id or None)
    return BlocksAdded(tuple(added), (), exempt, new, room)


def remove_block(context: Context, request: RemoveBlock) -> str:
    """Remove one emergency entry or manual block."""
    responder = context.fleet.responder
    manual = responder.entries.manual.get(request.entry_id)
    if manual is not None:
        responder.entries.manual.remove(manual)
        manual_response.end(context, [manual], is_whole=True)
        return request.entry_id
    entry = responder.entries.get(request.entry_id)
    if entry is None:
        raise NotFound(f"Block {request.entry_id} not found: it is not in force")
    before = remember(responder, [entry])
    ended = responder.remove(request.entry_id, context.batch.now.wall, request.author)
    emergency_response.end(context, before, ended, entry.incident_id)
    if entry.kind == "ip":
        record_lift(context, entry.subject.indicator(), "lift", request.author)
    return request.entry_id


def lift_address(context: Context, request: LiftAddress) -> Lifted:
    """Lift every block within an address or CIDR; fences end their guards' own blocks of it.

    Raises:
        Invalid: the value is no address and no CIDR, or wider than a block may be.
        Conflict: a wider block or a policy document blocks it still; the text names it.
    """
    value = manual_value(request.value)
    network, wanted = network_of(value), request.organization_id
    if network is None or network.prefixlen < WIDEST[network.version]:
        raise Invalid(f"{value} is wider than a block may be: lift its blocks one by one")
    _refuse_if_covered(context, network, wanted)
    responder, now = context.fleet.responder, context.batch.now.wall
    manual = [block for block in responder.entries.manual.list_overlapping(network) if _is_of(block, wanted)]
    for block in manual:
        responder.entries.manual.remove(block)
    entries = [each for each in _entries_within(context, network) if _is_of(each.subject, wanted)]
    before = remember(responder, entries)
    is_single = len(manual) + len(before) == 1  # without its end nothing of the lift is left to record
    manual_response.end(context, manual, is_whole=is_single)
    removed = ResponseChanges()
    for entry in entries:
        removed.merge(responder.remove(entry.id, now, request.author))
    emergency_response.end(context, before, removed, before[0].incident_id if is_single and before else "")
    _record_lifts(context, request, network, entries)
    agents = [agent for agent in context.fleet.registry.agents.values() if wanted in {None, agent.organization_id}]
    organizations = sorted({agent.organization_id for agent in agents})
    known = {each: responder.never_block.lifted.of_organization(each) for each in organizations}
    for organization_id in organizations:
        lift_on_hosts(context, organization_id, network)
    _hold_lifts_back(context, [*manual, *before], partial(restore_lifts, network=network, before=known))
    lifted = Lifted(
        value,
        (*(block.id for block in manual), *(entry.id for entry in entries)),
        tuple(dict.fromkeys(entry.incident_id for entry in entries)),
        now + LIFT_TIME,
        len(agents),
        sum(not _ends_own_blocks(agent) for agent in agents),
    )
    after = {"blocks": list(lifted.block_ids), "incidents": list(lifted.incident_ids), "organizationId": wanted}
    audit.add_entry(context, context.origin, "block.lift", value, before=None, after=after)
    return lifted


def read_feed(context: Context, request: ReadFeed) -> FeedContent:
    """Return the blocks of the fleet and of organizations, and what must not be blocked in each organization.

    Blocks of groups and single agents are not among them: they hold for those hosts, not for everybody. Of a document
    no address is among them that is never blocked in any fleet.
    """
    entries, known = context.fleet.responder.entries, manual_response.organizations_of(context, FLEET)
    wanted = sorted(known if request.organization_ids is None else request.organization_ids)
    shared = {block.value: block.expires_at for block in entries.manual.list_of(FLEET)}
    _add_of_document(context, GLOBAL, shared)
    parts = [_feed_part(context, organization_id) for organization_id in wanted]
    return FeedContent(shared, tuple(parts) or (FeedPart({}, _allowlisted(context, GLOBAL)),))


def _feed_part(context: Context, organization_id: str) -> FeedPart:
    """Return an organization's own blocks, and what must not be blocked in it."""
    entries, never = context.fleet.responder.entries, context.fleet.blocklists.never
    own = entries.manual.list_of(ManualHolder("organization", organization_id))
    blocks = {block.value: block.expires_at for block in own}
    for entry in entries.list_of("organization", organization_id):
        if entry.kind == "ip":
            blocks[entry.value] = max(entry.expires_at, blocks.get(entry.value, 0.0))
    _add_of_document(context, Scope("organization", organization_id), blocks)
    allowed = (*_allowlisted(context, GLOBAL), *_allowlisted(context, Scope("organization", organization_id)))
    return FeedPart(blocks, (*never.get(organization_id, ()), *allowed))


def _add_of_document(context: Context, scope: Scope, blocks: dict[str, float]) -> None:
    """Add the blocks of a scope's document, without those that are never blocked in any fleet."""
    for value, end in manual_response.blocks_of_document(context, scope):
        network = network_of(value)
        if network is not None and unblockable(network) is None:
            blocks[value] = max(end, blocks.get(value, 0.0))


def _allowlisted(context: Context, scope: Scope) -> tuple[str, ...]:
    """Return the addresses and CIDRs on the allowlist of a policy document."""
    return tuple((context.fleet.policies.document(scope) or {}).get("allowlist", {}).get("ips", ()))


def _organization_of(context: Context, request: AddBlocks) -> str:
    holder = request.holder
    if holder.scope == "agent":
        return find_agent(context, holder.target).organization_id
    if holder.scope == "group":
        group = context.fleet.policies.groups.find(holder.target)
        if group is None:
            raise NotFound(f"Policy group {holder.target} not found")
        return group.organization_id or ""
    return holder.target


def _checked(
    context: Context, request: AddBlocks, wanted: NewBlock, rules: ManualBlockRules, organization_id: str
) -> ManualBlock | tuple[str, bool]:
    """Return the block to add, or why it is refused and whether that can be forced."""
    try:
        value = manual_value(wanted.value)
    except Invalid as error:
        return str(error), False
    network = network_of(value)
    refusal = rules.refusal(network) if network is not None else None
    if refusal is not None and not (request.force and refusal.can_be_forced):
        return f"{value} is never blocked: {refusal.reason}", refusal.can_be_forced
    now = context.batch.now.wall
    return ManualBlock(
        new_entry_id(),
        request.holder,
        organization_id,
        value,
        wanted.reason,
        request.author,
        now,
        now + wanted.seconds,
        overrides=None if refusal is None else refusal.reason,
    )


def _refusal(refused: list[RefusedBlock], asked: int) -> Conflict:
    """Return the error that names the refused blocks."""
    forced = "; --force overrides it" if len(refused) == 1 and refused[0].can_be_forced else ""
    if asked == 1:
        return Conflict(refused[0].reason + forced)
    named = "; ".join(f"{each.index + 1}: {each.reason}" for each in refused[:_NAMED])
    more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
    return Conflict(f"nothing is blocked, {len(refused)} of {asked} are refused: {named}{more}")


def _end_lifts(context: Context, request: AddBlocks, blocks: Mapping[str, ManualBlock]) -> None:
    """End lifts of the addresses before they are blocked: fences refuse what the never list has."""
    lifted = context.fleet.responder.never_block.lifted
    networks = [network for value in blocks if (network := network_of(value)) is not None]
    before: dict[str, dict[Network, float]] = {}
    for organization_id in manual_response.organizations_of(context, request.holder):
        known = lifted.of_organization(organization_id)
        ended = [network for network in networks if lifted.end(organization_id, network)]
        if ended:
            before[organization_id] = known
            publish_never_list(context, organization_id)
    if before:
        subject = next(iter(blocks.values())).id
        context.batch.undo.append(Undo("manual_added", subject, partial(_lift_again, before=before)))


def _hold_lifts_back(
    context: Context, ended: Iterable[ManualBlock | Remembered], revert: Callable[[Context], None]
) -> None:
    """Have a lift end on the hosts again if the store rejects the end of one of its blocks."""
    responses = context.batch.changes.responses
    for each in ended:
        if isinstance(each, ManualBlock):
            context.batch.undo.append(Undo("manual_removed", each.id, revert))
        else:
            member = "responses" if each.incident_id in responses else "entries_removed"
            context.batch.undo.append(Undo(member, each.incident_id, revert))


def _lift_again(context: Context, before: Mapping[str, Mapping[Network, float]]) -> None:
    """Restore the lifts that ended for blocks that the store rejected."""
    lifted = context.fleet.responder.never_block.lifted
    for organization_id, networks in before.items():
        for network, until in networks.items():
            lifted.add(organization_id, network, until)
        publish_never_list(context, organization_id)


def _refuse_if_covered(context: Context, network: Network, organization_id: str | None) -> None:
    """Check that no block remains that a lift cannot end: with an organization, none that holds on its hosts.

    The errors then name neither another organization's blocks and documents nor groups of the whole fleet.
    """
    value, limited = written(network), organization_id is not None
    for block in context.fleet.responder.entries.manual.list_overlapping(network):
        if not manual_response.holds_in(context, block.holder, organization_id):
            continue
        in_group = limited and block.holder.scope == "group" and not block.organization_id
        named = block.value if in_group else f"{block.value} ({block.id})"
        inner = network_of(block.value)
        if inner is not None and inner.prefixlen < network.prefixlen:
            raise Conflict(
                f"{named} contains {value} and stays in force: remove that block, or put the address on the allowlist"
            )
        if limited and not block.organization_id:
            where = "in a group of the whole fleet" if in_group else "in the whole fleet"
            raise Conflict(f"{named} is blocked {where}: lift it without an organization")
    for scope, blocked in manual_response.blocked_by_documents(context, network, organization_id):
        group = context.fleet.policies.groups.find(scope.target) if scope.kind == "group" else None
        if limited and group is not None and group.organization_id is None:
            raise Conflict(f"the policy document of a group of the whole fleet blocks {blocked}: take it out of there")
        raise Conflict(f"the policy document {scope} blocks {blocked}: take it out of the document")


def _entries_within(context: Context, network: Network) -> Iterator[EmergencyEntry]:
    entries = context.fleet.responder.entries
    for subject in entries.subjects():
        inner = network_of(subject.value) if subject.kind == "ip" else None
        if inner is not None and overlap(inner, network):
            yield from entries.list_about(subject)


def _record_lifts(context: Context, request: LiftAddress, network: Network, entries: list[EmergencyEntry]) -> None:
    """Store what a lift says of automatic blocks: of the manager's, and of those that guards decided by themselves."""
    indicators = dict.fromkeys(entry.subject.indicator() for entry in entries)
    address = normal_address(str(network.network_address))
    if network.prefixlen == network.max_prefixlen and address is not None and not address.private:
        wanted = request.organization_id
        organizations = {agent.organization_id for agent in context.fleet.registry.agents.values()}
        for organization_id in sorted(organizations if wanted is None else {wanted}):
            indicators[Indicator("source_ip", address.value, organization_id, None)] = None
    for indicator in indicators:
        record_lift(context, indicator, "lift", request.author)


def _is_of(held: ManualBlock | Subject, organization_id: str | None) -> bool:
    return organization_id in {None, held.organization_id}


def _ends_own_blocks(agent: Agent) -> bool:
    """Return whether an agent takes the never list at once and its fence ends own blocks by it."""
    return agent.state is State.ONLINE and agent.door is Door.MQTT and agent.condition.enforces()
