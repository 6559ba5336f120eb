"""When a stand-by reads the agents: at intervals, once in each silence of the leader, and again after a failure."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from manager.runtime.lease_keeper import LeaseKeeper
from manager.runtime.warm_standby import WarmStandby
from manager.storage.postgresql.address import DatabaseAddress, database_address
from manager.storage.postgresql.warm_agents import WarmAgents
from manager.storage.statements import Statements
from tests.support.ports import free_port

pytestmark = pytest.mark.postgresql


class CountedAgents(WarmAgents):
    """Agents that count their readings."""

    readings = 0

    def refresh(self, statements: Statements, goes_on: Callable[[], bool] = lambda: True) -> None:
        super().refresh(statements, goes_on)
        self.readings += 1


class Waiting:
    """A stand-by on a clock of the test's."""

    def __init__(self, place: DatabaseAddress) -> None:
        self.now = self.silent = 0.0
        keeper: Any = SimpleNamespace(unchanged_for=lambda: self.silent)
        self.standby = WarmStandby(place, bytes(32), cast("LeaseKeeper", keeper), lambda: self.now)
        self.standby.agents = self.agents = CountedAgents(bytes(32))

    def tick(self, seconds: float, silent: float = 0.0) -> int:
        """Let time pass, and return how often the agents were read so far."""
        self.now += seconds
        self.silent = silent
        self.standby.tick(lambda: True)
        return self.agents.readings


def test_the_agents_are_read_at_once_each_minute_and_in_a_silence(postgresql_address: DatabaseAddress) -> None:
    """A silence of three seconds has them read at once, and not again before its end."""
    waiting = Waiting(postgresql_address)
    assert [waiting.tick(0), waiting.tick(59), waiting.tick(1)] == [1, 1, 2]
    assert [waiting.tick(1, silent=2.9), waiting.tick(0.5, silent=3.4), waiting.tick(0.5, silent=3.9)] == [2, 3, 3]
    assert waiting.tick(1) == 3
    assert [waiting.tick(4, silent=3.0), waiting.tick(1, silent=4.0)] == [4, 4]
    assert waiting.tick(60, silent=64.0) == 5


def test_a_database_that_is_away_is_told_once_and_read_later(postgresql_address: DatabaseAddress) -> None:
    """The read state stays; the next reading comes with its interval, or with the next silence."""
    waiting = Waiting(postgresql_address)
    waiting.tick(0)
    waiting.standby._place = database_address(f"postgresql://panguard@127.0.0.1:{free_port()}/none")
    with capture_logs() as logs:
        assert [waiting.tick(60), waiting.tick(60)] == [1, 1]
        waiting.standby._place = postgresql_address
        assert waiting.tick(60) == 2
    assert [entry["event"] for entry in logs] == ["agents_not_kept_warm"]
    assert not waiting.agents.is_empty


def test_a_stop_ends_a_reading(postgresql_address: DatabaseAddress) -> None:
    """Nothing counts as read then."""
    waiting = Waiting(postgresql_address)
    waiting.standby.tick(lambda: False)
    assert waiting.agents.is_empty
