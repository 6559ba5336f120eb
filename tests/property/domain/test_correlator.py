"""The correlator against the naive rule over all reports ever, in any order, stopped and rebuilt anywhere."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from manager.domain.correlation import ChangeKind, CorrelatorSettings, Indicator, Report
from tests.property.domain.correlation_oracle import START, Found, Station, milliseconds
from tests.support.examples import examples

# Multiples of 50 s, and a millisecond or second beside them: sums of a few meet the bounds exactly, or just miss them.
_OFFSETS = [steps * 50 + beside for steps in range(40) for beside in (0.0, -0.001, 0.001, 1.0)]
_DELAYS = [0.0, 1.0, 120.0, 299.999, 300.0, 300.001, 301.0, 600.0, 900.0, 2400.0]
_DELIVERIES = [(0.0, True), (0.0, True), (0.0, False), (900.0, False), *((delay, True) for delay in _DELAYS)]
_SCOPES = [
    (organization_id, site, address, technique)
    for organization_id in ("acme", "other")
    for site in (None, "", "north")
    for address in ("203.0.113.7", "10.0.0.1")
    for technique in (None, "T1110", "T1110.001")
]


def _report(
    agent: int, offset: float, delivery: tuple[float, bool], scope: tuple[str, str | None, str, str | None]
) -> Report:
    delay, trusted = delivery
    received = round(START + offset + delay, 3)
    return Report(
        agent_id=f"ag-{agent}",
        organization_id=scope[0],
        site=scope[1],
        report_id="any",
        event_time=round(START + offset, 3) if trusted else received,
        received=received,
        source_ip=scope[2],
        technique=scope[3],
        event_time_trusted=trusted,
    )


def reports(
    agents: int = 6, longest: int = 40, deliveries: int = len(_DELIVERIES), *, scopes: bool = False
) -> st.SearchStrategy[Report]:
    """Reports of some agents, at times near the bounds, on time or late, from known clocks or not."""
    return st.builds(
        _report,
        st.integers(0, agents - 1),
        st.sampled_from(_OFFSETS[: 4 * longest]),
        st.sampled_from(_DELIVERIES[:deliveries]),
        st.sampled_from(_SCOPES if scopes else _SCOPES[:1]),
    )


@st.composite
def arrivals(draw: st.DrawFn, *, scopes: bool = False) -> list[Report]:
    """Reports in the order of their receipt: of few agents or many, crowded or far apart, on time or not."""
    one = reports(
        draw(st.sampled_from([2, 3, 6])),
        draw(st.sampled_from([10, 20, 40])),
        draw(st.sampled_from([3, len(_DELIVERIES)])),
        scopes=scopes,
    )
    return sorted(draw(st.lists(one, min_size=1, max_size=25)), key=lambda report: report.received)


thresholds = st.integers(2, 4)

many = settings(max_examples=examples(200))
"""An example costs a millisecond, and what is rare here takes several coincidences."""


def _settings(threshold: int, **bounds: int) -> CorrelatorSettings:
    return CorrelatorSettings(threshold, threshold, threshold, **bounds)


def _same(station: Station) -> None:
    found = {indicator: list(incidents.values()) for indicator, incidents in station.found().items()}
    assert found == station.expected()


@given(arrivals(), thresholds)
@many
def test_after_every_report_the_incidents_are_those_of_the_naive_rule(arriving: list[Report], threshold: int) -> None:
    """Runs, members, actionable agents, lateness and counts are a function of the reports, whatever their order."""
    station = Station(_settings(threshold))
    for report in arriving:
        station.observe(report)
        _same(station)


@given(arrivals(scopes=True))
@many
def test_scopes_never_mix(arriving: list[Report]) -> None:
    """Organizations stay apart, private addresses stay in their site, and a sub-technique counts as both."""
    station = Station(_settings(2))
    for report in arriving:
        station.observe(report)
        station.commit()
    _same(station)


@given(arrivals(), thresholds, st.lists(st.booleans(), min_size=25, max_size=25))
@many
def test_time_that_passes_between_reports_changes_no_decision(
    arriving: list[Report], threshold: int, pauses: list[bool]
) -> None:
    """Reports that expired from memory and are loaded from the store decide the same as those that stayed."""
    station = Station(_settings(threshold))
    for report, pause in zip(arriving, pauses, strict=False):
        station.observe(report)
        station.commit()
        if pause:
            station.expire(report.received)
    _same(station)


@given(arrivals(), thresholds, st.lists(st.booleans(), min_size=25, max_size=25))
@many
def test_a_correlator_stopped_and_rebuilt_anywhere_decides_the_same(
    arriving: list[Report], threshold: int, restarts: list[bool]
) -> None:
    """From each restart on, changes and incidents are those of a correlator that never stopped."""
    steady, stopped = Station(_settings(threshold)), Station(_settings(threshold))
    for report, restart in zip(arriving, restarts, strict=False):
        if restart:
            stopped.restart()
        mine, theirs = steady.observe(report), stopped.observe(report)
        assert [(each.kind, each.incident.id, each.agent_id) for each in mine] == [
            (each.kind, each.incident.id, each.agent_id) for each in theirs
        ]
        assert [set(each.actionable) for each in mine] == [set(each.actionable) for each in theirs]
        assert [each.kind for each in steady.expire(report.received)] == [
            each.kind for each in stopped.expire(report.received)
        ]
    assert steady.incidents == stopped.incidents or steady.found() == stopped.found()
    _same(stopped)


@given(arrivals(scopes=True), thresholds, st.integers(1, 3), st.integers(1, 2))
@many
def test_memory_too_small_costs_queries_and_no_decision(
    arriving: list[Report], threshold: int, max_watched: int, max_open: int
) -> None:
    """Indicators pushed out of memory, with open incidents or without, are still correlated exactly."""
    station = Station(_settings(threshold, max_watched=max_watched, max_open=max_open))
    for report in arriving:
        station.observe(report)
        station.expire(report.received)
        assert station.correlator.indicator_count <= max_watched + max_open
    _same(station)


@given(arrivals(), thresholds, st.data())
@many
def test_a_report_delivered_twice_changes_only_the_count(
    arriving: list[Report], threshold: int, data: st.DataObject
) -> None:
    """Duplicates, which the inbox removes, would still make and grow no incident."""
    once, twice = Station(_settings(threshold)), Station(_settings(threshold))
    again = data.draw(st.lists(st.booleans(), min_size=len(arriving), max_size=len(arriving)))
    for report, repeat in zip(arriving, again, strict=True):
        once.observe(report)
        once.commit()
        twice.observe(report)
        twice.commit()
        if repeat:
            assert {each.kind for each in twice.observe(report)} <= {ChangeKind.JOINED}

    def without_count(station: Station) -> dict[Indicator, list[Found]]:
        return {key: [each._replace(count=0) for each in of.values()] for key, of in station.found().items()}

    assert without_count(once) == without_count(twice)


@given(st.lists(reports(), min_size=2, max_size=5), thresholds)
def test_every_order_of_arrival_within_the_allowed_lateness_gives_the_same_incidents(
    chosen: list[Report], threshold: int
) -> None:
    """Reports of one stretch of 300 s, received at its end, make the same incidents in all their orders."""
    end = max(each.event_time for each in chosen)
    near = [
        structs.replace(each, received=end)
        for each in chosen
        if milliseconds(end) - milliseconds(each.event_time) <= 300_000
    ]
    outcomes = []
    for order in permutations(near):
        station = Station(_settings(threshold))
        for report in order:
            station.observe(report)
        outcomes.append({key: list(of.values()) for key, of in station.found().items()})
    assert all(outcome == outcomes[0] for outcome in outcomes)


@given(arrivals())
@many
def test_an_incident_keeps_its_id_and_the_older_one_survives_a_merge(arriving: list[Report]) -> None:
    """Of two incidents that merge, the one whose run began earlier stays, and names the absorbed one."""
    station = Station(_settings(2))
    before: dict[str, Found] = {}
    for report in arriving:
        station.observe(report)
        after = next(iter(station.found().values()), {})
        for incident_id, incident in after.items():
            parts = [key for key, part in before.items() if incident.first <= part.first and part.last <= incident.last]
            assert not parts or parts[0] == incident_id
            assert all(station.incidents[part].merged_into == incident_id for part in parts[1:])
            assert bool(parts) == (incident_id in before)
        before = after


@given(arrivals(), thresholds)
@many
def test_an_agent_becomes_actionable_once_and_is_named_when_it_does(arriving: list[Report], threshold: int) -> None:
    """The changes name, each once, exactly the agents that the responder may act for in the end."""
    station = Station(_settings(threshold))
    for report in arriving:
        station.observe(report)
        station.commit()
    named = [(each.incident.id, agent_id) for each in station.changes for agent_id in each.actionable]
    assert len(named) == len(set(named))
    final = {each.id: each.merged_into or each.id for each in station.incidents.values()}

    def survivor(incident_id: str) -> str:
        while final[incident_id] != incident_id:
            incident_id = final[incident_id]
        return incident_id

    actionable = {
        (incident_id, agent_id)
        for of in station.found().values()
        for incident_id, incident in of.items()
        for agent_id in incident.actionable
    }
    assert {(survivor(incident_id), agent_id) for incident_id, agent_id in named} == actionable


@given(arrivals())
@many
def test_a_return_counts_the_incidents_before(arriving: list[Report]) -> None:
    """An incident that opens knows how many of its indicator lie before it, remembered or stored."""
    station = Station(_settings(2))
    for report in arriving:
        for change in station.observe(report):
            if change.kind in {ChangeKind.OPENED, ChangeKind.RETURNED}:
                of = station.found()[change.incident.indicator]
                earlier = sum(each.first < milliseconds(change.incident.first_seen_at) for each in of.values())
                assert change.incident.return_count == earlier
                assert (change.kind is ChangeKind.RETURNED) == (earlier > 0)
        station.expire(report.received)


def _told(station: Station, agent: int, at: float, delay: float = 0.0) -> None:
    station.observe(_report(agent, at, (delay, True), _SCOPES[0]))
    station.expire(station.now)


def test_late_reports_find_what_was_counted_already_and_do_not_count_it_again() -> None:
    """A long run whose old points are forgotten, read back for a late report: its reports count once."""
    station = Station(_settings(3))
    _told(station, 0, 0)
    for at in range(250, 1_001, 250):
        _told(station, 1, at)
    _told(station, 2, 260, delay=740)
    assert station.correlator.history_loads > 0
    assert [each.count for of in station.found().values() for each in of.values()] == [6]
    _same(station)


def test_after_a_restart_a_long_run_still_has_its_early_members() -> None:
    """An agent that reported long before what is rebuilt is a member, and actionable if it came on time."""
    for delay in (0.0, 300.001):
        station = Station(_settings(3))
        _told(station, 0, 0, delay=delay)
        for at in range(250, 2_001, 250):
            _told(station, 1, at)
        station.restart()
        _told(station, 2, 2_000)
        _told(station, 3, 2_000)
        assert station.expected()
        _same(station)


def test_after_a_restart_an_agent_joins_those_who_were_actionable_long_before() -> None:
    """The run of reports that count was complete an hour ago, and one agent kept it alive: the next one counts."""
    station = Station(_settings(3))
    for agent in (0, 1, 2):
        _told(station, agent, 0)
    for at in range(250, 4_001, 250):
        _told(station, 0, at)
    station.restart()
    _told(station, 3, 4_000)
    assert [each.actionable for of in station.found().values() for each in of.values()] == [
        frozenset({"ag-0", "ag-1", "ag-2", "ag-3"})
    ]
    _same(station)
