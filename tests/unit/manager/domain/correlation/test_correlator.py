"""Incidents by example: the exact bounds, what lateness and doubt do, chronic ones, and how little is remembered."""

from collections.abc import Callable, Iterable
from itertools import count
from math import inf, nextafter

import pytest
from msgspec import structs

from manager.domain.correlation import (
    Allowlist,
    ChangeKind,
    Correlator,
    CorrelatorSettings,
    History,
    Incident,
    IncidentChange,
    Indicator,
    NoHistory,
    PastReport,
    Report,
)
from manager.domain.correlation.allowlist import ignored_bits

NOW = 1_700_000_000.7
ATTACKER = "203.0.113.7"
HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
KINDS = {"source_ip": ATTACKER, "file_hash": HASH, "technique": "T1110"}


class StrictHistory(NoHistory):
    """A store that must not be asked for reports: they are all still remembered."""

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterable[PastReport]:
        """Fail."""
        raise AssertionError(f"asked for {indicator.value} from {start} to {end}")


def correlator(settings: CorrelatorSettings | None = None, history: History | None = None) -> Correlator:
    """Return a correlator whose ids are i-1, i-2 and so on; its store is not asked for reports unless one is given."""
    numbers = count(1)
    return Correlator(settings or CorrelatorSettings(), lambda: f"i-{next(numbers)}", history or StrictHistory())


def report(agent: str, at: float, *, after: float = 0.0, trusted: bool = True, **fields: str) -> Report:
    """Return a report of something that happened `at` seconds after NOW, received `after` seconds later."""
    event_time, received = round(NOW + at, 3), round(NOW + at + after, 3)
    fields = fields or {"source_ip": ATTACKER}
    return Report(agent, "acme", None, "any", event_time, received, event_time_trusted=trusted, **fields)


def kinds(changes: list[IncidentChange]) -> list[ChangeKind]:
    """Return what happened."""
    return [change.kind for change in changes]


@pytest.mark.parametrize("kind", KINDS)
def test_two_agents_within_300_seconds_are_an_incident(kind: str) -> None:
    """300 s apart: yes; a millisecond more: nothing; the same for an address, a hash and a technique."""
    near, far = correlator(), correlator()
    assert near.observe(report("a", 0, **{kind: KINDS[kind]})) == []
    (opened,) = near.observe(report("b", 300, **{kind: KINDS[kind]}))
    assert (opened.kind, opened.agent_id, opened.actionable) == (ChangeKind.OPENED, "b", ("a", "b"))
    assert (opened.incident.kind, opened.incident.value) == (kind, KINDS[kind])
    far.observe(report("a", 0, **{kind: KINDS[kind]}))
    assert far.observe(report("b", 300.001, **{kind: KINDS[kind]})) == []


def test_the_bounds_forgive_what_floats_do() -> None:
    """An event time that a sum of floats put a step beyond 300 s is 300 s after all, and such a receipt is on time."""
    step = nextafter(NOW + 300, inf)
    exact = correlator()
    exact.observe(Report("a", "acme", None, "1", NOW, NOW, source_ip=ATTACKER))
    (opened,) = exact.observe(Report("b", "acme", None, "2", step, step, source_ip=ATTACKER))
    assert opened.incident.report_count == 2
    (grew,) = exact.observe(Report("c", "acme", None, "3", NOW, step, source_ip=ATTACKER))
    assert (grew.incident.late, grew.actionable) == (False, ("c",))


def test_members_are_all_agents_of_the_run_also_those_of_long_ago() -> None:
    """With three agents needed, one whose reports lie far outside the window is a member, without asking the store."""
    lasting = correlator(CorrelatorSettings(source_ip_agents=3))
    lasting.observe(report("a", 0))
    for at in range(250, 2_001, 250):
        assert lasting.observe(report("b", at)) == []
    assert lasting.observe(report("c", 2_000)) == []
    (opened,) = lasting.observe(report("d", 2_001))
    assert opened.actionable == ("a", "b", "c", "d")
    assert opened.incident.report_count == 11


