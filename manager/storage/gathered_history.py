"""Reads the history of a batch's indicators together: those that the correlator asks for next, in two round trips.

After a start, memory knows no indicator, and the correlator would ask for the incidents and the reports of each one.
Where the database is another process, those waits for an answer were nearly all of the time that a batch took.
"""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from math import inf
from typing import Any, NamedTuple

from manager.domain.correlation import Indicator, Span
from manager.domain.correlation.indicators import bit_of
from manager.storage.absent_values import ONE_BY_ONE, AbsentValues
from manager.storage.statements import Statements
from manager.storage.threat_epochs import Epoch, ThreatEpochs

GATHERED = 1000
"""The number of indicators whose history is read together."""

REPORTS_READ = 64
"""The number of an indicator's reports that are read at first: a complete run needs few."""

_MOST_REPORTS_READ = 5000
_FIRST_SEEN, _LAST_SEEN = 6, 7
"""Columns of an incident's row."""

Row = tuple[Any, ...]
Question = tuple[str, dict[str, Any]]
"""The name of a statement, and its values."""


class ReportQuery(NamedTuple):
    """A query for an indicator's reports within a span of stored event time, the newest first.

    Attributes:
        statement: The name of the statement.
        values: Its values; `end` and `before` are the event time and the sequence that the next report is before.
    """

    statement: str
    values: dict[str, Any]

    @classmethod
    def of(cls, indicator: Indicator, name: str, epoch: Epoch, start: float, end: float) -> "ReportQuery":
        """Return the query for the reports of one epoch that name an indicator's value, or a sub-technique of it."""
        values = {
            "value": name,
            "organization_id": indicator.organization_id,
            "bit": bit_of(indicator, name),
            "start": start - epoch.shift,
            "end": end - epoch.shift,
            "before": 0,
            "after": epoch.after,
            "last": epoch.last,
            "limit": REPORTS_READ,
        }
        return cls(f"threats.of_{indicator.kind}", values)

    def rest(self, found: Sequence[Row]) -> "ReportQuery | None":
        """Return the query for the reports behind those that this one found; None if there are no others."""
        limit = self.values["limit"]
        if len(found) < limit:
            return None
        event_time, sequence, *_ = found[-1]
        behind = {"end": event_time, "before": sequence, "limit": min(4 * limit, _MOST_REPORTS_READ)}
        return self._replace(values={**self.values, **behind})


class GatheredReports(NamedTuple):
    """The newest reports that a query found."""

    query: ReportQuery
    found: list[Row]

    def split(self, query: ReportQuery) -> tuple[list[Row], ReportQuery | None]:
        """Return the reports of a query that are here, and the query for those behind them; None if there are none.

        Args:
            query: the one of the same indicator and epoch for another span, which may reach beyond this one's.
        """
        start, end = query.values["start"], query.values["end"]
        rest = self.query.rest(self.found)
        reached = self.query.values["start"] if rest is None else rest.values["end"]
        if end > self.query.values["end"] or end <= reached:
            return [], query
        rows = [row for row in self.found if start <= row[0] < end]
        if rest is not None and start <= reached:
            return rows, query._replace(values={**rest.values, "start": start})
        if rest is None and start < reached:
            return rows, query._replace(values={**query.values, "end": reached})
        return rows, None


class IndicatorHistory:
    """The history of one indicator, as far as it was read.

    Args:
        span: the span that was read.
    """

    def __init__(self, span: Span) -> None:
        self.span = span
        self.names: Sequence[str] = (span.indicator.value,)
        """The values that its reports may have: of a technique, its sub-techniques, too."""
        self.reports: dict[tuple[str, Epoch], GatheredReports] = {}
        self.incident_rows: list[Row] | None = None
        """The incidents that were last seen in the span or after it; None if they were not read."""
        self.earlier = 0
        """The number of incidents before them, except those that were in memory."""
        self.members: dict[str, list[Row]] = {}

    def incident_query(self) -> dict[str, Any]:
        """Return the values of the query for `incident_rows`."""
        return {**incident_key(self.span.indicator), "start": self.span.start, "end": inf}

    def count_query(self) -> dict[str, Any]:
        """Return the values of the query for `earlier`."""
        known = json.dumps(sorted(self.span.known))
        return {**incident_key(self.span.indicator), "before": self.span.start, "known": known}

    def incidents(self, start: float, end: float) -> list[Row] | None:
        """Return the rows of the incidents that touch a span of event time; None if they were not read."""
        if self.incident_rows is None or start < self.span.start:
            return None
        return [row for row in self.incident_rows if row[_LAST_SEEN] >= start and row[_FIRST_SEEN] < end]

    def incident_count(self, before: float, known: Collection[str]) -> int | None:
        """Return the number of incidents last seen before a time, except known ones; None if it was not read."""
        if self.incident_rows is None or before < self.span.start:
            return None
        others: dict[str, float] = {row[0]: row[_LAST_SEEN] for row in self.incident_rows}
        if {*known} - others.keys() != self.span.known - others.keys():
            return None  # `earlier` may have one of them
        return self.earlier + sum(last < before and each not in known for each, last in others.items())


