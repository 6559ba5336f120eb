"""Single-use tickets that let a browser open the event stream without a token in the URL."""

import secrets

from manager.api.authentication import Caller

TICKET_LIFETIME = 30.0
"""Seconds for which an unused ticket is valid."""

_MAX_TICKETS = 1000


class Tickets:
    """Issues and redeems tickets. Beyond `_MAX_TICKETS` unused tickets the oldest is dropped."""

    def __init__(self) -> None:
        self._issued: dict[str, tuple[float, Caller]] = {}

    def issue(self, caller: Caller, now: float) -> str:
        """Return a new ticket for a caller; `now` is in seconds, on one clock for all calls."""
        self._issued = {ticket: issued for ticket, issued in self._issued.items() if issued[0] > now}
        while len(self._issued) >= _MAX_TICKETS:
            del self._issued[next(iter(self._issued))]
        ticket = secrets.token_urlsafe(24)
        self._issued[ticket] = now + TICKET_LIFETIME, caller
        return ticket

    def redeem(self, ticket: str, now: float) -> Caller | None:
        """Redeem a ticket once; return the caller that it was issued to, None if it was not valid."""
        until, caller = self._issued.pop(ticket, (now, None))
        return caller if until > now else None