def test_a_backlog_costs_one_look_into_the_store() -> None:
    """The first of many late reports is matched by a query; those after it find what it found, for 600 s."""
    patient = correlator(history=NoHistory())
    for number in range(500):
        patient.observe(report("a", number * 7.0, after=7_200 - number * 6.0))
        patient.expire(NOW + 7_200 + number)
    assert patient.history_loads == 1


def test_one_agent_is_no_incident() -> None:
    """However often one agent reports, it is alone."""
    alone = correlator()
    assert [alone.observe(report("a", at)) for at in range(0, 5_000, 10)] == [[]] * 500


def test_organizations_and_sites_do_not_meet() -> None:
    """The same address in two organizations, or a private one on two sites, is not the same."""
    apart = correlator()
    north = Report("a", "acme", "north", "1", NOW, NOW, source_ip="10.0.0.1")
    south = Report("b", "acme", "south", "2", NOW, NOW, source_ip="10.0.0.1")
    other = Report("c", "other", "north", "3", NOW, NOW, source_ip="10.0.0.1")
    assert [apart.observe(each) for each in (north, south, other)] == [[], [], []]
    also_north = Report("d", "acme", "north", "4", NOW, NOW, source_ip="::ffff:10.0.0.1")
    assert apart.observe(also_north)[0].incident.site == "north"


def test_an_allowlisted_indicator_makes_no_incident() -> None:
    """A report that was allowlisted at its receipt never counts; those received after that do."""
    listed = Allowlist({"acme": ["203.0.113.0/24"]})
    lenient = correlator()
    for agent, at in (("a", 0), ("b", 1)):
        each = report(agent, at)
        ignored = ignored_bits(each.indicators(), each.technique, listed)
        assert lenient.observe(structs.replace(each, ignored=ignored)) == []
    assert lenient.observe(report("c", 2)) == []
    (opened,) = lenient.observe(report("b", 3))
    assert set(opened.incident.members) == {"b", "c"}


def test_a_sub_technique_may_be_allowlisted_while_its_technique_counts() -> None:
    """Each indicator of a report has a bit of its own."""
    listed = Allowlist({"acme": ["T1110.001", ATTACKER]})
    each = report("a", 0, technique="T1110.001", source_ip=ATTACKER, file_hash="a" * 64)
    each = structs.replace(each, ignored=ignored_bits(each.indicators(), each.technique, listed))
    assert [indicator.value for indicator in each.correlated()] == ["a" * 64, "T1110"]
    assert [indicator.value for indicator in each.refused()] == [ATTACKER, "T1110.001"]


def test_an_incident_closes_600_seconds_after_its_last_report() -> None:
    """At 600 s a report on time may still join it; a millisecond later none can."""
    closing = correlator()
    closing.observe(report("a", 0))
    incident = closing.observe(report("b", 10))[0].incident
    assert closing.expire(nextafter(NOW + 610, inf)) == []
    assert kinds(closing.expire(round(NOW + 610.001, 3))) == [ChangeKind.CLOSED]
    assert incident.closed_at == pytest.approx(NOW + 610)
    assert list(closing.open_incidents()) == []


def test_a_report_on_time_at_the_last_moment_joins() -> None:
    """300 s late and 300 s after the last one: the latest that can still join, without a look into the store."""
    joining = correlator()
    joining.observe(report("a", 0))
    joining.observe(report("b", 0))
    joining.expire(NOW + 599.9)
    (grew,) = joining.observe(report("c", 300, after=300))
    assert (grew.kind, grew.agent_id, grew.actionable) == (ChangeKind.GREW, "c", ("c",))


def test_a_bridge_merges_into_the_older_incident() -> None:
    """The report between two incidents joins them; the earlier keeps its id and gets the members."""
    bridging = correlator()
    for agent, at in (("a", 0), ("b", 0)):
        bridging.observe(report(agent, at))
    for agent, at in (("c", 400), ("d", 400)):
        bridging.observe(report(agent, at))
    (merged,) = bridging.observe(report("e", 200, after=250))
    assert merged.kind is ChangeKind.MERGED
    assert merged.absorbed is not None
    assert (merged.incident.id, merged.absorbed.id, merged.absorbed.merged_into) == ("i-1", "i-2", "i-1")
    assert set(merged.incident.agent_ids) == {"a", "b", "c", "d", "e"}
    assert [incident.id for incident in bridging.open_incidents()] == ["i-1"]


