"""The rule by which managers at one broker agree on the one that stays."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from manager.mqtt.rival_managers import RivalManagers
from schemas.model import utc
from schemas.presence import ManagerPresence
from schemas.topics import MANAGER_PRESENCE


class _Manager:
    """One manager: its store, its process, and its start."""

    def __init__(self, store_id: str, instance: str, since: float, epoch: int | None = None) -> None:
        self._members = {"store_id": store_id, "instance": instance, "since": utc(since), "epoch": epoch}
        self.now = 100.0
        self.rivals = RivalManagers(self.presence, lambda: self.now)

    def presence(self, state: str) -> ManagerPresence:
        return ManagerPresence.model_validate(
            {"state": state, "version": "1", "sent_at": utc(1_800_000_000.0), **self._members}
        )

    def says(self, state: str) -> bytes:
        return self.rivals.publication(state).payload


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), min_size=2, max_size=4))
def test_exactly_one_of_several_stays(managers: list[tuple[str, int]]) -> None:
    """Of managers that are online at once the one that started first stays; equal starts are told apart by instance."""
    fleet = [_Manager(store, f"i{number}", float(since)) for number, (store, since) in enumerate(managers)]
    stays = [
        one
        for one in fleet
        if not any(
            one.rivals.conflict(other.says("online"), with_earlier_only=True) for other in fleet if other is not one
        )
    ]
    assert len(stays) == 1
    assert stays[0] is min(fleet, key=lambda each: (each.presence("online").since, each.presence("online").instance))


def test_each_online_manager_keeps_another_from_connecting() -> None:
    """Before it has connected, a manager yields to any online manager, whenever that one started."""
    early, late = _Manager("a", "i1", 1.0), _Manager("a", "i2", 2.0)
    for one, other in permutations((early, late)):
        assert one.rivals.conflict(other.says("online")) is not None
        assert one.rivals.conflict(other.says("offline")) is None
        assert one.rivals.conflict(one.says("online")) is None


def test_the_sentence_tells_a_copy_from_another_fleet() -> None:
    """A copy of the same store is stopped; another fleet gets a broker of its own."""
    one = _Manager("store-a", "i1", 1.0)
    assert "a copy of this store (store-a)" in str(one.rivals.conflict(_Manager("store-a", "i2", 2.0).says("online")))
    assert "a manager of another store (store-b)" in str(
        one.rivals.conflict(_Manager("store-b", "i3", 2.0).says("online"))
    )


def test_a_presence_without_ids_is_no_conflict() -> None:
    """A manager of an earlier release sends none: it may be this one's own predecessor."""
    old = b'{"state":"online","version":"0.1.0","sentAt":"2026-01-01T00:00:00Z"}'
    one = _Manager("store-a", "i1", 1.0)
    assert one.rivals.conflict(old) is None
    for payload in (b"", b"[]", b'{"state":"online"}', b"\xff"):
        assert one.rivals.conflict(payload) is None


def test_an_online_manager_answers_others_at_most_once_a_second() -> None:
    """It answers a question, its own will and a predecessor's word; never its own presence, so nothing echoes."""
    one, other = _Manager("a", "i1", 1.0), _Manager("a", "i2", 2.0)
    assert not one.rivals.wants_answer(one.says("online"))
    assert one.rivals.wants_answer(other.says("offline"))
    assert not one.rivals.wants_answer(other.says("offline"))
    one.now += 1.0
    assert one.rivals.wants_answer(one.says("offline"))
    one.now += 1.0
    assert not one.rivals.wants_answer(b"no presence")


def test_a_question_is_not_retained() -> None:
    """The question must not replace the retained presence."""
    question = _Manager("a", "i1", 1.0).rivals.publication("offline", retained=False)
    assert (question.topic, question.retained) == (MANAGER_PRESENCE.address(), False)


def test_a_successor_is_no_rival_of_its_predecessor() -> None:
    """Of one database's managers the one of the later epoch connects, whatever the other has left; the other yields."""
    old, new = _Manager("a", "i1", 1.0, epoch=4), _Manager("a", "i2", 2.0, epoch=5)
    assert new.rivals.conflict(old.says("online")) is None
    assert new.rivals.conflict(old.says("online"), with_earlier_only=True) is None
    assert old.rivals.conflict(new.says("online"), with_earlier_only=True) is not None
    copy = _Manager("a", "i3", 3.0, epoch=5)
    assert "a copy of this store" in str(new.rivals.conflict(copy.says("online")))
    assert new.rivals.conflict(_Manager("a", "i4", 0.0).says("online"), with_earlier_only=True) is not None


def test_a_manager_that_is_refused_is_named_by_the_one_that_stays() -> None:
    """The message that asks who is online tells the manager that stays of the other, for some minutes."""
    stays, refused = _Manager("store-a", "i1", 1.0), _Manager("store-b", "i2", 2.0)
    stays.rivals.note(stays.says("offline"))
    stays.rivals.note(_Manager("store-a", "i1", 1.0).says("online"))
    assert stays.rivals.warning() is None
    stays.rivals.note(refused.says("offline"))
    assert "another store (store-b)" in str(stays.rivals.warning())
    stays.now += 301.0
    assert stays.rivals.warning() is None
    predecessor, successor = _Manager("a", "i1", 1.0, epoch=4), _Manager("a", "i2", 2.0, epoch=5)
    successor.rivals.note(predecessor.says("offline"))
    assert successor.rivals.warning() is None
