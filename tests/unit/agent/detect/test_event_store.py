"""Stored events are those that still count, and come back as they were."""

import dataclasses

import pytest

from agent.detect import event_store
from agent.events import Event, EventKind
from agent.storage.database import Database

DAY = 86_400.0
FIELDS: dict[str, str | int] = {"sourceIp": "203.0.113.7", "user": "alice", "port": 22, "method": "password"}


def failed(at: float) -> Event:
    return Event(at, EventKind.LOGIN_FAILED, FIELDS, frozenset(FIELDS), 3)


def login(at: float, user: str = "alice") -> Event:
    return Event(at, EventKind.LOGIN_SUCCEEDED, FIELDS | {"user": user})


def stored(database: Database, *batches: list[Event]) -> list[Event]:
    for events in batches:
        with database.transaction() as connection:
            event_store.save(connection, events)
    return list(event_store.load(database.connection))


def test_events_come_back_in_their_order(database: Database) -> None:
    """Events are read as they were stored, in the order in which they came, whatever their times."""
    events = [failed(5.0), login(3.0), failed(4.0)]
    assert stored(database, events) == events


def test_failures_are_kept_for_a_day(database: Database) -> None:
    """A failure that is more than a day older than the newest event is forgotten."""
    assert stored(database, [failed(0.0), failed(1.0)], [failed(DAY + 0.5)]) == [failed(1.0), failed(DAY + 0.5)]


def test_login_ends_the_day_of_failures(database: Database) -> None:
    """Failures are forgotten too when the newest event, a day later, is a login."""
    assert stored(database, [failed(0.0)], [login(DAY + 1)]) == [login(DAY + 1)]


def test_latest_login_of_user_and_address_is_kept_for_a_week(database: Database) -> None:
    """Of logins that are older than a day only the latest of a user and an address is kept, for seven days."""
    kept = stored(database, [login(0.0), login(1.0), login(0.0, "bob")], [login(2 * DAY)])
    assert kept == [login(0.0, "bob"), login(2 * DAY)]
    assert stored(database, [login(8 * DAY, "carol")]) == [login(2 * DAY), login(8 * DAY, "carol")]


def test_contacts_are_not_stored(database: Database) -> None:
    """A contact that names no user is forgotten at a restart."""
    assert stored(database, [Event(0.0, EventKind.BANNER_FAULT, {"sourceIp": "203.0.113.7"})]) == []


def test_number_of_events_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest failures make room, and failures do not push out logins that are among the newest rows."""
    monkeypatch.setattr(event_store, "MAX_EVENTS", 10)
    kept = stored(database, [failed(float(at)) for at in range(25)])
    assert [event.at for event in kept] == [float(at) for at in range(15, 25)]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '[1, "gone", {}, false, 1]', '[1, "login_failed", {"sourceIp": "x"}, false, 1]', "[" * 5000],
)
def test_row_that_cannot_be_read_costs_itself_only(database: Database, text: str) -> None:
    """A damaged row is left out; the others are read."""
    stored(database, [failed(1.0)])
    database.connection.execute("INSERT INTO detection_events (at, event) VALUES (1.0, ?)", (text,))
    assert stored(database, [failed(2.0)]) == [failed(1.0), failed(2.0)]


def test_origin_is_not_stored(database: Database) -> None:
    """An event that was read back does not know its writer; its vouched fields stay vouched."""
    (event,) = stored(database, [failed(1.0)])
    assert event == dataclasses.replace(failed(1.0), origin=None)
