"""The command `panguard`: mounts manager, guard, fence, demo and simulator, and leaves no core dump behind."""

import os
import resource
import sys
from contextlib import suppress

import typer

app = typer.Typer(
    name="panguard",
    help="A fleet manager for security agents that runs on a message broker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it takes [default: …] and [user@] for markup
)


def main() -> None:
    """Run the command."""
    _leave_no_core()
    from agent.cli.commands import app as guard  # noqa: PLC0415 -- a help text needs no database driver
    from demo.cli import demo  # noqa: PLC0415
    from manager.cli import app as manager  # noqa: PLC0415
    from simulate.cli import simulate  # noqa: PLC0415

    app.add_typer(manager, name="manager")
    app.add_typer(guard, name="guard", short_help="The guard on this host.")
    app.command(
        "fence",
        short_help="The privileged part of a guarded host.",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_fence)
    app.command("demo", short_help="See a fleet under attack, live, on this machine.")(demo)
    app.command("simulate", short_help="Load a manager with simulated agents, and check its stored reports.")(simulate)
    app()


def _fence(context: typer.Context) -> None:
    """Run the fence's own command line in place of this process: it shares no code with the rest."""
    os.execv(sys.executable, [sys.executable, "-m", "fence", *context.args])  # noqa: S606 -- this interpreter, no shell


def _leave_no_core() -> None:
    """Keep secrets in memory out of core dumps, of this process and of those that it starts.

    One byte and not none: a limit of none does not hold for cores that are piped to a program, this one does (core(5)
    of Linux takes it for a crash of that program).
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    limit = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


if __name__ == "__main__":
    main()
