"""The data directory is put back to a copy that is some seconds old.

Must hold: policies go on above what guards know, and no report that was stored after the copy is taken for lost: the
manager has none of them, its log says that guards know more, and they count as before the copy.
"""

import shutil
import time

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Copy the data directory, go on for a while, and put the copy in its place."""
    copy = site.home / "copy"
    site.manager.kill()
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(site.manager.data, copy)
    site.manager.start()
    site.wait_ready()
    site.wait(1.0, 3.0)
    site.manager.kill()
    site.copied_at = time.monotonic()
    shutil.rmtree(site.manager.data)
    shutil.copytree(copy, site.manager.data)
    site.manager.start()
    site.wait_ready()


FAULT = Fault(
    "store restored from an older copy",
    "store",
    strike,
    doors=("embedded", "http"),
    once=True,
    limits="reports with a receipt from the time after the copy are gone with the store; they are counted apart",
)
