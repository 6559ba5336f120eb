"""`panguard manager policies`: documents by scope, their history, diff, rollback, drift; the source of a value."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.commands.policy_explanation import explain_policy
from manager.cli.support.agent_lookup import find_agent
from manager.cli.support.confirmation import Yes, confirm
from manager.cli.support.counting import counted
from manager.cli.support.durations import ago
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption
from manager.cli.support.organizations import check_organization
from manager.cli.support.policy_options import (
    Agent,
    Global,
    Group,
    Organization,
    path_of,
    print_warnings,
    read_document,
    scope_of,
    with_policy,
)
from manager.cli.support.policy_output import Message, print_change, put_document, remove_document, shown_value

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="The fleet's policies.", no_args_is_help=True)
app.command("explain")(explain_policy)

Before = Annotated[int | None, typer.Option("--from", min=1, help="the first revision of a comparison")]
After = Annotated[
    int | None, typer.Option("--to", min=1, help="the second revision of a comparison [default: the newest]")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show the effect only")]
File = Annotated[Path | None, typer.Option("--file", help="a document to try on a scope, JSON; - reads stdin")]


@app.command("list")
@with_manager_client
def list_policies(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the scopes that have a document of their own."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    found = client.records("/api/policies")
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    rows = [(each["scope"], each["target"], *_change(each, now)) for each in found]
    print_fitted(("scope", "of", "revision", "when", "by", "sections", "message"), rows, kept=2)


@app.command("get")
@with_manager_client
def get_policy(
    client: "ManagerClient",
    *,
    everybody: Global = False,
    organization: Organization = None,
    group: Group = None,
    agent: Agent = None,
    effective: Annotated[bool, typer.Option(help="with --agent: its effective policy, merged from all scopes")] = False,
) -> None:
    """Print a document as it was set, by default that of the whole fleet."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

    if effective:
        if agent is None:
            raise CommandFailed(ExitCode.USAGE, "--effective needs --agent: only an agent has an effective policy")
        print_json(client.get(f"/api/policy/agent/{find_agent(client, agent)['agentId']}"))
        return
    named = everybody or organization or group or agent
    scope = scope_of(client, everybody=everybody or not named, organization=organization, group=group, agent=agent)
    print_json(client.get(path_of(*scope)))


@app.command("set")
@with_manager_client
def set_policy(
    client: "ManagerClient",
    *,
    file: Annotated[Path, typer.Option("--file", help="the document, JSON; - reads standard input")],
    everybody: Global = False,
    organization: Organization = None,
    group: Group = None,
    agent: Agent = None,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="accept unknown fields with a warning, and an unknown organization")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check the document and show its effect only")] = False,
    message: Message = None,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set the document of the fleet, an organization or an agent; every affected agent gets it at once."""
    scope, target = scope_of(client, everybody=everybody, organization=organization, group=group, agent=agent)
    check_organization(client, organization, allow_unknown=allow_unknown)
    path = path_of(scope, target)
    document = with_policy(client, scope, path, read_document(file))
    put_document(
        client,
        path,
        document,
        dry_run=dry_run,
        message=message,
        yes=yes,
        output=output,
        allow_unknown=allow_unknown,
    )


@app.command("remove")
@with_manager_client
def remove_policy(
    client: "ManagerClient",
    *,
    everybody: Global = False,
    organization: Organization = None,
    group: Group = None,
    agent: Agent = None,
    dry_run: DryRun = False,
    message: Message = None,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a document: the wider scopes and the defaults apply again."""
    scope, target = scope_of(client, everybody=everybody, organization=organization, group=group, agent=agent)
    path = path_of(scope, target)
    empty = with_policy(client, scope, path, {})
    remove_document(client, path, empty, dry_run=dry_run, message=message, yes=yes, output=output)


