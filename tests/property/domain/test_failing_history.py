"""The correlator over a store that fails between two rows, and over batches that are decided late, or twice."""

import random
from collections.abc import Collection, Iterable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from manager.domain.correlation import Incident, Indicator, PastReport, Report
from manager.errors import StoreUnavailable
from tests.property.domain.correlation_oracle import START, Station, Store
from tests.property.domain.test_correlator import _same, _settings, arrivals, thresholds
from tests.support.examples import examples

MANY = settings(max_examples=examples(300), deadline=None)
FAILURES = st.lists(st.booleans(), max_size=60)
ATTACK = Report("ag-0", "acme", None, "any", START + 100, START + 100, source_ip="203.0.113.7")
"""A report of the first agent; the other agents report the same."""


class FailingStore(Store):
    """A store that fails at some of the rows and answers that it is asked for.

    Args:
        station: has what is stored.
        failures: whether it fails at each of them, in their order; it works behind the last one.
    """

    def __init__(self, station: Station, failures: Iterable[bool]) -> None:
        super().__init__(station)
        self._failures = iter(failures)

    def _work(self) -> None:
        if next(self._failures, False):
            raise StoreUnavailable("the server ended the connection")

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterator[PastReport]:
        self._work()
        for report in super().reports(indicator, start, end):
            yield report
            self._work()

    def incidents(self, indicator: Indicator, start: float, end: float, /) -> Iterable[Incident]:
        self._work()
        return super().incidents(indicator, start, end)

    def incident_count(self, indicator: Indicator, before: float, known: Collection[str], /) -> int:
        self._work()
        return super().incident_count(indicator, before, known)


def _use(station: Station, store: Store) -> None:
    station.correlator._history = station.correlator._loader._history = store


def _observe(station: Station, report: Report) -> None:
    """Observe a report until the store has answered all, as the engine does."""
    while True:
        try:
            station.observe(report)
        except StoreUnavailable:
            station._observed.pop()
        else:
            return


def test_a_report_that_was_loaded_before_a_failure_counts_once() -> None:
    """The store fails behind the first loaded report, which comes again: the incident has two reports, not three."""
    station = Station(_settings(2))
    station.observe(ATTACK)
    station.restart()
    _use(station, FailingStore(station, [False, False, True]))
    _observe(station, structs.replace(ATTACK, agent_id="ag-1"))
    _same(station)


def test_reports_that_nobody_decided_on_for_long_find_each_other() -> None:
    """Two reports that are decided in one batch, more than ten minutes after their receipt, make their incident."""
    station = Station(_settings(2))
    station.now = ATTACK.received + 700
    station.restart()
    station.observe(ATTACK)
    station.observe(structs.replace(ATTACK, agent_id="ag-1"))
    _same(station)


@given(arrivals(), thresholds, st.lists(st.booleans(), min_size=25, max_size=25), FAILURES)
@MANY
def test_a_store_that_fails_anywhere_changes_no_decision(
    arriving: list[Report], threshold: int, restarts: list[bool], failures: list[bool]
) -> None:
    """A report that is observed again after a failure of the store decides as if there had been none."""
    station, failing = Station(_settings(threshold)), iter(failures)
    for report, restart in zip(arriving, restarts, strict=False):
        if restart:
            station.restart()
        _use(station, FailingStore(station, failing))
        _observe(station, report)
        station.commit()
    _same(station)


@given(
    arrivals(),
    thresholds,
    st.lists(st.sampled_from(["go on", "commit", "expire", "restart", "crash"]), min_size=25, max_size=25),
    FAILURES,
    st.integers() | st.none(),
)
@MANY
def test_batches_that_a_successor_decides_again_change_no_decision(
    arriving: list[Report], threshold: int, steps: list[str], failures: list[bool], order: int | None
) -> None:
    """A leader ends before or behind the commit of a batch, and its successor decides on the rest, at once or late."""
    station, failing = Station(_settings(threshold)), iter(failures)
    arriving = list(arriving)
    if order is not None:  # stored in another order than received, and decided after the last of them
        random.Random(order).shuffle(arriving)  # noqa: S311 -- a drawn order
        station.now = max(report.received for report in arriving)
    batch: list[Report] = []
    for report, step in zip(arriving, steps, strict=False):
        _use(station, FailingStore(station, failing))
        _observe(station, report)
        batch.append(report)
        if step == "crash":
            station._observed, station._touched = [], {}
        if step != "go on":
            station.commit()
        if step == "expire":
            station.expire(station.now)
        if step in {"restart", "crash"}:
            station.restart()
        if step == "crash":
            _use(station, FailingStore(station, failing))
            for each in batch:
                _observe(station, each)
            station.commit()
        if step != "go on":
            batch = []
    _same(station)
