"""The history of the store against a naive list of what was committed, and lost, when."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.store_history import COMMITS, HISTORY, KEPT_FOR, SLACK, StoreHistory
from schemas.generations import StoreGeneration

NOW = 1_800_000_000.0


class Store:
    """The stored values of one store, with copies of them."""

    def __init__(self, key: bytes = bytes(32)) -> None:
        self.key = key
        self.meta: dict[str, str] = {}

    def start(self, now: float, timeline: str = "") -> StoreHistory:
        """Begin a run, and store it."""
        self.history = StoreHistory(self.key, random_below=lambda _below: 0)
        self.history.load(self.meta)
        self.lost_since = self.history.begin_run(now, timeline)
        self.save()
        return self.history

    def save(self) -> None:
        self.meta[HISTORY] = self.history.dump()

    def commit(self, now: float) -> str:
        """Commit reports; return the mark of their receipts."""
        self.meta[COMMITS] = self.history.next_commit(now)
        self.history.commits += 1
        return self.history.mark()


def test_a_receipt_of_the_lost_run_shows_the_loss() -> None:
    """A mark of a run that began after the copy shows a loss since the last commit of the copy, less a minute."""
    store = Store()
    store.start(NOW)
    kept = store.commit(NOW + 100)
    copy = dict(store.meta)
    store.start(NOW + 200)
    lost = store.commit(NOW + 300)
    store.meta = copy
    history = store.start(NOW + 400)
    assert history.loss_shown_by(kept, NOW + 500) is None
    assert history.loss_shown_by(lost, NOW + 500) == NOW + 100 - SLACK


def test_a_receipt_beyond_the_copy_of_its_run_shows_the_loss() -> None:
    """A copy that was made while the manager ran lacks the later commits of that run, and has the earlier ones."""
    store = Store()
    store.start(NOW)
    kept = store.commit(NOW + 100)
    copy = dict(store.meta)
    lost = store.commit(NOW + 200)
    store.meta = copy
    history = store.start(NOW + 300)
    for number in range(5):
        store.commit(NOW + 310 + number)
    assert history.loss_shown_by(kept, NOW + 400) is None
    assert history.loss_shown_by(lost, NOW + 400) == NOW + 100 - SLACK


def test_restarts_alone_lose_nothing() -> None:
    """Marks of earlier runs of a store that was never restored show no loss."""
    store = Store()
    marks = []
    for run in range(5):
        store.start(NOW + 100 * run)
        marks += [store.commit(NOW + 100 * run + each) for each in range(3)]
    assert [store.history.loss_shown_by(mark, NOW + 600) for mark in marks] == [None] * len(marks)
    assert store.lost_since is None


def test_an_ask_covers_what_it_asked_for() -> None:
    """After the ask the same mark asks for nothing more, also after a restart; guards hear of it for 24 hours."""
    store = Store()
    store.start(NOW)
    store.commit(NOW + 100)
    copy = dict(store.meta)
    lost = store.commit(NOW + 200)
    store.meta = copy
    history = store.start(NOW + 300)
    first = history.generation.number
    since = history.loss_shown_by(lost, NOW + 400)
    assert since is not None
    history.ask(NOW + 400, since, history.generation_of(lost))
    store.save()
    assert history.generation.number > first
    history = store.start(NOW + 500)
    assert history.loss_shown_by(lost, NOW + 600) is None
    asked = StoreGeneration(
        number=history.generation.number, resend_from=datetime.fromtimestamp(since, UTC), resend_within=200
    )
    assert history.message(NOW + 600, 10_000) == asked
    assert history.message(NOW + 400 + KEPT_FOR + 1, 10_000) == StoreGeneration(number=asked.number)


def test_a_second_loss_is_asked_for_together_with_the_first() -> None:
    """A second restore begins a further generation, whose ask reaches as far back as the first one's."""
    store = Store()
    store.start(NOW)
    store.commit(NOW + 100)
    copy = dict(store.meta)
    first = store.commit(NOW + 200)
    store.meta = copy
    history = store.start(NOW + 300)
    history.ask(NOW + 310, history.loss_shown_by(first, NOW + 310) or 0.0)
    store.save()
    number = history.generation.number
    store.commit(NOW + 400)
    copy = dict(store.meta)
    second = store.commit(NOW + 500)
    store.meta = copy
    history = store.start(NOW + 600)
    since = history.loss_shown_by(second, NOW + 700)
    assert since == NOW + 400 - SLACK
    history.ask(NOW + 700, since, history.generation_of(second))
    assert history.generation.resend_from == NOW + 100 - SLACK
    assert history.generation.number > number


