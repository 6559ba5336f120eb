"""What the parts of a leading manager ask of its membership."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from manager.domain.lease import LeaseRow, Tenure
from manager.errors import StoreUnavailable
from manager.runtime.lease_keeper import Group, LeaseKeeper
from manager.runtime.membership import Membership, group_record, lease_fence
from manager.storage.postgresql.lease import Member

ROW = LeaseRow("00000001", 3, "m1", 40)


def member(name: str, role: str, age: float = 0.5) -> Member:
    return Member(name, f"host-{name}", f"http://{name}:8443", "mqtt://broker", "0.1.0", (), role, age)


def membership(*others: Member, leads: bool = True) -> tuple[Membership, Any]:
    """Return a membership whose keeper leads or not, with these managers beside it."""
    group = Group(ROW, 1_800_000_000.0, (member("m1", "leader"), *others))
    keeper = SimpleNamespace(
        own_id="m1",
        tenure=Tenure(ROW, 100.0),
        group=group,
        leads=lambda: leads,
        leader=lambda: group.leader,
    )
    nothing: Any = None
    return Membership(cast("LeaseKeeper", keeper), nothing, nothing, nothing, nothing), keeper


def test_a_leader_hands_over_to_nobody_but_one_that_stands_by() -> None:
    """An ingest process, or nobody, takes no lease: the refusal says so."""
    assert "no manager stands by" in str(membership()[0].refusal_to_step_down())
    assert "no manager stands by" in str(membership(member("m2", "ingest"))[0].refusal_to_step_down())
    assert membership(member("m2", "standby"))[0].refusal_to_step_down() is None


def test_a_leadership_is_lost_for_good() -> None:
    """While it cannot be renewed it may come back; once it has ended it does not."""
    one, keeper = membership(leads=False)
    assert not one.is_lost
    keeper.tenure.end("taken by another")
    assert one.is_lost


def test_a_manager_that_does_not_lead_does_not_even_ask_the_database() -> None:
    """The fence refuses by the manager's own clock before it uses a connection."""

    def connection() -> Any:
        raise AssertionError("asked")

    check = lease_fence(cast("LeaseKeeper", membership(leads=False)[1]), connection)
    with pytest.raises(StoreUnavailable, match="does not hold the lease"):
        check()
    with pytest.raises(AssertionError, match="asked"):
        lease_fence(cast("LeaseKeeper", membership()[1]), connection)()


def test_health_names_leader_and_managers_by_host_and_port() -> None:
    """The leader and its time, the stand-bys, and how long ago each was heard of; other ways to them are not told."""
    record = group_record(cast("LeaseKeeper", membership(member("m2", "standby", 1.25))[1]))
    assert record["role"] == "leader"
    assert record["leader"] == {
        "hostname": "host-m1",
        "port": 8443,
        "version": "0.1.0",
        "since": "2027-01-15T08:00:00.000Z",
        "epoch": 3,
    }
    assert [
        tuple(each[name] for name in ("hostname", "port", "role", "behindSeconds")) for each in record["managers"]
    ] == [
        ("host-m1", 8443, "leader", 0.5),
        ("host-m2", 8443, "standby", 1.2),
    ]
    assert "http://" not in str(record)


def test_every_process_is_a_door_of_http_agents_and_those_that_stand_by_take_no_share_at_the_broker() -> None:
    """The budgets of agents are divided by the doors at which they may ask, each kind by its own."""
    assert (membership()[0].http_doors(), membership()[0].sharers()) == (1, 1)
    one, _ = membership(member("m2", "standby"), member("m3", "ingest"), member("m4", "standby"))
    assert (one.http_doors(), one.sharers()) == (4, 2)


def test_a_manager_that_stands_by_with_an_embedded_broker_is_no_door() -> None:
    """It passes every request on, so the leader's door has an agent's whole budget."""
    standby = replace(member("m2", "standby"), broker="embedded")
    assert membership(standby)[0].http_doors() == 1


@pytest.mark.parametrize(
    ("address", "port"),
    [("https://manager.example.org", 443), ("http://[::1]:9000", 9000), ("http://[::1]", 80), ("ws://m", None)],
)
def test_the_port_is_that_of_the_address(address: str, port: int | None) -> None:
    """An address without a port has that of its scheme; one of an unknown scheme has none."""
    other = Member("m2", "host-m2", address, "mqtt://broker", "0.1.0", (), "standby", 0.5)
    record = group_record(cast("LeaseKeeper", membership(other)[1]))
    assert record["managers"][1]["port"] == port
