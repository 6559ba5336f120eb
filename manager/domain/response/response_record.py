"""Record of responses that can still change, wait for approval, or were undone."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from heapq import heappop, heappush
from math import inf

from manager.domain.correlation import Incident, Indicator
from manager.domain.response.response_changes import Response, ResponseState

REMEMBERED = 900.0
"""Seconds for which a response is remembered after its incident closed: a report on time may open it again for 600."""


class ResponseRecord:
    """Responses by incident: responses that can still change, wait for approval, or suppress further responses.

    Args:
        max_pending: number of incidents that wait for approval at once.
    """

    def __init__(self, max_pending: int) -> None:
        self._max_pending = max_pending
        self._responses: dict[str, Response] = {}
        self._pending: OrderedDict[str, Response] = OrderedDict()
        self._suppressed: dict[Indicator, dict[str, None]] = {}
        self._closed: dict[str, float] = {}
        """When each closed incident closed, or its response was last decided."""
        self._due: list[tuple[float, str]] = []
        """A heap of these times; a time that differs from that in `_closed` is outdated."""
        self.dropped = 0
        """Number of approvals dropped because too many incidents waited for approval."""

    def load(self, responses: Iterable[Response], incidents: Iterable[Incident], now: float) -> None:
        """Add responses from the store, as far as they are still remembered.

        Args:
            responses: the stored ones.
            incidents: those that are open, or closed within the last 900 s.
            now: the time, in seconds since 1970.
        """
        known = {incident.id: incident for incident in incidents}
        for response in sorted(responses, key=lambda each: (_end(each), each.at)):
            incident = known.get(response.incident_id)
            closed_at = incident.closed_at if incident is not None else -inf
            is_pending = response.state is ResponseState.PENDING_APPROVAL
            if closed_at is not None and not is_pending and now - max(closed_at, response.at) > REMEMBERED:
                continue
            self._responses[response.incident_id] = response
            if is_pending:
                self._pending[response.incident_id] = response
            if closed_at is not None:
                self._note_closed(response.incident_id, max(closed_at, response.at))
            elif response.state is ResponseState.UNDONE and incident is not None:
                self._suppress(incident.indicator, incident.id)

    def get(self, incident_id: str) -> Response | None:
        """Return an incident's response, if it is remembered."""
        return self._responses.get(incident_id)

    def is_closed(self, incident_id: str) -> bool:
        """Return whether an incident with a response is known as closed; a report may reopen it."""
        return incident_id in self._closed

    def pending(self) -> Iterator[Response]:
        """Yield the responses that wait for approval, the first to expire first."""
        return iter(self._pending.values())

    def pending_count(self) -> int:
        """Return the number of incidents that wait for approval."""
        return len(self._pending)

    def suppressor(self, indicator: Indicator) -> str | None:
        """Return the open incident that was undone and keeps this indicator from firing."""
        return next(iter(self._suppressed.get(indicator, ())), None)

    def put(self, response: Response) -> list[Response]:
        """Store a response; return other responses that had to change: those dropped from the waiting ones."""
        self._responses[response.incident_id] = response
        self._decided(response)
        if response.state is not ResponseState.PENDING_APPROVAL:
            self._pending.pop(response.incident_id, None)
            return []
        self._wait(response)
        if len(self._pending) <= self._max_pending:
            return []
        self.dropped += 1
        _, oldest = self._pending.popitem(last=False)
        return [self._abandon(oldest, "too many incidents wait for approval", response.at)]

    def recall(self, response: Response) -> Response:
        """Remember the response of an incident that closed long ago for as long again; return it."""
        self._responses[response.incident_id] = response
        self._note_closed(response.incident_id, response.at)
        return response

    def suppresses(self, indicator: Indicator, incident_id: str) -> bool:
        """Return whether an incident was undone and keeps its indicator from firing."""
        return incident_id in self._suppressed.get(indicator, {})

    def put_back(
        self, incident_id: str, indicator: Indicator, response: Response | None, *, is_suppressed: bool
    ) -> None:
        """Restore an incident's response, or that there was none, because the store rejected the later one."""
        self._pending.pop(incident_id, None)
        if response is None:
            self._responses.pop(incident_id, None)
        else:
            self._responses[incident_id] = response
            if response.state is ResponseState.PENDING_APPROVAL:
                self._wait(response)
        undone = self._suppressed.get(indicator, {})
        if not is_suppressed and undone.pop(incident_id, incident_id) is None and not undone:
            del self._suppressed[indicator]

    def suppress(self, incident: Incident) -> None:
        """Block automatic responses to the indicator of an undone incident until that incident closes."""
        if incident.is_open:
            self._suppress(incident.indicator, incident.id)

    def suppress_known(self, indicator: Indicator, incident_id: str) -> None:
        """Keep the indicator of an undone incident with a response from firing while the incident is open."""
        if incident_id in self._responses and incident_id not in self._closed:
            self._suppress(indicator, incident_id)

    def closed(self, incident: Incident, now: float) -> None:
        """Record that an incident closed."""
        undone = self._suppressed.get(incident.indicator, {})
        undone.pop(incident.id, None)
        if not undone:
            self._suppressed.pop(incident.indicator, None)
        response = self._responses.get(incident.id)
        if response is not None:
            closed_at = incident.closed_at if incident.closed_at is not None else now
            self._note_closed(incident.id, max(closed_at, response.at))

    def reopened(self, incident: Incident) -> None:
        """Record that a report joined an incident; if it reopened the incident, keep its response."""
        if incident.is_open and self._closed.pop(incident.id, None) is not None:
            response = self._responses[incident.id]
            if response.state is ResponseState.UNDONE:
                self.suppress(incident)

    def shift(self, seconds: float) -> list[Response]:
        """Shift the times of responses, grants and closed incidents by a step of the clock; return the responses."""
        for incident_id, response in self._responses.items():
            granted_at = None if response.granted_at is None else response.granted_at + seconds
            shifted = replace(response, at=response.at + seconds, granted_at=granted_at)
            self._responses[incident_id] = shifted
            if incident_id in self._pending:
                self._pending[incident_id] = shifted
        for incident_id in self._closed:
            self._closed[incident_id] += seconds
        self._due = [(closed_at + seconds, incident_id) for closed_at, incident_id in self._due]
        return list(self._responses.values())

    def next_expiry(self) -> float | None:
        """Return the time at which the next approval expires, or the next response is forgotten."""
        dues = [self._next_approval(), self._due[0][0] + REMEMBERED if self._due else None]
        return min((due for due in dues if due is not None), default=None)

    def expire(self, now: float) -> list[Response]:
        """Return the responses whose approval expired, and drop those of incidents long closed."""
        given_up = []
        while (due := self._next_approval()) is not None and due <= now:
            _, oldest = self._pending.popitem(last=False)
            given_up.append(self._abandon(oldest, "nobody approved it in time", now))
        while self._due and now - self._due[0][0] > REMEMBERED:
            closed_at, incident_id = heappop(self._due)
            # One that waits for approval is noted again when it is decided.
            if self._closed.get(incident_id) == closed_at and incident_id not in self._pending:
                del self._closed[incident_id]
                self._responses.pop(incident_id, None)
        return given_up

    def _wait(self, response: Response) -> None:
        """Add a response to those that wait, or replace its earlier state, in the order of their ends."""
        before = self._pending.get(response.incident_id)
        if before is not None and _end(before) == _end(response):
            self._pending[response.incident_id] = response
            return
        self._pending.pop(response.incident_id, None)
        last = next(reversed(self._pending.values()), None)
        self._pending[response.incident_id] = response
        # The newest ends last, unless it came from a merge or the clock was set back.
        if last is not None and _end(last) > _end(response):
            self._pending = OrderedDict(sorted(self._pending.items(), key=lambda item: _end(item[1])))

    def _suppress(self, indicator: Indicator, incident_id: str) -> None:
        self._suppressed.setdefault(indicator, {})[incident_id] = None

    def _note_closed(self, incident_id: str, closed_at: float) -> None:
        self._closed[incident_id] = closed_at
        heappush(self._due, (closed_at, incident_id))

    def _decided(self, response: Response) -> None:
        """Remember the response of a closed incident for as long again."""
        closed_at = self._closed.get(response.incident_id)
        if closed_at is not None:
            self._note_closed(response.incident_id, max(closed_at, response.at))

    def _next_approval(self) -> float | None:
        first = next(iter(self._pending.values()), None)
        return first.approval_expires_at if first is not None else None

    def _abandon(self, response: Response, reason: str, now: float) -> Response:
        state = ResponseState.REFUSED
        if response.awaits_organization:
            state, reason = ResponseState.APPLIED, f"in force only on the agents that report it: {reason}"
        given_up = replace(response, state=state, reason=reason, at=now, approval_expires_at=None)
        self._responses[response.incident_id] = given_up
        self._decided(given_up)
        return given_up


def _end(response: Response) -> float:
    """Return the time until which a waiting response can be approved."""
    return response.approval_expires_at or 0.0
