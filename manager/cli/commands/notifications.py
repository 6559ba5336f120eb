"""`panguard manager notifications`: channels with their state, tests, history, pauses, acknowledgements and mutes."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from manager.cli.support.agent_lookup import find_agent_id
from manager.cli.support.durations import parse_timedelta, relative
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import with_manager_client
from manager.cli.support.options import Output, OutputOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manager.cli.support.client import ManagerClient, Record

app = typer.Typer(
    help="Notification channels: state, tests, history, pauses and mutes.",
    no_args_is_help=True,
)

TopicWord = Literal["got_in", "we_hurt", "waits", "blind", "system", "flapping", "notice"]

_COLUMNS = ("name", "type", "state", "sent", "last sent", "waiting", "given up", "not told", "destination")
_Name = Annotated[str, typer.Argument(metavar="NAME", help="the channel's name")]
_For = Annotated[str, typer.Option("--for", help="how long: 30m, 2h, 1d")]


@app.command("list")
@with_manager_client
def list_channels(client: "ManagerClient", output: OutputOption = Output.TABLE) -> None:
    """List the channels: where they deliver to, without secrets, and whether they do; and the mutes in force."""
    from manager.cli.support.fitted_table import print_fitted  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- the same
    from manager.cli.support.wrapping import print_wrapped  # noqa: PLC0415 -- the same

    found = client.get("/api/notifications")
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    if not found:
        print_lines("There is no channel: define [notifications.NAME] in manager.toml")
        print_wrapped(mute_texts(client.get("/api/notifications/mutes"), now))
        return
    print_fitted(_COLUMNS, [_row(each, now) for each in found], kept=3)
    for each in found:
        if each["state"] == "failing":
            print_lines(f"{each['name']} fails since {relative(each['failingSince'], now)}: {each['reason']}")
        if each["state"] == "paused":
            print_lines(f"{each['name']} is paused until {each['pausedUntil']}")
        if each["keyFile"] is not None:
            print_lines(f"{each['name']} signs with the key in {each['keyFile']}")
    print_wrapped(mute_texts(client.get("/api/notifications/mutes"), now))


@app.command("test")
@with_manager_client
def send_test(client: "ManagerClient", name: _Name, output: OutputOption = Output.TABLE) -> None:
    """Send a test through event table, notifier and channel, and wait until it is delivered."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load

    result = client.answer("POST", f"/api/notifications/{_quoted(name)}/test", body={})["data"]
    if output is Output.JSON:
        print_json(result)
    elif result["delivered"]:
        print_lines(f"delivered to {name}")
    if not result["delivered"]:
        raise CommandFailed(ExitCode.FAILURE, f"not delivered to {name}: {result['reason']}")


