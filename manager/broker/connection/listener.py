"""The broker's listening socket, and the limit of open files."""

import asyncio
import errno
import resource
import socket
from collections.abc import Callable

from manager.broker.errors import BrokerStartError, PortTakenError

_RETRY_SECONDS = 0.1
_SPARE_DESCRIPTORS = 64


async def listen(host: str, port: int, *, wait_seconds: float, is_abandoned: Callable[[], bool]) -> socket.socket:
    """Return a listening socket on host and port; waits while another program holds the port.

    Args:
        host: a name or an address.
        port: 0 to 65535; 0 is any free port.
        wait_seconds: maximum wait for a port that another program holds.
        is_abandoned: returns whether the parent process is gone.

    Raises:
        PortTakenError: another program held the port for that time.
        BrokerStartError: the address cannot be listened on.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        try:
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = infos[0]
            return _without_delay(socket.create_server(address[:2], family=family))
        except (OSError, OverflowError) as error:
            if getattr(error, "errno", None) != errno.EADDRINUSE:
                raise BrokerStartError(
                    f"the broker cannot listen on {host} port {port}: {error}; give it another host or port",
                ) from error
            if is_abandoned() or loop.time() >= deadline:
                raise PortTakenError(host, port, wait_seconds) from error
        await asyncio.sleep(_RETRY_SECONDS)


def _without_delay(listening: socket.socket) -> socket.socket:
    """Set TCP_NODELAY for accepted connections: Nagle's algorithm costs 40 ms for each small packet."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def raise_open_files(connections: int) -> int:
    """Raise this process's limit of open files as far as allowed; return the number of connections that fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft - _SPARE_DESCRIPTORS))
