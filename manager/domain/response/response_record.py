"""Record of responses that can still change, wait for approval, or were undone."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from manager.domain.correlation import Incident, Indicator
from manager.domain.response.response_changes import Response, ResponseState

_AFTER_CLOSE = 900.0
"""Seconds for which a closed incident's response is remembered: a report on time may open it again for 600."""


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
        self._closed: OrderedDict[str, float] = OrderedDict()
        self.dropped = 0
        """Number of approvals dropped because too many incidents waited for approval."""

    def load(self, responses: Iterable[Response], incidents: Iterable[Incident], now: float) -> None:
        """Add responses from the store, with the incidents that are open."""
        open_incidents = {incident.id: incident for incident in incidents if incident.is_open}
        for response in sorted(responses, key=lambda each: each.approval_expires_at or 0.0):
            self._responses[response.incident_id] = response
            if response.state is ResponseState.PENDING_APPROVAL:
                self._pending[response.incident_id] = response
            incident = open_incidents.get(response.incident_id)
            if incident is None:
                self._closed[response.incident_id] = now
            elif response.state is ResponseState.UNDONE:
                self.suppress(incident)

    def get(self, incident_id: str) -> Response | None:
        """Return an incident's response, if it is remembered."""
        return self._responses.get(incident_id)

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
        self._pending.pop(response.incident_id, None)
        if response.state is not ResponseState.PENDING_APPROVAL:
            return []
        self._pending[response.incident_id] = response
        if len(self._pending) <= self._max_pending:
            return []
        self.dropped += 1
        _, oldest = self._pending.popitem(last=False)
        return [self._abandon(oldest, "too many incidents wait for approval", response.at)]

    def suppress(self, incident: Incident) -> None:
        """Block automatic responses to the indicator of an undone incident until that incident closes."""
        if incident.is_open:
            self._suppressed.setdefault(incident.indicator, {})[incident.id] = None

    def closed(self, incident: Incident, now: float) -> None:
        """Record that an incident closed."""
        undone = self._suppressed.get(incident.indicator, {})
        undone.pop(incident.id, None)
        if not undone:
            self._suppressed.pop(incident.indicator, None)
        if incident.id in self._responses:
            self._closed[incident.id] = now

    def reopened(self, incident: Incident) -> None:
        """Record that a report joined an incident; if it reopened the incident, keep its response."""
        if incident.is_open and self._closed.pop(incident.id, None) is not None:
            response = self._responses[incident.id]
            if response.state is ResponseState.UNDONE:
                self.suppress(incident)

    def shift(self, seconds: float) -> None:
        """Shift the times of closed incidents by a step of the manager's clock."""
        for incident_id in self._closed:
            self._closed[incident_id] += seconds

    def next_expiry(self) -> float | None:
        """Return the time at which the next approval expires."""
        first = next(iter(self._pending.values()), None)
        return first.approval_expires_at if first is not None else None

    def expire(self, now: float) -> list[Response]:
        """Return the responses whose approval expired, and drop those of incidents long closed."""
        given_up = []
        while (due := self.next_expiry()) is not None and due <= now:
            _, oldest = self._pending.popitem(last=False)
            given_up.append(self._abandon(oldest, "nobody approved it in time", now))
        while self._closed:
            incident_id, closed_at = next(iter(self._closed.items()))
            if now - closed_at <= _AFTER_CLOSE:
                break
            del self._closed[incident_id]
            if incident_id in self._pending:
                self._closed[incident_id] = now
            else:
                del self._responses[incident_id]
        return given_up

    def _abandon(self, response: Response, reason: str, now: float) -> Response:
        state = ResponseState.REFUSED
        if response.awaits_organization:
            state, reason = ResponseState.APPLIED, f"in force only on the agents that report it: {reason}"
        given_up = replace(response, state=state, reason=reason, at=now, approval_expires_at=None)
        self._responses[response.incident_id] = given_up
        return given_up
