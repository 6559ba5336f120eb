"""`panguard manager blocks`: blocks in force by incidents and by hand."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from manager.cli.commands.block_import import import_blocks
from manager.cli.support.agent_lookup import find_agent_id
from manager.cli.support.completion import agents, blocks
from manager.cli.support.counting import counted
from manager.cli.support.durations import ago, parse_timedelta, relative
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import EntryWord, Output, OutputOption
from manager.cli.support.organizations import AllowUnknown, check_organization

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Blocks in force: made by incidents, and by hand.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="one sentence for colleagues, at most 100 characters")]
Duration = Annotated[str, typer.Option("--for", help="duration: 90s, 15m, 4h or 7d, at most 366d")]
Organization = Annotated[str | None, typer.Option(help="block only in this organization")]
Agent = Annotated[str | None, typer.Option(help="block only on this agent, by id or hostname", autocompletion=agents)]
Force = Annotated[
    bool, typer.Option("--force", help="block although somebody logged in from there within 7 days; it is audited")
]


@app.command("list")
@with_manager_client
def list_blocks(
    client: "ManagerClient",
    *,
    value: Annotated[
        str | None, typer.Option(help="why an address is blocked: its blocks in full, with those of its networks")
    ] = None,
    kind: Annotated[EntryWord | None, typer.Option(help="only this kind")] = None,
    organization: Annotated[str | None, typer.Option(help="only those that hold in this organization")] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 200,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the blocks of addresses and file hashes in force, newest first; --kind lists others."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- the same
    from manager.cli.support.wrapping import print_details  # noqa: PLC0415 -- the same

    if value is None and kind is None:
        found = _newest(client, limit, organization)
    else:
        found = client.first_records("/api/blocks", limit, kind=kind, org_id=organization, value=value)
    now = datetime.now(UTC)
    if output is Output.JSON:
        print_json(found)
    elif value is not None:
        for number, each in enumerate(found):
            print_lines(*([""] if number else []))
            print_details(f"block {each['id']}", _details(each, now))
        print_lines(*_beside_blocks(client, value, organization, found=bool(found)))
    else:
        columns = ("block", "value", "enforced", "expires", "for", "accepted", "by", "set", "kind", "reason")
        print_fitted(columns, [_row(each, now) for each in found], kept=2)


def _newest(client: "ManagerClient", limit: int, organization: str | None) -> list["Record"]:
    """Return the newest blocks; raised sensitivity for a technique blocks nothing, and is not among them."""
    found: list[Record] = []
    for kind in ("ip", "file_hash"):
        found += client.records("/api/blocks", limit + 1, kind=kind, org_id=organization)
    found.sort(key=lambda each: str(each["createdAt"]), reverse=True)
    if len(found) > limit:
        typer.echo(f"only the first {limit} are listed: --limit lists more", err=True)
    return found[:limit]


@app.command("add")
@with_manager_client
def add_block(
    client: "ManagerClient",
    address: Annotated[str, typer.Argument(help="an address, or a CIDR of at most a /24 or /48")],
    *,
    duration: Duration = "4h",
    reason: Reason = None,
    organization: Organization = None,
    group: Annotated[str | None, typer.Option(help="block only on the agents of this policy group")] = None,
    agent: Agent = None,
    force: Force = False,
    allow_unknown: AllowUnknown = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Block an address or network by hand; without a scope in the whole fleet."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if not _is_address(address):
        raise CommandFailed(ExitCode.USAGE, f"{address} is no address and no CIDR: write 203.0.113.9 or 203.0.113.0/24")
    check_organization(client, organization, allow_unknown=allow_unknown)
    seconds = parse_timedelta(duration, least="1s", most="366d").total_seconds()
    body = {"value": address, "seconds": seconds, "reason": reason, "force": force or None}
    agent_id = None if agent is None else find_agent_id(client, agent)
    body |= {"organization": organization, "group": group, "agentId": agent_id}
    done = client.answer("POST", "/api/blocks", body={name: said for name, said in body.items() if said is not None})
    block = done["data"]
    if output is Output.JSON:
        print_json(block)
        return
    over = f"; overridden: {block['overrides']}" if block["overrides"] else ""
    exempt = [f"not on the hosts of {name}: its own rules keep the address free" for name in done.get("exempt", ())]
    place = holder_text(block) if agent is None else f"on {agent}"
    print_lines(
        f"block of {block['value']} {place} recorded for {counted(block['targetCount'], 'agent')} until "
        f"{block['expiresAt']} ({block['id']}){over}",
        *exempt,
        f"who has accepted it and who enforces it: panguard manager blocks list --value {block['value']}",
    )


@app.command("remove")
@with_manager_client
def remove_block(
    client: "ManagerClient",
    block: Annotated[
        str,
        typer.Argument(metavar="ID|ADDRESS", help="a block's id, blk-…; or an address or CIDR", autocompletion=blocks),
    ],
    *,
    organization: Annotated[str | None, typer.Option(help="lift an address only in this organization")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove one block by its id, or lift all blocks of an address: by incidents, by hand and by guards themselves.

    An incident of a removed block does not respond again. For five minutes after a lift the manager and the guards with
    a fence that take it do not block the address; the answer counts the agents that may keep a block of their own.
    """
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.wrapping import print_indented  # noqa: PLC0415 -- the same

    if _is_address(block):
        done = client.answer("DELETE", "/api/blocks", {"value": block, "org_id": organization})["data"]
        lines = _lifted(done)
    elif block.startswith("inc-"):
        raise CommandFailed(
            ExitCode.USAGE, f"{block} is an incident; to end its blocks: panguard manager incidents undo {block}"
        )
    elif not block.startswith("blk-"):
        raise CommandFailed(ExitCode.USAGE, f"{block} is no address, no CIDR and no id of a block, blk-…")
    else:
        done = client.answer("DELETE", f"/api/blocks/{quote(block, safe='')}")["data"]
        lines = [f"removed {done['id']}"]
    if output is Output.JSON:
        print_json(done)
    else:
        print_indented(*lines)


