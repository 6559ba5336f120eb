"""The overview's number of agents that reported within a day, around midnight and after a step of the clock."""

from pathlib import Path

import pytest

from manager.domain.agents.agent import Agent, Door, credential_of
from manager.domain.agents.host import Host
from manager.engine.batch import Changes, ThreatRow
from manager.storage import tables
from manager.storage.queries import StoreQueries
from manager.storage.store import PeeweeStore
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

MIDNIGHT, HOUR, DAY = 1_800_057_600.0, 3600, 86_400
PIECE, MANY = 4, 10
ORGANIZATIONS = ("acme", "beta")


@pytest.mark.parametrize("reports", [1, MANY], ids=["waiting", "counted"])
@pytest.mark.parametrize(
    ("now", "event_time", "expected"),
    [
        (MIDNIGHT + HOUR, MIDNIGHT - DAY + HOUR - 1, 0),
        (MIDNIGHT + HOUR, MIDNIGHT - DAY + HOUR, 2),
        (MIDNIGHT + HOUR, MIDNIGHT - 1, 2),
        (MIDNIGHT + HOUR, MIDNIGHT, 2),
        (MIDNIGHT, MIDNIGHT - DAY - 1, 0),
        (MIDNIGHT, MIDNIGHT - DAY, 2),
        (MIDNIGHT - HOUR, MIDNIGHT - 2 * DAY, 0),
        (MIDNIGHT - HOUR, MIDNIGHT + HOUR, 2),
        (MIDNIGHT - HOUR, MIDNIGHT + 2 * DAY, 2),
    ],
)
def test_agents_that_reported_within_a_day_are_counted_once(
    tmp_path: Path, now: float, event_time: float, expected: int, reports: int
) -> None:
    """Those of a day ago count, whichever day's bucket has them, or none yet; an event time ahead of a clock, too."""
    path = tmp_path / "panguard.db"
    database = open_migrated(path)
    tables.database.initialize(database)
    store = PeeweeStore(database, bytes(32), piece=PIECE)
    for number, organization_id in enumerate(ORGANIZATIONS, 1):
        host, agent_id = Host.of(f"host-{number}", "Linux", "x64", "1"), f"ag-{number}"
        agent = Agent(number, agent_id, organization_id, host, credential_of(bytes(32)), None, Door.MQTT, now)
        store.commit(Changes(agents={agent_id: agent}))
    for place in range(reports):
        store.commit(Changes(threats=[_row(number, place, event_time, now) for number in (1, 2)]))
    ((counted,),) = database.execute_sql("SELECT count(*) FROM threat_agent_count").fetchall()
    reader = open_reading(path)
    fleet, named = (StoreQueries(reader).overview(now, wanted) for wanted in (None, ORGANIZATIONS))
    reader.close()
    database.close()
    assert (counted > 0) is (reports == MANY)
    assert fleet["threatSummary"]["affectedAgents"] == expected
    assert fleet == named


def _row(number: int, place: int, event_time: float, now: float) -> ThreatRow:
    return ThreatRow(
        number, f"t-{place}", bytes(16), event_time, now, True, "scan", "low", 1.0, None, "198.51.100.1", None, "{}"
    )
