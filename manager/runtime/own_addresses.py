"""The manager's and the broker's own addresses: whatever is reported of them, no guard ever blocks them."""

import socket

import psutil
import structlog

from manager.mqtt.broker_address import BrokerAddress
from manager.runtime.transport import EMBEDDED

log = structlog.get_logger(__name__)


def own_addresses(broker: str) -> tuple[str, ...]:
    """Return the addresses of this host and of the broker: never blocked on any guard."""
    own = {
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in {socket.AF_INET, socket.AF_INET6}
    }
    if broker != EMBEDDED:
        try:
            own |= {str(found[4][0]) for found in socket.getaddrinfo(BrokerAddress.parse(broker).host, None)}
        except OSError as error:
            log.warning(
                "broker_not_resolved", reason=str(error), hint="its address is not protected from being blocked"
            )
    return tuple(sorted(own))
