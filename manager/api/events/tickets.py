"""Single-use tickets that let a browser open the event stream without a token in the URL."""

import secrets

TICKET_LIFETIME = 30.0
"""Seconds for which an unused ticket is valid."""

_MAX_TICKETS = 1000


class Tickets:
    """Issues and redeems tickets. Beyond `_MAX_TICKETS` unused tickets the oldest is dropped."""

    def __init__(self) -> None:
        self._valid_until: dict[str, float] = {}

    def issue(self, now: float) -> str:
        """Return a new ticket; `now` is in seconds, on one clock for all calls."""
        self._valid_until = {ticket: until for ticket, until in self._valid_until.items() if until > now}
        while len(self._valid_until) >= _MAX_TICKETS:
            del self._valid_until[next(iter(self._valid_until))]
        ticket = secrets.token_urlsafe(24)
        self._valid_until[ticket] = now + TICKET_LIFETIME
        return ticket

    def redeem(self, ticket: str, now: float) -> bool:
        """Redeem a ticket once; return whether it was valid."""
        return self._valid_until.pop(ticket, now) > now
