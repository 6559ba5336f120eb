"""SIGKILL of the manager, and with it of an embedded broker, at any moment; started again at once.

Must hold: every report is stored once, every incident opened once.
"""

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Kill the manager and start it again."""
    site.wait(0.05, 0.6)
    site.kill(site.manager)
    site.start_manager()
    site.wait_ready()


FAULT = Fault("manager killed", "kill", strike, weight=4)
