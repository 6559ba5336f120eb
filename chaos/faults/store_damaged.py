"""Pages of the store are truncated, zeroed or overwritten while the manager is down; later a good copy is restored.

Must hold: a manager on a damaged store either refuses to start in one sentence, or says that it is not ready, or works;
it never refuses a report for it, and no message advises to delete anything.
"""

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from chaos.fault import Fault
from chaos.site import Site, SiteError

_PAGE = 8192
_HARM = re.compile(
    r"\b(delete|remove|throw away|rm )\b.{0,40}\b(store|database|panguard\.db|data director)", re.IGNORECASE
)


def _truncate(file: Path, _page: int, _site: Site) -> None:
    with file.open("r+b") as store:
        store.truncate(file.stat().st_size // 2)


def _zero(file: Path, page: int, _site: Site) -> None:
    _write(file, page, bytes(_PAGE))


def _overwrite(file: Path, page: int, site: Site) -> None:
    _write(file, page, site.dice.randbytes(_PAGE))


def _header(file: Path, _page: int, site: Site) -> None:
    with file.open("r+b") as store:
        store.write(site.dice.randbytes(100))


FORMS: tuple[Callable[[Path, int, Site], None], ...] = (_truncate, _zero, _overwrite, _header)


def strike(site: Site) -> None:
    """Damage one page of a table, an index or the schema, check the manager's reaction, and restore the copy."""
    site.wait(0.5, 1.0)
    site.kill(site.manager)
    store = site.manager.data / "panguard.db"
    with closing(sqlite3.connect(store)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        roots = [row[0] for row in database.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 0")]
    copy = site.home / "undamaged"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(site.manager.data, copy)
    site.dice.choice(FORMS)(store, site.dice.choice([1, *roots]), site)
    started = len(site.log())
    running = site.manager.launch()
    site.wait(2.0, 4.0)
    said = site.log()[started:]
    if _HARM.search(said):
        raise SiteError(f"a message advises harm: {said[-1000:]}")
    if "Traceback" in said and running.process.poll() is not None:
        raise SiteError(f"a traceback in place of a sentence: {said[-1500:]}")
    site.kill(running)
    shutil.rmtree(site.manager.data)
    shutil.copytree(copy, site.manager.data)
    site.copied_at = site.copied_at or 0.0
    site.start_manager()
    site.wait_ready()


def _write(file: Path, page: int, content: bytes) -> None:
    with file.open("r+b") as store:
        store.seek((page - 1) * _PAGE)
        store.write(content)


FAULT = Fault(
    "store damaged",
    "store",
    strike,
    doors=("embedded", "http"),
    limits="reports stored by a manager that works on a damaged store are gone with it; they are counted apart",
)
