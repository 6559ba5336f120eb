"""Another process holds the store's write lock for up to eight seconds, longer than the manager waits for it.

Must hold: nothing is acknowledged meanwhile, the manager is not ready, and all is stored once after it.
"""

import sqlite3
from contextlib import closing

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Hold the write lock."""
    with closing(sqlite3.connect(site.manager.data / "panguard.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        site.wait(0.5, 8.0)
        other.execute("ROLLBACK")
    site.wait_ready()


FAULT = Fault("store locked", "store", strike)
