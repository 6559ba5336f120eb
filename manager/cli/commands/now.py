"""`panguard manager now`: one screen with the incidents, blocks and agents that need attention, with commands."""

import shlex
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.support.counting import counted
from manager.cli.support.durations import ago, parse_time
from manager.cli.support.escaping import printable
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

_NEW = "24h"
_LIMIT = 2000
_SHOWN = 5
_HOSTS_SHOWN = 5
_BLOCK_MEMBERS = ("kind", "value", "organizationId", "site", "reason", "addedBy", "incidentId")
_NOT_HOLDING = ("ineffective", "refused", "impossible", "failed")
_NOT_ENFORCING = ["impossible", "simulated", "unknown"]
_FORWARDED_OPTIONS = ("manager", "auth_token_file", "data_dir", "ca_file")

_ENFORCEMENTS = {
    "impossible": "it can block nothing: no fence, or in a container",
    "simulated": "its fence only simulates",
    "unknown": "it does not say whether it can block",
}

Limit = Annotated[int, typer.Option(min=1, help="maximum number of lines in each section")]


@with_manager_client
def now(
    client: "ManagerClient", context: typer.Context, limit: Limit = _SHOWN, output: OutputOption = Output.TABLE
) -> None:
    """Show what needs attention: incidents, blocks and their undo, approvals, silent agents, refused registrations."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

    at = datetime.now(UTC)
    situation = _situation(client, at, _commands(context))
    if output is Output.JSON:
        print_json(situation)
    else:
        _print(situation, at, limit)


def _commands(context: typer.Context) -> Callable[..., str]:
    """Return a function that formats a command line for this manager, with the current options except secrets."""
    options: list[str] = []
    for name in _FORWARDED_OPTIONS:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            options += [f"--{name.replace('_', '-')}", str(context.params[name])]
    if context.params["insecure"]:
        options.append("--insecure")

    def write(*words: str) -> str:
        return shlex.join(["panguard", "manager", *words, *options])

    return write


def _situation(client: "ManagerClient", at: datetime, write: Callable[..., str]) -> "Record":
    """Collect the content of the screen, with the commands to act on it."""
    waiting = client.records("/api/incidents", most=_LIMIT, response="pending_approval", merged="false")
    waiting.sort(key=lambda incident: incident["approvalExpiresAt"] or "")
    overview = client.get("/api/overview")
    opened = client.records("/api/incidents", most=_LIMIT, since=parse_time(_NEW, at), chronic="false", merged="false")
    return {
        "at": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "manager": client.url,
        "responses": client.get("/api/responses"),
        "thaw": write("responses", "thaw"),
        "newIncidents": opened,
        "blocks": _blocks(client, write),
        "approvals": [{**each, "approve": write("incidents", "approve", each["id"])} for each in waiting],
        "silence": _stale_by_site(client.records("/api/agents", most=_LIMIT, status="stale")),
        "degraded": [_degraded(agent) for agent in client.records("/api/agents", most=_LIMIT, health="degraded")],
        **_unenforced(client.records("/api/agents", most=_LIMIT, unenforced="true")),
        "modes": [_mode_of(agent) for agent in client.records("/api/agents", most=_LIMIT, unconfirmed="true")],
        "withoutEffect": [
            _mode_of(agent)
            for agent in client.records("/api/agents", most=_LIMIT, mode="protection", enforcement=_NOT_ENFORCING)
        ],
        "heldBack": overview["heldBack"],
        "refusedRegistrations": overview["refusedRegistrations"],
        "warnings": overview["warnings"],
        "notReady": overview.get("notReady"),
        "mutes": [
            {**each, "unmute": write("notifications", "unmute", each["id"])}
            for each in client.get("/api/notifications/mutes")
        ],
        "chronicIncidents": len(client.records("/api/incidents", most=_LIMIT, chronic="true", open="true")),
    }


def _blocks(client: "ManagerClient", write: Callable[..., str]) -> list["Record"]:
    """Return the blocks, organization-wide ones first: one record per incident and value, with its undo command."""
    entries = [entry for kind in ("ip", "file_hash") for entry in client.records("/api/blocks", most=_LIMIT, kind=kind)]
    together: dict[tuple[str, str], list[Record]] = {}
    for entry in entries:
        # A pruned incident cannot be undone as a whole, only entry by entry.
        key = entry["incidentId"] if entry["incidentKept"] else entry["id"]
        together.setdefault((key, entry["value"]), []).append(entry)
    blocks = []
    for (key, _), of_one in together.items():
        first = of_one[0]
        undo = ("incidents", "undo", key) if first["incidentKept"] else ("blocks", "remove", key)
        counted = [entry for entry in of_one if entry["scope"] in {"fleet", "organization"}]
        wide = bool(counted)
        counted = counted or of_one
        blocks.append(
            {
                **{name: first[name] for name in _BLOCK_MEMBERS},
                "organizationWide": wide,
                "targetCount": sum(entry["targetCount"] for entry in counted),
                "acceptedCount": sum(entry["acceptedCount"] for entry in counted),
                "enforcedCount": sum(entry["enforcedCount"] for entry in counted),
                "notEnforced": [reason for entry in counted for reason in entry["notEnforced"]],
                "agents": sum(1 if entry["scope"] == "agent" else entry["targetCount"] for entry in of_one),
                "expiresAt": max(entry["expiresAt"] for entry in of_one),
                "undo": write(*undo),
            }
        )
    return sorted(blocks, key=lambda block: not block["organizationWide"])


def _degraded(agent: "Record") -> "Record":
    """Return an agent that is degraded, with the sources that are not well."""
    sources = [source for source in agent["sources"] if source["state"] != "ok"]
    return {"agentId": agent["agentId"], "hostname": agent["hostname"], "sources": sources}


def _unenforced(agents: Iterable["Record"]) -> "Record":
    """Return the number of blocks that agents say do not hold, and those of them that they give a reason for."""
    reasons: list[Record] = []
    count = 0
    for agent in agents:
        given = agent["enforced"].get("reasons", ())
        reasons += [{"agentId": agent["agentId"], "hostname": agent["hostname"], **reason} for reason in given]
        count += max(len(given), sum(agent["enforced"].get(name, 0) for name in _NOT_HOLDING))
    return {"unenforced": reasons, "unenforcedCount": count}


def _mode_of(agent: "Record") -> "Record":
    """Return an agent whose mode is on trial, or not the one that it wants."""
    members = ("agentId", "hostname", "mode", "modeWanted", "trialSecondsLeft", "enforcement")
    return {name: agent[name] for name in members}


def _stale_by_site(agents: Iterable["Record"]) -> dict[str, list["Record"]]:
    """Group stale agents by site, the longest silent first."""
    by_site: dict[str, list[Record]] = {}
    for agent in sorted(agents, key=lambda each: each["statusSince"]):
        members = ("agentId", "hostname", "organizationId", "statusSince", "reason")
        by_site.setdefault(agent["site"] or agent["reportedSite"] or "", []).append(
            {name: agent[name] for name in members}
        )
    return dict(sorted(by_site.items(), key=lambda each: -len(each[1])))


def _print(situation: "Record", at: datetime, limit: int) -> None:
    from rich.text import Text  # noqa: PLC0415 -- rich takes a while to load

    from manager.cli.support.wrapping import print_indented  # noqa: PLC0415 -- the same

    responses = situation["responses"]
    if responses["frozen"]:
        shouted = f" AUTOMATIC RESPONSE IS FROZEN. To resume it: {situation['thaw']} "
        print_indented(Text(printable(shouted), "bold white on red"))
    elif responses["simulation"]:
        print_indented(Text("Automatic response is only simulated.", "bold yellow"))
    print_indented(
        *([f"Not ready: {situation['notReady']}"] if situation["notReady"] else []),
        *(f"Warning: {sentence}" for sentence in situation["warnings"]),
        *_section(f"New incidents in {_NEW}", situation["newIncidents"], lambda each: _incident(each, at), limit),
        *_section("Blocks decided", situation["blocks"], _block, limit),
        *_section("Wait for approval", situation["approvals"], _approval, limit),
        *_silent(situation["silence"], at, limit),
        *_section("Degraded agents", situation["degraded"], _unwell, limit),
        *_unheld(situation["unenforced"], situation["unenforcedCount"], limit),
        *_section("Modes on trial, or not the wanted one", situation["modes"], _mode, limit),
        *_section("In mode protection, and not known to block", situation["withoutEffect"], _powerless, limit),
        *_section("Reports held back", situation["heldBack"], _undelivered, limit),
        *_section("Refused registrations", situation["refusedRegistrations"], lambda each: _refused(each, at), limit),
        *_section("Muted notifications", situation["mutes"], lambda each: _muted(each, at), limit),
        f"Chronic incidents: {situation['chronicIncidents']}",
    )


def _section(
    title: str, records: list["Record"], lines_of: Callable[["Record"], tuple[str, ...]], limit: int
) -> Iterator[str]:
    yield f"{title}: {len(records)}"
    for record in records[:limit]:
        yield from lines_of(record)
    if len(records) > limit:
        yield f"  … and {len(records) - limit} more: --limit, or -o json, shows them"


def _incident(incident: "Record", at: datetime) -> tuple[str]:
    late = ", late" if incident["late"] else ""
    from manager.cli.commands.incident_details import response_word, vouched_text  # noqa: PLC0415 -- only to print

    who = f"{vouched_text(incident)} of {incident['organizationId']} vouched"
    answered = f"{response_word(incident)}, {incident['responseReason']}"
    what = f"{incident['kind']} {incident['value']}"
    return (f"  {incident['id']}  {ago(incident['openedAt'], at)}{late}: {what}, {who}; {answered}",)


def _block(block: "Record") -> tuple[str, ...]:
    everybody = f"all of {block['organizationId']}" if block["organizationId"] else "the whole fleet"
    where = everybody if block["organizationWide"] else counted(block["agents"], "agent")
    said = (
        f"  {block['kind']} {block['value']} on {where}, accepted by {block['acceptedCount']} and enforced by "
        f"{block['enforcedCount']} of {block['targetCount']}, until {block['expiresAt']}: {block['reason']}"
    )
    others = block["targetCount"] - block["enforcedCount"] - 1
    more = f"; and not on {others} more" if others > 0 else ""
    told = [f"    not on {each['hostname']}: {each['reason']}{more}" for each in block["notEnforced"][:1]]
    return said, *told, f"    undo: {block['undo']}"


def _approval(incident: "Record") -> tuple[str, str]:
    from manager.cli.commands.incident_details import vouched_text  # noqa: PLC0415 -- only to print

    what = f"{incident['kind']} {incident['value']}, {vouched_text(incident)} vouched"
    said = f"  {what}, until {incident['approvalExpiresAt']}: {incident['responseReason']}"
    return said, f"    approve: {incident['approve']}"


def _unwell(agent: "Record") -> tuple[str]:
    sources = "; ".join(f"{each['name']} {each['state']}: {each.get('reason', '')}" for each in agent["sources"])
    return (f"  {agent['hostname']} ({agent['agentId']}): {sources}",)


def _unheld(reasons: list["Record"], count: int, limit: int) -> Iterator[str]:
    _, *lines = _section("", reasons, _not_enforced, limit)
    yield f"Blocks that guards say do not hold: {count}"
    yield from lines
    if count > len(reasons):
        yield f"  … and {count - len(reasons)} without a reason: a guard names five at most"


def _not_enforced(record: "Record") -> tuple[str]:
    return (f"  {record['value']} on {record['hostname']} ({record['agentId']}): {record['reason']}",)


def _mode(agent: "Record") -> tuple[str]:
    from manager.cli.commands.agents import mode_text  # noqa: PLC0415 -- only to print

    return (f"  {agent['hostname']} ({agent['agentId']}): {mode_text(agent)}",)


def _powerless(agent: "Record") -> tuple[str]:
    said = _ENFORCEMENTS[agent["enforcement"]]
    return (f"  {agent['hostname']} ({agent['agentId']}): {said}",)


def _undelivered(record: "Record") -> tuple[str]:
    since = f"none stored since {record['since']}"
    return (f"  {record['hostname']} ({record['agentId']}): {record['waiting']} wait, {since}",)


def _refused(record: "Record", at: datetime) -> tuple[str]:
    from manager.cli.support.printing import refused_text  # noqa: PLC0415 -- rich takes a while to load

    return (f"  {refused_text(record, at)}",)


def _muted(mute: "Record", at: datetime) -> tuple[str, ...]:
    from manager.cli.commands.notifications import mute_texts  # noqa: PLC0415 -- only to print

    return *(f"  {text}" for text in mute_texts([mute], at)), f"    end it: {mute['unmute']}"


def _silent(silence: dict[str, list["Record"]], at: datetime, limit: int) -> list[str]:
    lines = [f"Silent agents: {sum(len(agents) for agents in silence.values())}"]
    for site, agents in list(silence.items())[:limit]:
        names = ", ".join(f"{agent['hostname']} ({ago(agent['statusSince'], at)})" for agent in agents[:_HOSTS_SHOWN])
        more = f" and {len(agents) - _HOSTS_SHOWN} more" if len(agents) > _HOSTS_SHOWN else ""
        lines.append(f"  {f'site {site}' if site else 'without a site'}: {len(agents)}, {names}{more}")
    if len(silence) > limit:
        lines.append(f"  … and {counted(len(silence) - limit, 'further site')}")
    return lines
