"""SIGKILL of the embedded broker, and in half of the strikes of the restarted broker too, before it serves.

Must hold: the manager stays, starts another broker, is ready again; every report is stored once.
"""

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Kill the embedded broker once or twice."""
    site.wait(0.05, 0.4)
    site.kill(site.embedded_pid())
    if site.dice.random() < 0.5:  # noqa: PLR2004 -- half of the time
        before = site.embedded_pid()
        site.until(lambda: site.embedded_pid() not in {None, before} or site.is_ready(), "a successor is started")
        site.kill(site.embedded_pid())
    site.until(lambda: site.embedded_pid() is not None, "a broker is started")
    site.wait_ready()


FAULT = Fault("embedded broker killed", "kill", strike, doors=("embedded",), weight=2)