class GatheredHistory:
    """The history of the indicators of a batch, read together once several were asked for.

    Args:
        statements: the statements of the writer's database.
        epochs: the epochs of the stored reports.
        absent: the values of the batch that the store has nothing of.
    """

    def __init__(self, statements: Statements, epochs: ThreatEpochs, absent: AbsentValues) -> None:
        self._statements = statements
        self._epochs = epochs
        self._absent = absent
        self.forget()

    def forget(self) -> None:
        """Read nothing together until the next `expect`: after a commit the store has more."""
        self.expect(lambda: ())

    def expect(self, missing: Callable[[], Iterable[Span]]) -> None:
        """Note the history that is asked for next; until `forget` the store has no further decided report.

        Args:
            missing: returns the spans that are asked for from now on, in about this order.
        """
        self._missing = missing
        self._questions = 0
        self._gathered: dict[Indicator, IndicatorHistory] = {}
        self._asked: set[Indicator] = set()

    def find(self, indicator: Indicator) -> IndicatorHistory | None:
        """Return what was read of an indicator; at the first question that is one too many, read the next ones."""
        found = self._gathered.get(indicator)
        if found is None and indicator not in self._asked:
            self._questions += 1
            if self._questions > ONE_BY_ONE:
                self._gather()
                found = self._gathered.get(indicator)
        return found

    def _gather(self) -> None:
        """Read the history of the next indicators that have some, each at most once."""
        spans = [span for span in self._missing() if span.indicator not in self._asked and self._may_have_any(span)]
        if not spans:
            self._missing = lambda: ()
        spans = spans[:GATHERED]
        self._gathered = self._read(spans)
        self._asked.update(self._gathered)
        self._questions = 0

    def _may_have_any(self, span: Span) -> bool:
        return not (self._has_no_report(span.indicator) and self._has_no_incident(span.indicator))

    def _has_no_report(self, indicator: Indicator) -> bool:
        return self._absent.is_report_absent(indicator, inf, self._epochs.most_behind)

    def _has_no_incident(self, indicator: Indicator) -> bool:
        return self._absent.is_incident_absent(indicator, self._epochs.most_behind)

    def _read(self, spans: Sequence[Span]) -> dict[Indicator, IndicatorHistory]:
        histories = {span.indicator: IndicatorHistory(span) for span in spans}
        of_techniques = [each for each in histories.values() if each.span.indicator.kind == "technique"]
        with_incidents = [each for each in histories.values() if not self._has_no_incident(each.span.indicator)]
        answers = self._ask(
            [("threats.techniques_of", {"value": each.span.indicator.value}) for each in of_techniques],
            [("incidents.of_indicator", each.incident_query()) for each in with_incidents],
            [("incidents.count_before", each.count_query()) for each in with_incidents],
        )
        for history, names in zip(of_techniques, answers[0], strict=True):
            history.names = [name for (name,) in names]
        for history, incidents, count in zip(with_incidents, *answers[1:], strict=True):
            history.incident_rows, history.earlier = incidents, int(count[0][0])
        self._read_details(histories.values())
        return histories

    def _read_details(self, histories: Collection[IndicatorHistory]) -> None:
        """Read the reports of the indicators, and the members of the incidents."""
        queries = [
            (history, (name, epoch), ReportQuery.of(span.indicator, name, epoch, span.start, span.end))
            for history in histories
            if not self._has_no_report((span := history.span).indicator)
            for name in history.names
            for epoch in self._epochs.list()
        ]
        holders = {row[0]: history for history in histories for row in history.incident_rows or ()}
        reports, members = self._ask(
            [(query.statement, query.values) for _, _, query in queries],
            [("incidents.members", {"incident_ids": json.dumps(list(holders))})] if holders else [],
        )
        for (history, key, query), found in zip(queries, reports, strict=True):
            history.reports[key] = GatheredReports(query, found)
        for rows in members:
            for incident_id, *member in rows:
                holders[incident_id].members.setdefault(incident_id, []).append(tuple(member))

    def _ask(self, *groups: Sequence[Question]) -> list[list[list[Row]]]:
        """Return the answers to some groups of questions, which are asked together."""
        answers = iter(self._statements.rows_of_all([question for group in groups for question in group]))
        return [list(islice(answers, len(group))) for group in groups]


def incident_key(indicator: Indicator) -> dict[str, Any]:
    """Return the values by which an indicator's incidents are found."""
    return {
        "organization_id": indicator.organization_id,
        "kind": indicator.kind,
        "value": indicator.value,
        "site": indicator.site or "",
    }
