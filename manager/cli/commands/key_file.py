"""`panguard manager key-file`: seals the store with a new key."""

from pathlib import Path
from typing import Annotated

import typer

from manager.cli.commands.config import configuration, typed_options
from manager.cli.support.counting import counted
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import (
    ConfigOption,
    DatabaseOption,
    DatabasePasswordFile,
    DataDir,
    KeyFileOption,
    Output,
    OutputOption,
)

app = typer.Typer(help="The key file that seals the secrets in the store.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `rotate` a subcommand while it is the only one."""


@app.command("rotate")
def rotate(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    data_dir: DataDir = None,
    key_file: KeyFileOption = None,
    database: DatabaseOption = None,
    database_password_file: DatabasePasswordFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check that the key file opens the store, and change nothing")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replace the key in the key file, and seal the store with it; no manager may run.

    Ended at any point, it can be given again, and a manager can be started.
    """
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load
    from manager.errors import DataDirectoryInUse, SetupError  # noqa: PLC0415 -- the same
    from manager.key_rotation import rotate_key_file  # noqa: PLC0415 -- the parts of a manager take a while to load

    given = {
        "data_dir": data_dir,
        "key_file": key_file,
        "database": database,
        "database_password_file": database_password_file,
    }
    settings = configuration(typed_options(context, given), config).settings
    try:
        done = rotate_key_file(settings.data_dir, settings.key_file, settings.store, dry_run=dry_run)
    except DataDirectoryInUse as error:
        sentence = (
            f"a manager runs on {settings.data_dir}: stop it by `panguard manager stop --data-dir {settings.data_dir}`,"
            " and run this again"
        )
        raise CommandFailed(ExitCode.CONFLICT, sentence) from error
    except SetupError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error
    path: Path = done.path
    if output is Output.JSON:
        print_json({"keyFile": str(path), "secrets": done.secrets, "dryRun": dry_run})
    elif dry_run:
        print_lines(f"{path} opens the store; {counted(done.secrets, 'secret')} would be sealed anew.")
    else:
        print_lines(
            f"{counted(done.secrets, 'secret')} sealed anew with the new key in {path}.",
            "Back it up apart from the store. Copies of the store from before need the former key.",
        )
