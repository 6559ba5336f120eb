"""Puts `panguard manager` together: its commands and groups of commands."""

import typer

from manager.cli import agents, configuration, lifecycle, policies, status, threats, tokens, traffic
from manager.cli.failures import EPILOG, FailingGroup

app = typer.Typer(
    cls=FailingGroup,
    help="Run a manager, or speak to one.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command("start")(lifecycle.start)
app.command("stop")(lifecycle.stop)
app.command("status")(status.status)
app.command("config")(configuration.config)
app.command("traffic")(traffic.traffic)
app.add_typer(agents.app, name="agents")
app.add_typer(policies.app, name="policies")
app.add_typer(threats.app, name="threats")
app.add_typer(tokens.app, name="tokens")
