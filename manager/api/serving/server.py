"""Serves the application on a port of its own, in a thread of its own."""

import asyncio
import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable

import structlog
import uvicorn
from starlette.types import ASGIApp

from manager.api.serving.connections import Connection, mind
from manager.errors import SetupError

log = structlog.get_logger(__name__)

_RETRY = 0.1
_REQUESTS_END_WITHIN = 1
_THREAD_ENDS_WITHIN = 2.0
_BACKLOG = 1024


class ApiServer:
    """A uvicorn server.

    Args:
        app: what it serves.
        host: the address or name to listen on.
        port: the port; 0 for any free one.
        stopping: is called when the server is told to stop, before requests under way are waited for.
        port_wait: seconds to wait for a port that is taken: the manager before this one may still be leaving.
        tls: what it speaks TLS with; None for plain HTTP. What the context is given later, later connections get.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        stopping: Callable[[], None] = lambda: None,
        port_wait: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._scheme = "http" if tls is None else "https"
        self._stopping = stopping
        self._host = host
        self._wanted_port = port
        self._port_wait = port_wait
        self._server = _Server(
            uvicorn.Config(
                app,
                loop="uvloop" if tls is None else "manager.api.serving.connections:HandshakeLoop",
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_REQUESTS_END_WITHIN,
                ssl_context_factory=None if tls is None else lambda _config, _default: tls,
            )
        )
        self._thread: threading.Thread | None = None
        self.port = port
        """The port that is open, once it is."""

    @property
    def url(self) -> str:
        """Where clients find the server."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{host}:{self.port}"

    def start(self) -> None:
        """Open the port and serve; return when requests are taken.

        Raises:
            SetupError: the port cannot be had, or the application cannot start.
        """
        listener = self._bind()
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(listener,), name="api", daemon=True)
        self._thread.start()
        self._server.settled.wait()
        if not self._server.started:
            self._thread.join(_THREAD_ENDS_WITHIN)
            raise SetupError("the HTTP server cannot start; the log says why")

    def stop(self) -> None:
        """Take no more requests, let those under way end within a second, and close the port."""
        self._stopping()
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_THREAD_ENDS_WITHIN)

    def _serve(self, listener: socket.socket) -> None:
        try:
            self._server.run(sockets=[listener])
        except (Exception, SystemExit):  # what goes wrong at the start is told to `start`
            log.exception("http_server_failed")
        finally:
            listener.close()
            self._server.settled.set()

    def _bind(self) -> socket.socket:
        deadline = time.monotonic() + self._port_wait
        while True:
            try:
                return self._listener()
            except OSError as error:
                where = f"{self._host}:{self._wanted_port}"
                if error.errno != errno.EADDRINUSE:
                    raise SetupError(f"cannot listen on {where}: {error.strerror or error}") from error
                if time.monotonic() >= deadline:
                    raise SetupError(f"{where} is taken by another process; stop it or choose another port") from error
            time.sleep(_RETRY)

    def _listener(self) -> socket.socket:
        found = socket.getaddrinfo(self._host, self._wanted_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)  # binding alone lets two processes believe that they have the port
        except OSError:
            listener.close()
            raise
        return listener


class _Server(uvicorn.Server):
    """Tells when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()
        self._minding: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._minding = asyncio.create_task(mind(self.server_state.connections), name="connections")
        self.settled.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self._minding is not None:
            self._minding.cancel()
