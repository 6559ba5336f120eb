"""Response merge: the responses of two incidents of which one absorbed the other."""

from dataclasses import replace

from manager.domain.response.response_changes import Response, ResponseState

_ACTING = frozenset({ResponseState.APPLIED, ResponseState.SIMULATED})


def merge_responses(
    incident_id: str, mine: Response | None, theirs: Response, now: float
) -> tuple[list[Response], bool]:
    """Merge the response of an absorbed incident, which was not undone, into that of the incident that stays.

    Args:
        incident_id: the incident that stays.
        mine: its response; None if it has none.
        theirs: the response of the absorbed incident.
        now: the time, in seconds since 1970.

    Returns:
        The responses to record, and whether all members need entries.
    """
    acts = mine is not None and _acts(mine)
    waits = theirs.state is ResponseState.PENDING_APPROVAL
    mine_waits = mine is not None and mine.state is ResponseState.PENDING_APPROVAL
    moves = not acts and (_acts(theirs) or (waits and not mine_waits))
    left = theirs
    if waits:
        reason = f"merged into {incident_id}"
        left = replace(theirs, state=ResponseState.REFUSED, reason=reason, approval_expires_at=None)
    if moves:  # with its grant in the rate cap, which is counted once
        left = replace(left, granted_at=None, made_by=())
    merged = [left]
    if moves:
        merged.append(replace(in_force(theirs), incident_id=incident_id, at=now))
    elif mine is not None and acts:
        if theirs.organization_wide and ResponseState.SIMULATED not in {mine.state, theirs.state}:
            mine = replace(in_force(mine), organization_wide=True, reason=theirs.reason)
        merged.append(replace(mine, members_missing=mine.members_missing or theirs.members_missing))
    return merged, not acts


def in_force(response: Response) -> Response:
    """Return a response of which nothing waits for approval."""
    if not response.awaits_organization:
        return response
    return replace(response, state=ResponseState.APPLIED, approval_expires_at=None)


def awaiting(response: Response, until: float) -> Response:
    """Return a response whose organization-wide step waits for approval; a simulation only says so.

    Args:
        response: the response; one that waits already keeps its end.
        until: the end of the wait, in seconds since 1970.
    """
    if response.state is ResponseState.SIMULATED:
        return response
    ends = response.approval_expires_at if response.awaits_organization else until
    return replace(response, state=ResponseState.PENDING_APPROVAL, approval_expires_at=ends)


def _acts(response: Response) -> bool:
    return response.state in _ACTING or response.awaits_organization
