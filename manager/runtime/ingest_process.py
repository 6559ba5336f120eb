"""A process of role `ingest`: takes its share of the agents' messages from the broker, and stores the reports.

It neither leads nor stands by. Its HTTP door answers `/health` and `/metrics`, and the heartbeats and reports of HTTP
agents; it passes every other request on.
"""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

from manager.data_directory import DataDirectory
from manager.engine.failure_isolation import isolated
from manager.errors import SetupError
from manager.runtime.transport_security import EMBEDDED, Transport
from manager.runtime.worker import IngestCollector, Worker
from manager.settings import Settings

if TYPE_CHECKING:
    from manager.runtime.member import MemberProcess


class IngestProcess:
    """A worker in the main thread of its process.

    Args:
        settings: the process's settings.
        transport: trust in the broker.
        directory: the data directory, locked.
        member: the place among the managers of the database.
        stack: closes the opened parts, last first.

    Raises:
        SetupError: the broker cannot be shared, or the database cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        directory: DataDirectory,
        member: "MemberProcess",
        stack: ExitStack,
    ) -> None:
        if settings.broker == EMBEDDED:
            raise SetupError(
                "the embedded broker has no shared subscriptions, by which messages are split among several processes:"
                " give all managers of the database one Mosquitto by --broker mqtts://HOST:PORT"
            )
        self._member = member
        self._stopping = False
        self._worker = Worker(settings, transport, directory, member.keeper, stack, shares=True)

    def serve(self, ready: Callable[[str, str], None]) -> None:
        """Run until a signal arrives; call `ready` with the addresses of door and broker once messages arrive."""
        worker = self._worker
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        worker.start()
        self._member.open_door(lambda: worker.problem, IngestCollector(worker), worker.http_door)
        announced = False
        while not self._stopping:
            self._member.require_schema()
            self._member.follow_certificates()
            with isolated(worker.engine.counters, "step"):
                worker.step()
            if not announced and worker.problem is None:
                announced = True
                self._member.announce(ready)
        worker.finish()
        self._member.close_door()

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._worker.end()
