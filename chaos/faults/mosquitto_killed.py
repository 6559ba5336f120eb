"""SIGKILL of Mosquitto, in half of the strikes with the loss of its stored state; started again at once.

Must hold: the manager connects again, publishes again what was retained; every report is stored once.
"""

from chaos.fault import Fault
from chaos.site import Site, SiteError


def strike(site: Site) -> None:
    """Kill Mosquitto and start it again."""
    if site.mosquitto is None:
        raise SiteError("this door has no Mosquitto")
    site.wait(0.05, 0.4)
    site.kill(site.mosquitto)
    if site.dice.random() < 0.5:  # noqa: PLR2004 -- half of the time
        for saved in site.mosquitto.directory.glob("mosquitto.db*"):
            saved.unlink()
    site.mosquitto.start()
    site.wait_ready()


FAULT = Fault("Mosquitto killed", "kill", strike, doors=("mosquitto",), weight=3)