def test_a_merged_incident_has_been_open_since_the_first_of_both_opened() -> None:
    """The run that began earlier may have been opened later, by late reports."""
    bridging = correlator(history=NoHistory())
    for agent, at, after in (("c", 400, 0), ("d", 400, 0), ("a", 0, 410), ("b", 0, 410)):
        bridging.observe(report(agent, at, after=after))
    (merged,) = bridging.observe(report("e", 200, after=220))
    assert merged.absorbed is not None
    assert (merged.incident.id, merged.absorbed.id) == ("i-2", "i-1")
    assert merged.incident.opened_at == NOW + 400


def test_a_late_report_joins_and_nobody_may_act_for_it() -> None:
    """301 s late is late: the incident shows the agent, marked late, and it is not actionable."""
    late = correlator()
    late.observe(report("a", 0))
    (opened,) = late.observe(report("b", 1))
    assert not opened.incident.late
    (grew,) = late.observe(report("c", 290, after=300.001))
    assert (grew.kind, grew.agent_id, grew.actionable) == (ChangeKind.GREW, "c", ())
    assert opened.incident.late
    assert list(opened.incident.actionable_agent_ids) == ["a", "b"]


def test_what_only_a_late_report_completes_is_nobodys_business() -> None:
    """One agent on time and one late: an incident, and nobody to act for, until a second one comes on time."""
    late = correlator()
    late.observe(report("a", 300))
    (opened,) = late.observe(report("b", 300, after=300.001))
    assert (opened.kind, opened.actionable, opened.incident.late) == (ChangeKind.OPENED, (), True)
    (grew,) = late.observe(report("c", 600))
    assert (grew.kind, grew.actionable) == (ChangeKind.GREW, ("a", "c"))


def test_reports_by_unknown_clocks_show_and_do_not_count() -> None:
    """Two agents whose clocks are unknown make an incident that the responder may not act on, until they are known."""
    doubtful = correlator()
    doubtful.observe(report("a", 0, trusted=False))
    (opened,) = doubtful.observe(report("b", 1, trusted=False))
    assert (opened.actionable, opened.incident.late) == ((), False)
    assert [each.actionable for each in doubtful.observe(report("a", 2))] == [()]
    (joined,) = doubtful.observe(report("b", 3))
    assert (joined.kind, joined.actionable) == (ChangeKind.JOINED, ("a", "b"))


def test_an_agent_known_long_since_can_make_another_actionable() -> None:
    """A run of reports that count, begun beyond a doubtful one, is completed by a member: both ends are acted for."""
    known = correlator()
    known.observe(report("a", 0))
    known.observe(report("b", 0))
    known.observe(report("a", 250, trusted=False))
    assert [each.actionable for each in known.observe(report("c", 400))] == [()]
    (joined,) = known.observe(report("a", 500))
    assert (joined.kind, joined.actionable) == (ChangeKind.JOINED, ("c",))


def test_400_hosts_with_one_technique_each_hour_are_one_chronic_incident() -> None:
    """One opens, becomes chronic once, then says nothing; each agent is actionable once."""
    noisy, changes = correlator(), []
    for number in range(3 * 400):
        at = number * 9.0
        changes += noisy.observe(report(f"ag-{number % 400}", at, technique="T1110"))
        changes += noisy.expire(round(NOW + at, 3))
    spoken = [change for change in changes if change.kind in {ChangeKind.OPENED, ChangeKind.CHRONIC, ChangeKind.CLOSED}]
    assert kinds(spoken) == [ChangeKind.OPENED, ChangeKind.CHRONIC]
    after = changes[changes.index(spoken[1]) + 1 :]
    assert after
    assert all(change.silent for change in after)
    actionable = [agent_id for change in changes for agent_id in change.actionable]
    assert len(actionable) == len(set(actionable)) == 400


