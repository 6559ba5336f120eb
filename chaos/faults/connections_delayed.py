"""The proxy delays every byte by up to half a second for a while.

Must hold: nothing is lost, nothing is doubled by what is sent again meanwhile.
"""

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Delay the bytes on all connections."""
    with site.proxy.delaying(site.dice.uniform(0.05, 0.5)):
        site.wait(0.5, 2.0)


FAULT = Fault("connections delayed", "network", strike)
