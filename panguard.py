"""The command `panguard`: mounts manager, guard, fence, demo and simulator, and leaves no core dump behind."""

import os
import resource
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

_VERSION = "--version"


def _examples(*lines: str) -> str:
    """Return the section at the end of a help; its first mark keeps typer from filling its lines."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"panguard {version('panguard')}")
        raise typer.Exit


class _Root(TyperGroup):
    """The root of all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a refused value is told without the words that pydantic puts before the reason."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as refused:
            refused.message = refused.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    name="panguard",
    cls=_Root,
    help="A fleet manager for security agents that runs on a message broker.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples(
        "panguard demo", "panguard manager start --data-dir data/manager --detach", "panguard guard doctor"
    ),
    rich_markup_mode=None,  # it takes [default: …] and [user@] for markup
)


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option(_VERSION, callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command."""
    _leave_no_core()
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    for name in [asked] if asked in _PARTS else () if asked == _VERSION else _PARTS:
        _PARTS[name]()
    app.command(
        "fence",
        short_help="The privileged part of a guarded host.",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_fence)
    app()


def _add_manager() -> None:
    from manager.cli import app as manager  # noqa: PLC0415 -- loaded where it is asked for, as the others below

    app.add_typer(manager, name="manager")


def _add_guard() -> None:
    from agent.cli.commands import app as guard  # noqa: PLC0415

    app.add_typer(guard, name="guard", short_help="The guard on this host.")


def _add_demo() -> None:
    from demo.cli import demo  # noqa: PLC0415

    help_line = "See a fleet under attack, live, on this machine."
    app.command("demo", short_help=help_line, epilog=_examples("panguard demo", "panguard demo --keep"))(demo)


def _add_simulate() -> None:
    from simulate.cli import simulate  # noqa: PLC0415

    help_line = "Load a manager with simulated agents, and check its stored reports."
    example = "panguard simulate --agents 1000 --threats 10000 --rate 200 --enroll-token-file data/manager/enroll.token"
    app.command("simulate", short_help=help_line, epilog=_examples(example))(simulate)


_PARTS = {"manager": _add_manager, "guard": _add_guard, "demo": _add_demo, "simulate": _add_simulate}
"""The parts by name: only the one that is asked for is loaded, so a guard does not hold the manager in its memory."""


def _fence(context: typer.Context) -> None:
    """Run the fence's own command line in place of this process: it shares no code with the rest."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "fence", *context.args])  # noqa: S606 -- this interpreter, no shell


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
