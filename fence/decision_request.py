"""The form of a request for a block or throttle: target, seconds and port, or the reason why it is refused."""

from typing import Any

from fence.addresses import Network, is_single, parse
from fence.manifest import Measure, Origin

_OWN_IPV6_PREFIXES = (64, 128)


class Refused(Exception):  # noqa: N818 -- an answer, not a fault
    """A request that was not carried out.

    Args:
        reason: the reason, in one clause.
        outcome: `refused`, `impossible` or `failed`.
        instead: a weaker measure that would be taken, if any.
    """

    def __init__(self, reason: str, outcome: str = "refused", instead: Measure | None = None) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.instead = instead


def read_decision(request: dict[str, Any], origin: Origin, longest: float) -> tuple[Network, float, int | None]:
    """Return target, seconds and port of a request; only an own decision may ask for more than `longest` seconds.

    Raises:
        Refused: a member is missing or has another form.
    """
    try:
        network = parse(request["value"])
    except (ValueError, TypeError, KeyError):
        raise Refused("the value is no address or network in digits") from None
    seconds, port = request.get("seconds"), request.get("port")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 < seconds < float("inf"):
        raise Refused("seconds must be a positive number: nothing is blocked without an end")
    if seconds > longest and origin != "own":
        raise Refused(f"seconds may be at most {longest:.0f} ({longest / 86_400:.0f} days)")
    if port is not None and (not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 2**16):
        raise Refused("port must be a TCP port")
    if origin == "own" and network.version == 4 and not is_single(network):  # noqa: PLR2004 -- IPv4
        raise Refused("own decisions take single IPv4 addresses")
    if origin == "own" and network.version == 6 and network.prefixlen not in _OWN_IPV6_PREFIXES:  # noqa: PLR2004
        raise Refused("own decisions take single IPv6 addresses or a /64")
    return network, float(seconds), port
