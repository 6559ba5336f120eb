"""Refused registrations: counted by host and reason, bounded, gone after a day or when the host comes in."""

from manager.domain.agents.agent import Door
from manager.domain.agents.refused_registrations import KEPT_FOR, RefusedRegistrations


def _refuse(
    refused: RefusedRegistrations, hostname: str | None, at: float, reason: str = "no", origin: str = "x"
) -> None:
    refused.record(hostname, None, door=Door.HTTP if hostname else Door.MQTT, origin=origin, reason=reason, at=at)


def test_one_host_is_one_line_for_each_reason() -> None:
    """With its count, its first and its last time; the newest first."""
    refused = RefusedRegistrations()
    for at in (1.0, 2.0, 3.0):
        _refuse(refused, "srv-01", at)
    _refuse(refused, "srv-01", 4.0, "other")
    found = [(host.hostname, host.reason, host.count, host.first_at, host.last_at) for host in refused.current(5.0)]
    assert found == [("srv-01", "other", 1, 4.0, 4.0), ("srv-01", "no", 3, 1.0, 3.0)]


def test_a_flood_of_unreadable_registrations_is_one_line() -> None:
    """Each has a client id of its own; only the reason tells them apart."""
    refused = RefusedRegistrations()
    for number in range(1000):
        _refuse(refused, None, float(number), origin=f"client-{number}")
    (host,) = refused.current(1000.0)
    assert (host.count, host.origin) == (1000, "client-999")


def test_memory_is_bounded_and_a_day_long() -> None:
    """200 hosts; the one that was refused longest ago is dropped, and a day later all are."""
    refused = RefusedRegistrations()
    for number in range(300):
        _refuse(refused, f"srv-{number}", float(number))
    assert [host.hostname for host in refused.current(300.0)] == [f"srv-{number}" for number in range(299, 99, -1)]
    assert refused.current(299.0 + KEPT_FOR) == []


def test_a_host_that_came_in_is_no_longer_shown() -> None:
    """Its refusals end with its registration; another host's stay."""
    refused = RefusedRegistrations()
    _refuse(refused, "srv-01", 1.0)
    _refuse(refused, "srv-02", 1.0)
    refused.forget("srv-01", "acme")
    assert [host.hostname for host in refused.current(2.0)] == ["srv-02"]
