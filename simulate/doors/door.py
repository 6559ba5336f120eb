"""The interface of a door, and the loop that keeps an agent connected to it."""

import asyncio
import random
from typing import Protocol

from simulate.agent import Agent

_RANDOM = random.SystemRandom()
_MOST_DOUBLINGS = 32


class DoorError(ConnectionError):
    """A connection could not be opened, or ended; the agent retries."""


class Door(Protocol):
    """Opens sessions for agents."""

    async def session(self, agent: Agent) -> None:
        """Register the agent if necessary, connect it, and return at the end of its session.

        Raises:
            OSError: no session could be opened; the caller retries.
            TimeoutError: an answer took too long before the session was open; the caller retries.
            UnreachableError: the manager refuses the agent for good.
        """
        ...

    async def close(self) -> None:
        """Close the resources that agents share."""
        ...


async def keep_connected(agent: Agent, door: Door, leaving: asyncio.Event, base: float, cap: float) -> None:
    """Open one session after another until `leaving`; wait between them as a guard does.

    Args:
        agent: The agent to connect.
        door: The door to connect to.
        leaving: Set when agents must sign off.
        base: The maximum wait after a first failure, in seconds.
        cap: The maximum wait after any failure, in seconds.

    Raises:
        UnreachableError: the manager refuses the agent for good.
    """
    failures = 0
    while not leaving.is_set():
        try:
            await door.session(agent)
            failures = 0
        except (OSError, TimeoutError) as error:
            agent.tally.last_error = str(error) or "an answer took too long"
            failures += 1
        if leaving.is_set():
            return
        agent.tally.reconnects += 1
        delay = _RANDOM.uniform(0, min(cap, base * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)))
        try:
            async with asyncio.timeout(delay):
                await leaving.wait()
        except TimeoutError:
            continue
