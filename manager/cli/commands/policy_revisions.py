"""The commands of `panguard manager policies` on the fleet as a whole: diff, rollback, broadcast, drift."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manager.cli.support.connection import talks_to_manager
from manager.cli.support.durations import ago
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.options import Output, OutputOption
from manager.cli.support.policy_scopes import Agent, Global, Organization, named_scope, read_document, warn

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

_SHOWN = 160

Before = Annotated[int | None, typer.Option("--from", min=1, help="compare the documents of this revision …")]
After = Annotated[int | None, typer.Option("--to", min=1, help="… with those of this one [default: the newest]")]
File = Annotated[Path | None, typer.Option("--file", help="a document that a scope might get, JSON; - reads stdin")]


@talks_to_manager
def diff(
    client: "ManagerClient",
    *,
    before: Before = None,
    after: After = None,
    file: File = None,
    everybody: Global = False,
    organization: Organization = None,
    agent: Agent = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what differs between two revisions, or what a document would change in what agents get."""
    from manager.cli.support.printing import print_json, print_lines, print_table  # noqa: PLC0415 -- rich takes a while to load

    if (before is None) == (file is None):
        raise CommandFailed(ExitCode.USAGE, "name --from (and --to), or --file with a scope")
    body: dict[str, Any]
    if file is None:
        body = {"from": before} if after is None else {"from": before, "to": after}
    else:
        document = read_document(file)
        scope, target = named_scope(client, everybody=everybody, organization=organization, agent=agent)
        body = {"scope": scope, "target": target, "document": document}
    answer = client.answer("POST", "/api/policies/diff", body=body)
    warn(answer)
    found = answer["data"]
    if output is Output.JSON:
        print_json(found)
    elif found:
        print_table(("scope", "of", "what", "before", "after"), [_difference(each) for each in found])
    else:
        print_lines("nothing differs")


@talks_to_manager
def rollback(
    client: "ManagerClient",
    revision: Annotated[int, typer.Argument(min=1, help="the revision whose documents shall count again")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Set every document back to what it was at a revision, as new revisions."""
    print_done(client.answer("POST", "/api/policies/rollback", body={"revision": revision})["data"], output)


@talks_to_manager
def broadcast(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """Publish every agent's policy and every blocklist again."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    done = client.answer("POST", "/api/policies/broadcast")["data"]
    if output is Output.JSON:
        print_json(done)
    else:
        print_lines(f"{done['agents']} policies go out again")


@talks_to_manager
def drift(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the agents that say something else is in force than what is meant for them."""
    from manager.cli.support.printing import print_json, print_lines, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.records("/api/policies/drift")
    if output is Output.JSON:
        print_json(found)
    elif found:
        now = datetime.now(UTC)
        columns = ("agent id", "hostname", "should have", "has", "state", "error", "since", "blocklist")
        print_table(columns, [_drift(each, now) for each in found])
    else:
        print_lines("every agent has what is meant for it")


def print_done(done: "Record", output: Output) -> None:
    """Print what became of a change of documents."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    if output is Output.JSON:
        print_json(done)
    elif done["changed"]:
        print_lines(
            f"revision {done['revision']}: a new policy for {done['agents']} agent{'s' * (done['agents'] != 1)}"
        )
    else:
        print_lines(f"nothing changed; the fleet stays at revision {done['revision']}")


def _difference(change: "Record") -> tuple[object, ...]:
    return change["scope"], change["target"], change["path"], _shown(change["before"]), _shown(change["after"])


def _shown(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)[:_SHOWN]


def _drift(record: "Record", now: datetime) -> tuple[object, ...]:
    same = record["version"] == record["versionInForce"] and record["digest"] != record["digestInForce"]
    should, have = record["blocklistSequence"], record["blocklistInForce"]
    has = f"{record['versionInForce']}, other content" if same else record["versionInForce"]
    return (
        record["agentId"],
        record["hostname"],
        record["version"],
        has,
        record["state"],
        record["error"],
        ago(record["since"], now),
        f"{have} → {should}" if have < should else should or None,
    )