def test_the_same_copy_twice_has_another_generation_each_time() -> None:
    """A store that has lost its own ask, while its clock was set back, asks under a number above the lost one."""
    store = Store()
    store.start(NOW)
    copy = dict(store.meta)
    lost = store.commit(NOW + 100)
    store.meta = dict(copy)
    history = store.start(NOW + 200)
    history.ask(NOW + 300, NOW, history.generation_of(lost))
    number, again = history.generation.number, store.commit(NOW + 400)
    store.meta = dict(copy)
    history = store.start(NOW + 50)
    since = history.loss_shown_by(again, NOW + 60)
    assert since is not None
    history.ask(NOW + 60, since, history.generation_of(again))
    assert history.generation.number > number


def test_a_loss_that_is_older_than_what_guards_keep_asks_for_nothing() -> None:
    """A guard that comes back with a lost receipt a day after the restore is not asked: it has no report of then."""
    store = Store()
    store.start(NOW)
    copy = dict(store.meta)
    lost = store.commit(NOW + 100)
    store.meta = copy
    history = store.start(NOW + 200)
    assert history.loss_shown_by(lost, NOW + 200 + KEPT_FOR) is not None
    assert history.loss_shown_by(lost, NOW + 201 + KEPT_FOR) is None


def test_an_old_copy_is_asked_for_from_24_hours_ago() -> None:
    """The ask reaches back 24 hours at most, and as far for a copy whose last commit lies in the future."""
    for last in (NOW - 3 * KEPT_FOR, NOW + KEPT_FOR):
        store = Store()
        store.start(NOW - 4 * KEPT_FOR)
        store.commit(last)
        copy = dict(store.meta)
        lost = store.commit(last + 1)
        store.meta = copy
        history = store.start(NOW)
        assert history.loss_shown_by(lost, NOW + 10) == NOW + 10 - KEPT_FOR


def test_the_first_timeline_of_a_moved_store_asks_for_nothing() -> None:
    """The store was moved whole from a file, which has no timeline; a fail-over after that asks."""
    store = Store()
    store.start(NOW)
    store.commit(NOW + 100)
    store.start(NOW + 200, "00000002")
    assert store.lost_since is None
    store.start(NOW + 300, "00000003")
    assert store.lost_since == NOW + 100 - SLACK


def test_another_timeline_asks_without_a_mark() -> None:
    """A run on another history of the database asks from the last commit that is left; the same history does not."""
    store = Store()
    store.start(NOW, "00000001")
    store.commit(NOW + 100)
    store.start(NOW + 200, "00000001")
    assert store.lost_since is None
    store.start(NOW + 300, "00000002")
    assert store.lost_since == NOW + 100 - SLACK
    store.start(NOW + 400, "00000002")
    assert store.lost_since is None


@pytest.mark.parametrize("spoil", ["", "x", ".", "....", "1.a.2.3.AAAAAAAAAAAAAAAAAAAAAA"])
def test_a_mark_of_nobody_is_refused(spoil: str) -> None:
    """A text that this manager has not coded is an error, whatever its form."""
    store = Store()
    store.start(NOW)
    with pytest.raises(ValueError, match="not a mark"):
        store.history.loss_shown_by(spoil, NOW)


def test_a_mark_of_another_manager_is_refused() -> None:
    """A mark that was coded with another key, or altered in any letter, is an error."""
    store, other = Store(), Store(b"k" * 32)
    store.start(NOW)
    other.start(NOW)
    mark = store.commit(NOW)
    store.history.loss_shown_by(mark, NOW)
    altered = [mark[:place] + ("A" if mark[place] != "A" else "B") + mark[place + 1 :] for place in range(len(mark))]
    for text in (other.commit(NOW), *altered):
        with pytest.raises(ValueError, match="not a mark"):
            store.history.loss_shown_by(text, NOW)


@given(
    st.lists(
        st.sampled_from(["commit", "commit", "copy", "restart", "restore"]),
        min_size=1,
        max_size=40,
    )
)
def test_a_loss_is_shown_exactly_where_commits_are_missing(steps: list[str]) -> None:
    """After any restarts, copies and restores: a mark shows a loss iff its commit is not in the store any more."""
    store = Store()
    store.start(NOW)
    now, stored, made = NOW, [], []
    copies = [(dict(store.meta), [])]
    for step in steps:
        now += 100
        match step:
            case "commit":
                mark = store.commit(now)
                stored = [*stored, mark]
                made.append((mark, now))
            case "copy":
                copies.append((dict(store.meta), stored))
            case "restart":
                store.start(now)
            case "restore":
                meta, stored = copies[-1][0], copies[-1][1]
                store.meta = dict(meta)
                store.start(now)
    for mark, at in made:
        since = store.history.loss_shown_by(mark, now)
        assert (since is not None) == (mark not in stored)
        assert since is None or since <= at
