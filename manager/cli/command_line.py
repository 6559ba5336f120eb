"""Puts `panguard manager` together: its commands and groups of commands."""

import typer

from manager.cli import (
    agents,
    allowlist,
    audit,
    blocks,
    broker,
    certificates,
    configuration,
    incidents,
    lifecycle,
    now,
    policies,
    replay,
    responses,
    status,
    threats,
    tokens,
    traffic,
)
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
app.command("now")(now.now)
app.command("replay")(replay.replay)
app.command("config")(configuration.config)
app.command("traffic")(traffic.traffic)
app.add_typer(agents.app, name="agents")
app.add_typer(allowlist.app, name="allowlist")
app.add_typer(audit.app, name="audit")
app.add_typer(blocks.app, name="blocks")
app.add_typer(broker.app, name="broker")
app.add_typer(certificates.app, name="certs")
app.add_typer(incidents.app, name="incidents")
app.add_typer(policies.app, name="policies")
app.add_typer(responses.app, name="responses")
app.add_typer(threats.app, name="threats")
app.add_typer(tokens.app, name="tokens")
