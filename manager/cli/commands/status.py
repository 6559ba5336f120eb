"""`panguard manager status`: summary of the fleet."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manager.cli.support.durations import ago
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

_WARN_DAYS = 30
_SHOWN = 5
"""The maximum number of stale agents that have a line."""


@with_manager_client
def status(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Show agents by state, stale agents, the threats of the last 24 hours, and policies in force."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.wrapping import print_indented  # noqa: PLC0415 -- the same

    overview = client.get("/api/overview")
    if output is Output.JSON:
        print_json(overview)
    else:
        print_indented(*_lines(client.url, overview, datetime.now(UTC)), rest=4)


def _certificate(record: "Record") -> str:
    line = f"Certificate     {record['door']}, expires {record['expiresAt']}, {record['daysLeft']} days left"
    return f"{line}: panguard manager certs renew" if record["daysLeft"] < _WARN_DAYS else line


def _held_back(record: "Record", now: datetime) -> str:
    since = f"nothing new of it stored since {record['since']}, {ago(record['since'], now)}"
    return f"Held back       {record['hostname']} ({record['agentId']}): {record['waiting']} reports wait, {since}"


def _manager(url: str, overview: "Record") -> str:
    """Return the line on the manager that was asked; of several, the leader has answered, and the uptime is its own."""
    if overview.get("group") is not None:
        return f"Manager         {url}"
    return f"Manager         {url}, up {overview['uptimeMs'] // 1000} s"


def _managers(group: "Record | None", now: datetime) -> list[str]:
    """Return the lines on the managers of the database; none where the store has one manager."""
    if group is None:
        return []
    leader = group["leader"]
    lines = ["Leader          none"]
    if leader is not None:
        since = f"since {leader['since']}, {ago(leader['since'], now)}"
        lines = [f"Leader          {_place(leader)}, {leader['version']}, {since}"]
    others = [each for each in group["managers"] if each["role"] != "leader"]
    if not any(each["role"] == "standby" for each in others):
        lines.append("Standby         none: nobody takes over if the leader ends")
    return lines + [
        f"{each['role'].capitalize():<16}{_place(each)}, {each['version']}, {each['behindSeconds']:g} s behind"
        for each in others
    ]


def _place(manager: "Record") -> str:
    """Return host and port of a manager; a manager of an earlier release states no port."""
    port = manager.get("port")
    return str(manager["hostname"]) if port is None else f"{manager['hostname']}:{port}"


def _lines(url: str, overview: "Record", now: datetime) -> list[str]:
    from manager.cli.support.printing import clone_text, refused_text  # noqa: PLC0415 -- rich takes a while to load

    today = overview["threatSummary"]["last24h"]
    severities = ", ".join(f"{today[name]} {name}" for name in ("critical", "high", "medium", "low") if today[name])
    stale = [agent for agent in overview["agents"] if agent["status"] == "stale"]
    lines = [
        _manager(url, overview),
        *([f"Not ready       {overview['notReady']}"] if overview.get("notReady") else []),
        f"Total agents    {overview['totalAgents']}",
        f"Online          {overview['onlineAgents']}",
        f"Stale           {overview['staleAgents']}",
    ]
    lines += [
        f"                {agent['hostname']} ({agent['agentId']}) since {agent['statusSince']}, "
        f"{ago(agent['statusSince'], now)}: {agent['reason']}"
        for agent in stale[:_SHOWN]
    ]
    more = overview["staleAgents"] - len(stale[:_SHOWN])
    if more > 0:
        lines.append(f"                … and {more} more: agents list --status stale")
    if overview.get("clonedAgents"):
        lines.append(f"Cloned          {overview['clonedAgents']}")
        lines += [
            f"                {clone['hostname']} ({clone['agentId']}) since {clone['since']}: {clone_text(clone)}"
            for clone in overview["clones"]
        ]
    lines += [
        f"Offline         {overview['offlineAgents']}",
        f"Active threats  {today['total']} in 24 h" + (f" ({severities})" if severities else ""),
        f"Policy version  {overview['activePolicyVersion']}",
        f"In force on     {overview['policyCurrentAgents']} of {overview['totalAgents']} agents",
    ]
    lines += _managers(overview.get("group"), now)
    lines += [_held_back(record, now) for record in overview.get("heldBack", ())]
    lines += [f"Refused         {refused_text(record, now)}" for record in overview.get("refusedRegistrations", ())]
    lines += [f"Warning         {sentence}" for sentence in overview.get("warnings", ())]
    lines += [_certificate(record) for record in overview.get("certificates", ())]
    return lines
