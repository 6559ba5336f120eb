"""Never lists: publishes an organization's list in its blocklist, at most once a minute."""

from collections.abc import Iterable, Iterator, Mapping

from manager.domain.instant import Instant
from manager.domain.networks import Network, network_of
from manager.domain.response.never_list import LIFT_TIME, Tier, never_list
from manager.engine.commands.operators import store_operator_addresses
from manager.engine.context import Context
from manager.engine.fleet import Fleet
from manager.engine.policies.blocklist_messages import lifted_value, never_value
from manager.engine.response import emergency_response


class NeverLists:
    """Compares what the lists should have with what is published; a change waits until the interval is over.

    Only a lift by a person, and its end, are published at once.

    Args:
        fleet: the addresses of agents and of people who use the API, the settings, and the published lists.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._due: dict[str, float] = {}

    def tick(self, context: Context, now: Instant) -> None:
        """Publish the lists that are due."""
        addresses, operators = self._fleet.addresses, self._fleet.operator_addresses
        if operators.expire(now, lambda name: self._fleet.text_of_token(name, now.wall)):
            store_operator_addresses(context, now)
        if operators.changed:
            operators.changed = False
            addresses.changed.update(agent.organization_id for agent in self._fleet.registry.agents.values())
        for organization_id in addresses.changed:
            self._due.setdefault(organization_id, now.monotonic + self._fleet.settings.never_interval)
        addresses.changed.clear()
        for organization_id in self._fleet.responder.never_block.lifted.take_changed(now.wall):
            publish_never_list(context, organization_id)
        for organization_id in [name for name, at in self._due.items() if at <= now.monotonic]:
            del self._due[organization_id]
            publish_never_list(context, organization_id)


def lift_on_hosts(context: Context, organization_id: str, network: Network) -> float:
    """Have an organization's fences end their guards' own blocks of a network, and guards set none; return until when.

    The never list has it for some minutes.
    """
    until = context.batch.now.wall + LIFT_TIME
    context.fleet.responder.never_block.lifted.add(organization_id, network, until)
    publish_never_list(context, organization_id)
    return until


def restore_lifts(context: Context, network: Network, before: Mapping[str, Mapping[Network, float]]) -> None:
    """Restore the lifts that share an address with a network as they were, because the store rejected their change."""
    lifted = context.fleet.responder.never_block.lifted
    for organization_id, networks in before.items():
        lifted.end(organization_id, network)
        for each, until in networks.items():
            lifted.add(organization_id, each, until)
        publish_never_list(context, organization_id)


def publish_never_list(context: Context, organization_id: str) -> None:
    """Publish an organization's never list, if it differs from the published one."""
    fleet, changes = context.fleet, context.batch.changes
    settings = fleet.settings
    lifted = fleet.responder.never_block.lifted.of_organization(organization_id)
    fleet.responder.never_block.lifted.published(organization_id)
    key, value = lifted_value(organization_id, lifted)
    changes.meta[key] = value
    found = never_list(
        (
            Tier(_networks((*settings.own_addresses, *settings.admin_networks, *settings.fleet_networks))),
            Tier(_networks(fleet.addresses.gateways_of(organization_id)), may_widen=True),
            Tier(lifted),
            Tier(_networks(fleet.operator_addresses.of_organization(organization_id))),
            Tier(_networks(fleet.addresses.of_organization(organization_id)), may_widen=True),
        )
    )
    fleet.counters["never_addresses_left_out"] += found.left_out
    if found.networks == fleet.blocklists.never.get(organization_id, ()):
        return
    change = fleet.blocklists.change_never(organization_id, found.networks, fleet.policies.advance)
    emergency_response.publish_change(context, change)
    key, value = never_value(organization_id, found.networks)
    changes.meta[key] = value


def _networks(texts: Iterable[str]) -> Iterator[Network]:
    return (network for text in texts if (network := network_of(text)) is not None)
