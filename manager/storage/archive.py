"""Reads and writes stored incidents; reads the threats behind them and the policy history."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import Any

from manager.domain.agents.agent import RegistrationStamp
from manager.domain.correlation import Incident, Indicator, PastReport, Span
from manager.domain.correlation.indicators import SITELESS
from manager.domain.policies.fleet_policies import Revision, Scope
from manager.domain.response.evidence_index import Observed
from manager.domain.response.response_changes import Response
from manager.engine.batch import Changes, Recognition, ThreatRow
from manager.storage.absent_values import AbsentValues
from manager.storage.gathered_history import GatheredHistory, GatheredReports, ReportQuery, incident_key
from manager.storage.hand_over import HandOver
from manager.storage.health import StoreHealth
from manager.storage.responses import response_of_row
from manager.storage.statements import Params, Statements
from manager.storage.threat_epochs import Epoch, ThreatEpochs

_event_time = attrgetter("event_time")

_INCIDENTS_READ = 500
"""The number of incidents whose members are read together."""


class StoredArchive:
    """Reads and writes the incident tables in the writer's transaction.

    Args:
        statements: the statements of the writer's database.
        health: translates errors.
        hand_over: where other processes store threats, too; those that are not decided yet are left out of reports.
    """

    def __init__(self, statements: Statements, health: StoreHealth, hand_over: HandOver) -> None:
        self._statements = statements
        self._health = health
        self.epochs = ThreatEpochs(statements, health)
        self._hand_over = hand_over
        self._absent = AbsentValues(statements, hand_over)
        self._gathered = GatheredHistory(statements, self.epochs, self._absent)

    def write(self, changes: Changes) -> None:
        """Shift the stored incidents, then write incidents and their new members."""
        self._absent.forget()
        self._gathered.forget()
        if changes.incident_shift is not None:
            self._statements.execute("incidents.shift", {"seconds": changes.incident_shift})
        if changes.incidents:
            rows = [_row(incident) for incident in changes.incidents.values()]
            self._statements.execute_many("incidents.upsert", rows)
        if changes.members:
            self._statements.execute_many("incidents.upsert_member", changes.members)
        if changes.evidence:
            self._write_evidence(changes)
        for key, recognition in changes.recognitions.items():
            if recognition is None:
                self._statements.execute("threats.delete_recognition", key)
            else:
                self._statements.execute("threats.upsert_recognition", (*key, *recognition))

    def follow_clock(self, seconds: float) -> tuple[str, str]:
        """Read all stored threats as from before a step of the clock; return the key and the value to store.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        return self.epochs.add(seconds)

    def live(self, since: float) -> Iterator[Incident]:
        """Yield the unmerged incidents that are open or were last seen since a time.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        yield from self._incidents("incidents.live", (since,))

    def responding(self, closed_since: float) -> Iterator[Incident]:
        """Yield, without their members, the incidents that are open or closed since a time.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        for row in self._each("incidents.responding", (closed_since,)):
            with self._health.content("incident"):
                incident = _incident(row, ())
            yield incident

    def find(self, incident_id: str) -> Incident | None:
        """Return an incident by its id.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        return next(self._incidents("incidents.find", (incident_id,)), None)

    def response(self, incident_id: str) -> Response | None:
        """Return the response of an incident.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        for row in self._rows("responses.find", (incident_id,)):
            with self._health.content("incident_response"):
                return response_of_row(row)
        return None

    def work_counts(self, incident_id: str) -> tuple[int, int]:
        """Return the number of entries of people's work on an incident, and of those with a note.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        entries, notes = self._rows("incidents.work_counts", (incident_id,))[0]
        return int(entries), int(notes)

    def recognition(self, threat_id: str, agent_id: str) -> Recognition | None:
        """Return who recognized a threat of an agent, and when.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        found = self._rows("threats.recognition", (threat_id, agent_id))
        return Recognition(*found[0]) if found else None

    def stamp(self, agent_number: int) -> RegistrationStamp | None:
        """Return the newest registration of an agent.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        for sent_at, digest, reply in self._rows("agents.stamp", (agent_number,)):
            with self._health.content("agent"):
                return RegistrationStamp(float(sent_at), bytes(digest), bytes(reply))
        return None

    def sources(self, agent_number: int) -> str:
        """Return the JSON of an agent's newest source reports.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        found = self._rows("agents.sources", (agent_number,))
        return str(found[0][0]) if found else "[]"

    def revisions(self) -> Iterator[Revision]:
        """Yield every policy revision, oldest first.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        for row in self._rows("policies.revisions"):
            with self._health.content("policy_revision"):
                revision = _revision(row)
            yield revision

    def evidence(self) -> Iterator[tuple[Indicator, Observed]]:
        """Yield the evidence of the never-block rules, the least recently renewed first.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        for kind, value, organization_id, site, renewed_at, last_login, agent_id, path in self._each("evidence.load"):
            with self._health.content("indicator_evidence"):
                observed = Observed(float(renewed_at), last_login and float(last_login), agent_id, path)
            yield Indicator(kind, value, organization_id, site), observed

    def expect(self, rows: Sequence[ThreatRow], missing: Callable[[], Iterable[Span]]) -> None:
        """Note the reports that are correlated next, before the next commit: their values are looked up together.

        Args:
            rows: the reports.
            missing: returns the history that the correlator will ask for, in about this order.
        """
        self._absent.expect(rows)
        self._gathered.expect(missing)

    def reports(self, indicator: Indicator, start: float, end: float, /) -> Iterable[PastReport]:
        """Yield the reports of an indicator with start ≤ event time < end that are in a run, the newest first.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        with self._health.errors("be read"):
            if self._absent.is_report_absent(indicator, start, self.epochs.most_behind):
                return ()
            gathered = self._gathered.find(indicator)
        names: Sequence[str] = (indicator.value,)
        if gathered is not None:
            names = gathered.names
        elif indicator.kind == "technique":
            names = [name for (name,) in self._rows("threats.techniques_of", {"value": indicator.value})]
        epochs = self.epochs.list()
        read = {} if gathered is None else gathered.reports
        streams = [
            self._reports(indicator, epoch, ReportQuery.of(indicator, name, epoch, start, end), read.get((name, epoch)))
            for name in names
            for epoch in epochs
        ]
        return streams[0] if len(streams) == 1 else merge(*streams, key=_event_time, reverse=True)

    def _reports(
        self, indicator: Indicator, epoch: Epoch, query: ReportQuery, gathered: GatheredReports | None
    ) -> Iterator[PastReport]:
        """Yield an indicator's decided reports of one epoch, with times of the current clock.

        Those that are not decided are left out here: a query for each decided range would read the span for each.
        """
        decided = self._hand_over.decided_elsewhere
        for event_time, sequence, agent_id, received, known, vouched, site in self._report_rows(query, gathered):
            if decided is not None and sequence not in decided:
                continue
            if indicator.site is None or (site or SITELESS) == indicator.site:
                yield PastReport(event_time + epoch.shift, agent_id, received + epoch.shift, bool(known), vouched)

    def _report_rows(self, query: ReportQuery, gathered: GatheredReports | None) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query: those that were read with others, then the rest, as far as they are asked for."""
        rest: ReportQuery | None = query
        if gathered is not None:
            rows, rest = gathered.split(query)
            yield from rows
        while rest is not None:
            rows = self._rows(rest.statement, rest.values)
            yield from rows
            rest = rest.rest(rows)

    def incidents(self, indicator: Indicator, start: float, end: float, /) -> Iterable[Incident]:
        """Return the unmerged incidents of an indicator that touch a span of event time.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        with self._health.errors("be read"):
            if self._absent.is_incident_absent(indicator, self.epochs.most_behind):
                return ()
            gathered = self._gathered.find(indicator)
        rows = None if gathered is None else gathered.incidents(start, end)
        if gathered is None or rows is None:
            span = {**incident_key(indicator), "start": start, "end": end}
            return list(self._incidents("incidents.of_indicator", span))
        with self._health.content("incident"):
            return [_incident(row, gathered.members.get(row[0], ())) for row in rows]

    def incident_count(self, indicator: Indicator, before: float, known: Collection[str], /) -> int:
        """Return the number of unmerged incidents of an indicator that were last seen before a time, except known ones.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        with self._health.errors("be read"):
            if self._absent.is_incident_absent(indicator, self.epochs.most_behind):
                return 0
            gathered = self._gathered.find(indicator)
        count = None if gathered is None else gathered.incident_count(before, known)
        if count is not None:
            return count
        params = {**incident_key(indicator), "before": before, "known": json.dumps(list(known))}
        return int(self._rows("incidents.count_before", params)[0][0])

    def _write_evidence(self, changes: Changes) -> None:
        """Write changed evidence; each row is deleted first, so that the rows are in the order of renewal."""
        evidence = changes.evidence.items()
        self._statements.execute_many("evidence.delete", [_evidence_key(indicator) for indicator, _ in evidence])
        rows = [
            (indicator.kind, indicator.value, indicator.organization_id, indicator.site, *observed)
            for indicator, observed in evidence
            if observed is not None
        ]
        self._statements.execute_many("evidence.insert", rows)

    def _incidents(self, name: str, params: Params) -> Iterator[Incident]:
        rows = self._each(name, params)
        while some := list(islice(rows, _INCIDENTS_READ)):
            members: dict[str, list[tuple[Any, ...]]] = {row[0]: [] for row in some}
            for incident_id, *member in self._rows("incidents.members", {"incident_ids": json.dumps(list(members))}):
                members[incident_id].append(tuple(member))
            for row in some:
                with self._health.content("incident"):
                    incident = _incident(row, members[row[0]])
                yield incident

    def _rows(self, name: str, params: Params = ()) -> list[tuple[Any, ...]]:
        with self._health.errors("be read"):
            return self._statements.rows(name, params)

    def _each(self, name: str, params: Params = ()) -> Iterator[tuple[Any, ...]]:
        with self._health.errors("be read"):
            yield from self._statements.each(name, params)


