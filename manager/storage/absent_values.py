"""Looks the values of a batch's reports up together: which of them the store has neither a report nor an incident of.

The correlator asks the store for each value that its memory does not know, after a start for all, and the answer is
mostly "nothing". Where the database is another process, a round trip for each takes much longer than the look-up.
Reports that other processes stored are in the store while the leader decides on them, and count for nothing until then.
"""

import json
from collections.abc import Sequence
from math import inf
from typing import Any

from manager.domain.correlation import Indicator
from manager.domain.correlation.reports import WINDOW
from manager.engine.batch import ThreatRow
from manager.storage.hand_over import HandOver
from manager.storage.statements import Statements

ONE_BY_ONE = 4
"""Questions about a batch that are answered one by one: few are cheaper than all values of a large batch."""


class AbsentValues:
    """The values of the reports that are correlated next, and what the store has of them.

    Args:
        statements: the statements of the writer's database.
        hand_over: where other processes store threats, too: what is decided.
    """

    def __init__(self, statements: Statements, hand_over: HandOver) -> None:
        self._statements = statements
        self._hand_over = hand_over
        self.forget()

    def forget(self) -> None:
        """Answer nothing until the next `expect`: after a commit the store has more."""
        self.expect(())

    def expect(self, rows: Sequence[ThreatRow]) -> None:
        """Note the reports whose values are asked for next; the store has no further decided report until `forget`."""
        self._rows = rows
        self._questions = 0
        self._since = inf
        self._absent: dict[str, set[str]] = {}
        self._without_incident: set[tuple[str, str]] = set()

    def is_report_absent(self, indicator: Indicator, start: float, shift: float) -> bool:
        """Return whether the store certainly has no report of an indicator from a time on.

        Args:
            indicator: an address or a hash; of other kinds nothing is known.
            start: event time, in seconds since 1970 on the present clock.
            shift: the most seconds by which stored times are behind that clock.
        """
        return self._look_up(shift) and start >= self._since and indicator.value in self._absent.get(indicator.kind, ())

    def is_incident_absent(self, indicator: Indicator, shift: float) -> bool:
        """Return whether the store certainly has no incident of an indicator."""
        return self._look_up(shift) and (indicator.kind, indicator.value) in self._without_incident

    def _look_up(self, shift: float) -> bool:
        """Look all values up at the first question that is one too many; return whether they were."""
        self._questions += 1
        if self._questions <= ONE_BY_ONE or not self._rows:
            return False
        if self._questions == ONE_BY_ONE + 1:
            since = min(row.event_time for row in self._rows) - WINDOW
            for kind in ("source_ip", "file_hash"):
                expected = {value for row in self._rows if (value := getattr(row, kind)) is not None}
                if expected:
                    self._absent[kind] = self._without_report(kind, expected, since - max(shift, 0.0))
                    self._without_incident |= self._without_incidents(kind, expected)
            self._since = since
        return True

    def _without_report(self, kind: str, expected: set[str], since: float) -> set[str]:
        params: dict[str, Any] = {"values": json.dumps(sorted(expected)), "since": since}
        decided = self._hand_over.decided_elsewhere
        if decided is not None:
            params["firsts"], params["lasts"] = map(list, zip(*decided, strict=True))
        return expected - {value for (value,) in self._statements.rows(f"threats.stored_values_of_{kind}", params)}

    def _without_incidents(self, kind: str, expected: set[str]) -> set[tuple[str, str]]:
        params = {"kind": kind, "values": json.dumps(sorted(expected))}
        stored = {value for (value,) in self._statements.rows("incidents.stored_values", params)}
        return {(kind, value) for value in expected - stored}
