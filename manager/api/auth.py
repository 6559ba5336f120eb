"""What a route demands of its caller: the admin's token, or the token of the very agent that its path names."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from manager.api.credentials import Caller
from manager.api.errors import Forbidden, Unauthorized

_scheme = HTTPBearer(auto_error=False, description="The admin's token, or an agent's own.")


async def identified(
    request: Request, _given: Annotated[HTTPAuthorizationCredentials | None, Depends(_scheme)]
) -> Caller:
    """Return the caller of a request, as the gate knows it.

    Raises:
        Unauthorized: no token was given, or one that is nobody's; the answer does not tell which.
    """
    caller: Caller | None = request.scope.get("caller")
    if caller is None:
        raise Unauthorized
    return caller


async def admin(caller: Annotated[Caller, Depends(identified)]) -> Caller:
    """Return the caller if it is the admin.

    Raises:
        Forbidden: it is an agent.
    """
    if not caller.is_admin:
        raise Forbidden
    return caller


async def admin_or_own(agent_id: str, caller: Annotated[Caller, Depends(identified)]) -> Caller:
    """Return the caller if it is the admin, or the agent in the path; whether another one exists, it is not told.

    Raises:
        Forbidden: it is another agent.
    """
    return own_or_admin(caller, agent_id)


def own_or_admin(caller: Caller | None, agent_id: str) -> Caller:
    """Return the caller if it is the admin, or this agent.

    Raises:
        Unauthorized: nobody knows who it is.
        Forbidden: it is another agent.
    """
    if caller is None:
        raise Unauthorized
    if not caller.is_admin and caller.agent_id != agent_id:
        raise Forbidden
    return caller


Identified = Annotated[Caller, Depends(identified)]
Admin = Annotated[Caller, Depends(admin)]
AdminOrOwn = Annotated[Caller, Depends(admin_or_own)]
