"""How a guard follows its organization's blocklist."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.connection.identity import Enrolled
from agent.policy.blocklist import PATIENCE, OrganizationBlocklist
from agent.storage.database import Database
from schemas import message_codes
from schemas.blocklist import BlocklistChange, BlocklistEntry, BlocklistSnapshot
from schemas.keys import ManagerKeyring
from schemas.topics import BLOCKLIST, BLOCKLIST_CHANGES
from tests.unit.agent.fake_link import FakeLink

KEYRING = ManagerKeyring(bytes(range(32)))
ENROLLED = Enrolled("ag-00000000000000aa", "acme", KEYRING.sign_public)


def _entry(number: int) -> BlocklistEntry:
    return BlocklistEntry(kind="ip", value=f"203.0.113.{number}")


def _change(before: int, after: int, added: list[int], removed: list[int], keyring: ManagerKeyring = KEYRING) -> bytes:
    change = BlocklistChange(
        organization_id="acme",
        from_sequence=before,
        sequence=after,
        added=[_entry(number) for number in added],
        removed=[_entry(number) for number in removed],
    )
    return message_codes.with_signature(keyring.sign_key, BLOCKLIST_CHANGES.below_root("acme"), change.body())


def _snapshot(sequence: int, entries: list[int]) -> bytes:
    snapshot = BlocklistSnapshot(
        organization_id="acme", sequence=sequence, entries=[_entry(number) for number in entries]
    )
    return message_codes.with_signature(KEYRING.sign_key, BLOCKLIST.below_root("acme"), snapshot.body())


def _values(blocklist: OrganizationBlocklist) -> set[int]:
    return {int(measure.value.rpartition(".")[2]) for measure in blocklist.measures()}


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def blocklist(database: Database, link: FakeLink) -> OrganizationBlocklist:
    fresh = OrganizationBlocklist(database, Counter())
    fresh.pin(ENROLLED)
    fresh.opened(link, 0)
    return fresh


def test_changes_that_join_on_are_taken_at_once(blocklist: OrganizationBlocklist) -> None:
    """Entries come and go with changes alone."""
    assert blocklist.receive(BLOCKLIST_CHANGES, _change(0, 4, [1, 2], []), 1)
    assert blocklist.receive(BLOCKLIST_CHANGES, _change(4, 6, [3], [1]), 1)
    assert (_values(blocklist), blocklist.sequence) == ({2, 3}, 6)


def test_a_gap_is_closed_by_the_snapshot(blocklist: OrganizationBlocklist, link: FakeLink) -> None:
    """A change that does not join on waits, the snapshot is asked for, and then both count."""
    blocklist.tick(PATIENCE)
    assert link.unsubscribed == [BLOCKLIST]
    assert not blocklist.receive(BLOCKLIST_CHANGES, _change(7, 9, [5], [2]), 20)
    assert link.subscribed == [(BLOCKLIST,), (BLOCKLIST,)]
    assert blocklist.receive(BLOCKLIST, _snapshot(7, [1, 2]), 21)
    assert (_values(blocklist), blocklist.sequence) == ({1, 5}, 9)


def test_the_snapshot_is_left_when_nothing_is_missing(blocklist: OrganizationBlocklist, link: FakeLink) -> None:
    """While a sequence is missing the guard goes on asking; afterwards it reads changes only."""
    blocklist.receive(BLOCKLIST_CHANGES, _change(7, 9, [5], []), 1)
    blocklist.tick(PATIENCE)
    assert link.unsubscribed == []
    assert blocklist.due == 2 * PATIENCE
    blocklist.receive(BLOCKLIST, _snapshot(9, [1, 5]), 16)
    blocklist.tick(2 * PATIENCE)
    assert link.unsubscribed == [BLOCKLIST]
    assert blocklist.due == float("inf")


def test_what_is_older_than_the_own_list_changes_nothing(blocklist: OrganizationBlocklist) -> None:
    """A replayed snapshot or change brings no entry back."""
    blocklist.receive(BLOCKLIST, _snapshot(9, [1]), 1)
    assert not blocklist.receive(BLOCKLIST, _snapshot(8, [1, 2]), 1)
    assert not blocklist.receive(BLOCKLIST_CHANGES, _change(5, 8, [3], []), 1)
    assert (_values(blocklist), blocklist.sequence) == ({1}, 9)


def test_only_the_own_managers_word_counts(database: Database, link: FakeLink) -> None:
    """Forged, foreign and unreadable lists are counted and change nothing."""
    ignored: Counter[str] = Counter()
    blocklist = OrganizationBlocklist(database, ignored)
    blocklist.pin(ENROLLED)
    blocklist.opened(link, 0)
    forged = _change(0, 1, [1], [], ManagerKeyring(bytes(32)))
    unreadable = message_codes.with_signature(KEYRING.sign_key, BLOCKLIST.below_root("acme"), b'{"sequence":1}')
    foreign = message_codes.with_signature(KEYRING.sign_key, BLOCKLIST.below_root("other"), b"{}")
    for row, payload in ((BLOCKLIST_CHANGES, forged), (BLOCKLIST, unreadable), (BLOCKLIST, foreign), (BLOCKLIST, b"")):
        assert not blocklist.receive(row, payload, 1)
    assert ignored == {"blocklist_forged": 2, "blocklist_unreadable": 1}


def test_the_list_survives_a_restart_and_not_a_move(database: Database, blocklist: OrganizationBlocklist) -> None:
    """A restart keeps entries and sequence; another organization or manager starts with none."""
    blocklist.receive(BLOCKLIST, _snapshot(9, [1]), 1)
    again = OrganizationBlocklist(database, Counter())
    again.pin(ENROLLED)
    assert (_values(again), again.sequence) == ({1}, 9)
    again.pin(Enrolled("ag-00000000000000aa", "other", KEYRING.sign_public))
    assert (_values(again), again.sequence) == (set(), 0)


def test_an_entry_that_cannot_be_read_is_left_out(blocklist: OrganizationBlocklist) -> None:
    """One bad entry costs no other, and values are kept in their normal form."""
    snapshot = BlocklistSnapshot(
        organization_id="acme",
        sequence=3,
        entries=[
            BlocklistEntry(kind="ip", value="nonsense"),
            BlocklistEntry(kind="ip", value="::ffff:203.0.113.9"),
            BlocklistEntry(kind="file_hash", value="A" * 64),
            BlocklistEntry(kind="file_hash", value="zz"),
        ],
    )
    payload = message_codes.with_signature(KEYRING.sign_key, BLOCKLIST.below_root("acme"), snapshot.body())
    assert blocklist.receive(BLOCKLIST, payload, 1)
    assert sorted(measure.value for measure in blocklist.measures()) == ["203.0.113.9", "a" * 64]


@given(st.data())
def test_any_loss_and_order_ends_right(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever changes were lost, doubled or late, the last snapshot and what followed it make the list right."""
    history: list[set[int]] = [set()]
    changes: list[bytes] = []
    for sequence in range(1, data.draw(st.integers(1, 8)) + 1):
        before = history[-1]
        added = data.draw(st.sets(st.integers(1, 6), max_size=3))
        removed = data.draw(st.sets(st.integers(1, 6), max_size=3)) - added
        history.append((before - removed) | added)
        changes.append(_change(sequence - 1, sequence, sorted(added), sorted(removed)))
    last = len(changes)
    delivered = data.draw(st.lists(st.integers(1, last), max_size=12))
    taken = data.draw(st.integers(0, last))
    database = Database.open(tmp_path_factory.mktemp("blocklist") / "guard.db")
    blocklist = OrganizationBlocklist(database, Counter())
    blocklist.pin(ENROLLED)
    blocklist.opened(FakeLink(), 0)
    for sequence in delivered:
        blocklist.receive(BLOCKLIST_CHANGES, changes[sequence - 1], 1)
        assert _values(blocklist) == history[blocklist.sequence]
    blocklist.receive(BLOCKLIST, _snapshot(taken, sorted(history[taken])), 2)
    assert _values(blocklist) == history[blocklist.sequence]
    for sequence in range(taken + 1, last + 1):
        blocklist.receive(BLOCKLIST_CHANGES, changes[sequence - 1], 3)
    assert (_values(blocklist), blocklist.sequence) == (history[last], last)
    database.close()
