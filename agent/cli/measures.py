"""`panguard guard block, unblock, blocks, undo, panic, resume, confirm, mode`: the operator's hand on this host.

All but `mode` ask the fence and need no running guard.
"""

import json
import os
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from agent.cli.printable import printable
from agent.errors import ConfigurationError, GuardError
from agent.respond.fence_client import FenceClient
from agent.settings import read_settings
from schemas.durations import parse_duration
from schemas.errors import DurationError
from schemas.presence import Mode

_DEFAULT = "4h"
_SHOWN = "; `panguard guard blocks list` shows what is set"

FenceSocket = Annotated[
    Path | None,
    typer.Option(
        "--fence-socket", help="The fence's socket [default: PANGUARD_FENCE_SOCKET, /run/panguard/fence.sock]."
    ),
]
Output = Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="How to print it.")]

blocks = typer.Typer(help="The measures in this host's kernel.", no_args_is_help=True)


@blocks.callback()
def _blocks() -> None:
    """Keep `blocks` a command group: Typer would merge a group with a single command."""


def block(
    address: Annotated[str, typer.Argument(help="An address or a network, such as 203.0.113.7 or 203.0.113.0/24.")],
    *,
    lasting: Annotated[str, typer.Option("--for", help="How long: 90s, 30m, 4h, 7d; at most 30 days.")] = _DEFAULT,
    reason: Annotated[str, typer.Option(help="For those who list it.")] = "by hand",
    throttle: Annotated[
        bool, typer.Option("--throttle", help="Only slow new connections to protected ports; established ones stay.")
    ] = False,
    fence_socket: FenceSocket = None,
) -> None:
    """Block an address on this host until a time has passed. The never-rules hold, so nobody logged in is cut off."""
    try:
        seconds = parse_duration(lasting)
    except DurationError as error:
        _fail(f"--for: {error}")
    request = "throttle" if throttle else "block"
    beside = {"operatorAt": operator_addresses()}
    answer = _ask(fence_socket, request, value=_target(address), seconds=seconds, reason=reason, **beside)
    typer.echo(f"{request} {answer['value']} for {lasting} id={answer['id']}")


def unblock(
    address: Annotated[str, typer.Argument(help="The address or network, as `blocks list` shows it.")],
    fence_socket: FenceSocket = None,
) -> None:
    """Lift what is set on an address on this host, whoever set it; the manager's next policy may set it again."""
    answer = _request(fence_socket, "lift", value=_target(address))
    if answer.get("ok") is not True:
        listed = _request(fence_socket, "list", value=address).get("entries")
        over = [str(entry["value"]) for entry in listed or () if entry["value"] != address]
        _refuse(answer, f"; {address} is covered by {', '.join(over)}: unblock that" if over else _SHOWN)
    typer.echo(f"lifted {len(answer['ids'])}: {', '.join(map(str, answer['ids']))}")
    _tell_rest(answer)


def undo(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The id of a measure, as `blocks list` shows it.")],
    fence_socket: FenceSocket = None,
) -> None:
    """Lift one measure by its id."""
    with suppress(ValueError):
        ip_network(identifier)
        _fail(f"{identifier} is an address: panguard guard unblock {identifier}")
    answer = _request(fence_socket, "lift", id=identifier)
    if answer.get("ok") is not True:
        _refuse(answer, _SHOWN)
    typer.echo(f"lifted {identifier}")
    _tell_rest(answer)


@blocks.command("list")
def list_blocks(
    address: Annotated[str | None, typer.Argument(help="Only what covers this address.")] = None,
    *,
    output: Output = "text",
    fence_socket: FenceSocket = None,
) -> None:
    """List the measures in force on this host, newest first, as the fence has them."""
    answer = _ask(fence_socket, "list", **({} if address is None else {"value": _target(address)}))
    entries: list[dict[str, Any]] = answer["entries"]
    if output == "json":
        typer.echo(json.dumps(entries, indent=2))
        return
    if not entries:
        stopped = _ask(fence_socket, "status").get("panic")
        typer.echo("nothing is blocked" + (": stopped by `panic` until `panguard guard resume`" if stopped else ""))
    for entry in entries:
        left = f"{entry['secondsLeft']:.0f}s"
        told = f"INEFFECTIVE: {entry['ineffective']}" if entry.get("ineffective") else entry["reason"]
        line = f"{entry['measure']:<9}{entry['value']:<44}{left:>9}  {entry['origin']:<10}{entry['id']}  {told}"
        typer.echo(printable(line))


