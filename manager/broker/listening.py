"""The broker's listening socket: waits for its port to come free, and makes room for many descriptors."""

import asyncio
import errno
import resource
import socket
from collections.abc import Callable

from manager.broker.errors import BrokerStartError, PortBusyError

_RETRY_SECONDS = 0.1
_SPARE_DESCRIPTORS = 64


async def listen(host: str, port: int, *, patience: float, abandoned: Callable[[], bool]) -> socket.socket:
    """Return a socket that is bound to host and port and listens; port 0 is any free port.

    Args:
        host: a name or an address.
        port: 0 to 65535.
        patience: seconds to wait for a port that another program still holds.
        abandoned: tells whether nobody waits for the broker any more.

    Raises:
        PortBusyError: it was still held after that time.
        BrokerStartError: nothing can listen there.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = infos[0]
            return _at_once(socket.create_server(address[:2], family=family))
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                raise BrokerStartError(
                    f"the broker cannot listen on {host} port {port}: {error}; give it another host or port",
                ) from error
            if abandoned() or loop.time() >= deadline:
                raise PortBusyError(host, port, patience) from error
        await asyncio.sleep(_RETRY_SECONDS)


def _at_once(listening: socket.socket) -> socket.socket:
    """Let accepted connections send small packets without waiting for the one before to be acknowledged: 40 ms each."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def make_room_for(connections: int) -> int:
    """Raise this process's limit of open files as far as it may go; return how many connections fit then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft - _SPARE_DESCRIPTORS))
