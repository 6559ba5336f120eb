"""Topics of received messages: resolved once each while there is room, right without."""

import pytest

from manager.domain.ingest import topics
from manager.domain.ingest.topics import ReceivedTopics
from schemas.topics import HEARTBEAT

AGENTS = [f"ag-{number:016x}" for number in range(6)]


def test_a_fleet_larger_than_the_table_finds_a_part_of_its_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents that beat in turn leave the table as it filled; what it does not hold is resolved alike."""
    monkeypatch.setattr(topics, "_MOST_KNOWN", 4)
    received = ReceivedTopics()
    addresses = {HEARTBEAT.address(agent).encode(): agent for agent in AGENTS}
    for _ in range(2):
        for address, agent in addresses.items():
            assert received[address] == (HEARTBEAT, agent, HEARTBEAT.below_root(agent))
        assert list(received) == list(addresses)[:4]
