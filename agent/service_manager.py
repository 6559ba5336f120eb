"""Messages to systemd about this service: readiness, the watchdog, the end (sd_notify)."""

import os
import socket
from contextlib import suppress

_LEAST = 0.5


def notify(state: str) -> None:
    """Send a state such as ``READY=1``; do nothing if no service manager started this process."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(state.encode())


class Watchdog:
    """Tells the service manager that the main loop goes round, twice within its time limit."""

    def __init__(self) -> None:
        limit = os.environ.get("WATCHDOG_USEC", "")
        is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every = max(_LEAST, int(limit) / 2e6) if limit.isdigit() and is_ours else None
        self._due = 0.0

    def alive(self, now: float) -> None:
        """Send the sign of life if it is due; `now` is on the monotonic clock."""
        if self._every is not None and now >= self._due:
            self._due = now + self._every
            notify("WATCHDOG=1")
