"""`panguard manager policies`: what admins set for the fleet, an organization or an agent."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manager.cli.commands import policy_revisions
from manager.cli.support.agent_lookup import find_machine
from manager.cli.support.connection import talks_to_manager
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import Output, OutputOption
from manager.cli.support.policy_scopes import Agent, Global, Organization, named_scope, path_of, read_document, warn

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="The fleet's policies.", no_args_is_help=True)


@app.command("list")
@talks_to_manager
def list_policies(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the scopes that have a document of their own."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.records("/api/policies")
    if output is Output.JSON:
        print_json(found)
        return
    columns = ("scope", "of", "revision", "when", "by", "sections")
    print_table(columns, [(each["scope"], each["target"], *_change(each)) for each in found])


@app.command("get")
@talks_to_manager
def get_policy(
    client: "ManagerClient",
    *,
    everybody: Global = False,
    organization: Organization = None,
    agent: Agent = None,
    effective: Annotated[bool, typer.Option(help="with --agent: what results of all scopes for it")] = False,
) -> None:
    """Print the document that was set, as it can be set again; of the whole fleet if nothing else is named."""
    from manager.cli.support.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

    if effective:
        if agent is None:
            raise CommandFailed(ExitCode.USAGE, "--effective needs --agent: only an agent has an effective policy")
        print_json(client.get(f"/api/policy/agent/{find_machine(client, agent)['agentId']}"))
        return
    named = everybody or organization or agent
    scope = named_scope(client, everybody=everybody or not named, organization=organization, agent=agent)
    print_json(client.get(path_of(*scope)))


@app.command("set")
@talks_to_manager
def set_policy(
    client: "ManagerClient",
    *,
    file: Annotated[Path, typer.Option("--file", help="the document, JSON; - reads standard input")],
    everybody: Global = False,
    organization: Organization = None,
    agent: Agent = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set the document of the fleet, an organization or an agent; it reaches every agent that it changes at once."""
    document = read_document(file)
    path = path_of(*named_scope(client, everybody=everybody, organization=organization, agent=agent))
    answer = client.answer("PUT", path, body=document)
    warn(answer)
    policy_revisions.print_done(answer["data"], output)


@app.command("remove")
@talks_to_manager
def remove_policy(
    client: "ManagerClient",
    *,
    everybody: Global = False,
    organization: Organization = None,
    agent: Agent = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take a document away: what is set for wider scopes, or by default, counts again."""
    path = path_of(*named_scope(client, everybody=everybody, organization=organization, agent=agent))
    policy_revisions.print_done(client.answer("DELETE", path)["data"], output)


@app.command("history")
@talks_to_manager
def history(
    client: "ManagerClient",
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the changes of the fleet's policies, newest first."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.records("/api/policies/history", most=limit)
    if output is Output.JSON:
        print_json(found)
        return
    columns = ("revision", "scope", "of", "when", "by", "sections")
    print_table(
        columns, [(number, each["scope"], each["target"], *rest) for each in found for number, *rest in [_change(each)]]
    )


app.command("diff")(policy_revisions.diff)
app.command("rollback")(policy_revisions.rollback)
app.command("broadcast")(policy_revisions.broadcast)
app.command("drift")(policy_revisions.drift)


def _change(change: "Record") -> tuple[object, ...]:
    sections = "taken away" if change["document"] is None else sorted(change["document"])
    return change["revision"], change["updatedAt"], change["author"], sections
