"""`panguard manager status` of a fleet too large to be listed."""

from datetime import UTC, datetime

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
