"""`panguard manager agents`: list, show, set, prune, and forced removal (lifecycle page, "Forced Removal")."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from manager.cli.commands.agent_changes import prune_agents, set_agents
from manager.cli.support.agent_lookup import find_agent
from manager.cli.support.completion import agents as complete_agents
from manager.cli.support.confirmation import Yes, confirm
from manager.cli.support.durations import ago
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import (
    HealthWord,
    ModeWord,
    Output,
    OutputOption,
    StateWord,
    WideOutput,
    WideOutputOption,
)

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="The agents of the fleet.", no_args_is_help=True)

_CLOCK_RIGHT = 2.0
"""Seconds below which a difference of clocks may be the time that messages travel."""

_COLUMNS = (
    "hostname", "agent id", "status", "mode", "enforcement", "heartbeat", "health", "policy", "version", "organization",
    "site", "tags", "since", "reason", "cpu", "memory", "reported tags", "reported site",
)  # fmt: skip

_SORTED_BY: dict[str, str] = {
    "hostname": "hostname", "status": "status", "heartbeat": "lastHeartbeat", "mode": "mode", "health": "health",
    "version": "version", "organization": "organizationId", "site": "site", "registered": "registeredAt",
}  # fmt: skip
"""The members of records by which a list is sorted."""

_WITHOUT_EFFECT = {
    "impossible": "blocks nothing", "simulated": "blocks nothing", "unknown": "not known to block",
}  # fmt: skip
"""The effect of mode protection on an agent, by its enforcement; one that is not listed blocks."""

SortWord = Literal["hostname", "status", "heartbeat", "mode", "health", "version", "organization", "site", "registered"]


app.command("set")(set_agents)
app.command("prune")(prune_agents)


@app.command("list")
@with_manager_client
def list_agents(
    client: "ManagerClient",
    *,
    status: Annotated[StateWord | None, typer.Option(help="only agents in this state")] = None,
    health: Annotated[HealthWord | None, typer.Option(help="only agents in this health")] = None,
    organization: Annotated[
        str | None, typer.Option("--organization", "--where-organization", help="only this organization")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", "--where-tag", help="only agents with this tag; repeatable, all must match"),
    ] = None,
    site: Annotated[str | None, typer.Option("--site", "--where-site", help="only agents at this site")] = None,
    group: Annotated[
        str | None, typer.Option("--group", "--where-group", help="only agents of this policy group")
    ] = None,
    version: Annotated[str | None, typer.Option(help="only agents of this release")] = None,
    mode: Annotated[ModeWord | None, typer.Option(help="only agents in this mode")] = None,
    enforcement: Annotated[
        list[str] | None,
        typer.Option(
            help="only agents that enforce by this: nftables, route, simulated, impossible, unknown; repeatable"
        ),
    ] = None,
    sort: Annotated[SortWord | None, typer.Option(help="order of the rows [default: the oldest agent first]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="maximum number of rows")] = None,
    output: WideOutputOption = WideOutput.TABLE,
) -> None:
    """List the agents."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    query = {"status": status, "health": health, "org_id": organization, "tag": tag or None, "site": site}
    query |= {"group": group, "version": version, "mode": mode, "enforcement": enforcement or None}
    found = client.records("/api/agents", most=None if sort else limit, **query)
    if sort is not None:
        member = _SORTED_BY[sort]
        found = sorted(found, key=lambda agent: (agent[member] is not None, str(agent[member]).casefold()))[:limit]
    if output is WideOutput.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = [_row(agent, now) for agent in found]
    print_fitted(_COLUMNS, rows, kept=2, wide=output is WideOutput.WIDE, more="-o wide")


