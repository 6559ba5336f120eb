"""`panguard manager policies`: what admins set for the fleet, an organization or an agent."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.connection import talks_to_manager
from manager.cli.failures import CommandFailed, ExitCode
from manager.cli.machines import find_machine
from manager.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.client import ManagerClient

app = typer.Typer(help="The fleet's policies.", no_args_is_help=True)

Global = Annotated[bool, typer.Option("--global", help="the document of the whole fleet")]
Organization = Annotated[str | None, typer.Option("--organization", help="an organization's document")]
Agent = Annotated[str | None, typer.Option("--agent", help="one agent's document, by its id or hostname")]


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
    from manager.cli.printing import print_json  # noqa: PLC0415 -- rich takes a while to load

    if effective:
        if agent is None:
            raise CommandFailed(ExitCode.USAGE, "--effective needs --agent: only an agent has an effective policy")
        print_json(client.get(f"/api/policy/agent/{find_machine(client, agent)['agentId']}"))
        return
    named = everybody or organization or agent
    print_json(client.get(_path(client, everybody=everybody or not named, organization=organization, agent=agent)))


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
    from manager.cli.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    document = _document(file)
    path = _path(client, everybody=everybody, organization=organization, agent=agent)
    answer = client.answer("PUT", path, body=document)
    for warning in answer.get("warnings", ()):
        sys.stderr.write(f"warning: {json.dumps(warning)[1:-1]}\n")
    done = answer["data"]
    if output is Output.JSON:
        print_json(done)
    elif done["changed"]:
        print_lines(f"revision {done['revision']}: {done['agents']} agents get a new policy")
    else:
        print_lines(f"nothing changed; the fleet stays at revision {done['revision']}")


@app.command("history")
@talks_to_manager
def history(
    client: "ManagerClient",
    limit: Annotated[int, typer.Option(min=1, help="how many at most")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the changes of the fleet's policies, newest first."""
    from manager.cli.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.records("/api/policies/history", most=limit)
    if output is Output.JSON:
        print_json(found)
        return
    print_table(
        ("revision", "scope", "of", "when", "by", "sections"),
        [
            (
                change["revision"],
                change["scope"],
                change["target"],
                change["updatedAt"],
                change["author"],
                "taken away" if change["document"] is None else sorted(change["document"]),
            )
            for change in found
        ],
    )


def _path(client: "ManagerClient", *, everybody: bool, organization: str | None, agent: str | None) -> str:
    if [everybody, organization is not None, agent is not None].count(True) != 1:
        raise CommandFailed(ExitCode.USAGE, "name one of --global, --organization and --agent")
    if organization is not None:
        return f"/api/policies/organizations/{_segment(organization)}"
    return "/api/policies/global" if agent is None else f"/api/policies/agents/{find_machine(client, agent)['agentId']}"


def _segment(text: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 -- only here

    return quote(text, safe="")


def _document(file: Path) -> Any:
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text("utf-8"))
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CommandFailed(ExitCode.FAILURE, f"{file} is no JSON: {error}") from error
