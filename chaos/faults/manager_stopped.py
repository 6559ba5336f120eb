"""SIGSTOP of the manager for up to two seconds, then SIGCONT.

Must hold: nothing is lost, and no agent is flagged for the manager's own silence.
"""

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Stop the manager for a while."""
    site.wait(0.05, 0.3)
    with site.stopped(site.manager_pid()):
        site.wait(0.3, 2.0)
    site.wait_ready()


FAULT = Fault("manager stopped", "pause", strike)
