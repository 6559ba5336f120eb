"""SIGSTOP of the embedded broker without SIGCONT: the broker neither serves nor ends.

Must hold: it is replaced within 30 s, the manager stays and is ready again.
"""

from chaos.fault import Fault
from chaos.site import Site, SiteError


def strike(site: Site) -> None:
    """Freeze the broker and wait until the supervisor has replaced it."""
    frozen = site.embedded_pid()
    if frozen is None:
        raise SiteError("no embedded broker runs")
    with site.stopped(frozen):
        site.until(lambda: site.embedded_pid() not in {None, frozen}, "the frozen broker is replaced", 60)
    site.wait_ready()


FAULT = Fault("embedded broker frozen", "pause", strike, doors=("embedded",), once=True)
