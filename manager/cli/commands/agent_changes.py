"""`panguard manager agents set` and `prune`: tags, site and organization of an agent; removal of silent agents."""

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.support.agent_lookup import find_agent
from manager.cli.support.completion import agents as complete_agents
from manager.cli.support.confirmation import Yes, confirm
from manager.cli.support.counting import counted
from manager.cli.support.durations import ago, parse_timedelta
from manager.cli.support.escaping import printable
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption
from manager.cli.support.organizations import AllowUnknown, check_organization

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

_AT_ONCE = 200
"""The most agents in one request."""

_LABEL = re.compile(r"[A-Za-z0-9._:@-]{1,64}")
"""A tag; the same pattern as `schemas.identifiers.LABEL`, whose import loads pydantic."""


@with_manager_client
def set_agents(
    client: "ManagerClient",
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID|HOSTNAME]...", help="agents by id or hostname", autocompletion=complete_agents),
    ] = None,
    *,
    tag: Annotated[list[str] | None, typer.Option(help="add this tag; repeatable")] = None,
    untag: Annotated[list[str] | None, typer.Option(help="take this tag away; repeatable")] = None,
    site: Annotated[str | None, typer.Option(help="the site; an empty text takes it away")] = None,
    organization: Annotated[str | None, typer.Option(help="move the agents to this organization")] = None,
    where_tag: Annotated[
        list[str] | None, typer.Option(help="instead of names: all agents with this tag; repeatable, all must match")
    ] = None,
    where_site: Annotated[str | None, typer.Option(help="instead of names: all agents at this site")] = None,
    where_organization: Annotated[str | None, typer.Option(help="instead of names: all of this organization")] = None,
    where_group: Annotated[str | None, typer.Option(help="instead of names: all of this policy group")] = None,
    allow_unknown: AllowUnknown = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the effect only")] = False,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set tags, site or organization of agents; no later registration changes them, and policies follow."""
    body = _change(tag or [], untag or [], site, organization)
    check_organization(client, organization, allow_unknown=allow_unknown)
    selection = {"tag": where_tag or None, "site": where_site, "org_id": where_organization, "group": where_group}
    agents = _selected(client, names or [], selection)
    for name in untag or ():
        _check_tag_is_there(agents, name)
    tried = _carry_out(client, agents, body, dry_run=True)
    if tried["refused"]:
        for each in tried["refused"]:
            sys.stderr.write(printable(f"{each['hostname']} ({each['agentId']}): {each['reason']}") + "\n")
        number = counted(len(tried["refused"]), "agent")
        raise CommandFailed(ExitCode.CONFLICT, f"nothing was changed: {number} cannot be changed so")
    if not dry_run:
        if len(tried["agents"]) > 1 or tried["policies"]:
            confirm(f"this changes {_effect(tried)}; go on?", yes=yes)
        tried = _carry_out(client, agents, body, dry_run=False)
    _print_change(client, agents, tried, output)


def _change(tags: list[str], untags: list[str], site: str | None, organization: str | None) -> dict[str, Any]:
    """Return the body of a change.

    Raises:
        CommandFailed: it is empty, a tag is malformed, or one is named both ways.
    """
    for name in tags:
        if not _LABEL.fullmatch(name):
            raise CommandFailed(ExitCode.USAGE, f"{name!r} is no tag: 1 to 64 letters, digits or . _ : @ -, no spaces")
        if name in untags:
            raise CommandFailed(ExitCode.USAGE, f"{name}: name it with --tag or with --untag")
    body: dict[str, Any] = {}
    if tags:
        body["addTags"] = tags
    if untags:
        body["removeTags"] = untags
    if site is not None:
        body["site"] = site or None
    if organization is not None:
        body["organization"] = organization
    if not body:
        raise CommandFailed(ExitCode.USAGE, "name --tag, --untag, --site or --organization")
    return body


def _selected(client: "ManagerClient", names: list[str], selection: dict[str, Any]) -> list["Record"]:
    """Return the agents that are named, or else selected.

    Raises:
        CommandFailed: none or both ways are used, a name is not found, or no agent matches.
    """
    selects = any(value is not None for value in selection.values())
    if bool(names) == selects:
        wrong = "name agents, or select them by --where-tag, --where-site, --where-organization or --where-group"
        raise CommandFailed(ExitCode.USAGE, f"{wrong}{', not both' if selects else ''}")
    if names:
        return list({agent["agentId"]: agent for agent in (find_agent(client, name) for name in names)}.values())
    found = client.records("/api/agents", **selection)
    if not found:
        raise CommandFailed(ExitCode.NOT_FOUND, "no agent matches; panguard manager agents list shows tags and sites")
    return found


def _check_tag_is_there(agents: list["Record"], name: str) -> None:
    if any(name in agent["tags"] for agent in agents):
        return
    if len(agents) > 1:
        raise CommandFailed(ExitCode.NOT_FOUND, f"none of the {len(agents):,} agents has tag {name}")
    has = f"its tags are {', '.join(agents[0]['tags'])}" if agents[0]["tags"] else "it has none"
    raise CommandFailed(ExitCode.NOT_FOUND, f"{agents[0]['hostname']} has no tag {name}; {has}")


def _carry_out(client: "ManagerClient", agents: list["Record"], body: dict[str, Any], *, dry_run: bool) -> "Record":
    """Change agents, or only try it, in steps of as many as one request takes; return the sum of the answers."""
    total: Record = {"agents": [], "policies": 0, "refused": [], "dryRun": dry_run}
    ids = [agent["agentId"] for agent in agents]
    for start in range(0, len(ids), _AT_ONCE):
        asked = {**body, "agentIds": ids[start : start + _AT_ONCE], "dryRun": dry_run}
        done = client.answer("POST", "/api/agents/change", body=asked)["data"]
        total["agents"] += done["agents"]
        total["refused"] += done["refused"]
        total["policies"] += done["policies"]
    return total


def _effect(done: "Record") -> str:
    return f"{counted(len(done['agents']), 'host')}, and the policy of {counted(done['policies'], 'host')}"


def _print_change(client: "ManagerClient", agents: list["Record"], done: "Record", output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if done["dryRun"] or len(agents) > 1:
        if output is Output.JSON:
            print_json(done)
            return
        same = len(agents) - len(done["agents"])
        already = f"; {counted(same, 'host is', 'hosts are')} so already" if same else ""
        print_lines(f"{'would change' if done['dryRun'] else 'changed'} {_effect(done)}{already}")
        return
    now = client.get(f"/api/agents/{agents[0]['agentId']}")
    if output is Output.JSON:
        print_json(now)
        return
    tags = ", ".join(now["tags"]) or "none"
    place = f"site {now['site'] or '-'}, organization {now['organizationId']}"
    policy = "; its policy changes with it" if done["policies"] else ""
    print_lines(f"{now['hostname']} ({now['agentId']}): tags {tags}; {place}{policy}")


@with_manager_client
def prune_agents(
    client: "ManagerClient",
    *,
    older_than: Annotated[str, typer.Option(help="silence after which an agent is removed, at least 1h: 24h, 30d")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list the agents that would be removed")] = False,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove for good the agents that are stale or offline and not heard of for so long."""
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