def _revision(row: Sequence[Any]) -> Revision:
    revision, scope, document, at, author, message = row
    sections = None if document is None else dict(json.loads(document))
    return Revision(revision, Scope.parse(scope), sections, at, author, message)


def _evidence_key(indicator: Indicator) -> tuple[str, ...]:
    return indicator.organization_id, indicator.kind, indicator.value, indicator.site or ""


def _row(incident: Incident) -> tuple[Any, ...]:
    return (
        incident.id, incident.organization_id, incident.site, incident.kind, incident.value, incident.opened_at,
        incident.first_seen_at, incident.last_seen_at, incident.closed_at, incident.late, incident.chronic,
        incident.merged_into, incident.report_count, incident.return_count, incident.announced_members,
    )  # fmt: skip


def _incident(row: Sequence[Any], members: Sequence[tuple[str, int, int]]) -> Incident:
    (
        id_, organization_id, site, kind, value, opened_at, first_seen_at, last_seen_at, closed_at, late, chronic,
        merged_into, report_count, return_count, announced_members,
    ) = row  # fmt: skip
    return Incident(
        id=id_,
        indicator=Indicator(kind, value, organization_id, site),
        members={agent_id: bool(actionable) for agent_id, actionable, _ in members},
        vouched={agent_id for agent_id, _, vouched in members if vouched},
        opened_at=opened_at,
        first_seen_at=first_seen_at,
        last_seen_at=last_seen_at,
        closed_at=closed_at,
        late=bool(late),
        chronic=bool(chronic),
        merged_into=merged_into,
        report_count=report_count,
        return_count=return_count,
        announced_members=announced_members,
    )
