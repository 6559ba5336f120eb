"""The manager's loop: whatever a part raises, the next step runs."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from manager.runtime.loop import ManagerLoop
from manager.runtime.wiring import Manager
from schemas import topics
from tests.support.engine import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.database.close()


def _raising(*_arguments: Any) -> None:
    raise ZeroDivisionError


def _nothing(*_arguments: Any) -> None:
    """Do nothing."""


@pytest.mark.parametrize("broken", ["poll", "flush", "tick", "check"])
def test_a_part_that_raises_does_not_end_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """Link, door and certificates may raise in every step; a waiting report is stored and acknowledged all the same."""
    parts = {name: _raising if name == broken else _nothing for name in ("poll", "flush", "tick", "check")}
    manager = SimpleNamespace(
        engine=bench.engine,
        mqtt=SimpleNamespace(poll=parts["poll"], flush=parts["flush"]),
        mqtt_door=SimpleNamespace(tick=parts["tick"]),
        certificates=SimpleNamespace(check=parts["check"]),
        batches=SimpleNamespace(observe=_nothing),
        settings=SimpleNamespace(batch_limit=500),
    )
    monkeypatch.setattr("manager.runtime.loop.clock.read", lambda: bench.now)
    agent = bench.enroll("web-1")
    monkeypatch.setattr(bench.engine, "suspend_flooding", lambda _now: True)
    loop = ManagerLoop(cast("Manager", manager), ExitStack())
    for number in range(3):
        handle = bench.put(topics.THREATS, agent.agent_id, agent.threat(bench.wall, f"t-{number}"))
        loop._step()
        assert handle in bench.acknowledged
    assert bench.fleet.counters["parts_failed"] == 3
