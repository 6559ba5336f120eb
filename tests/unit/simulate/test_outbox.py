"""An agent's outbox in memory: reports wait until their receipt, and are sent again in order."""

from simulate.outbox import Outbox


def _filled(*names: str) -> Outbox:
    outbox = Outbox(30.0)
    for name in names:
        outbox.add(name, name.encode())
    return outbox


def _taken(outbox: Outbox, now: float, most: int = 200) -> list[str]:
    return [name for name, _ in outbox.take(now, most)]


def test_a_report_waits_for_its_receipt() -> None:
    """It is sent once, and again only after the timeout; a receipt ends it."""
    outbox = _filled("a", "b")
    assert _taken(outbox, 0) == ["a", "b"]
    assert _taken(outbox, 29) == []
    outbox.settle(["a"])
    assert _taken(outbox, 30) == ["b"]
    outbox.settle(["b", "unknown"])
    assert (len(outbox), _taken(outbox, 1000)) == (0, [])


def test_overdue_reports_go_first() -> None:
    """What is sent again keeps its order, and goes before what is new."""
    outbox = _filled("a", "b")
    _taken(outbox, 0)
    outbox.add("c", b"c")
    assert _taken(outbox, 30, 2) == ["a", "b"]
    outbox.settle(["a"])
    assert _taken(outbox, 31, 2) == ["c"]


def test_the_patience_doubles_until_a_receipt() -> None:
    """Copies become rare while nobody answers, and begin again from the first timeout after a receipt."""
    outbox = _filled("a", "b")
    times = [now for now in range(400) if _taken(outbox, now)]
    assert times == [0, 30, 90, 210]
    outbox.settle(["b"])
    assert [now for now in range(400, 500) if _taken(outbox, now)] == [400, 460]


def test_a_session_sends_all_that_waits() -> None:
    """After a reconnection everything without a receipt goes again, in its first order."""
    outbox = _filled("a", "b", "c")
    _taken(outbox, 0)
    outbox.settle(["b"])
    outbox.defer(["c"], 5.0)
    outbox.begin()
    assert _taken(outbox, 1, 2) == ["a", "c"]
    assert _taken(outbox, 5, 3) == []
    outbox.begin()
    assert _taken(outbox, 6, 2) == ["a", "c"]


def test_a_deferred_report_waits_as_told() -> None:
    """It goes again when the manager says, not before."""
    outbox = _filled("a", "b")
    _taken(outbox, 0)
    outbox.defer(["a"], 5.0)
    assert _taken(outbox, 4.9) == []
    assert _taken(outbox, 5.0) == ["a"]


def test_the_window_is_kept() -> None:
    """No more are on their way than the window allows; a receipt makes room."""
    outbox = _filled(*"abcd")
    assert _taken(outbox, 0, 2) == ["a", "b"]
    assert _taken(outbox, 1, 2) == []
    outbox.settle(["a"])
    assert _taken(outbox, 2, 2) == ["c"]


def test_a_repeated_report_goes_twice() -> None:
    """A planted copy is sent at once; one that is not on its way is not doubled."""
    outbox = _filled("a", "b")
    outbox.repeat("a")
    assert _taken(outbox, 0) == ["a", "b"]
    outbox.repeat("a")
    assert _taken(outbox, 0) == ["a"]
