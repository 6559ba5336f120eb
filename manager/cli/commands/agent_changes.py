"""`panguard manager agents set` and `prune`: tags, site and organization of an agent; removal of silent agents."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.support.agent_lookup import find_agent
from manager.cli.support.completion import agents as complete_agents
from manager.cli.support.confirmation import Yes, confirm
from manager.cli.support.counting import counted
from manager.cli.support.durations import ago, parse_timedelta
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

_LABEL = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
"""A tag; the same pattern as `schemas.identifiers.LABEL`, whose import loads pydantic."""


@with_manager_client
def set_agent(
    client: "ManagerClient",
    machine_id: Annotated[str, typer.Argument(help="an agent's id or hostname", autocompletion=complete_agents)],
    *,
    tag: Annotated[list[str] | None, typer.Option(help="add this tag; repeatable")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="take this tag away; repeatable")] = None,
    site: Annotated[str | None, typer.Option(help="the site; an empty text takes it away")] = None,
    organization: Annotated[str | None, typer.Option(help="move the agent to this organization")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set tags, site or organization of an agent; no later registration changes them, and policies follow.

    Example: panguard manager agents set web-1 --tag web --tag eu --untag test --site berlin
    """
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    agent = find_agent(client, machine_id)
    body: dict[str, Any] = {}
    if tag or untag:
        body["tags"] = _tags(agent, tag or [], untag or [])
    if site is not None:
        body["site"] = site or None
    if organization is not None:
        body["organization"] = organization
    if not body:
        raise CommandFailed(ExitCode.USAGE, "name --tag, --untag, --site or --organization")
    done = client.answer("PATCH", f"/api/agents/{agent['agentId']}", body=body)["data"]
    if output is Output.JSON:
        print_json(done)
        return
    tags = ", ".join(done["tags"]) or "none"
    place = f"site {done['site'] or '-'}, organization {done['organizationId']}"
    print_lines(f"{done['hostname']} ({done['agentId']}): tags {tags}; {place}")


def _tags(agent: "Record", added: list[str], removed: list[str]) -> list[str]:
    """Return an agent's tags after a change.

    Raises:
        CommandFailed: a new tag is malformed, a tag to be taken away is none of the agent's, or one is named both ways.
    """
    for name in added:
        if not _LABEL.fullmatch(name):
            raise CommandFailed(ExitCode.USAGE, f"{name!r} is no tag: 1 to 64 letters, digits or . _ : @ -, no spaces")
    for name in removed:
        if name in added:
            raise CommandFailed(ExitCode.USAGE, f"{name}: name it with --tag or with --untag")
        if name not in agent["tags"]:
            has = f"its tags are {', '.join(agent['tags'])}" if agent["tags"] else "it has none"
            raise CommandFailed(ExitCode.NOT_FOUND, f"{agent['hostname']} has no tag {name}; {has}")
    return [name for name in dict.fromkeys((*agent["tags"], *added)) if name not in removed]


@with_manager_client
def prune_agents(
    client: "ManagerClient",
    *,
    older_than: Annotated[str, typer.Option(help="silence after which an agent is removed, at least 1h: 24h, 30d")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list the agents that would be removed")] = False,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove for good the agents that are stale or offline and not heard of for so long.

    Example: panguard manager agents prune --older-than 30d --dry-run
    """
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- the same

    seconds = int(parse_timedelta(older_than, least="1h", most="3660d").total_seconds())
    found = _pruned(client, seconds, dry_run=True)
    if found and output is Output.TABLE:
        heard, now = _heartbeats(client), datetime.now(UTC)
        rows = [(each["hostname"], each["agentId"], ago(heard.get(each["agentId"]), now)) for each in found]
        print_fitted(("hostname", "agent id", "last heartbeat"), rows, kept=2)
    if found and not dry_run:
        confirm(f"remove {counted(len(found), 'agent')} for good?", yes=yes)
        found = _pruned(client, seconds, dry_run=False)
    if output is Output.JSON:
        print_json({"agents": found, "removed": not dry_run})
        return
    verb = "would be removed" if dry_run else "removed for good"
    print_lines(f"{counted(len(found), 'agent')} {verb}")


def _heartbeats(client: "ManagerClient") -> dict[str, str | None]:
    """Return the times of the last heartbeats of the agents that are stale or offline, by their ids."""
    silent = [agent for status in ("stale", "offline") for agent in client.records("/api/agents", status=status)]
    return {agent["agentId"]: agent["lastHeartbeat"] for agent in silent}


def _pruned(client: "ManagerClient", seconds: int, *, dry_run: bool) -> list["Record"]:
    found: list[Record] = []
    while True:
        done = client.answer("POST", "/api/agents/prune", body={"olderThan": seconds, "dryRun": dry_run})["data"]
        found += done["agents"]
        if not done["more"]:
            return found
