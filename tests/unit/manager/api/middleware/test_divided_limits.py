"""Limits of an agent that several processes serve: each process takes its share."""

import pytest

from manager.api.authentication import Caller, Credentials
from manager.api.errors import TooManyRequests
from manager.api.middleware.admission import Admission
from manager.api.middleware.client_address import ClientAddresses
from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.domain.budget import Budget

AGENT = Agent(
    1, "ag-1", "default", Host.of("web-1", "Debian 12", "x64", "1"), credential_of(bytes(32)), None, Door.HTTP, 0.0
)
BUDGET = Budget(messages=12.0, bytes=1200.0, burst=1.0)


class Sharers:
    """The number of processes, which tests change."""

    def __init__(self) -> None:
        self.count = 1


def admission(sharers: Sharers, limit: int = 60) -> Admission:
    credentials = Credentials("the admin token", lambda _digest: AGENT)
    return Admission(credentials, ClientAddresses(), limit, BUDGET, lambda: 0.0, sharers=lambda: sharers.count)


def admitted(door: Admission, last: str, most: int = 100) -> int:
    """Return how many requests of the agent are admitted at once."""
    for number in range(most):
        try:
            caller = door.admit(f"/api/agents/ag-1/{last}", None, {}, token_digest=AGENT.credential.http_digest)
        except TooManyRequests:
            return number
        assert caller == Caller.of_agent("ag-1")
    return most


@pytest.mark.parametrize(("count", "events", "heartbeats"), [(1, 12, 60), (3, 4, 20), (4, 3, 15), (10, 1, 10)])
def test_each_process_takes_its_share(count: int, events: int, heartbeats: int) -> None:
    """Reports are divided, heartbeats down to ten a minute; the number may change at any time."""
    sharers = Sharers()
    door = admission(sharers)
    assert (admitted(door, "events"), admitted(door, "heartbeat")) == (12, 60)
    sharers.count = count
    if count > 1:
        assert (admitted(door, "events"), admitted(door, "heartbeat")) == (events, heartbeats)
    sharers.count = 1
    assert admitted(door, "events") == (12 if count > 1 else 0)


def test_a_small_limit_is_not_raised() -> None:
    """The least that a process takes is no more than the whole limit."""
    sharers = Sharers()
    sharers.count = 5
    assert admitted(admission(sharers, limit=4), "heartbeat") == 4
    assert admitted(admission(sharers, limit=0), "events") == 100
