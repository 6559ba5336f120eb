"""Scope of access tokens: what belongs to another organization is answered as if it did not exist."""

from manager.api.authentication import Caller
from manager.api.errors import RoleRefused
from manager.api.services import Services
from manager.domain.policies.fleet_policies import Scope
from manager.errors import NotFound


def require_no_group(caller: Caller, group: str | None) -> None:
    """Check that a caller that is limited to organizations filters by no policy group: groups cross organizations.

    Raises:
        RoleRefused: it does.
    """
    if group is not None and caller.organizations is not None:
        raise RoleRefused(f"policy groups need a token of all organizations, and {caller.name} is limited to some")


async def require_agent(services: Services, caller: Caller, agent_id: str) -> None:
    """Check that an agent belongs to the caller's organizations.

    Raises:
        NotFound: it does not, or does not exist, by the same text.
    """
    if caller.organizations is None or caller.agent_id is not None:
        return
    organization_id = await services.read(services.queries.organization_of_agent, agent_id)
    if organization_id is None or not caller.sees(organization_id):
        raise NotFound(f"Agent {agent_id} not found")


async def require_block(services: Services, caller: Caller, entry_id: str) -> None:
    """Check that an emergency entry belongs to the caller's organizations.

    Raises:
        NotFound: it does not, or does not exist, by the same text.
        RoleRefused: it is for the whole fleet.
    """
    if caller.organizations is None:
        return
    organization_id = await services.read(services.queries.organization_of_block, entry_id)
    if organization_id == "":
        raise RoleRefused(f"the block is for the whole fleet, and {caller.name} is limited to organizations")
    if organization_id is None or not caller.sees(organization_id):
        raise NotFound(f"Block {entry_id} not found: it is not in force")


async def require_scope(services: Services, caller: Caller, scope: Scope) -> None:
    """Check that the caller may change what is set for a scope.

    Raises:
        NotFound: it is another organization, or an agent of one.
        RoleRefused: it is wider than the caller's organizations.
    """
    if caller.organizations is None:
        return
    if scope.kind == "agent":
        await require_agent(services, caller, scope.target)
    elif scope.kind != "organization":
        raise RoleRefused(
            f"the access token {caller.name} is limited to organizations, and this concerns others too: name an"
            " organization, or use another token"
        )
    elif not caller.sees(scope.target):
        raise NotFound(f"Organization {scope.target} not found")