@app.command("show")
@with_manager_client
def show_agent(
    client: "ManagerClient",
    machine_id: Annotated[str, typer.Argument(help="an agent's id or hostname", autocompletion=complete_agents)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show an agent's record, its last changes of state and its last threats."""
    from manager.cli.commands.threats import print_threats  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- the same
    from manager.cli.support.printing import clone_text, print_json, print_lines  # noqa: PLC0415 -- the same
    from manager.cli.support.wrapping import print_details, print_wrapped  # noqa: PLC0415 -- the same

    found = client.get(f"/api/agents/{find_agent(client, machine_id)['agentId']}")
    if output is Output.JSON:
        print_json(found)
        return
    recent, history = found.pop("recentThreats"), found.pop("history")
    sources, enforced = found.pop("sources"), found.pop("enforced") or {}
    if found["clone"] is not None:
        found["clone"] = f"since {found['clone']['since']}: {clone_text(found['clone'])}"
    if found["clockOffset"] is not None:
        found["clockOffset"] = _clock_text(found["clockOffset"])
    hidden = {"id", "platform"}
    found["mode"] = _mode_cell(found)
    print_details(f"agent {found['agentId']}", [(name, found[name]) for name in found if name not in hidden])
    print_lines("", "changes of state")
    print_wrapped(": ".join(filter(None, (f"{line['at']}  {line['event']}", line["detail"]))) for line in history)
    if sources:
        columns, members = (
            ("source", "state", "records", "understood", "last"),
            ("name", "state", "records", "understood"),
        )
        print_lines("", "sources")
        print_fitted(columns, [(*(each.get(name) for name in members), each.get("lastAt")) for each in sources], kept=2)
        print_wrapped(f"{each['name']}: {each['reason']}" for each in sources if each.get("reason"))
    if enforced:
        outcomes = ("set", "ineffective", "refused", "impossible", "failed")
        print_lines("", "measures: " + ", ".join(f"{enforced.get(outcome, 0):,} {outcome}" for outcome in outcomes))
        print_wrapped(f"{each['value']} is not enforced: {each['reason']}" for each in enforced.get("reasons", ()))
    if recent:
        print_lines("", "newest threats")
        print_threats(recent)


@app.command("vitals")
@with_manager_client
def show_vitals(
    client: "ManagerClient",
    machine_id: Annotated[str, typer.Argument(help="an agent's id or hostname", autocompletion=complete_agents)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show an agent's CPU, memory and events over the last 24 hours, in periods of 15 minutes."""
    from manager.cli.support.printing import percent, print_json, print_table  # noqa: PLC0415 -- rich loads slowly

    found = client.get(f"/api/agents/{find_agent(client, machine_id)['agentId']}/vitals")
    if output is Output.JSON:
        print_json(found)
        return
    columns = ("from", "heartbeats", "cpu", "highest cpu", "memory", "events")
    rows = [
        (
            each["at"], each["heartbeats"], percent(each["cpu"]), percent(each["cpuHighest"]), percent(each["memory"]),
            each["events"],
        )
        for each in found["periods"]
    ]  # fmt: skip
    print_table(columns, rows)


@app.command("remove")
@with_manager_client
def remove_agent(
    client: "ManagerClient",
    agent_name: Annotated[
        str | None,
        typer.Argument(metavar="ID|HOSTNAME", help="an agent's id or hostname", autocompletion=complete_agents),
    ] = None,
    *,
    machine_id: Annotated[
        str | None,
        typer.Option("--machine-id", help="the same, as an option", autocompletion=complete_agents),
    ] = None,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove an agent from the registry for good: its credential is refused from now on."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    named = agent_name or machine_id
    if not named or (agent_name and machine_id):
        raise CommandFailed(ExitCode.USAGE, "name one agent, by its id or hostname")
    agent = find_agent(client, named)
    if agent["status"] == "online":
        confirm(f"{agent['hostname']} ({agent['agentId']}) is online; remove it for good?", yes=yes)
    done = client.answer("DELETE", f"/api/agents/{agent['agentId']}", {"purge": "true"})["data"]
    if output is Output.JSON:
        print_json(done)
    else:
        print_lines(f"removed {agent['agentId']} ({agent['hostname']}) for good")


def _clock_text(offset: float) -> str:
    """Return a sentence about an agent's clock; an offset includes the time that messages travel."""
    if abs(offset) < _CLOCK_RIGHT:
        return f"{offset:g} s: this agent's clock is right"
    side = "behind" if offset > 0 else "ahead of"
    return f"{offset:g} s: this agent's clock is {abs(round(offset))} s {side} the manager's"


def mode_text(agent: "Record") -> str | None:
    """Return an agent's effective mode, with a mode that it wants and does not have, or the rest of its trial.

    Of mode protection it says where nothing comes of it.
    """
    mode: str | None = agent["mode"]
    if agent["modeWanted"] not in {None, mode}:
        return f"{mode} ({agent['modeWanted']} wanted)"
    left, without_effect = agent["trialSecondsLeft"], _WITHOUT_EFFECT.get(agent["enforcement"])
    remarks = [without_effect] if without_effect is not None and mode == "protection" else []
    if left is not None:
        remarks.append(f"trial, {left:.0f} s left")
    return f"{mode} ({'; '.join(remarks)})" if remarks else mode


def _mode_cell(agent: "Record") -> object:
    """Return the mode for a table; one that does not protect though its name says so stands out."""
    from rich.text import Text  # noqa: PLC0415 -- rich takes a while to load

    text = mode_text(agent)
    pretends = agent["mode"] == "protection" and agent["enforcement"] in _WITHOUT_EFFECT
    return Text(str(text), "bold yellow") if pretends else text


def _row(agent: "Record", now: datetime) -> tuple[object, ...]:
    from manager.cli.support.printing import percent  # noqa: PLC0415 -- rich takes a while to load

    active = agent["activePolicyVersion"]
    policy = str(active) if agent["policyCurrent"] else f"{agent['policyVersion']} → {active}"
    return (
        agent["hostname"],
        agent["agentId"],
        agent["status"],
        _mode_cell(agent),
        agent["enforcement"],
        ago(agent["lastHeartbeat"], now),
        agent["health"] or "unknown",
        policy,
        agent["version"],
        agent["organizationId"],
        agent["site"],
        agent["tags"] or None,
        ago(agent["statusSince"], now),
        agent["reason"],
        percent(agent["cpu"]),
        percent(agent["memory"]),
        agent["reportedTags"] or None,
        agent["reportedSite"],
    )
