"""The manager's wall clock is stepped: ±10 min, ±1 h, ±2 days, to 1971 and to 2039; the monotonic clock goes on.

Must hold: nothing is lost and no threat is deleted for the step; the manager stays ready.
"""

from chaos.fault import Fault
from chaos.site import Site

STEPS = ("+10m", "-10m", "+1h", "-1h", "+2d", "-2d", "@1971-06-01 12:00:00", "@2039-06-01 12:00:00", "+0")
CLOCK_FILE = "clock"


def strike(site: Site) -> None:
    """Step the manager's clock, wait, and step it back."""
    for step in (site.dice.choice(STEPS), "+0"):
        (site.home / CLOCK_FILE).write_text(step)
        site.wait(0.5, 2.0)
    site.wait_ready()


FAULT = Fault(
    "manager's clock stepped",
    "clock",
    strike,
    environment=(("CHAOS_CLOCK", "1"),),
)
