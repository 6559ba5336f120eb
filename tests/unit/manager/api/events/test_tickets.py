"""Tickets for the event stream."""

from manager.api.authentication import Caller
from manager.api.events.tickets import TICKET_LIFETIME, Tickets
from manager.domain.access import Role

ALICE, BOB = Caller("alice", role=Role.VIEWER), Caller("bob", role=Role.VIEWER)


def test_a_ticket_is_good_once_and_for_a_while() -> None:
    """It names its caller; used up by its first use; worth nothing after half a minute; unknown ones never good."""
    tickets = Tickets()
    first, second = tickets.issue(ALICE, 100.0), tickets.issue(BOB, 100.0)
    assert tickets.redeem(first, 100.0 + TICKET_LIFETIME - 1) is ALICE
    assert tickets.redeem(first, 100.0 + TICKET_LIFETIME - 1) is None
    assert tickets.redeem(second, 100.0 + TICKET_LIFETIME) is None
    assert tickets.redeem("", 100.0) is None


def test_unused_tickets_do_not_pile_up() -> None:
    """Beyond a thousand the oldest goes."""
    tickets = Tickets()
    issued = [tickets.issue(BOB, 0.0) for _ in range(1001)]
    assert tickets.redeem(issued[0], 1.0) is None
    assert tickets.redeem(issued[1], 1.0) is BOB
