"""The proxy keeps every connection but forwards nothing in one or both directions for a while; then it resets them.

Must hold: a report whose receipt never came is sent again and stored once.
"""

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Hold back the bytes to the agents, or in both directions, then reset the connections."""
    site.wait(0.1, 0.4)
    both = site.dice.random() < 0.5  # noqa: PLR2004 -- half of the time
    with site.proxy.holding(to_server=both, to_client=True):
        site.wait(0.3, 1.5)
        site.proxy.cut()


FAULT = Fault("connections half-open", "network", strike)