def test_a_chronic_incident_speaks_when_its_membership_triples() -> None:
    """Two members when it became chronic: the sixth is news, and the next news is the eighteenth."""
    growing = correlator()
    for at in range(0, 3_601, 100):
        growing.observe(report(f"ag-{at // 100 % 2}", at, technique="T1110"))
    assert kinds(growing.expire(NOW + 3_701)) == [ChangeKind.CHRONIC]
    loud = [
        number
        for number in range(3, 20)
        for change in growing.observe(report(f"new-{number}", 3_701 + number, technique="T1110"))
        if not change.silent
    ]
    assert loud == [6, 18]


@pytest.mark.parametrize("kind", ["source_ip", "file_hash"])
def test_only_techniques_become_chronic(kind: str) -> None:
    """An address that attacks for hours stays an incident that speaks."""
    lasting, changes = correlator(), []
    for at in range(0, 8_000, 100):
        changes += lasting.observe(report(f"ag-{at // 100 % 2}", at, **{kind: KINDS[kind]}))
        changes += lasting.expire(NOW + at)
    assert set(kinds(changes)) == {ChangeKind.OPENED, ChangeKind.JOINED}
    assert not any(change.silent for change in changes)


@pytest.mark.parametrize("threshold", [2, 3, 5])
def test_a_watched_run_keeps_few_points_whatever_it_is_sent(threshold: int) -> None:
    """Hours of reports that never complete the rule leave a bounded trace."""
    watching = correlator(CorrelatorSettings(threshold, threshold, threshold))
    most = 0
    for step in range(20_000):
        watching.observe(report(f"ag-{step % (threshold - 1)}", step * 1.0))
        timeline = watching._memory.get(Indicator("source_ip", ATTACKER, "acme", None))
        assert timeline is not None
        most = max(most, *(len(run.points or ()) for run in timeline.runs))
    assert most <= 8 * (threshold - 1)


def test_memory_holds_what_was_seen_within_600_seconds() -> None:
    """Indicators that nothing on time can meet any more are gone; what is over the bound goes at once, and counts."""
    bounded = correlator(CorrelatorSettings(max_watched=100))
    for number in range(150):
        bounded.observe(report("a", number, source_ip=f"198.51.100.{number}"))
    bounded.expire(NOW + 150)
    assert (bounded.indicator_count, bounded.evicted) == (100, 50)
    bounded.expire(NOW + 749)
    assert bounded.indicator_count == 1
    bounded.expire(NOW + 751)
    assert bounded.indicator_count == 0


def test_a_flood_of_watched_addresses_leaves_open_incidents_alone() -> None:
    """Addresses that are seen once cannot push an incident out of memory."""
    flooded = correlator(CorrelatorSettings(max_watched=10), history=NoHistory())
    flooded.observe(report("a", 0))
    incident = flooded.observe(report("b", 0))[0].incident
    for number in range(1_000):
        flooded.observe(report("a", 1, source_ip=f"2001:db8::{number:x}"))
        flooded.expire(NOW + 1)
    assert list(flooded.open_incidents()) == [incident]
    assert flooded.evicted == 990


@pytest.mark.parametrize(
    "make",
    [
        lambda: CorrelatorSettings(source_ip_agents=1),
        lambda: CorrelatorSettings(technique_agents=0),
        lambda: CorrelatorSettings(max_watched=0),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], CorrelatorSettings]) -> None:
    """An incident takes two agents, and memory room for one indicator."""
    with pytest.raises(ValueError, match="at least"):
        make()


def test_an_incident_knows_all_that_its_record_shows() -> None:
    """Kind, value, scope, members, times and counts are there without asking elsewhere."""
    known = correlator()
    known.observe(report("a", 0))
    incident: Incident = known.observe(report("b", 5, after=7))[0].incident
    assert (incident.id, incident.kind, incident.value) == ("i-1", "source_ip", ATTACKER)
    assert (incident.organization_id, incident.site) == ("acme", None)
    assert list(incident.agent_ids) == list(incident.actionable_agent_ids) == ["a", "b"]
    assert (incident.first_seen_at, incident.last_seen_at) == (NOW, NOW + 5)
    assert (incident.opened_at, incident.closed_at, incident.merged_into) == (NOW + 12, None, None)
    assert (incident.report_count, incident.return_count, incident.late, incident.chronic) == (2, 0, False, False)
