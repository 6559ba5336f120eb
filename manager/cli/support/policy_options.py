"""Options that name a policy scope, and reading of policy documents from files."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.support.agent_lookup import find_agent
from manager.cli.support.completion import agents as complete_agents
from manager.cli.support.completion import groups as complete_groups
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.limited_input import InputTooLargeError, read_text

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient

Global = Annotated[bool, typer.Option("--global", help="the document of the whole fleet")]
Organization = Annotated[str | None, typer.Option("--organization", help="an organization's document")]
Agent = Annotated[
    str | None,
    typer.Option("--agent", help="one agent's document, by id or hostname", autocompletion=complete_agents),
]


Group = Annotated[str | None, typer.Option("--group", help="a policy group's document", autocompletion=complete_groups)]


def scope_of(
    client: "ManagerClient", *, everybody: bool, organization: str | None, group: str | None, agent: str | None
) -> tuple[str, str | None]:
    """Return the named scope and its target.

    Raises:
        CommandFailed: no scope was named, or more than one.
    """
    if [everybody, organization is not None, group is not None, agent is not None].count(True) != 1:
        raise CommandFailed(ExitCode.USAGE, "name one of --global, --organization, --group and --agent")
    if group is not None:
        return "group", group
    if organization is not None:
        return "organization", organization
    return ("global", None) if agent is None else ("agent", str(find_agent(client, agent)["agentId"]))


def with_policy(client: "ManagerClient", scope: str, path: str, policy: Any) -> Any:
    """Return the document to set for a policy: the policy itself, or the group with it, which must be there."""
    if scope != "group":
        return policy
    found = client.get(path)
    return {**{member: found[member] for member in ("selector", "priority", "organization")}, "policy": policy}


def path_of(scope: str, target: str | None) -> str:
    """Return the API path of a scope's document."""
    from urllib.parse import quote  # noqa: PLC0415 -- only here

    return "/api/policies/global" if target is None else f"/api/policies/{scope}s/{quote(target, safe='')}"


def read_document(file: Path) -> Any:
    """Read JSON from a file, or from standard input for ``-``.

    Raises:
        CommandFailed: the file cannot be read or is not JSON.
    """
    try:
        return json.loads(read_text(file))
    except OSError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{file} cannot be read: {error.strerror}") from error
    except InputTooLargeError as error:
        raise CommandFailed(ExitCode.FAILURE, f"{file} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CommandFailed(ExitCode.FAILURE, f"{file} is no JSON: {error}") from error


def print_warnings(answer: dict[str, Any]) -> None:
    """Print the warnings of an answer on standard error."""
    for warning in answer.get("warnings", ()):
        sys.stderr.write(f"warning: {json.dumps(warning)[1:-1]}\n")
