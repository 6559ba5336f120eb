"""`panguard manager migrate`: moves the store of a stopped manager from its SQLite file to PostgreSQL."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.commands.config import configuration, typed_options
from manager.cli.support.counting import counted
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import (
    ConfigOption,
    DatabasePasswordFile,
    DataDir,
    KeyFileOption,
    Output,
    OutputOption,
)
from manager.cli.support.progress import progress

if TYPE_CHECKING:
    from manager.settings import Settings
    from manager.storage.postgresql.address import DatabaseAddress
    from manager.storage.store_copy.copying import Watch
    from manager.store_migration import StoreMigration

To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="URL",
        help="the database, which is empty or has the beginning of this copy: postgresql://USER@HOST:PORT/NAME",
    ),
]


def migrate(
    context: typer.Context,
    *,
    to: To,
    config: ConfigOption = None,
    data_dir: DataDir = None,
    key_file: KeyFileOption = None,
    database_password_file: DatabasePasswordFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check the key file, the database and every row, and change nothing")
    ] = False,
    replace_invalid_text: Annotated[
        bool,
        typer.Option(
            "--replace-invalid-text",
            help="put U+FFFD in the place of what PostgreSQL holds in no text (NUL, invalid UTF-8), and list such rows",
        ),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move the store to PostgreSQL; no manager may run.

    Everything is copied and compared, and then the SQLite file is marked and left read-only. Ended at any point before,
    the file is the store as it was, and the same command goes on with the copy.
    """
    from manager.errors import SetupError  # noqa: PLC0415 -- the parts of a manager load with the command
    from manager.storage.opening import require_driver  # noqa: PLC0415 -- the same
    from manager.storage.postgresql.address import database_address  # noqa: PLC0415 -- the same

    given = {"data_dir": data_dir, "key_file": key_file, "database_password_file": database_password_file}
    settings = configuration(typed_options(context, given), config).settings
    try:
        require_driver()
        address = database_address(to, settings.database_password_file)
    except SetupError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    with ExitStack() as stack:
        watch = _Bars(stack).watch if output is Output.TABLE else _unwatched
        done = _run(settings, address, watch, dry_run=dry_run, replacing=replace_invalid_text)
    if output is Output.JSON:
        from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

        print_json(_record(done, address, dry_run=dry_run))
    else:
        _print(done, address, settings.data_dir)
    if done.check and done.check.unfit:
        raise typer.Exit(ExitCode.FAILURE)


def _run(
    settings: "Settings", address: "DatabaseAddress", watch: "Watch", *, dry_run: bool, replacing: bool
) -> "StoreMigration":
    from manager.errors import DataDirectoryInUse, SetupError  # noqa: PLC0415 -- as above
    from manager.storage.store_copy.postgresql_target import TargetTaken  # noqa: PLC0415 -- imports psycopg
    from manager.store_migration import check_move, move_store  # noqa: PLC0415 -- the same

    directory, key_file = settings.data_dir, settings.key_file
    try:
        if dry_run:
            return check_move(directory, key_file, address, watch, replacing=replacing)
        retention = settings.threat_retention
        return move_store(directory, key_file, address, watch, retention=retention, replacing=replacing)
    except DataDirectoryInUse as error:
        sentence = (
            f"a manager runs on {settings.data_dir}: stop it by `panguard manager stop --data-dir {settings.data_dir}`,"
            " and run this again"
        )
        raise CommandFailed(ExitCode.CONFLICT, sentence) from error
    except TargetTaken as error:
        raise CommandFailed(ExitCode.CONFLICT, str(error)) from error
    except SetupError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error


def _unwatched(_verb: str, _rows: int) -> None:
    """Show nothing beside a result for programs."""


class _Bars:
    """Shows one bar after the other: rows that are checked, copied, compared.

    Args:
        stack: ends the last bar.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._total = 0
        self._verb = ""
        self._show: Any = None

    def watch(self, verb: str, rows: int) -> None:
        """Take progress: `rows` and their number, then verbs and the number of rows that each is true of."""
        if verb == "rows":
            self._total = rows
            return
        if verb != self._verb:
            self._stack.close()
            self._verb = verb
            self._show = self._stack.enter_context(progress(f"{verb} rows:", self._total))
        self._show(rows)


def _record(done: "StoreMigration", address: "DatabaseAddress", *, dry_run: bool) -> dict[str, Any]:
    return {
        "database": str(address),
        "storeId": done.store_id,
        "moved": done.is_moved,
        "dryRun": dry_run,
        "rows": done.rows,
        "copiedBefore": done.copied_before,
        "tables": [{"table": each.name, "rows": each.rows, "digest": each.digest} for each in done.tables],
        "unfit": done.check.unfit if done.check else [],
        "replaced": done.check.replaced if done.check else [],
    }


def _print(done: "StoreMigration", address: "DatabaseAddress", directory: Path) -> None:
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    if done.check and done.check.replaced:
        changed = f"{counted(done.check.replaced_count, 'row')} with U+FFFD in the copy for what PostgreSQL cannot hold"
        print_lines(*done.check.replaced, f"{changed}.")
    if done.check and done.check.unfit:
        print_lines(
            *done.check.unfit, "PostgreSQL cannot hold these rows as they are: mend or delete them in the store."
        )
    elif not done.is_moved:
        print_lines(f"{counted(done.rows, 'row')} can be moved to {address}; nothing was changed.")
    elif not done.tables:
        print_lines(f"The store was moved to {address} before; start the manager with --database {address}.")
    else:
        before = f" ({counted(done.copied_before, 'row')} by an earlier run)" if done.copied_before else ""
        print_lines(
            f"{counted(done.rows, 'row')} in {counted(len(done.tables), 'table')} copied{before}; counts and digests"
            " are equal.",
            f"The store is in {address} now; the file in {directory} is read-only and takes nothing more.",
            f"Start the manager with --database {address} and the same key file.",
        )
