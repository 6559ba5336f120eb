"""Tells the engine the addresses of the people who use the API, so that no guard blocks them."""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from manager.api.authentication import Caller
from manager.api.ports import DISCARD, CommandGateway
from manager.domain.access import Role
from manager.engine.commands.access_requests import RecordOperatorAddress
from manager.errors import StoreUnavailable

_INTERVAL = 600.0
_MOST = 200


class OperatorAddressRecorder:
    """Submits the address of an admin or responder at the first request, and every ten minutes while requests come.

    Args:
        engine: executes the command.
        clock: monotonic seconds.
    """

    def __init__(self, engine: CommandGateway, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._told: OrderedDict[tuple[str, bytes | None], float] = OrderedDict()

    def record(self, caller: Caller, address: str) -> None:
        """Note a caller's request; called in the thread of the server's event loop."""
        if not caller.has(Role.RESPONDER):
            return
        now, key = self._clock(), (address, caller.digest)
        told = self._told.get(key)
        if told is not None and now - told < _INTERVAL:
            return
        with suppress(StoreUnavailable):  # too many requests wait for the engine: the next request tells it
            self._engine.submit_nowait(RecordOperatorAddress(address, caller.digest), DISCARD)
            self._told[key] = now
            self._told.move_to_end(key)
            if len(self._told) > _MOST:
                self._told.popitem(last=False)
