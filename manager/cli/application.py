"""Assembles `panguard manager` from its commands and command groups."""

import typer

from manager.cli.commands import (
    access,
    agents,
    allowlist,
    audit,
    blocks,
    broker,
    certs,
    clock,
    config,
    groups,
    health,
    incidents,
    key_file,
    keys,
    migrate,
    notifications,
    now,
    policies,
    protection,
    replay,
    responses,
    start,
    status,
    step_down,
    stop,
    threats,
    tokens,
    traffic,
)
from manager.cli.examples import EXAMPLES
from manager.cli.support.failures import EPILOG, FailingGroup
from manager.cli.support.help_pages import complete_help

app = typer.Typer(
    cls=FailingGroup,
    help="Run a manager, or send commands to one.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # markup would swallow [default: …] and [user@]
)
app.command("start")(start.start)
app.command("stop", short_help="Stop the manager that runs on a data directory.")(stop.stop)
app.command("status", short_help="Show the fleet at a glance.")(status.status)
app.command("step-down", short_help="Hand the lead over to another manager of the database.")(step_down.step_down)
app.command("health", short_help="Check whether the manager is ready.")(health.health)
app.command("now", short_help="Show what needs attention now.")(now.now)
app.command("replay", short_help="Try other settings on the stored threats.")(replay.replay)
app.command("migrate", short_help="Move the store of a stopped manager to PostgreSQL.")(migrate.migrate)
app.command("config", short_help="Print every setting with its value, origin and meaning.")(config.config)
app.command("traffic", short_help="Tail the live messages.")(traffic.traffic)
app.add_typer(access.app, name="access")
app.add_typer(agents.app, name="agents")
app.add_typer(allowlist.app, name="allowlist")
app.add_typer(audit.app, name="audit")
app.add_typer(blocks.app, name="blocks")
app.add_typer(broker.app, name="broker")
app.add_typer(certs.app, name="certs")
app.add_typer(clock.app, name="clock")
app.add_typer(groups.app, name="groups")
app.add_typer(incidents.app, name="incidents")
app.add_typer(key_file.app, name="key-file")
app.add_typer(keys.app, name="keys")
app.add_typer(notifications.app, name="notifications")
app.add_typer(policies.app, name="policies")
app.add_typer(protection.app, name="protection")
app.add_typer(responses.app, name="responses")
app.add_typer(threats.app, name="threats")
app.add_typer(tokens.app, name="tokens")
complete_help(app, EXAMPLES)
