"""Copies of the program that stand for an earlier and a later release, to run beside this one."""

import os
import shutil
from pathlib import Path

from manager.domain.rolling_upgrade import number_of
from manager.storage.postgresql.schema_versions import known_migrations, newest_migration

_TOP = Path(__file__).parents[2]
_PARTS = ("panguard.py", "agent", "demo", "fence", "manager", "schemas", "simulate")
_MIGRATIONS = "manager/storage/postgresql/migrations"
_RULES = "manager/domain/rolling_upgrade.py"
_LEASE = "manager/storage/postgresql/lease.py"


class Release:
    """A copy of the program in a directory of its own, with changes.

    Args:
        home: the directory, which is made.
        version: its version.
    """

    def __init__(self, home: Path, version: str) -> None:
        self._home = home
        self.version = version
        home.mkdir()
        for part in _PARTS:
            source = _TOP / part
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, home / part)
        about = home / f"panguard-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: panguard\nVersion: {version}\n")

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a process runs this copy, wherever it is started."""
        return {"PYTHONPATH": os.fspath(self._home), "PYTHONSAFEPATH": "1"}

    def change(self, path: str, before: str, after: str) -> None:
        """Replace a part of a file, which occurs once."""
        file = self._home / path
        text = file.read_text()
        assert text.count(before) == 1, f"{path} has {text.count(before)} times: {before}"
        file.write_text(text.replace(before, after))

    def remove_migrations(self, after: int) -> None:
        """Remove the migrations behind a number."""
        for path in (self._home / _MIGRATIONS).glob("[0-9]*.py"):
            if number_of(path.stem) > after:
                path.unlink()

    def add_migration(self, number: int, name: str, statement: str, *, oldest: int) -> None:
        """Add a migration of one statement."""
        text = f"OLDEST = {oldest}\n\n\ndef up(_migrator, db):\n    db.connection().execute({statement!r})\n"
        (self._home / _MIGRATIONS / f"{number:04}_{name}.py").write_text(text)


def release_before(home: Path) -> Release:
    """Return the release with the first two migrations: it states no migration, and refuses every newer schema."""
    release = Release(home, "0.0.9")
    release.remove_migrations(2)
    release.change("manager/storage/postgresql/migrate.py", "        _refuse_incomplete_copy(database)\n", "")
    release.change(_LEASE, "features, role, migration, seen_at)", "features, role, seen_at)")
    release.change(
        _LEASE, "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, extract", "VALUES (%s, %s, %s, %s, %s, %s, %s, extract"
    )
    release.change(_LEASE, "(*row, member.role, member.migration)", "(*row, member.role)")
    release.change(_LEASE, "- seen_at, migration\n", "- seen_at, 2\n")
    release.change(_LEASE, '"SELECT oldest FROM schema_compatibility WHERE id = 1"', '"SELECT 0"')
    release.change(
        _RULES,
        "        _require_compatible(known[-1].number, schema, unknown, pending)\n",
        '        raise SchemaRefused(f"the store was written by a newer release ({unknown[-1]})")\n',
    )
    release.change("manager/engine/commands/signing_keys.py", "list(fleet.features)", '["threats.batch"]')
    return release


def next_release(home: Path) -> Release:
    """Return a release whose migration adds a column, which it writes with each report, and that has a feature more."""
    release = Release(home, "7.0.0")
    expand = "ALTER TABLE threat ADD COLUMN stored_by text NOT NULL DEFAULT ''"
    release.add_migration(newest_migration() + 1, "stored_by", expand, oldest=known_migrations()[-1].oldest)
    release.change(_RULES, "FEATURES = (FEATURE,)", 'FEATURES = (FEATURE, "threats.next")')
    release.change(
        "manager/storage/postgresql/reports.py",
        "INSERT INTO threat (sequence, {_COLUMNS})\nSELECT %s + place, {_COLUMNS}",
        "INSERT INTO threat (sequence, stored_by, {_COLUMNS})\nSELECT %s + place, 'next', {_COLUMNS}",
    )
    return release


def release_after_next(home: Path) -> Release:
    """Return a release that no other may work beside that does not write the column of `next_release`."""
    release = next_release(home)
    contract = "ALTER TABLE threat ALTER COLUMN stored_by DROP DEFAULT"
    number = newest_migration() + 2
    release.add_migration(number, "stored_by_always", contract, oldest=number - 1)
    return release


def release_without_batches(home: Path, *, says_so: bool = True) -> Release:
    """Return a release that takes each report in a message of its own, whether it says so or not."""
    release = Release(home, "0.0.8")
    if says_so:
        release.change(_RULES, "FEATURES = (FEATURE,)", "FEATURES: tuple[str, ...] = ()")
    release.change("schemas/report_batches.py", "    return payload.startswith(_HEAD)\n", "    return False\n")
    return release
