"""A proxy between the agents and their door resets every connection.

Must hold: agents connect again and send again; every report is stored once.
"""

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Cut every connection."""
    site.wait(0.1, 0.5)
    site.proxy.cut()


FAULT = Fault("connections cut", "network", strike, weight=2)
