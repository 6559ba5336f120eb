"""Sends policy documents after a preview of their effect, and prints the result of a change."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.support.confirmation import confirm
from manager.cli.support.counting import counted
from manager.cli.support.options import Output
from manager.cli.support.policy_options import print_warnings

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

Message = Annotated[str | None, typer.Option("--message", "-m", help="the reason, shown in the history")]

_SHOWN = 160


def put_document(
    client: "ManagerClient",
    path: str,
    document: Any,
    *,
    dry_run: bool,
    message: str | None,
    yes: bool,
    output: Output,
    allow_unknown: bool = False,
) -> None:
    """Set a document, or print its effect for a dry run; on a terminal ask first, with the number of hosts.

    Raises:
        CommandFailed: the manager refuses it, or the operator does not confirm.
    """
    query = {"allow_unknown": allow_unknown or None, "message": message}
    tried = client.answer("PUT", path, {**query, "dry_run": True}, body=document)
    print_warnings(tried)
    if dry_run:
        print_dry_run(tried["data"], output)
        return
    if tried["data"]["changed"]:
        confirm(f"this changes the policy of {counted(tried['data']['agents'], 'host')}; set it?", yes=yes)
    print_change(client.answer("PUT", path, query, body=document)["data"], output)


def remove_document(
    client: "ManagerClient",
    path: str,
    empty: Any,
    *,
    dry_run: bool,
    message: str | None,
    yes: bool,
    output: Output,
) -> None:
    """Remove a document, or print the effect for a dry run; on a terminal ask first, with the number of hosts.

    `empty` is the document that sets no value: setting it has the effect on policies that removing it has.

    Raises:
        CommandFailed: the manager refuses it, or the operator does not confirm.
    """
    if dry_run or not yes:
        effect = client.answer("PUT", path, {"dry_run": True}, body=empty)["data"]
        if dry_run:
            print_dry_run(effect, output)
            return
        if effect["changed"]:
            confirm(
                f"this removes the document and changes the policy of {counted(effect['agents'], 'host')}; remove it?",
                yes=yes,
            )
    print_change(client.answer("DELETE", path, {"message": message})["data"], output)


def print_dry_run(effect: "Record", output: Output) -> None:
    """Print the differences that a document would make."""
    from manager.cli.support.printing import print_json, print_lines, print_table  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(effect)
    elif effect["differences"]:
        rows = [
            (each["path"], shown_value(each["before"]), shown_value(each["after"])) for each in effect["differences"]
        ]
        print_table(("what", "before", "after"), rows)
        print_lines(f"it would change the policy of {counted(effect['agents'], 'host')}")
    else:
        print_lines("it would change nothing in any policy")


def print_change(done: "Record", output: Output) -> None:
    """Print the result of a change of documents."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(done)
    elif done["changed"]:
        print_lines(f"revision {done['revision']}: a new policy for {counted(done['agents'], 'agent')}")
    else:
        print_lines(f"nothing changed; the fleet stays at revision {done['revision']}")


def shown_value(value: Any) -> str | None:
    """Return a value of a policy as text for a table."""
    return None if value is None else json.dumps(value, ensure_ascii=False)[:_SHOWN]
