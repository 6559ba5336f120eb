"""HTTP server: uvicorn on its own port, in its own thread."""

import asyncio
import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import structlog
import uvicorn
from starlette.types import ASGIApp

from manager.api.serving.http_connection import HttpConnection, enforce_timeouts
from manager.errors import SetupError

log = structlog.get_logger(__name__)

_BIND_RETRY = 0.1
_SHUTDOWN_GRACE = 1
_IDLE_GRACE = 0.8
_ANSWER_GRACE = 0.2
_JOIN_TIMEOUT = 2.0
_BACKLOG = 1024
PORT_WAIT = 10.0
"""Seconds to wait for a port in use: the previous manager may still be stopping."""


class ApiServer:
    """A uvicorn server with its thread.

    Args:
        app: the application.
        host: the address or name to listen on.
        port: the port; 0 for any free one.
        on_stop: called at `stop`, before the server waits for open requests.
        port_wait: seconds to wait for a port in use: the previous manager may still be stopping.
        listener: a listening socket, which stays open at `stop`; None to bind the port.
        tls: TLS context; None for plain HTTP. New connections use a certificate that is loaded into it later.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        on_stop: Callable[[], None] = lambda: None,
        port_wait: float = PORT_WAIT,
        tls: ssl.SSLContext | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self._listener = listener
        self._scheme = "http" if tls is None else "https"
        self._on_stop = on_stop
        self._host = host
        self._wanted_port = port
        self._port_wait = port_wait
        self._server = _Server(
            uvicorn.Config(
                app,
                loop="uvloop" if tls is None else "manager.api.serving.http_connection:HandshakeLoop",
                http=HttpConnection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_SHUTDOWN_GRACE,
                ssl_context_factory=None if tls is None else lambda _config, _default: tls,
            )
        )
        self._thread: threading.Thread | None = None
        self.port = port
        """The bound port; before `start`, the requested one."""

    @property
    def url(self) -> str:
        """Base URL for clients."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{host}:{self.port}"

    def start(self) -> None:
        """Bind the port and serve; return when requests are accepted.

        Raises:
            SetupError: the port is in use, or the application cannot start.
        """
        given = self._listener
        listener = listen(self._host, self._wanted_port, self._port_wait) if given is None else given.dup()
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="api", daemon=True)
        self._thread.start()
        self._server.start_finished.wait()
        if not self._server.started:
            self._thread.join(_JOIN_TIMEOUT)
            raise SetupError("the HTTP server cannot start; the log says why")

    def stop_accepting(self) -> None:
        """Accept no more connections, and serve the open ones until `stop`; another server may have the listener."""
        self._server.stop_accepting()

    def stop(self) -> None:
        """Close the port and let open requests finish within a second."""
        self._on_stop()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_JOIN_TIMEOUT)

    def _serve(self, listener: socket.socket) -> None:
        try:
            self._server.run(sockets=[listener])
        except (Exception, SystemExit):  # `start` raises its own error for the caller
            log.exception("http_server_failed")
        finally:
            listener.close()
            self._server.start_finished.set()


def listen(host: str, port: int, wait: float = PORT_WAIT) -> socket.socket:
    """Return a listening socket.

    Args:
        host: the address or name to listen on.
        port: the port; 0 for any free one.
        wait: seconds to wait for a port in use.

    Raises:
        SetupError: the port is in use, or the address is not this machine's.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            return _listener(host, port)
        except OSError as error:
            where = f"{host}:{port}"
            if error.errno != errno.EADDRINUSE:
                raise SetupError(f"cannot listen on {where}: {error.strerror or error}") from error
            if time.monotonic() >= deadline:
                raise SetupError(f"{where} is taken by another process; stop it or choose another port") from error
        time.sleep(_BIND_RETRY)


def _listener(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # two processes can bind one port; only one can listen
    except OSError:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """A uvicorn server that signals the end of its start, and enforces connection timeouts."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.start_finished = threading.Event()
        self._timeouts: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._timeouts = asyncio.create_task(
            enforce_timeouts(self.server_state.connections), name="connection-timeouts"
        )
        self.start_finished.set()

    async def _abort_idle(self) -> None:
        """Cut connections without a request whose clients do not answer the end of TLS, before the grace is over."""
        await asyncio.sleep(_IDLE_GRACE)
        for connection in list(self.server_state.connections):
            open_connection = cast("HttpConnection", connection)
            if open_connection.cycle is None or open_connection.cycle.response_complete:
                open_connection.transport.abort()

    def stop_accepting(self) -> None:
        """Close the listeners; called in another thread, and returns when they are closed."""
        closed = threading.Event()

        def close() -> None:
            for listener in self.servers:
                listener.close()
            closed.set()

        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and its listeners with it
                self._loop.call_soon_threadsafe(close)
                closed.wait(_JOIN_TIMEOUT)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        abort_idle = asyncio.create_task(self._abort_idle(), name="abort-idle-connections")
        await super().shutdown(sockets)
        abort_idle.cancel()
        if self.server_state.tasks:  # cancelled after the grace; each sends its answer
            await asyncio.wait(self.server_state.tasks, timeout=_ANSWER_GRACE)
        for connection in list(self.server_state.connections):
            cast("HttpConnection", connection).transport.abort()
        if self._timeouts is not None:
            self._timeouts.cancel()
