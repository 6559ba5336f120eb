"""Migrates a store to this release's schema, after a backup."""

import sqlite3
from contextlib import closing
from pathlib import Path

from peewee import Database
from playhouse.migrations import Runner

from manager.errors import SetupError

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(database: Database, path: Path) -> list[str]:
    """Apply the pending migrations; return their names.

    An older store is copied to ``{name}.before-{migration}`` beside it first.

    Raises:
        SetupError: the store was written by a newer release.
    """
    runner = Runner(database, str(MIGRATIONS))
    status = runner.status()
    unknown = [migration.name for migration in status if migration.path is None]
    if unknown:
        raise SetupError(f"the store was written by a newer release ({unknown[-1]}); install that release")
    pending = [migration.name for migration in status if not migration.applied]
    if pending and len(pending) < len(status):
        _back_up(path, path.with_name(f"{path.name}.before-{pending[0]}"))
    applied: list[str] = runner.up()
    return applied


def _back_up(source: Path, target: Path) -> None:
    target.touch(mode=0o600)
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)
