"""The replay: the same rules over reports that were kept."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.correlation import Allowlist, CorrelatorSettings, Indicator, Report
from manager.domain.replay.outcomes import IncidentOutcome, compare
from manager.domain.replay.replay import Candidate, Replay, ReplayAgent, ReplayFleet, StoredReport
from manager.domain.response import ResponderSettings, ResponseState
from tests.property.domain.correlation_oracle import Seen, expected, milliseconds
from tests.support.responding import START

ATTACKER = "203.0.113.66"
AGENTS = [ReplayAgent(f"ag-{number}", "acme", "berlin", f"token-{number % 2}") for number in range(6)]


def report(agent: int, at: float, received: float | None = None, **members: str) -> StoredReport:
    """Return a report of an agent, of the attacker's address if nothing else is said."""
    shared = members or {"source_ip": ATTACKER}
    name = f"{agent}@{at}"
    return StoredReport(
        Report(
            f"ag-{agent}",
            "acme",
            "berlin",
            name,
            START + at,
            START + (at if received is None else received),
            **shared,
            vouched=3,
        ),
        {},
    )


def replayed(
    reports: Iterable[StoredReport], candidate: Candidate | None = None, until: float = 7200.0
) -> list[IncidentOutcome]:
    """Return what a candidate makes of reports."""
    run = Replay(candidate or Candidate(), ReplayFleet(AGENTS, used_tokens=1))
    for kept in reports:
        run.observe(kept)
    run.advance(START + until)
    return list(run.outcomes())


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2000), st.sampled_from([0, 0, 0, 200, 301, 900])), max_size=25)
)
def test_a_replay_finds_what_the_naive_rule_finds(events: list[tuple[int, int, int]]) -> None:
    """Late reports included, incidents are the runs that comparing all pairs finds."""
    reports = sorted(
        (report(agent, at, at + delay) for agent, at, delay in events), key=lambda kept: kept.report.received
    )
    seen = [
        Seen(milliseconds(each.event_time), milliseconds(each.received), each.agent_id, trusted=True)
        for each, _ in reports
    ]
    found = [
        (milliseconds(each.first_seen_at), milliseconds(each.last_seen_at), each.agent_count, each.late)
        for each in replayed(reports)
    ]
    assert sorted(found) == [(run.first, run.last, len(run.members), run.late) for run in expected(seen, threshold=2)]


def test_a_higher_threshold_opens_less() -> None:
    """Two agents make no incident where three are asked for."""
    reports = [report(0, 0), report(1, 10)]
    assert len(replayed(reports)) == 1
    assert replayed(reports, Candidate(correlator=CorrelatorSettings(source_ip_agents=3))) == []


def test_an_allowlisted_attacker_makes_no_incident() -> None:
    """The candidate's allowlist counts."""
    allowed = Allowlist({"acme": ["203.0.113.0/24"]})
    assert replayed([report(0, 0), report(1, 10)], Candidate(allowed=allowed)) == []


@pytest.mark.parametrize(("agents", "wide"), [(2, False), (3, True)])
def test_what_would_be_blocked_is_told_with_its_place(agents: int, wide: bool) -> None:
    """From three agents on in the whole organization, before that on each agent."""
    (outcome,) = replayed([report(agent, agent) for agent in range(agents)])
    assert (outcome.response, outcome.organization_wide, outcome.blocks) == (ResponseState.APPLIED, wide, True)
    places = {(entry.scope, entry.target) for entry in outcome.entries}
    assert {("agent", "ag-0"), ("agent", "ag-1")} <= places
    assert (("organization", "acme") in places) is wide


def test_the_rate_cap_and_the_never_block_core_count() -> None:
    """A candidate with room for one block lets the second wait; loopback and admin networks are refused."""
    reports = [report(agent, at, source_ip=f"203.0.113.{at}") for at in (1, 2) for agent in (0, 1)]
    narrow = Candidate(responder=ResponderSettings(blocks=1, agent_share=1.0))
    assert [each.response for each in replayed(reports, narrow)] == [
        ResponseState.APPLIED,
        ResponseState.PENDING_APPROVAL,
    ]
    guarded = Candidate(admin_networks=("203.0.113.0/24",))
    assert {each.response for each in replayed(reports, guarded)} == {ResponseState.REFUSED}


def test_a_login_in_the_evidence_keeps_an_address_from_being_blocked() -> None:
    """A login in a report's evidence counts in a replay, too."""
    first, second = report(0, 0), report(1, 10)
    told = first._replace(evidence={"sourceIp": ATTACKER, "lastLogin": START - 60})
    (outcome,) = replayed([told, second])
    assert outcome.response is ResponseState.REFUSED
    assert "logged in" in (outcome.reason or "")


def test_a_technique_becomes_chronic_between_reports() -> None:
    """Time passes second by second: what was open for an hour is chronic, though no report came just then."""
    reports = [report(at % 2, at * 299.0, technique="T1110") for at in range(13)]
    (outcome,) = replayed(reports, until=20_000)
    assert outcome.chronic


def test_incidents_that_merge_are_one_outcome() -> None:
    """A late report that bridges two runs leaves one, with the entries of both."""
    reports = [report(0, 0), report(1, 1), report(2, 590), report(3, 591), report(0, 295, received=700)]
    (outcome,) = replayed(reports)
    assert (outcome.agent_count, outcome.late) == (4, True)
    assert {entry.target for entry in outcome.entries} == {"ag-0", "ag-1", "ag-2", "ag-3"}


def outcome(value: str = ATTACKER, first: float = 0.0, last: float = 10.0, **members: object) -> IncidentOutcome:
    """Return an outcome of an address."""
    indicator = Indicator("source_ip", value, "acme", None)
    plain = IncidentOutcome(
        indicator, first, first, last, 2, late=False, chronic=False, response=None, reason=None, organization_wide=False
    )
    return replace(plain, **members)  # type: ignore[arg-type]


def test_outcomes_are_the_same_incident_if_their_times_meet() -> None:
    """An incident that a replay opens later is the same one; one of another hour is another."""
    real = [outcome(), outcome(first=5000, last=5010), outcome("203.0.113.1", response=ResponseState.UNDONE)]
    tried = [outcome(first=5), outcome(first=9000, last=9001), outcome("203.0.113.1", response=ResponseState.APPLIED)]
    found = compare(real, tried)
    assert found.same == 1
    assert found.only_real == [real[1]]
    assert found.only_replayed == [tried[1]]
    assert found.changed == [(real[2], tried[2])]
