"""A broker in a thread of its own, hardened or stock, with what went wrong in its event loop."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig

from manager.broker.hardened_broker import HardenedBroker
from manager.broker.limits import BrokerLimits
from tests.integration.broker import broker_rules
from tests.integration.broker.broker_clients import WAIT

Result = TypeVar("Result")
_DEADLINE = 60.0
_STOCK_PATIENCE = 1.8
"""Seconds after which what stock amqtt fails to do counts as not done; above 1.5 times the keep-alive tested."""


class StockBroker(Broker):
    """amqtt as it is; it only remembers its connections, which it would leave open at its end."""

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__(config)
        self.writers: list[asyncio.StreamWriter] = []

    async def stream_connected(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        listener_name: str,
    ) -> None:
        self.writers.append(writer)
        await super().stream_connected(reader, writer, listener_name)

    async def shutdown(self) -> None:
        await super().shutdown()
        for writer in self.writers:
            writer.transport.abort()


class BrokerThread:
    """Runs one broker until `stop`."""

    def __init__(self, kind: str, limits: dict[str, Any]) -> None:
        self.kind = kind
        self.patience = WAIT if kind == "hardened" else _STOCK_PATIENCE
        self.failures: list[str] = []
        self.broker: Broker
        self.port = 0
        self._limits = limits
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"{kind} broker")

    def start(self) -> None:
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        self._thread.start()
        if not self._ready.wait(_DEADLINE):
            raise RuntimeError("the broker did not start")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.failures.append(str(context)))
        self._stop = asyncio.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.broker = self._hardened(listener) if self.kind == "hardened" else self._stock(listener)
        await self.broker.start()
        self._ready.set()
        await self._stop.wait()
        await asyncio.wait_for(self.broker.shutdown(), _DEADLINE)

    def _hardened(self, listener: socket.socket) -> Broker:
        return HardenedBroker(
            listener,
            authenticator=broker_rules.Rules(),
            access=broker_rules.Rules(),
            may_retain=broker_rules.may_retain,
            limits=BrokerLimits(**self._limits),
        )

    def _stock(self, listener: socket.socket) -> Broker:
        listener.close()
        default = ListenerConfig(bind=f"127.0.0.1:{self.port}", max_connections=self._limits.get("connections", 0))
        plugins = {
            "tests.integration.broker.broker_rules.StockAuthentication": {},
            "tests.integration.broker.broker_rules.StockAccess": {},
        }
        return StockBroker(BrokerConfig(listeners={"default": default}, plugins=plugins))

    def call(self, function: Callable[[Broker], Awaitable[Result]]) -> Result:
        """Run a coroutine function with the broker in the broker's own loop."""

        async def run() -> Result:
            return await function(self.broker)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(_DEADLINE)

    def await_end_of(self, client_id: str) -> None:
        """Wait until the broker has noticed that a client's connection has ended."""

        async def is_connected(broker: Broker) -> bool:
            return _is_connected(broker, client_id)

        deadline = time.monotonic() + _DEADLINE
        while self.call(is_connected):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{client_id} is still connected")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_DEADLINE)
        if self._thread.is_alive():
            raise RuntimeError("the broker did not stop")


def _is_connected(broker: Broker, client_id: str) -> bool:
    if isinstance(broker, HardenedBroker):
        session = broker.session(client_id)
        return session is not None and session.connection is not None
    return client_id in broker.sessions and broker.sessions[client_id][0].transitions.state == "connected"