@app.command("history")
@with_manager_client
def list_messages(
    client: "ManagerClient",
    *,
    channel: Annotated[str | None, typer.Option(help="only this channel")] = None,
    limit: Annotated[int, typer.Option(min=1, help="at most so many messages")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List messages to people, and messages that failed, newest first."""
    from manager.cli.support.printing import print_json, print_lines  # noqa: PLC0415 -- rich takes a while to load
    from manager.cli.support.wrapping import print_indented  # noqa: PLC0415 -- the same

    query = {} if channel is None else {"channel": channel}
    found = client.first_records("/api/notifications/history", limit, **query)
    if output is Output.JSON:
        print_json(found)
        return
    now = datetime.now(UTC)
    if not found:
        print_lines("none")
    for each in found:
        state = f"{each['state'].replace('_', ' ')}, {each['severity']}"
        print_lines(f"{relative(each['createdAt'], now)}  {each['channel']}  {each['group']}  {state}")
        print_indented(f"    {each['title']}", *([f"    {each['reason']}"] if each["reason"] else []))


@app.command("pause")
@with_manager_client
def pause_channel(client: "ManagerClient", name: _Name, duration: _For) -> None:
    """Deliver nothing to a channel for a time; afterwards it gets what it has missed."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    body = {"seconds": _seconds(duration)}
    paused = client.answer("POST", f"/api/notifications/{_quoted(name)}/pause", body=body)["data"]
    print_lines(f"{name} is paused until {paused['pausedUntil']}")


@app.command("continue")
@with_manager_client
def continue_channel(client: "ManagerClient", name: _Name) -> None:
    """End a pause."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    client.answer("DELETE", f"/api/notifications/{_quoted(name)}/pause")
    print_lines(f"{name} continues")


@app.command("acknowledge")
@with_manager_client
def acknowledge(
    client: "ManagerClient",
    group: Annotated[str, typer.Argument(metavar="GROUP", help="a group's id in `history`")],
) -> None:
    """Acknowledge a group of messages: it is not escalated."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    done = client.answer("POST", "/api/notifications/acknowledge", body={"group": group})["data"]
    print_lines(f"acknowledged {done['group']}")


@app.command("mute")
@with_manager_client
def mute(
    client: "ManagerClient",
    *,
    duration: _For,
    organization: Annotated[str | None, typer.Option(help="only what is about this organization")] = None,
    site: Annotated[str | None, typer.Option(help="only what is about this site")] = None,
    agent: Annotated[str | None, typer.Option(help="only what is about this agent: id or hostname")] = None,
    topic: Annotated[TopicWord | None, typer.Option(help="only this topic [default: all but got_in]")] = None,
    reason: Annotated[str | None, typer.Option(help="the reason, for the audit log")] = None,
) -> None:
    """Tell people nothing of a site, an organization, an agent or a topic for a time; 0s ends it."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    wanted: dict[str, Any] = {
        "seconds": _seconds(duration),
        "organization": organization,
        "site": site,
        "agentId": None if agent is None else find_agent_id(client, agent),
        "topic": topic,
        "reason": reason,
    }
    body = {member: value for member, value in wanted.items() if value is not None}
    until = client.answer("POST", "/api/notifications/mute", body=body)["data"]["mutedUntil"]
    print_lines("the mute has ended" if until is None else f"muted until {until}")


@app.command("unmute")
@with_manager_client
def unmute(
    client: "ManagerClient", mute_id: Annotated[str, typer.Argument(metavar="ID", help="the mute's id in `list`")]
) -> None:
    """End a mute; what stands is told then."""
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- rich takes a while to load

    client.answer("DELETE", f"/api/notifications/mutes/{_quoted(mute_id)}")
    print_lines(f"{mute_id} has ended")


def mute_texts(mutes: "Sequence[Record]", now: datetime) -> "Iterator[str]":
    """Yield a sentence for each mute: its id, topic and scope, the author, the reason and the end."""
    for each in mutes:
        topic = each["topic"] or "all topics but got_in"
        scope = [f"organization {each['organizationId']}"] if each["organizationId"] else []
        scope += [f"site {each['site']}"] if each["site"] else []
        scope += [f"agent {each['hostname'] or each['agentId']}"] if each["agentId"] else []
        reason = f": {each['reason']}" if each["reason"] else ""
        where = " and ".join(scope) or "the whole fleet"
        until = f"until {each['mutedUntil']} ({relative(each['mutedUntil'], now)})"
        yield f"{each['id']} mutes {topic} of {where}, by {each['author']}, {until}{reason}"


def _row(channel: "Record", now: datetime) -> tuple[object, ...]:
    return (
        channel["name"],
        channel["type"],
        channel["state"],
        channel["sent"],
        relative(channel["lastSentAt"], now),
        channel["pending"] + channel["behind"],
        channel["givenUp"],
        channel["notTold"],
        channel["destination"],
    )


def _seconds(duration: str) -> float:
    return parse_timedelta(duration, most="30d").total_seconds()


def _quoted(name: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 -- only here

    return quote(name, safe="")
