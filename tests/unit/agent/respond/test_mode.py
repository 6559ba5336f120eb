"""The mode in effect, and the trial of protection, on a virtual clock."""

from datetime import UTC, datetime

import pytest

from agent.clock import Clock
from agent.manager_time import ManagerTime
from agent.respond.mode import MANAGER_AFTER, TRIAL, ModeControl, set_host_mode
from agent.storage.database import Database
from schemas.presence import Mode

LEARNING, PROTECTION = Mode.LEARNING, Mode.PROTECTION


class World:
    """A mode control and its clock; `start` is a restart of the guard."""

    def __init__(self, database: Database, host: Mode = PROTECTION, max_mode: Mode = PROTECTION) -> None:
        self.now = 1000.0
        self.database = database
        clock = Clock(lambda: 1e9 + self.now, lambda: self.now)
        self._clock = clock
        self.manager_time = ManagerTime(clock)
        self._words = (host, max_mode)
        self.boot = "one"
        self.start()

    def start(self) -> None:
        host, max_mode = self._words
        self.mode = ModeControl(
            self.database, self._clock, self.manager_time, host=host, max_mode=max_mode, boot=self.boot
        )

    def tick(self, seconds: float = 0.0, *, enforces: bool = True, holds_managed: bool = False) -> bool:
        self.now += seconds
        return self.mode.tick(enforces=enforces, holds_managed=holds_managed)

    def hear_manager(self, ago: float = 0.0) -> None:
        self.manager_time.observe(datetime.fromtimestamp(1e9 + self.now - ago, UTC))


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.mark.parametrize("host", Mode)
@pytest.mark.parametrize("policy", [None, *Mode])
@pytest.mark.parametrize("max_mode", Mode)
def test_wanted_is_the_policys_mode_else_the_hosts_and_never_above_the_maximum(
    database: Database, host: Mode, policy: Mode | None, max_mode: Mode
) -> None:
    """Of all combinations the least counts."""
    world = World(database, host, max_mode)
    world.mode.set_policy(policy, 1)
    asked = host if policy is None else policy
    assert world.mode.wanted is (LEARNING if max_mode is LEARNING else asked)
    assert world.mode.effective is world.mode.wanted


def test_an_unconfirmed_trial_ends_in_learning_and_is_not_repeated(world: World) -> None:
    """Not by waiting, not by a restart; a policy with a new version that asks for protection is another occasion."""
    assert world.tick()
    assert world.mode.seconds_left == TRIAL
    assert not world.tick(TRIAL - 1)
    assert world.mode.effective is PROTECTION
    world.tick(1)
    assert (world.mode.effective, world.mode.wanted) == (LEARNING, PROTECTION)
    world.start()
    world.tick(TRIAL)
    assert world.mode.effective is LEARNING
    world.mode.set_policy(PROTECTION, 8)
    assert world.tick()
    assert world.mode.effective is PROTECTION


def test_a_confirmed_protection_begins_no_trial_until_the_mode_leaves_it(world: World) -> None:
    """Also after a restart and at another policy version."""
    world.tick()
    world.mode.confirm()
    world.tick(TRIAL)
    world.start()
    world.mode.set_policy(PROTECTION, 9)
    assert not world.tick()
    assert world.mode.seconds_left is None
    world.mode.set_policy(LEARNING, 10)
    world.tick()
    world.mode.set_policy(PROTECTION, 11)
    assert world.tick()
    assert world.mode.seconds_left == TRIAL


def test_nothing_is_tried_where_nothing_can_be_blocked(world: World) -> None:
    """A guard without a fence stays in protection: it can lock nobody out. With the fence the trial begins."""
    assert not world.tick(TRIAL * 2, enforces=False)
    assert world.mode.effective is PROTECTION
    assert world.tick()


def test_a_mode_of_the_policy_is_confirmed_by_the_manager_after_a_managed_block(world: World) -> None:
    """A message counts that the manager sent after it, and none from before."""
    world.hear_manager()
    world.mode.set_policy(PROTECTION, 3)
    world.tick()
    world.hear_manager()
    world.tick(5)
    assert not world.mode.asks_manager
    world.tick(1, holds_managed=True)
    assert world.mode.asks_manager
    world.hear_manager(ago=3)
    world.tick()
    assert world.mode.seconds_left is not None
    world.now += 2
    world.hear_manager(ago=0.5)
    world.tick()
    assert (world.mode.seconds_left, world.mode.asks_manager, world.mode.effective) == (None, False, PROTECTION)


def test_without_a_managed_block_it_is_confirmed_after_a_minute(world: World) -> None:
    """A manager that was reached before that minute says nothing about the blocks in it."""
    world.mode.set_policy(PROTECTION, 3)
    world.tick()
    world.tick(MANAGER_AFTER)
    assert world.mode.asks_manager
    world.now += 1
    world.hear_manager()
    world.tick()
    assert world.mode.seconds_left is None


def test_a_mode_of_the_host_is_not_confirmed_by_the_manager(world: World) -> None:
    """Who sits at the host confirms it: the manager may be reached where the administrator is locked out."""
    world.tick()
    world.tick(MANAGER_AFTER, holds_managed=True)
    world.hear_manager()
    world.tick(1)
    assert world.mode.seconds_left is not None
    assert not world.mode.asks_manager


def test_the_hosts_mode_is_set_from_another_process(world: World) -> None:
    """`panguard guard mode` goes before the start option, and lets a reverted protection be tried again."""
    world.tick()
    world.tick(TRIAL)
    set_host_mode(world.database, PROTECTION)
    assert world.tick()
    assert world.mode.effective is PROTECTION
    set_host_mode(world.database, LEARNING)
    world.tick()
    assert world.mode.effective is LEARNING
    world.start()
    assert world.mode.host is LEARNING


def test_a_restart_of_the_guard_does_not_lengthen_a_trial(world: World) -> None:
    """A guard that crashes again and again falls back to learning at the end of the first trial."""
    world.tick()
    for _ in range(5):
        world.start()
        world.tick(TRIAL / 5 - 1)
        assert world.mode.effective is PROTECTION
    world.start()
    world.tick(6)
    assert world.mode.effective is LEARNING


def test_a_moment_without_enforcement_does_not_lengthen_a_trial(world: World) -> None:
    """One failed request to the fence changes nothing."""
    world.tick()
    world.tick(TRIAL - 10, enforces=False)
    world.tick(11)
    assert world.mode.effective is LEARNING


def test_a_restart_of_the_host_ends_a_trial_in_learning(world: World) -> None:
    """Whoever was locked out may have restarted the host to get in again."""
    world.tick()
    world.boot = "another"
    world.start()
    world.tick()
    assert world.mode.effective is LEARNING
