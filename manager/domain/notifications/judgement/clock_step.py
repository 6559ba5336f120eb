"""Steps of the manager's clock: after a step back no stored time may lie in the future, or people would wait for it."""

from collections.abc import Iterator

from manager.domain.notifications.judgement.groups.thread import Thread
from manager.domain.notifications.judgement.state import JudgementState


def step_back(state: JudgementState, now: float) -> None:
    """Move all times of what has happened that lie after `now` to `now`. Ends of mutes and approvals stay."""
    for thread in _threads(state):
        thread.first_told = _earlier(thread.first_told, now)
        thread.last_told = _earlier(thread.last_told, now)
    for occurrences in state.occurrences.values():
        occurrences.waiting_since = _earlier(occurrences.waiting_since, now)
        occurrences.newest = min(occurrences.newest, now)
    for standing in state.standing.values():
        standing.low_since = _earlier(standing.low_since, now)
        standing.reminded_until = min(standing.reminded_until, now)
        for member in standing.members.values():
            member.causes = {cause: min(since, now) for cause, since in member.causes.items()}
    flapping = state.flapping
    flapping.falls = {agent_id: [min(at, now) for at in times] for agent_id, times in flapping.falls.items()}
    flapping.changed = {agent_id: min(at, now) for agent_id, at in flapping.changed.items()}
    flapping.begun = {agent_id: min(at, now) for agent_id, at in flapping.begun.items()}
    for limit in (state.limit, state.urgent_limit):
        limit.sent = [min(at, now) for at in limit.sent]
    state.digest.since = _earlier(state.digest.since, now)
    if state.backlog is not None:
        backlog = state.backlog
        backlog.oldest, backlog.newest = min(backlog.oldest, now), min(backlog.newest, now)
        backlog.taken = min(backlog.taken, now)


def _threads(state: JudgementState) -> Iterator[Thread]:
    yield from (group.thread for group in state.occurrences.values())
    yield from (group.thread for group in state.standing.values())
    if state.backlog is not None:
        yield state.backlog.thread


def _earlier(at: float | None, now: float) -> float | None:
    return None if at is None else min(at, now)