app.command("lift", help="Another name of `remove`.")(remove_block)
app.command("import")(import_blocks)


def holder_text(block: "Record") -> str:
    """Return for which hosts a block is, in words."""
    if block["scope"] == "fleet":
        return "in the whole fleet"
    place = {"organization": "in organization", "group": "in group", "agent": "on agent"}[block["scope"]]
    return f"{place} {block.get('hostname') or block['target']}"


def _row(block: "Record", now: datetime) -> tuple[object, ...]:
    return (
        block["id"],
        block["value"],
        f"{block['enforcedCount']} of {block['targetCount']}",
        relative(block["expiresAt"], now),
        block["hostname"] or block["target"] or "fleet",
        f"{block['acceptedCount']} of {block['targetCount']}",
        block["addedBy"] or block["incidentId"],
        ago(block["createdAt"], now),
        block["kind"],
        block["reason"],
    )


def _details(block: "Record", now: datetime) -> list[tuple[str, object]]:
    """Return the rows of one block: why, since when, by whom, on whom accepted and enforced, and how to lift it."""
    by = f"by hand: {block['addedBy']}" if block["addedBy"] else f"incident {block['incidentId']} (incidents show)"
    rows: list[tuple[str, object]] = [
        ("value", block["value"]),
        ("why", block["reason"]),
        ("made by", by),
        ("for", holder_text(block)),
        ("since", f"{block['createdAt']} ({ago(block['createdAt'], now)})"),
        ("until", f"{block['expiresAt']} ({relative(block['expiresAt'], now)})"),
        ("accepted", _hosts(block["acceptedCount"], block["targetCount"], block["acceptedBy"])),
        ("enforced", _hosts(block["enforcedCount"], block["targetCount"], block["enforcedBy"])),
    ]
    rows += [("not enforced", f"{each['hostname']}: {each['reason']}") for each in block["notEnforced"]]
    unnamed = block["targetCount"] - block["enforcedCount"] - len(block["notEnforced"])
    if unnamed > 0:
        rows.append(("not enforced", f"and {unnamed} more"))
    if block["overrides"]:
        rows.append(("overrides", block["overrides"]))
    return [*rows, ("to lift it", f"panguard manager blocks lift {block['value']}")]


def _hosts(count: int, of: int, named: list["Record"]) -> str:
    names = ", ".join(each["hostname"] for each in named)
    more = f" and {count - len(named)} more" if count > len(named) else ""
    return f"{count} of {of}" + (f": {names}{more}" if named else "")


def _lifted(done: "Record") -> list[str]:
    """Return what a lift did, and what it could not do."""
    stopped = len(done["incidents"])
    responds = "responds" if stopped == 1 else "respond"
    incidents = f", {counted(stopped, 'incident')} {responds} no more" if stopped else ""
    lines = [f"lifted {done['value']}: {counted(len(done['blocks']), 'block')} of the manager{incidents}"]
    if not done["blocks"]:
        lines = [f"no block of the manager was within {done['value']}: look whether it is the address that you meant"]
    ends = f"until {done['until']} the manager does not block it, and guards with a fence end blocks of their own"
    if not done["notReached"]:
        return [*lines, ends]
    except_those = f"except {done['notReached']} of {counted(done['agents'], 'agent')} that may keep or make one"
    return [
        *lines,
        f"{ends}, {except_those} (not online, over HTTP, or without a fence)",
        f"on those hosts: panguard guard unblock {done['value']}",
    ]


def _beside_blocks(client: "ManagerClient", value: str, organization: str | None, *, found: bool) -> list[str]:
    """Return the sentences on blocks of an address that are not in the list: of policy documents, and of guards."""
    lines = [] if found else [f"no block of the manager for {value} is in force"]
    for record in client.records("/api/policies"):
        if organization is not None and record["scope"] == "organization" and record["target"] != organization:
            continue
        scope = " ".join(filter(None, (record["scope"], record["target"])))
        lines += [f"the policy document {scope} blocks {blocked}" for blocked in _blocked_by(record, value)]
    if not found:
        source = f"panguard manager threats list --source {value}"
        lines.append(f"guards may have decided one themselves; threats that they report: {source}")
    return lines


def _blocked_by(record: "Record", value: str) -> list[str]:
    """Return the entries of a policy document that block an address or a part of a network, without expired ones."""
    from manager.domain.networks import network_of, overlap  # noqa: PLC0415 -- only where it is needed
    from manager.domain.policies.resolution import expiry_of, value_of  # noqa: PLC0415 -- the same
    from manager.domain.policies.rules import effects  # noqa: PLC0415 -- the same
    from manager.domain.policies.scopes import Scope, policy_of  # noqa: PLC0415 -- the same

    wanted, now = network_of(value), datetime.now(UTC).timestamp()
    document = policy_of(Scope(record["scope"], record["target"] or ""), record["document"])
    entries = [each for part in (document, *effects(document)) for each in (part.get("blocklist") or {}).get("ips", ())]
    blocked = [(value_of(each), network_of(value_of(each))) for each in entries if expiry_of(each) > now]
    covering = [text for text, network in blocked if wanted and network and overlap(network, wanted)]
    return list(dict.fromkeys(covering))


def _is_address(text: str) -> bool:
    from ipaddress import ip_network  # noqa: PLC0415 -- only where it is needed

    try:
        ip_network(text.strip(), strict=False)
    except ValueError:
        return False
    return True
