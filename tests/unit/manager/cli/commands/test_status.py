"""`panguard manager status`: a fleet too large to be listed, and several managers on one database."""

from datetime import UTC, datetime

import pytest

from manager.cli.commands.status import _lines

_STALE = {"status": "stale", "hostname": "a", "agentId": "ag-1", "statusSince": "2027-01-15T08:00:00Z", "reason": "x"}
_OVERVIEW = {
    "uptimeMs": 0, "totalAgents": 300, "onlineAgents": 1, "offlineAgents": 0, "activePolicyVersion": 1,
    "policyCurrentAgents": 300, "threatSummary": {"last24h": {"total": 0}},
}  # fmt: skip
_COUNTED = dict.fromkeys(("critical", "high", "medium", "low"), 0)


def test_the_stale_that_are_not_shown_are_counted() -> None:
    """Five have a line of their own, so that the rest stays on the screen; the others are a number, and a command."""
    overview = {
        **_OVERVIEW,
        "staleAgents": 299,
        "agents": [_STALE] * 200,
        "threatSummary": {"last24h": _COUNTED | {"total": 0}},
    }
    lines = _lines("http://x", overview, datetime(2027, 1, 15, 9, tzinfo=UTC))
    assert lines.count(lines[4]) == 5
    assert lines[9].strip() == "… and 294 more: agents list --status stale"
    assert not [
        line
        for line in _lines(
            "http://x", {**overview, "staleAgents": 5, "agents": [_STALE] * 5}, datetime(2027, 1, 15, 9, tzinfo=UTC)
        )
        if "more" in line
    ]


def _of_several(*roles: str) -> list[str]:
    """Return the lines of a status where the leader, up for a minute, and others of these roles are heard of."""
    place = {"hostname": "h", "port": 8443, "version": "1"}
    others = [{**place, "role": role, "behindSeconds": 1.0} for role in roles]
    overview = {
        **_OVERVIEW,
        "uptimeMs": 60_000,
        "staleAgents": 0,
        "agents": [],
        "threatSummary": {"last24h": _COUNTED | {"total": 0}},
        "group": {"leader": {**place, "since": "2027-01-15T08:00:00Z"}, "managers": others},
    }
    return _lines("http://y", overview, datetime(2027, 1, 15, 9, tzinfo=UTC))


@pytest.mark.parametrize("others", [(), ("ingest",), ("ingest", "ingest")])
def test_ingest_workers_are_nobody_who_takes_over(others: tuple[str, ...]) -> None:
    """A worker never leads: beside workers alone, a line says that nobody stands by for the leader."""
    assert "Standby         none: nobody takes over if the leader ends" in _of_several("leader", *others)
    assert not [line for line in _of_several("leader", "standby", *others) if "nobody takes over" in line]


def test_the_uptime_of_the_leader_is_said_of_no_other_manager() -> None:
    """Whichever manager is asked, the leader answers; its line says since when, and the asked one's has no uptime."""
    first, *rest = _of_several("leader", "standby")
    assert first == "Manager         http://y"
    assert "Leader          h:8443, 1, since 2027-01-15T08:00:00Z, 1 h ago" in rest
