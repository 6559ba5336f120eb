"""The file system of the manager's data, a small one of its own, is filled to the last byte, then freed.

Must hold: the manager stays and is not ready, no report is refused for it, all are stored once when there is room.
"""

import sqlite3
from contextlib import closing, suppress

from chaos.fault import Fault
from chaos.site import Site


def strike(site: Site) -> None:
    """Fill the disk and free it."""
    ballast = site.manager.data / "ballast"
    with closing(sqlite3.connect(site.manager.data / "panguard.db", timeout=30)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the room of a used WAL would carry the manager for a while
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 65_536):
            pass
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(b"\0" * 512):
            pass
    site.until(lambda: isinstance(site.manager.not_ready(), str), "the manager is not ready")
    site.wait(0.5, 3.0)
    ballast.unlink()
    site.wait_ready()


FAULT = Fault("disk full", "store", strike, environment=(("CHAOS_SMALL_DISK", "64"),), limits="root is needed")
