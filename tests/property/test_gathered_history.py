"""Values and history that are looked up together lead to the decisions of those that are looked up one by one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manager.domain.agents.registry import Takeover
from manager.domain.correlation import CorrelatorSettings, Indicator, Span
from manager.domain.ingest.decided_sequences import DecidedSequences
from manager.engine.settings import EngineSettings
from manager.storage import absent_values, gathered_history
from schemas import topics
from tests.support.engine import Bench
from tests.support.examples import examples

AGENTS = 3
NEVER = 10**9
PUBLIC = [f"203.0.113.{number}" for number in range(1, 6)]
PRIVATE = "10.0.0.1"
HASHES = ["a" * 64, "b" * 64]
TECHNIQUES = ["T1110", "T1110.001", "T1110.003", "T1021"]


class Together(NamedTuple):
    """How much is looked up together: questions that are answered alone, and what one look reads of how many."""

    absent_after: int
    gathered_after: int
    reports_read: int = 64
    indicators: int = 1000


ONE_BY_ONE = Together(NEVER, NEVER)

_reports = st.lists(
    st.tuples(
        st.integers(0, AGENTS - 1),
        st.sampled_from([*PUBLIC, PRIVATE]),
        st.sampled_from([None, None, *HASHES]),
        st.sampled_from(TECHNIQUES),
        st.sampled_from([0.0, 0.0, 100.0, 299.0, 301.0, 2000.0]),
    ),
    max_size=10,
)
_together = st.builds(
    Together,
    st.sampled_from([0, NEVER]),
    st.sampled_from([0, 2]),
    st.sampled_from([1, 2, 64]),
    st.sampled_from([1, 3, 1000]),
)


class Course(NamedTuple):
    """What a manager receives: reports with pauses, a step of its clock, a restart, and a batch of other reports."""

    before: list[Any]
    pause: float
    step: float
    batch: list[Any]


_courses = st.builds(
    Course,
    _reports,
    st.sampled_from([0.0, 1.0, 150.0, 290.0, 700.0]),
    st.sampled_from([0.0, 0.0, -700.0, 350.0]),
    _reports,
)


@contextmanager
def looking_up(together: Together) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(absent_values, "ONE_BY_ONE", together.absent_after)
        patch.setattr(gathered_history, "ONE_BY_ONE", together.gathered_after)
        patch.setattr(gathered_history, "REPORTS_READ", together.reports_read)
        patch.setattr(gathered_history, "GATHERED", together.indicators)
        yield


def _incidents(together: Together, thresholds: CorrelatorSettings, course: Course) -> list[Any]:
    """Return the incidents after some reports, a restart and one batch of others."""
    with tempfile.TemporaryDirectory() as directory, looking_up(together):
        bench = Bench(Path(directory), EngineSettings(takeover=Takeover.ALLOW, correlator=thresholds))
        token = bench.token()
        agents = [bench.enroll(f"host-{number}", token) for number in range(AGENTS)]
        for reports in (course.before, course.batch):
            for number, (agent, address, file_hash, technique, delay) in enumerate(reports):
                evidence: dict[str, Any] = {"sourceIp": address} | ({"fileHash": file_hash} if file_hash else {})
                name = f"r-{reports is course.batch}-{number}"
                payload = agents[agent].threat(bench.wall - delay, name, technique, **evidence)
                bench.put(topics.THREATS, agents[agent].agent_id, payload)
                if reports is course.before:
                    bench.pass_time(course.pause, 30.0)
            bench.engine.step(bench.now)
            if reports is course.before:
                bench.began += course.step
                bench.engine.step(bench.now)
                bench.crash()
        bench.pass_time(1.0)
        assert bench.failures() == {}
        members = bench.rows(
            "SELECT incident_id, hostname, actionable, vouched FROM incident_member JOIN agent USING (agent_id)"
        )
        found = bench.rows(
            "SELECT id, kind, value, first_seen_at, last_seen_at, late, report_count, return_count, closed_at,"
            " merged_into IS NULL FROM incident"
        )
        bench.database.close()
        return sorted((row[1:], sorted(each[1:] for each in members if each[0] == row[0])) for row in found)


@settings(max_examples=examples(25), deadline=None)
@given(
    together=_together,
    thresholds=st.sampled_from([CorrelatorSettings(), CorrelatorSettings(3, 3, 3)]),
    course=_courses,
)
@pytest.mark.usefixtures("each_system")
def test_a_look_up_for_the_batch_decides_like_one_for_each_value(
    together: Together, thresholds: CorrelatorSettings, course: Course
) -> None:
    """After a restart, incidents, members and counts are the same whether values are looked up together or not."""
    assert _incidents(together, thresholds, course) == _incidents(ONE_BY_ONE, thresholds, course)


@pytest.fixture(scope="module")
def bench(each_system: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Provide a store with runs, reports of one moment, incidents that came again, and a step of the clock."""
    bench = Bench(tmp_path_factory.mktemp(each_system))
    token = bench.token()
    agents = [bench.enroll(f"host-{number}", token) for number in range(AGENTS)]
    for number in range(24):
        evidence = {"sourceIp": [PUBLIC[0], PRIVATE][number % 2], "fileHash": HASHES[number // 12]}
        for agent in agents[: 1 + number // 2 % AGENTS]:
            payload = agent.threat(bench.wall - 400.0 * (number % 7 == 0), None, TECHNIQUES[number % 2], **evidence)
            bench.put(topics.THREATS, agent.agent_id, payload)
        bench.pass_time(1000.0 if number % 8 == 7 else 60.0, 60.0)
        if number == 14:
            bench.began += 333.0
    assert bench.failures() == {}
    yield bench
    bench.database.close()


_indicators = st.sampled_from(
    [
        *(Indicator("source_ip", value, "default", None) for value in PUBLIC[:2]),
        Indicator("source_ip", PRIVATE, "default", ""),
        Indicator("source_ip", PRIVATE, "default", "other"),
        Indicator("file_hash", HASHES[0], "default", None),
        *(Indicator("technique", value, "default", None) for value in TECHNIQUES[:2]),
        Indicator("technique", "T1110", "acme", None),
    ]
)
_moments = st.tuples(st.integers(0, 10**6), st.sampled_from([0.0, 0.0, 0.0, -1.0, 1.0, 600.0]))
"""Numbers of moments at which something is in the store, each with seconds behind it."""

_knowing = st.sets(st.integers(0, 40), max_size=3)
_ranges = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda ends: (min(ends), max(ends)))
_spans = st.dictionaries(_indicators, st.tuples(_moments, _moments, _knowing), max_size=6)
_questions = st.lists(st.tuples(_indicators, _moments, _moments, _knowing), min_size=1, max_size=12)


def _moments_of(bench: Bench) -> list[float]:
    """Return the times of reports and incidents by the present clock, all those that epochs may give them."""
    reports = bench.rows("SELECT event_time FROM threat")
    incidents = bench.rows("SELECT first_seen_at FROM incident UNION ALL SELECT last_seen_at FROM incident")
    shifts = [epoch.shift for epoch in bench.store.archive.epochs.list()]
    return sorted({time + shift for (time,) in reports for shift in shifts} | {time for (time,) in incidents})


def _answers(bench: Bench, questions: list[Any]) -> list[Any]:
    """Return what the archive answers to questions for reports, incidents and their number."""
    archive, answers = bench.store.archive, []
    for indicator, start, end, known in questions:
        answers += [
            list(archive.reports(indicator, start, end)),
            sorted(repr(each) for each in archive.incidents(indicator, start, end)),
            archive.incident_count(indicator, end, known),
        ]
    return answers


@settings(max_examples=examples(200), deadline=None)
@given(
    read=st.sampled_from([1, 3, 64]),
    at_once=st.sampled_from([1, 3, 1000]),
    decided=st.none() | st.builds(DecidedSequences, st.integers(0, 40), st.lists(_ranges, max_size=3)),
    spans=_spans,
    questions=_questions,
)
def test_gathered_history_answers_like_the_store(
    bench: Bench,
    *,
    read: int,
    at_once: int,
    decided: DecidedSequences | None,
    spans: dict[Indicator, Any],
    questions: list[Any],
) -> None:
    """Whatever was read together, also of other spans than are asked for, the answers are those of single questions.

    Reports that other processes stored and on which nothing is decided yet count in neither.
    """
    ids = [row[0] for row in bench.rows("SELECT id FROM incident ORDER BY first_seen_at, kind, value")]
    moments = _moments_of(bench)

    def span_of(one: Any, other: Any, known: set[int]) -> tuple[float, float, frozenset[str]]:
        start, end = sorted(moments[number % len(moments)] + behind for number, behind in (one, other))
        return start, end, frozenset(ids[number % len(ids)] for number in known)

    missing = [Span(indicator, *span_of(*span)) for indicator, span in spans.items()]
    asked = [(indicator, *span_of(*question)) for indicator, *question in questions]
    archive = bench.store.archive
    with looking_up(Together(NEVER, 0, read, at_once)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "_hand_over", SimpleNamespace(decided_elsewhere=decided))
        archive.expect([], lambda: missing)
        together = _answers(bench, asked)
        archive.expect([], tuple)
        assert together == _answers(bench, asked)
