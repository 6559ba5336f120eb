"""Authorization: the role that each route needs, as a FastAPI dependency that also states it in the OpenAPI document.

A route without a declared access is refused when the application is built.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from manager.api.authentication import Caller
from manager.api.errors import Forbidden, RoleRefused, RouteWithoutRoleError, Unauthorized
from manager.domain.access import Role

_scheme = HTTPBearer(auto_error=False, description="The admin token, an access token, or an agent's own token.")


async def authenticated(
    request: Request, _given: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> Caller:
    """Return the caller that admission control identified.

    Raises:
        Unauthorized: the token is missing, unknown, expired or revoked; the answer does not tell which.
    """
    caller: Caller | None = request.scope.get("caller")
    if caller is None:
        raise Unauthorized
    return caller


class Access(ABC):
    """The declared access to a route; its members are the OpenAPI extensions of the operation."""

    @abstractmethod
    def extensions(self) -> dict[str, Any]:
        """Return `x-role`, `x-scope` and `x-agent`, as far as they apply."""


@dataclass(frozen=True)
class Allows(Access):
    """Access for a role and those that include it.

    Attributes:
        role: The least role.
        scoped: Whether the route limits itself to the caller's organizations; others need a token of all of them.
    """

    role: Role
    scoped: bool = False

    async def __call__(self, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
        """Return the caller, if its token has the role.

        Raises:
            Forbidden: the caller is an agent.
            RoleRefused: the token has another role, or is limited to organizations.
        """
        return self.check(caller)

    def check(self, caller: Caller) -> Caller:
        """Return the caller, if its token has the role; raises as a call does."""
        if caller.role is None:
            raise Forbidden
        if not caller.has(self.role):
            raise RoleRefused(f"the access token {caller.name} has the role {caller.role}, and this needs {self.role}")
        if not self.scoped and caller.organizations is not None:
            raise RoleRefused(f"this needs a token of all organizations, and {caller.name} is limited to some")
        return caller

    def extensions(self) -> dict[str, Any]:
        """Return the role, and whether the route needs a token of all organizations (`fleet`)."""
        return {"x-role": str(self.role), "x-scope": "organization" if self.scoped else "fleet"}


@dataclass(frozen=True)
class AllowsSelf(Access):
    """Access for the agent in the path, and for a role as `Allows` has it."""

    allows: Allows

    async def __call__(self, agent_id: str, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
        """Return the caller, if it is the agent in the path or has the role.

        Raises:
            Forbidden: it is another agent; the answer does not tell whether the agent in the path exists.
            RoleRefused: the token has another role, or is limited to organizations.
        """
        return caller if caller.agent_id == agent_id else self.allows.check(caller)

    def extensions(self) -> dict[str, Any]:
        """Return the role's extensions, and that an agent may use its own path."""
        return {**self.allows.extensions(), "x-agent": "own"}


@dataclass(frozen=True)
class AllowsAgents(Access):
    """Access for every agent, and for a role as `Allows` has it."""

    allows: Allows

    async def __call__(self, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
        """Return the caller, if it is an agent or has the role.

        Raises:
            RoleRefused: the token has another role, or is limited to organizations.
        """
        return caller if caller.agent_id is not None else self.allows.check(caller)

    def extensions(self) -> dict[str, Any]:
        """Return the role's extensions, and that any agent may use the route."""
        return {**self.allows.extensions(), "x-agent": "any"}


@dataclass(frozen=True)
class Declares(Access):
    """A declaration alone, for a route that needs no token or checks it by itself.

    Attributes:
        role: The role in the OpenAPI document; `none` where no token is needed.
        scope: The scope in the OpenAPI document; None where there is none.
        agent: The agents that may use the route; None for none of them.
    """

    role: str
    scope: str | None = None
    agent: str | None = None

    async def __call__(self) -> None:
        """Do nothing."""

    def extensions(self) -> dict[str, Any]:
        """Return the declared members."""
        given = {"x-role": self.role, "x-scope": self.scope, "x-agent": self.agent}
        return {name: value for name, value in given.items() if value is not None}


def allows(role: Role, *, scoped: bool = False) -> Allows:
    """Return the dependency of a route that needs a role; `scoped` as in `Allows`."""
    return Allows(role, scoped)


def access_of(route: APIRoute) -> Access:
    """Return the declared access of a route.

    Raises:
        RouteWithoutRoleError: it declares none, or several.
    """
    found = list(_declared(route.dependant))
    if len(found) != 1:
        raise RouteWithoutRoleError(f"{route.name} {route.path} declares {len(found)} roles; declare one")
    return found[0]


def _declared(dependant: Dependant) -> Iterator[Access]:
    for each in dependant.dependencies:
        if isinstance(each.call, Access):
            yield each.call
        else:
            yield from _declared(each)


def require_admin_or_self(caller: Caller | None, agent_id: str) -> Caller:
    """Return the caller if it is an admin of the whole fleet or this agent.

    Raises:
        Unauthorized: the caller is unknown.
        Forbidden: the caller is another agent, or its token has another role.
    """
    if caller is None:
        raise Unauthorized
    if caller.agent_id != agent_id and not caller.is_admin:
        raise Forbidden
    return caller


OPEN = Depends(Declares("none"))
"""Declares a route that needs no token."""

Viewer = Annotated[Caller, Depends(allows(Role.VIEWER))]
Responder = Annotated[Caller, Depends(allows(Role.RESPONDER))]
Admin = Annotated[Caller, Depends(allows(Role.ADMIN))]
Feed = Annotated[Caller, Depends(allows(Role.FEED, scoped=True))]
Metrics = Annotated[Caller, Depends(allows(Role.METRICS))]
AdminOrSelf = Annotated[Caller, Depends(AllowsSelf(allows(Role.ADMIN)))]

ScopedViewer = Annotated[Caller, Depends(allows(Role.VIEWER, scoped=True))]
"""A viewer, perhaps of some organizations only: the route limits itself by `caller.limit` or `manager.api.scope`."""

ScopedResponder = Annotated[Caller, Depends(allows(Role.RESPONDER, scoped=True))]
ScopedAdmin = Annotated[Caller, Depends(allows(Role.ADMIN, scoped=True))]
ScopedViewerOrSelf = Annotated[Caller, Depends(AllowsSelf(allows(Role.VIEWER, scoped=True)))]
ScopedAdminOrSelf = Annotated[Caller, Depends(AllowsSelf(allows(Role.ADMIN, scoped=True)))]
ScopedViewerOrAgent = Annotated[Caller, Depends(AllowsAgents(allows(Role.VIEWER, scoped=True)))]
