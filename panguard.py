"""The command `panguard`: mounts the command lines of manager, guard and demo; nothing else."""

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
    from agent.cli import app as guard  # noqa: PLC0415 -- a help text needs no database driver
    from demo.cli import demo  # noqa: PLC0415
    from manager.cli import app as manager  # noqa: PLC0415

    app.add_typer(manager, name="manager")
    app.add_typer(guard, name="guard", short_help="The guard on this host.")
    app.command("demo", short_help="See a fleet under attack, live, on this machine.")(demo)
    app()


if __name__ == "__main__":
    main()
