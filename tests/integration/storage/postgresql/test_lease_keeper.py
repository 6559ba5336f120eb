"""The keeper of the lease on a real database, with shortened times."""

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from manager.domain.lease import LeaseTimes
from manager.runtime.lease_keeper import LeaseKeeper
from manager.storage.postgresql.address import DatabaseAddress
from manager.storage.postgresql.lease import LeaseTable, Member, new_member_id, session_name
from manager.storage.postgresql.schema_versions import newest_migration
from tests.support.waiting import eventually

pytestmark = pytest.mark.postgresql

TIMES = LeaseTimes(
    renew_every=0.4, retry_every=0.2, leads_for=3.0, free_after=4.0, read_every=0.2, read_gap=3.5, standstill=2.0
)

Start = Callable[..., LeaseKeeper]


@pytest.fixture
def start(postgresql_address: DatabaseAddress) -> Iterator[Start]:
    """Provide a function that starts a keeper; at the end all are closed."""
    started: list[LeaseKeeper] = []

    def begin(
        name: str, features: tuple[str, ...] = (), migration: int | None = None, hold_off: float = 0.0
    ) -> LeaseKeeper:
        knows = newest_migration() if migration is None else migration
        address = f"http://{name}:8443"
        member = Member(name, f"host-{name}", address, "mqtt://broker", "0.1.0", features, "standby", migration=knows)
        keeper = LeaseKeeper(LeaseTable(postgresql_address), member, time.monotonic, times=TIMES, hold_off=hold_off)
        keeper.start()
        started.append(keeper)
        return keeper

    yield begin
    for keeper in started:
        keeper.close()


def test_one_leads_and_the_others_know_it(start: Start) -> None:
    """The first takes the free lease at once; both know who leads and who stands by."""
    one = start("a")
    eventually(one.leads, what="the first leads")
    two = start("b")
    eventually(lambda: two.leader() is not None and len(two.group.members) == 2, what="both are known")  # type: ignore[union-attr]
    leader = two.leader()
    assert leader is not None
    assert (leader.id, leader.role) == ("a", "leader")
    eventually(lambda: one.group is not None and one.group.others("a"), what="the leader knows the other")
    assert one.group is not None
    assert [(member.id, member.role) for member in one.group.others("a")] == [("b", "standby")]
    assert not two.leads()


def test_two_managers_of_a_host_with_the_longest_name_are_two(start: Start) -> None:
    """One with the id of the leader would take the leadership for its own; a session is told by its name too."""
    ids = [new_member_id("h" * 63) for _ in range(2)]
    assert len({session_name(each) for each in ids}) == 2
    one = start(ids[0])
    eventually(one.leads, what="the first leads")
    two = start(ids[1])
    eventually(lambda: two.group is not None and len(two.group.members) == 2, what="both are known")
    assert two.tenure is None


def test_a_keeper_that_was_never_started_is_closed(postgresql_address: DatabaseAddress) -> None:
    """So a process whose start is refused ends with the reason, not with an error of its thread; it knows of nobody."""
    member = Member("a", "host-a", "http://a:8443", "mqtt://broker", "0.1.0", ("x",), "ingest")
    keeper = LeaseKeeper(LeaseTable(postgresql_address), member, time.monotonic, times=TIMES)
    assert keeper.features() == ()
    keeper.close()


def test_a_release_hands_over_at_once_and_a_silence_in_time(start: Start) -> None:
    """After an orderly end the next takes the lease; after a silence it does so too, and the silent one has lost it."""
    one = start("a")
    eventually(one.leads, what="the first leads")
    two = start("b")
    eventually(lambda: two.leader() is not None, what="the second knows the first")
    one.close()
    eventually(two.leads, what="the second leads")
    assert two.tenure is not None
    assert two.tenure.epoch == 2
    three = start("c")
    two._stop.set()  # as a process that stands still does
    two._thread.join(60)
    eventually(three.leads, what="the third leads")
    assert not two.leads()
    assert two._table.renew(two.tenure.row) is None
    two._table.close()


