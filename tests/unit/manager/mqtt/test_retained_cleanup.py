"""The short subscription that brings what clients left on registration topics."""

import pytest

from manager.mqtt.retained_cleanup import RetainedCleanup

FILTER = "panguard/v1/registration/#"


class _Client:
    """Notes subscriptions, and numbers them."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def subscribe(self, topic_filter: str, qos: int) -> tuple[int, int]:
        assert qos == 0
        self.steps.append(f"subscribe {topic_filter}")
        return 0, len(self.steps)

    def unsubscribe(self, topic_filter: str) -> None:
        self.steps.append(f"unsubscribe {topic_filter}")


def test_it_subscribes_at_once_and_every_interval() -> None:
    """Each subscription ends with its SUBACK; the next is due after the interval, or on a new connection."""
    client, cleanup = _Client(), RetainedCleanup(FILTER, 600.0)
    cleanup.tick(client, 1000.0)  # type: ignore[arg-type] -- only what it uses
    assert client.steps == [f"subscribe {FILTER}"]
    assert not cleanup.subscribed(client, 7), "another subscription's SUBACK"  # type: ignore[arg-type]
    assert cleanup.subscribed(client, 1)  # type: ignore[arg-type]
    assert client.steps.pop() == f"unsubscribe {FILTER}"
    assert not cleanup.subscribed(client, 1)  # type: ignore[arg-type]
    cleanup.tick(client, 1599.9)  # type: ignore[arg-type]
    assert len(client.steps) == 1
    cleanup.tick(client, 1600.0)  # type: ignore[arg-type]
    assert len(client.steps) == 2
    cleanup.reset()
    cleanup.tick(client, 1600.1)  # type: ignore[arg-type]
    assert len(client.steps) == 3


def test_a_broker_that_retains_nothing_there_is_not_asked() -> None:
    """Without a filter there is no subscription, ever."""
    client, cleanup = _Client(), RetainedCleanup(None, 600.0)
    cleanup.tick(client, 1000.0)  # type: ignore[arg-type]
    assert client.steps == []
    assert not cleanup.subscribed(client, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("below", "payload", "retained", "cleared"),
    [
        (b"id", b"x", True, True),
        (b"id", b"x", False, True),
        (b"id/reply", b"x", True, True),
        (b"id/reply", b"x", False, False),
        (b"a/b/c", b"x", True, True),
        (b"id", b"", True, False),
        (b"id/reply", b"", False, False),
    ],
)
def test_only_what_is_or_may_be_retained_is_cleared(
    below: bytes, payload: bytes, retained: bool, cleared: bool
) -> None:
    """A live reply of the manager's own is not cleared, or the client that waits for it would get an empty message."""
    cleanup, topic = RetainedCleanup(None, 1.0), b"panguard/v1/registration/" + below
    assert cleanup.cleared_topic(topic, payload, retained) == (topic.decode() if cleared else None)
    assert cleanup.cleared == cleared
