"""Store health: translates database errors and checks the store for damage."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from cryptography.exceptions import InvalidTag
from peewee import DatabaseError, DataError, IntegrityError, InterfaceError

from manager.errors import ManagerError, SetupError, StoreDamaged, StoreRejected, StoreUnavailable
from manager.storage import damage
from manager.storage.location import StoreLocation

log = structlog.get_logger(__name__)

SMALL = 64 * 1024 * 1024
"""The largest store, in bytes, that is checked before the start; a larger one is checked in a background thread."""

_DOES_NOT_FIT = (IntegrityError, DataError, ValueError, OverflowError)
_EXPECTED_CODES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_NOMEM,
}
"""Error codes that do not indicate damage: the store is locked by another process, or the disk is full."""

_CHECK_INTERVAL = 600.0
"""The minimum time between two checks after errors, in seconds."""


class StoreHealth:
    """Translates database errors of one store and records its damage; thread-safe.

    The pages of a PostgreSQL database are PostgreSQL's to check; its rows are checked as SQLite's are.

    Args:
        store: SQLite's file, or the address of a PostgreSQL database.
    """

    def __init__(self, store: StoreLocation) -> None:
        self.store = store
        self._file = store if isinstance(store, Path) else None
        self._damage: StoreDamaged | None = None
        self._lock = threading.Lock()
        self._check: threading.Thread | None = None
        self._checked_at = -_CHECK_INTERVAL

    @property
    def damage(self) -> str | None:
        """The description of the damage; None if no damage is known."""
        return None if self._damage is None else str(self._damage)

    def require_sound(self) -> None:
        """Raise an error if the store is known to be damaged.

        Raises:
            StoreDamaged: the store is damaged.
        """
        if self._damage is not None:
            raise self._damage

    @contextmanager
    def errors(self, verb: str) -> Iterator[None]:
        """Translate database errors; after an unexpected one, check the store in a thread.

        Args:
            verb: the attempted operation for the error message, such as ``commit``.

        Raises:
            StoreDamaged: SQLite found damage.
            StoreUnavailable: the database reports any other error.
        """
        try:
            yield
        except (DatabaseError, InterfaceError, sqlite3.Error) as error:
            raise self._translated(error, verb) from error

    @contextmanager
    def commit_errors(self) -> Iterator[None]:
        """Translate database errors of a commit.

        Raises:
            StoreRejected: a value does not fit the tables.
            StoreDamaged: SQLite found damage.
            StoreUnavailable: the database reports any other error.
        """
        try:
            with self.errors("commit"):
                yield
        except StoreUnavailable as error:
            if isinstance(error.__cause__, _DOES_NOT_FIT):
                raise StoreRejected(f"a value does not fit the store: {error.__cause__}") from error.__cause__
            raise
        except (ValueError, OverflowError) as error:
            raise StoreRejected(f"a value does not fit the store: {error}") from error

    @contextmanager
    def content(self, table: str) -> Iterator[None]:
        """Record damage if the content of a row cannot be decoded.

        Args:
            table: the row's table.

        Raises:
            StoreDamaged: the row cannot be decoded.
        """
        try:
            yield
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
            raise self.found(f"a row of table {table} is not one that a manager writes: {error}") from error

    def found(self, detail: str) -> StoreDamaged:
        """Record damage; return the error to raise."""
        if self._damage is None:
            self._damage = damage.damaged(self.store, detail)
            log.error("store_damaged", reason=str(self._damage))
        return self._damage

    def check(self) -> None:
        """Run `PRAGMA quick_check` in this thread.

        Raises:
            StoreDamaged: the check found damage.
        """
        if self._file is None:
            return
        try:
            detail = damage.quick_check(self._file)
        except sqlite3.Error as error:
            log.warning("store_not_checked", reason=str(error))
            return
        if detail is not None:
            raise self.found(detail)

    def check_at_start(self, *, used: bool) -> None:
        """Check a store before it is opened; the page check of a large store runs in a background thread.

        Args:
            used: whether a manager has used the store before.

        Raises:
            StoreDamaged: the store is damaged.
        """
        path = self._file
        if path is None:
            return
        try:
            detail = damage.check_files(path, used=used)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the store {path} cannot be read: {error}") from error
        if detail is not None:
            raise self.found(detail)
        if not path.exists() or damage.is_empty(path):
            return
        if path.stat().st_size <= SMALL:
            self.check()
        else:
            self.check_in_background()

    def check_in_background(self) -> None:
        """Run `PRAGMA quick_check` in a thread, unless one runs or has run in the last ten minutes."""
        if self._file is None:
            return
        with self._lock:
            if self._check is not None and self._check.is_alive():
                return
            if time.monotonic() - self._checked_at < _CHECK_INTERVAL:
                return
            self._checked_at = time.monotonic()
            self._check = threading.Thread(target=self._run_check, name="store-check", daemon=True)
            self._check.start()

    def wait(self) -> None:
        """Wait for the background check to end."""
        if self._check is not None:
            self._check.join()

    def _run_check(self) -> None:
        began = time.monotonic()
        try:
            self.check()
        except StoreDamaged:
            return  # logged, and refused from now on
        log.info("store_checked", seconds=round(time.monotonic() - began, 1))

    def _translated(self, error: Exception, verb: str) -> StoreUnavailable:
        first = list(damage.chain(error))[-1]  # a full disk ends the transaction, so its rollback fails, too
        if damage.is_damage(error):
            return self.found(str(first))
        codes = {damage.code_of(each) for each in damage.chain(error)}
        if not codes & _EXPECTED_CODES and not isinstance(error, _DOES_NOT_FIT):
            self.check_in_background()
        return StoreUnavailable(f"the store cannot {verb}: {first}")


@contextmanager
def start_errors(health: StoreHealth) -> Iterator[None]:
    """Translate errors while a store is opened and its content is loaded.

    An error of another kind is reported as damage only if a check finds the store damaged.

    Raises:
        SetupError: the store cannot be used; the message says what to do.
    """
    try:
        yield
    except SetupError:
        raise
    except InvalidTag as error:
        raise SetupError(
            f"this database belongs to another key file: the secrets in the store {health.store} do not open; put the"
            " key file back that belongs to it, or name it by --key-file; both stay as they are until then"
        ) from error
    except ManagerError as error:
        raise SetupError(str(error)) from error
    except (DatabaseError, InterfaceError, sqlite3.Error) as error:
        raise SetupError(str(health._translated(error, "be read"))) from error  # noqa: SLF001 -- the same module
    except Exception as error:
        try:
            health.check()
        except StoreDamaged as found:
            raise SetupError(str(found)) from error
        log.exception("start_failed")
        raise SetupError(
            f"the manager failed on the content of the store {health.store} ({type(error).__name__}: {error}): this is "
            "a defect of the manager; leave the store as it is, and report the traceback in the log"
        ) from error