@app.command("history")
@with_manager_client
def history(
    client: "ManagerClient",
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the changes of the fleet's policies, newest first."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- the same

    found = client.records("/api/policies/history", most=limit)
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    changes = [(each["scope"], each["target"], _change(each, now)) for each in found]
    rows = [(change[0], scope, target, *change[1:]) for scope, target, change in changes]
    print_fitted(("revision", "scope", "of", "when", "by", "sections", "message"), rows, kept=3)


@app.command("diff")
@with_manager_client
def diff(
    client: "ManagerClient",
    *,
    before: Before = None,
    after: After = None,
    file: File = None,
    everybody: Global = False,
    organization: Organization = None,
    group: Group = None,
    agent: Agent = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the differences of two revisions, or the effect of a document on the effective policies."""
    if (before is None) == (file is None):
        raise CommandFailed(ExitCode.USAGE, "name --from (and --to), or --file with a scope")
    body: dict[str, Any]
    if file is None:
        body = {"from": before} if after is None else {"from": before, "to": after}
    else:
        document = read_document(file)
        scope, target = scope_of(client, everybody=everybody, organization=organization, group=group, agent=agent)
        body = {"scope": scope, "target": target, "document": document}
    answer = client.answer("POST", "/api/policies/diff", body=body)
    print_warnings(answer)
    _print_differences(answer["data"], output)


@app.command("rollback")
@with_manager_client
def rollback(
    client: "ManagerClient",
    revision: Annotated[int, typer.Argument(min=1, help="the revision to restore, see history")],
    *,
    dry_run: DryRun = False,
    message: Message = None,
    yes: Yes = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Restore every document as it was after a revision, as new revisions; documents set since are removed."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    if dry_run or not yes:
        found = client.answer("POST", "/api/policies/diff", body={"from": revision})["data"]
        changes = [{**each, "before": each["after"], "after": each["before"]} for each in found]
        tried = client.answer("POST", "/api/policies/rollback", body={"revision": revision, "dryRun": True})["data"]
        if dry_run:
            _print_differences(changes, output)
            if output is Output.TABLE and not changes:
                print_lines(_NO_CHANGE)
            elif output is Output.TABLE:
                print_lines(f"it would change the policy of {counted(tried['agents'], 'host')}")
            return
        if changes:
            scopes = dict.fromkeys(" ".join(filter(None, (each["scope"], each["target"]))) for each in changes)
            confirm(
                f"this restores the state after revision {revision}: it changes {counted(len(scopes), 'document')}"
                f" ({', '.join(scopes)}) and the policy of {counted(tried['agents'], 'host')}; restore it?",
                yes=yes,
            )
    body = {"revision": revision, **({} if message is None else {"message": message})}
    print_change(client.answer("POST", "/api/policies/rollback", body=body)["data"], output)


@app.command("broadcast")
@with_manager_client
def broadcast(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Publish every agent's policy and every blocklist again."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    done = client.answer("POST", "/api/policies/broadcast")["data"]
    if output is Output.JSON:
        print_json(done)
    else:
        print_lines(f"{counted(done['agents'], 'policy is', 'policies are')} published again")


@app.command("drift")
@with_manager_client
def drift(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the agents whose policy in force, or mode, differs from their effective policy."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- the same

    found = client.records("/api/policies/drift")
    if output is Output.JSON:
        print_json(found)
    elif found:
        now = datetime.now(UTC)
        columns = (
            "agent id", "hostname", "differs", "policy", "mode", "blocklist", "state", "error", "since",
        )  # fmt: skip
        print_fitted(columns, [_drift(each, now) for each in found], kept=2)
    else:
        print_lines("every agent has its effective policy in force, in the mode that it sets")


_NO_CHANGE = "to take back a change, name the revision before it: a rollback restores the state after the one named"


def _change(change: "Record", now: datetime) -> tuple[object, ...]:
    sections = "removed" if change["document"] is None else sorted(change["document"])
    return change["revision"], ago(change["updatedAt"], now), change["author"], sections, change["message"]


def _print_differences(found: list["Record"], output: Output) -> None:
    from manager.cli.support.printing import print_json, print_lines, print_table  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(found)
    elif found:
        print_table(("scope", "of", "what", "before", "after"), [_difference(each) for each in found], whole=3)
    else:
        print_lines("nothing differs")


def _difference(change: "Record") -> tuple[object, ...]:
    return (
        change["scope"],
        change["target"],
        change["path"],
        shown_value(change["before"]),
        shown_value(change["after"]),
    )


def _drift(record: "Record", now: datetime) -> tuple[object, ...]:
    mode, wanted = record["mode"], record["policyMode"]
    same = record["version"] == record["versionInForce"] and record["digest"] != record["digestInForce"]
    should, have = record["blocklistSequence"], record["blocklistInForce"]
    other_policy = record["digest"] != record["digestInForce"]
    policy = f"{record['versionInForce']} → {record['version']}" if other_policy else record["version"]
    other_mode = wanted is not None and mode not in {None, wanted}
    differs = [name for name, is_so in (("mode", other_mode), ("blocklist", have < should)) if is_so]
    if other_policy or record["state"] != "applied" or not differs:
        differs.insert(0, "policy")
    return (
        record["agentId"],
        record["hostname"],
        differs,
        f"{record['version']}, other content" if same else policy,
        f"{mode} → {wanted}" if other_mode else mode,
        f"{have} → {should}" if have < should else should or None,
        record["state"],
        record["error"],
        ago(record["since"], now),
    )