def panic(fence_socket: FenceSocket = None) -> None:
    """Lift every measure on this host and take no new ones until `resume`; works without guard and manager."""
    answer = _ask(fence_socket, "panic")
    typer.echo(f"lifted {answer['count']}; nothing is blocked on this host until: panguard guard resume")
    _tell_rest(answer)


def resume(fence_socket: FenceSocket = None) -> None:
    """Let the fence take measures again after `panic`."""
    _ask(fence_socket, "resume")
    typer.echo("resumed; the manager's blocks come back within a minute")


def confirm(fence_socket: FenceSocket = None) -> None:
    """Confirm mode protection within its trial, from a session that was opened after the trial began."""
    _ask(fence_socket, "confirm")
    typer.echo("confirmed: protection is kept")


def mode(
    wanted: Annotated[Mode | None, typer.Argument(metavar="[MODE]", help="learning or protection.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="The guard's data directory, as for `guard start`.", show_default=False),
    ] = None,
) -> None:
    """Show or set this host's mode; a policy that sets one goes before it. The running guard follows at once."""
    from agent.respond.mode import set_host_mode  # noqa: PLC0415 -- the others need no database
    from agent.status import read_status  # noqa: PLC0415 -- the same
    from agent.storage.database import Database  # noqa: PLC0415 -- the same
    from agent.storage.files import as_owner  # noqa: PLC0415 -- the same
    from agent.storage.instance_lock import default_data_directory  # noqa: PLC0415 -- the same

    directory = data_dir or default_data_directory()
    try:
        if wanted is not None:
            with as_owner(directory), Database.opened(directory) as database:
                set_host_mode(database, wanted)
            typer.echo(f"host mode: {wanted}")
            if wanted is Mode.PROTECTION:
                typer.echo("confirm it from a new session within its trial: panguard guard confirm")
            return
        with as_owner(directory):
            fields = read_status(directory)
    except GuardError as error:
        _fail(str(error))
    typer.echo(f"mode: {fields.get('mode', 'unknown')} (wanted: {fields.get('modeWanted', 'unknown')})")
    if fields.get("trialSecondsLeft") is not None:
        typer.echo(f"trial: {fields['trialSecondsLeft']} s left; panguard guard confirm keeps protection")


COMMANDS = (block, unblock, undo, panic, resume, confirm, mode)


def operator_addresses(process: int | None = None) -> list[str]:
    """Return the addresses from which this process's ancestors were started over ssh.

    The fence may not read other users' environments, and sudo drops the variable from this process's own.
    """
    found: list[str] = []
    pid = os.getpid() if process is None else process
    while pid > 1:
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
        words = [each.partition(b"=")[2].split() for each in variables if each.startswith(b"SSH_CONNECTION=")]
        found += [word[0].decode(errors="replace").partition("%")[0] for word in words if word]
    return list(dict.fromkeys(found))


def _tell_rest(answer: dict[str, Any]) -> None:
    """Print what still covers a lifted address, and whether the lift could not be written."""
    for member in ("reason", "unwritten"):
        if answer.get(member):
            typer.echo(printable(str(answer[member])))


def _target(text: str) -> str:
    """Return an address or network; exit with a remedy where the text is none."""
    try:
        ip_network(text)
    except ValueError:
        with suppress(ValueError):
            _fail(f"{text} has bits set beyond its prefix length: write {ip_network(text, strict=False)}")
        if text.startswith("fen-"):
            _fail(f"{text} is the id of a measure: panguard guard undo {text}")
        _fail(f"{text!r} is no address or network: write it in digits, such as 203.0.113.7 or 203.0.113.0/24")
    return text


def _ask(path: Path | None, request: str, **members: Any) -> dict[str, Any]:
    """Return the fence's answer; exit with its reason where it does not carry the request out."""
    answer = _request(path, request, **members)
    return answer if answer.get("ok") is True else _refuse(answer)


def _request(path: Path | None, request: str, **members: Any) -> dict[str, Any]:
    """Return the fence's answer, also where it refuses; exit where there is none."""
    try:
        return FenceClient(path or read_settings(os.environ).fence_socket).ask(request, **members)
    except (GuardError, ConfigurationError) as error:
        _fail(str(error))


def _refuse(answer: dict[str, Any], more: str = "") -> NoReturn:
    reason = str(answer.get("reason") or "no reason was given")
    if reason.startswith("no such request") and os.geteuid() != 0:
        reason, more = "only root may ask for this: use sudo", ""
    _fail(f"{answer.get('outcome', 'failed')}: {reason}{more}")


def _fail(text: str) -> NoReturn:
    typer.echo(f"error: {printable(text)}", err=True)
    raise typer.Exit(1)
