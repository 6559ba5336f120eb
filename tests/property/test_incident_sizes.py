"""Incidents' members and the reach of their entries, against plain counting and against each entry's own record."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Door, InForce, credential_of
from manager.domain.agents.condition import Condition, EnforcedMeasures, UnenforcedMeasure
from manager.domain.agents.host import Host
from manager.domain.correlation import Incident, Indicator
from manager.engine.batch import Changes
from manager.storage import tables
from manager.storage.queries import Record, StoreQueries, incidents
from manager.storage.queries.enforcement import REASONS_SHOWN
from manager.storage.store import PeeweeStore
from manager.storage.tables import EmergencyEntryTable
from tests.support.examples import examples
from tests.support.migrated_store import open_migrated, open_reading

pytestmark = pytest.mark.usefixtures("each_system")

NOW = 1_800_000_000.0
INCIDENTS, TECHNIQUE = ("inc-a", "inc-b"), "T1110"
AGENTS = 9
SHOWN = 3


class Known(NamedTuple):
    """An agent and what it states: its policy, whether it has applied it, and whether it names the technique."""

    organization: str
    version: int
    is_applied: bool
    names_technique: bool
    is_removed: bool


class Entry(NamedTuple):
    """An entry of an incident in one agent's policy, or in its organization's blocklist."""

    incident: str
    agent: int
    is_wide: bool
    kind: str
    number: int | None
    age: int


KNOWN = st.builds(
    Known,
    st.sampled_from(["acme", "acme", "beta"]),
    st.integers(1, 3),
    *[st.sampled_from([True, True, False])] * 2,
    st.sampled_from([False] * 5 + [True]),
)
ENTRY = st.builds(
    Entry,
    st.sampled_from(INCIDENTS),
    st.integers(1, AGENTS),
    st.sampled_from([False] * 29 + [True]),
    st.sampled_from(["sensitivity", "sensitivity", "source_ip"]),
    st.sampled_from([1, 2, 2, 3, None]),
    st.integers(0, 3),
)
MEMBERS = st.dictionaries(st.tuples(st.sampled_from(INCIDENTS), st.integers(1, AGENTS)), st.booleans())


@settings(max_examples=examples(20))
@given(st.lists(KNOWN, min_size=AGENTS, max_size=AGENTS), st.lists(ENTRY, min_size=8, max_size=20), MEMBERS)
def test_incidents_in_a_list_count_their_members_and_the_reach_of_their_entries(
    known: list[Known], entries: list[Entry], members: dict[tuple[str, int], bool]
) -> None:
    """Counts are those of the members; the reach is the sum of the entries', organizations' before agents' own."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(incidents, "AGENTS_SHOWN", SHOWN)
        path = Path(name) / "panguard.db"
        database = open_migrated(path)
        tables.database.initialize(database)
        _store(PeeweeStore(database, bytes(32)), known, entries, members)
        reader = open_reading(path)
        queries = StoreQueries(reader)
        found = {each["id"]: each for each in queries.incidents(limit=10)[0]}
        alone = {each: queries.incident(each) for each in INCIDENTS}
        blocks = {each: queries.blocks(after=0.0, incident_id=each, limit=100)[0] for each in INCIDENTS}
        reader.close()
        database.close()
    for incident_id in INCIDENTS:
        joined = {_id(number): vouched for (each, number), vouched in members.items() if each == incident_id}
        record, single = found[incident_id], alone[incident_id]
        assert single is not None
        assert record["agentIds"] == sorted(joined)[:SHOWN]
        assert record["agentCount"] == single["agentCount"] == len(joined)
        assert record["vouchedAgentCount"] == single["vouchedAgentCount"] == sum(joined.values())
        _compare_reach(record, blocks[incident_id], entries)
        assert {name: single[name] for name in _REACH} == {name: record[name] for name in _REACH}


_REACH = ("targetCount", "acceptedCount", "enforcedCount", "notEnforced")


def _compare_reach(record: Record, blocks: list[Record], entries: list[Entry]) -> None:
    wide = [block for block in blocks if block["scope"] == "organization"]
    counted = wide or blocks
    for name in _REACH[:3]:
        assert record[name] == sum(block[name] for block in counted)
    reasons = [reason for block in counted for reason in block["notEnforced"]]
    assert len(record["notEnforced"]) == min(REASONS_SHOWN, len(reasons))
    assert all(reason in reasons for reason in record["notEnforced"])
    if len({block["kind"] for block in counted}) == 1 and None not in {entry.number for entry in entries}:
        oldest = sorted(counted, key=lambda block: (block["createdAt"], block["id"]))
        assert record["notEnforced"] == [each for block in oldest for each in block["notEnforced"]][:REASONS_SHOWN]


def _id(number: int) -> str:
    return f"ag-{number:02}"


def _store(store: PeeweeStore, known: list[Known], entries: list[Entry], members: dict[tuple[str, int], bool]) -> None:
    changes, removed = Changes(), list[Agent]()
    for number, each in enumerate(known, 1):
        reasons = (UnenforcedMeasure(TECHNIQUE, "no room"),) if each.names_technique else ()
        enforced = EnforcedMeasures(each.version, 1, 1, len(reasons), 0, 0, 0, reasons)
        agent = Agent(
            number, _id(number), each.organization, Host.of(f"srv-{number}", "Linux", "x64", "1"),
            credential_of(bytes([number]) * 32), None, Door.MQTT, NOW,
            in_force=InForce.of(each.version, "d", "applied" if each.is_applied else "rejected", blocklist_sequence=2),
            condition=Condition(enforcement="nftables", enforced=enforced),
        )  # fmt: skip
        changes.agents[agent.agent_id] = agent
        removed += [agent] if each.is_removed else []
    for incident_id in INCIDENTS:
        indicator = Indicator("technique", TECHNIQUE, "acme", None)
        changes.incidents[incident_id] = Incident(incident_id, indicator, {}, NOW, NOW, NOW, report_count=1)
    changes.members = [(each, _id(number), False, vouched) for (each, number), vouched in members.items()]
    store.commit(changes)
    store.commit(Changes(removed=removed))
    for place, entry in enumerate(entries):
        organization = "acme"  # an agent may have moved to another since
        EmergencyEntryTable.create(
            id=f"blk-{place:02}", scope="organization" if entry.is_wide else "agent",
            target=organization if entry.is_wide else _id(entry.agent), kind=entry.kind, value=TECHNIQUE,
            organization_id=organization, site=None, reason="r", incident_id=entry.incident,
            created_at=NOW - entry.age, expires_at=NOW + 60, number=entry.number, added_by=None, overrides=None,
        )  # fmt: skip
