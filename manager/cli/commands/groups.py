"""`panguard manager groups`: policy groups, the policies of agents with certain tags or at certain sites."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from manager.cli.support.completion import groups as complete_groups
from manager.cli.support.confirmation import Yes
from manager.cli.support.escaping import printable
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import ModeWord, Output, OutputOption
from manager.cli.support.organizations import AllowUnknown, check_organization
from manager.cli.support.policy_options import read_document, with_policy
from manager.cli.support.policy_output import Message, put_document, remove_document

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(
    help="Policy groups: a policy for the agents with certain tags or at certain sites.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="the group's name", autocompletion=complete_groups)]

_PATH = "/api/policies/groups"


@app.command("list")
@with_manager_client
def list_groups(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the groups in the order in which they apply; a later one takes precedence."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    found = client.records(_PATH)
    if output is Output.JSON:
        print_json(found)
        return
    ordered = sorted(found, key=lambda each: (each["organization"] or "", each["priority"]))
    columns = ("group", "in protection", "priority", "selects", "sets", "organization")
    print_fitted(columns, [_row(each) for each in ordered], kept=2)


@app.command("show")
@with_manager_client
def show_group(client: "ManagerClient", name: Name) -> None:
    """Print a group as JSON, with the number of its agents."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

    print_json(client.get(_path_of(name)))


@app.command("set")
@with_manager_client
def set_group(
    client: "ManagerClient",
    name: Name,
    *,
    tag: Annotated[list[str] | None, typer.Option(help="agents with this tag; repeatable, all must match")] = None,
    any_tag: Annotated[list[str] | None, typer.Option(help="agents with one of these tags; repeatable")] = None,
    site: Annotated[list[str] | None, typer.Option(help="agents at one of these sites; repeatable")] = None,
    priority: Annotated[
        int | None, typer.Option(min=0, help="order among groups: a higher one takes precedence")
    ] = None,
    organization: Annotated[
        str | None, typer.Option(help="only this organization's agents; an empty text means all")
    ] = None,
    allow_unknown: AllowUnknown = False,
    file: Annotated[Path | None, typer.Option(help="the policy, JSON; - reads standard input")] = None,
    mode: Annotated[ModeWord | None, typer.Option(help="set this mode in the policy")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check the group and show its effect only")] = False,
    message: Message = None,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set a group, or change what is named of one; its agents get the policy at once."""
    check_organization(client, organization or None, allow_unknown=allow_unknown)
    group = _current(client, name)
    selector = {"tagsAll": tag, "tagsAny": any_tag, "sites": site}
    named = {member: values for member, values in selector.items() if values}
    if named:
        group["selector"] = named
    if priority is not None:
        group["priority"] = priority
    if organization is not None:
        group["organization"] = organization or None
    if file is not None:
        group["policy"] = read_document(file)
    if mode is not None:
        group["policy"] = {**group["policy"], "mode": mode}
    _require(group, name)
    _warn_of_unknown(client, [*(tag or ()), *(any_tag or ())], site or ())
    put_document(client, _path_of(name), group, dry_run=dry_run, message=message, yes=yes, output=output)


@app.command("remove")
@with_manager_client
def remove_group(
    client: "ManagerClient",
    name: Name,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the effect only")] = False,
    message: Message = None,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a group with its policy."""
    path = _path_of(name)
    empty = with_policy(client, "group", path, {})
    remove_document(client, path, empty, dry_run=dry_run, message=message, yes=yes, output=output)


def _warn_of_unknown(client: "ManagerClient", tags: Iterable[str], sites: Iterable[str]) -> None:
    """Name on standard error each tag and site that no agent has, and how many agents report it themselves."""
    for tag in tags:
        if not client.records("/api/agents", most=1, tag=tag):
            reporting = sum(tag in agent["reportedTags"] for agent in client.records("/api/agents"))
            _warn(f"no agent has tag {tag}", "tag", "reportedTags", reporting)
    for site in sites:
        if not client.records("/api/agents", most=1, site=site):
            reporting = sum(site == agent["reportedSite"] for agent in client.records("/api/agents"))
            _warn(f"no agent is at site {site}", "site", "reportedSite", reporting)


def _warn(what: str, option: str, member: str, reporting: int) -> None:
    but = f"; {reporting} report it themselves ({member}), which chooses no group" if reporting else ""
    sys.stderr.write(printable(f"warning: {what}{but}: panguard manager agents set --{option}") + "\n")


def _path_of(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"


def _current(client: "ManagerClient", name: str) -> dict[str, Any]:
    """Return the group of this name as it is set, or an empty one."""
    try:
        found = client.get(_path_of(name))
    except CommandFailed as failure:
        if failure.code is not ExitCode.NOT_FOUND:
            raise
        return {"policy": {}}
    return {member: found[member] for member in ("selector", "priority", "organization", "policy")}


def _require(group: dict[str, Any], name: str) -> None:
    if "selector" not in group:
        raise CommandFailed(ExitCode.USAGE, f"there is no group {name} yet: name --tag, --any-tag or --site")
    if "priority" not in group:
        raise CommandFailed(ExitCode.USAGE, f"there is no group {name} yet: name its --priority")


def _row(group: "Record") -> tuple[object, ...]:
    selector = group["selector"]
    parts = [
        " and ".join(f"tag {tag}" for tag in selector.get("tagsAll", ())),
        " or ".join(f"tag {tag}" for tag in selector.get("tagsAny", ())),
        " or ".join(f"site {site}" for site in selector.get("sites", ())),
    ]
    selects = "; ".join(part for part in parts if part)
    organization = group["organization"] or "all"
    sets = [
        name if isinstance(value, dict | list) else f"{name} {value}" for name, value in sorted(group["policy"].items())
    ]
    return group["name"], protection_text(group), group["priority"], selects, sets, organization


def protection_text(group: "Record") -> str:
    """Return how many of a group's agents are in mode protection, how many should be, and how many can block."""
    protected, wanted, blocking = group["inProtection"], group["setToProtection"], group["blocking"]
    remarks = []
    if wanted != protected:
        remarks.append(f"{wanted:,} should be")
    if blocking != protected:
        remarks.append(f"{blocking:,} can block")
    return f"{protected:,} of {group['agents']:,}" + (f" ({', '.join(remarks)})" if remarks else "")
