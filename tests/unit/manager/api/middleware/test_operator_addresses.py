"""Recorder of people's addresses: the number of its commands is bounded, whatever the number of requests."""

from typing import Any

from manager.api.authentication import Caller
from manager.api.middleware.operator_addresses import OperatorAddressRecorder
from manager.domain.access import Role
from manager.engine.commands.access_requests import RecordOperatorAddress
from manager.errors import StoreUnavailable

ANN = Caller("ann", role=Role.ADMIN, digest=b"a" * 32)
BOB = Caller("bob", role=Role.RESPONDER, organizations=frozenset({"acme"}), digest=b"b" * 32)


class Commands:
    """Collects commands; while `full`, it takes none."""

    def __init__(self) -> None:
        self.full = False
        self.taken: list[Any] = []

    async def submit(self, request: Any) -> Any:
        raise NotImplementedError

    def submit_nowait(self, request: Any, _future: Any) -> None:
        if self.full:
            raise StoreUnavailable("too many requests wait for the engine")
        self.taken.append(request)


def test_an_address_is_told_at_once_and_then_every_ten_minutes() -> None:
    """A thousand requests are one command; the same address with another token is another."""
    commands, now = Commands(), 0.0
    recorder = OperatorAddressRecorder(commands, lambda: now)
    for _ in range(1000):
        recorder.record(ANN, "203.0.113.1")
        recorder.record(BOB, "203.0.113.1")
    told = [RecordOperatorAddress("203.0.113.1", caller.digest) for caller in (ANN, BOB)]
    assert commands.taken == told
    now = 599.9
    recorder.record(ANN, "203.0.113.1")
    assert commands.taken == told
    now = 600.0
    recorder.record(ANN, "203.0.113.1")
    assert commands.taken == [*told, told[0]]


def test_what_the_engine_does_not_take_is_told_with_the_next_request() -> None:
    """A full inbox loses no address and refuses no request."""
    commands = Commands()
    recorder = OperatorAddressRecorder(commands, lambda: 0.0)
    commands.full = True
    recorder.record(ANN, "203.0.113.1")
    commands.full = False
    recorder.record(ANN, "203.0.113.1")
    assert commands.taken == [RecordOperatorAddress("203.0.113.1", ANN.digest)]
