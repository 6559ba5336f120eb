"""Nothing grows without end: a store after days of steady work, on the virtual clock; all files in real time."""

from pathlib import Path

import pytest

from chaos.growth import grow
from chaos.site import DoorName, Load
from manager.engine.settings import EngineSettings
from schemas import topics
from tests.support.engine import Bench

HOUR = 3600.0
MIB = 2**20


def test_a_store_of_steady_work_stays_within_its_retention(tmp_path: Path) -> None:
    """Three agents report every hour for four days: rows and pages stop growing after the first days.

    Pages of fleet events are left out: that table has a bound of its own, by rows.
    """
    settings = EngineSettings(threat_retention=24 * HOUR, id_retention=2 * 24 * HOUR)
    bench = Bench(tmp_path, settings)
    agents = [bench.enroll(f"web-{number}") for number in range(3)]
    sizes: list[tuple[int, int, int]] = []
    for day in range(4):
        for step in range(24):
            for agent in agents:
                identifier = f"{day}-{step}"
                bench.receive(
                    topics.THREATS,
                    agent.agent_id,
                    agent.threat(bench.wall, identifier, sourceIp=f"198.51.{step % 250}.9"),
                )
                bench.receive(topics.HEARTBEAT, agent.agent_id, agent.heartbeat(bench.wall))
            bench.pass_time(HOUR, step=60.0)
        threats = bench.rows("SELECT count(*) FROM threat")[0][0]
        stored_ids = bench.rows("SELECT count(*) FROM stored_id")[0][0]
        bench.database.execute_sql("DELETE FROM event")
        pages = bench.rows("PRAGMA page_count")[0][0] - bench.rows("PRAGMA freelist_count")[0][0]
        sizes.append((threats, stored_ids, pages))
    in_a_day = 3 * 24
    assert all(threats <= 1.2 * in_a_day for threats, _, _ in sizes[1:]), sizes
    assert sizes[3][1] <= 2.3 * in_a_day, sizes
    assert sizes[3][2] <= 1.2 * sizes[2][2], sizes


@pytest.mark.long("tests/unit/manager/engine/test_pruning.py")
@pytest.mark.parametrize("door", ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def test_no_file_but_the_store_grows_with_the_reports(door: DoorName) -> None:
    """With readers that never pause the WAL stays below its limit, and the manager's log says nothing new."""
    load = Load(agents=30, rate=250.0, is_direct=True, seconds=6.0, heartbeats=30.0, shared_attackers=0.01)
    growth = grow(door, load, every=0.5, retention=600.0)
    assert growth.receipted == growth.sent > 1000
    assert growth.largest("store's WAL") < 24 * MIB, "the manager's limit is 16 MiB"
    assert growth.largest("store's shared memory") <= 64 * 1024
    assert growth.largest("guard's store with its outbox") < 1 * MIB
    assert growth.largest("guard's WAL") < 8 * MIB
    assert growth.largest("manager's log", 2) == growth.largest("manager's log", 0)
    assert growth.largest("store") / growth.sent < 2048, "bytes of a report, with its indexes"
    if door == "mosquitto":
        assert growth.largest("Mosquitto's log", 2) == growth.largest("Mosquitto's log", 0)
