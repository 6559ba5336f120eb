"""Tickets for the event stream: a browser's EventSource can send no header, and no token belongs in a URL."""

import secrets

VALID_FOR = 30.0
"""Seconds for which a ticket is good, once."""

_MOST = 1000


class Tickets:
    """Who may open the stream once, soon. Beyond so many unused tickets the oldest is forgotten."""

    def __init__(self) -> None:
        self._good_until: dict[str, float] = {}

    def issue(self, now: float) -> str:
        """Return a new ticket; `now` is in seconds on any clock that is used for all calls."""
        self._good_until = {ticket: until for ticket, until in self._good_until.items() if until > now}
        while len(self._good_until) >= _MOST:
            del self._good_until[next(iter(self._good_until))]
        ticket = secrets.token_urlsafe(24)
        self._good_until[ticket] = now + VALID_FOR
        return ticket

    def redeem(self, ticket: str, now: float) -> bool:
        """Return whether a ticket is good, and use it up."""
        return self._good_until.pop(ticket, now) > now
