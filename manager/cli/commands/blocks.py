"""`panguard manager blocks`: emergency entries of incidents."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from manager.cli.support.completion import blocks
from manager.cli.support.durations import ago
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import EntryWord, Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(help="Blocks put in force by incidents.", no_args_is_help=True)


@app.command("list")
@with_manager_client
def list_blocks(
    client: "ManagerClient",
    *,
    kind: Annotated[EntryWord | None, typer.Option(help="only this kind")] = None,
    organization: Annotated[str | None, typer.Option(help="only this organization")] = None,
    limit: Annotated[int, typer.Option(min=1, help="maximum number of rows")] = 200,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the entries in force, newest first."""
    from manager.cli.support.printing import print_json, print_table  # noqa: PLC0415 -- rich takes a while to load

    found = client.records("/api/blocks", most=limit, kind=kind, org_id=organization)
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    print_table(
        ("block", "kind", "value", "scope", "for", "accepted", "enforced", "set", "expires", "incident", "reason"),
        [
            (
                each["id"],
                each["kind"],
                each["value"],
                each["scope"],
                each["target"],
                f"{each['acceptedCount']} of {each['targetCount']}",
                enforced_text(each),
                ago(each["createdAt"], now),
                each["expiresAt"],
                each["incidentId"],
                each["reason"],
            )
            for each in found
        ],
    )


def enforced_text(block: "Record") -> str:
    """Return the number of a block's targets whose kernels have it, and the first reason of one that has not."""
    counts = f"{block['enforcedCount']} of {block['targetCount']}"
    reasons = block["notEnforced"]
    return f"{counts} ({reasons[0]['hostname']}: {reasons[0]['reason']})" if reasons else counts


@app.command("remove")
@with_manager_client
def remove_block(
    client: "ManagerClient",
    block_id: Annotated[str, typer.Argument(help="the block's id, blk-…", autocompletion=blocks)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove a block; its incident does not respond again."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    done = client.answer("DELETE", f"/api/blocks/{quote(block_id, safe='')}")["data"]
    if output is Output.JSON:
        print_json(done)
    else:
        print_lines(f"removed {done['id']}")
