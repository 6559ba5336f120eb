"""A second manager with another store connects to the same broker.

Must hold: one of them says that another store is there and is not ready; the first goes on, nothing is lost.
"""

from chaos.fault import Fault
from chaos.site import Site, SiteError
from tests.support.processes import ManagerProcess


def strike(site: Site) -> None:
    """Start a second manager at the broker and wait until one of both reports the conflict."""
    if site.mosquitto is None:
        raise SiteError("this door has no Mosquitto")
    home = site.home / "second"
    home.mkdir(exist_ok=True)
    password = {"PANGUARD_BROKER_PASSWORD": site.mosquitto.credential("manager")[1]}
    second = ManagerProcess(home, site.mosquitto.url, password)
    second.launch()
    try:
        site.until(
            lambda: "of another store" in (home / "manager.log").read_text() + site.log(), "one of them notices", 30
        )
    finally:
        if second.running is not None:
            second.running.kill()
    site.wait_ready()


FAULT = Fault("second manager at the broker", "broker", strike, doors=("mosquitto",), once=True)
