"""Rotation of the key file: seals the store of a stopped manager with a new key."""

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from manager.data_directory import DataDirectory
from manager.errors import SetupError
from manager.storage.connection import close_store
from manager.storage.health import StoreHealth, start_errors
from manager.storage.location import StoreLocation
from manager.storage.opening import open_migrated_store
from manager.storage.sealed_values import count_sealed, open_secrets, reseal

_HEARD_OF = 15.0
"""Seconds since a manager was last heard of, after which it does not run any more."""


class KeyRotation(NamedTuple):
    """A rotation: the key file, and the number of secrets that are sealed with it."""

    path: Path
    secrets: int


def rotate_key_file(
    directory: Path, key_file: Path | None, store: StoreLocation | None = None, *, dry_run: bool = False
) -> KeyRotation:
    """Seal the store with a new key in the key file.

    Args:
        directory: the data directory.
        key_file: the path of the key file; by default the one in the data directory.
        store: the place of the store; by default the SQLite file in the data directory.
        dry_run: change nothing, except that an earlier rotation is completed.

    Raises:
        DataDirectoryInUse: a manager runs on the data directory.
        SetupError: there is no store, the key file is not the store's, or managers run on the database.
    """
    store = store or DataDirectory(directory).store
    if isinstance(store, Path) and not store.exists():
        raise SetupError(f"there is no store in {directory}: name the manager's data directory by --data-dir")
    with DataDirectory(directory, key_file) as data:
        health = StoreHealth(store)
        with start_errors(health):
            health.check_at_start(used=data.was_used)
            if data.key_file.read() is None and data.key_file.next.read() is None:
                raise SetupError(f"the key file {data.key_file.path} is missing: put it back, or name it by --key-file")
            database = open_migrated_store(store)
            try:
                _require_no_manager(store)
                if dry_run:
                    open_secrets(database, data.key_file, store)
                    return KeyRotation(data.key_file.path, count_sealed(database))
                return KeyRotation(data.key_file.path, reseal(database, data.key_file, store))
            finally:
                close_store(database)


def _require_no_manager(store: StoreLocation) -> None:
    """Refuse a rotation while managers on any host use the database: they have secrets in memory that they would seal.

    Raises:
        SetupError: a manager was heard of just now.
    """
    if isinstance(store, Path):
        return
    from manager.storage.postgresql.lease import LeaseTable  # noqa: PLC0415 -- imports psycopg

    with closing(LeaseTable(store)) as table:
        heard = [member for member in table.members() if abs(member.age) < _HEARD_OF]
    living = sorted(f"{member.address or member.hostname} ({member.role})" for member in heard)
    if living:
        raise SetupError(
            f"managers run on the database {store}: {', '.join(living)}; stop all of them, and run this again; one"
            f" that was killed does not count any more after {_HEARD_OF:.0f} s"
        )
