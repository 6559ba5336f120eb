"""Accepts connections at the broker's listening socket, and counts each one before its TLS handshake."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

import structlog

from manager.broker.connection.connection_slots import ConnectionSlots

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_PAUSE = 0.1
"""Seconds between two attempts when no connection can be accepted, for example with all file descriptors in use."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Acceptor:
    """A server instead of `asyncio.Server`, which does not count a connection before its TLS handshake is over.

    Args:
        listener: the listening socket; closed by `close`.
        slots: counts connections; a connection is the task that serves it.
        serve: serves one connection to its end.
        tls: None for plain TCP.
        handshake_seconds: the timeout of the TLS handshake.
    """

    def __init__(
        self,
        listener: socket.socket,
        slots: ConnectionSlots,
        serve: Serve,
        *,
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
    ) -> None:
        self._listener = listener
        self._slots = slots
        self._serve = serve
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._accepting = asyncio.create_task(self._accept(), name="accept connections")

    def close(self) -> None:
        """Stop listening, and end every connection."""
        self._accepting.cancel()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait for the end of every connection."""
        await asyncio.gather(self._accepting, *self._tasks, return_exceptions=True)
        self._listener.close()

    async def _accept(self) -> None:
        failing = False
        while True:
            try:
                client, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                if not failing:
                    log.warning("connections_not_accepted", reason=str(error))
                failing = True
                await asyncio.sleep(_PAUSE)
                continue
            failing = False
            self._start(client, str(address[0]))
            # The new task and the others run between two connections of a flood.
            await asyncio.sleep(0)

    def _start(self, client: socket.socket, address: str) -> None:
        task = asyncio.create_task(self._serve_socket(client), name=f"serve {address}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        evicted = self._slots.open(task, address)
        if isinstance(evicted, asyncio.Task):
            evicted.cancel()

    async def _serve_socket(self, client: socket.socket) -> None:
        task = asyncio.current_task()
        writer: asyncio.StreamWriter | None = None
        try:
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            handshake = self._handshake_seconds if self._tls is not None else None
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._tls, ssl_handshake_timeout=handshake
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            await self._serve(reader, writer)
        except OSError as error:
            log.info("connection_failed", reason=str(error) or type(error).__name__)
        finally:
            self._slots.close(task)
            if writer is not None:
                writer.transport.abort()
            with contextlib.suppress(OSError):
                client.close()