def test_one_that_stepped_down_takes_the_lease_again_after_another_had_it(start: Start) -> None:
    """It leaves a free lease to others, and is one of those that stand by once another has taken it."""
    one = start("a", hold_off=3600.0)
    eventually(lambda: one.group is not None, what="the free lease was read")
    assert one.tenure is None
    two = start("b")
    eventually(two.leads, what="the other leads")
    eventually(lambda: one.leader() is not None, what="that is known")
    two.close()
    eventually(one.leads, what="it leads again")


def test_lost_connections_move_no_leadership(start: Start, postgresql_address: DatabaseAddress) -> None:
    """A leader whose connections are ended goes on in the same epoch."""
    one = start("a")
    eventually(one.leads, what="the first leads")
    start("b")
    for _ in range(5):
        with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'panguard lease'"
            )
        tenure = one.tenure
        assert tenure is not None
        beat = tenure.row.beat
        eventually(lambda before=beat: one.tenure.row.beat > before, what="another renewal")  # type: ignore[misc, union-attr]
    assert one.leads()
    assert one.tenure is not None
    assert one.tenure.epoch == 1


def test_a_leader_that_hangs_is_followed(start: Start) -> None:
    """A leader whose loop makes no step any more renews no more, though its keeper lives."""
    one = start("a")
    eventually(one.leads, what="the first leads")
    two = start("b")
    one.note_work()
    eventually(two.leads, what="the second leads")
    eventually(lambda: not one.leads(), what="the first does not")


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_clock_of_the_database_that_steps_moves_no_leadership(
    start: Start, postgresql_address: DatabaseAddress, step: int
) -> None:
    """With every time in the database an hour off, the same manager leads, and the managers are known again."""
    one = start("a")
    eventually(one.leads, what="the first leads")
    two = start("b")
    eventually(lambda: two.leader() is not None, what="the second knows the first")
    with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        connection.execute("UPDATE lease SET since = since + %s", (step,))
        connection.execute("UPDATE manager SET seen_at = seen_at + %s", (step,))
    tenure = one.tenure
    assert tenure is not None
    beat = tenure.row.beat
    eventually(lambda: tenure.row.beat >= beat + 5, what="five renewals")
    eventually(lambda: two.leader() is not None, what="the second knows the first again")
    assert one.leads()
    assert not two.leads()
    assert tenure.epoch == 1


def test_a_deleted_lease_ends_the_leadership(start: Start, postgresql_address: DatabaseAddress) -> None:
    """A holder that does not find its row has lost the lease for good."""
    one = start("a")
    eventually(one.leads, what="the first leads")
    with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        connection.execute("UPDATE lease SET epoch = epoch + 1, holder = 'stranger'")
    eventually(lambda: one.tenure is not None and one.tenure.ended, what="the end is noticed")
    assert not one.leads()


def test_the_leader_announces_what_all_managers_have(start: Start) -> None:
    """A manager that joins without a feature takes it back, and its end gives it back; others change nothing."""
    one = start("a", ("x", "y"))
    eventually(one.leads, what="the first leads")
    assert one.features() == ("x", "y")
    start("b", ("y", "x", "z"))
    two = start("c", ("y",))
    eventually(lambda: one.features() == ("y",), what="what the third has not is taken back")
    two.close()
    eventually(lambda: one.features() == ("x", "y"), what="it is given back")
    assert one.group is not None
    assert len(one.group.members) == 2


def test_a_manager_whose_schema_a_newer_release_contracted_leads_no_more(
    start: Start, postgresql_address: DatabaseAddress
) -> None:
    """The leader and the one that stands by say which release the schema needs, and a newer one takes the lease."""
    newest = newest_migration()
    one = start("a")
    eventually(one.leads, what="the first leads")
    two = start("b")
    eventually(lambda: two.leader() is not None, what="the second knows the first")
    with psycopg.connect(postgresql_address.url, autocommit=True) as connection:
        connection.execute("UPDATE schema_compatibility SET oldest = %s", (newest + 1,))
    for keeper in (one, two):
        eventually(lambda keeper=keeper: keeper.outdated, what="it notices")  # type: ignore[misc]
        assert f"needs one that knows the migration {newest + 1:04}, and this one knows {newest:04}" in str(
            keeper.outdated
        )
    assert not one.leads()
    assert one.tenure is not None
    assert one.tenure.ended is not None
    assert two.tenure is None
    three = start("c", migration=newest + 1)
    eventually(three.leads, what="the newer one leads")
    assert three.outdated is None
