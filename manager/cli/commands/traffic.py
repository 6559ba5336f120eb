"""`panguard manager traffic`: tails the fleet's live MQTT messages, decoded and verified."""

import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from manager.cli.support.completion import agent_ids
from manager.cli.support.failures import CommandFailed, ExitCode
from manager.cli.support.manager_connection import announced_url, data_directory
from manager.cli.support.options import CaFile, DataDir, Insecure, Output, OutputOption

if TYPE_CHECKING:
    from manager.cli.support.message_observer import MessageDecoder, ObservedMessage

_DEFAULT_BROKER = "mqtt://127.0.0.1:1883"

Broker = Annotated[
    str | None, typer.Option(help="mqtt://host:port [default: the broker of the manager on the data directory]")
]
CredentialFile = Annotated[
    Path | None, typer.Option(help="a file with username:password [default: observer.credential in the data directory]")
]
Agent = Annotated[
    str | None, typer.Option(help="only messages from, for or about the agent with this id", autocompletion=agent_ids)
]
TopicName = Annotated[list[str] | None, typer.Option("--topic", help="only this topic, such as threats; repeatable")]
Count = Annotated[int | None, typer.Option(min=1, help="stop after this number of messages")]


def traffic(
    *,
    agent: Agent = None,
    topic: TopicName = None,
    output: OutputOption = Output.TABLE,
    count: Count = None,
    broker: Broker = None,
    credential_file: CredentialFile = None,
    data_dir: DataDir = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
) -> None:
    """Tail the live messages until interrupted; ✓ has a valid signature, ✗ an invalid one, the others none."""
    from manager.cli.support.message_observer import (  # noqa: PLC0415 -- the same
        MessageDecoder,
        Observer,
        observable_topics,
    )
    from manager.cli.support.tls_trust import tls_context_for  # noqa: PLC0415 -- the same

    unknown = sorted(set(topic or ()) - set(observable_topics()))
    if unknown:
        raise CommandFailed(ExitCode.USAGE, f"unknown topic {unknown[0]}; known: {', '.join(observable_topics())}")
    directory = data_directory(data_dir)
    username, password = _credential(credential_file or directory / "observer.credential")
    url = broker or announced_url(directory, "mqtt") or _DEFAULT_BROKER
    observer = Observer(url, username, password, tls_context_for(url, directory, ca_file, insecure=insecure))
    with suppress(KeyboardInterrupt):  # Ctrl-C is the regular end
        _follow(observer.messages(), MessageDecoder(_sign_key(directory)), output, count, _Filter(agent, topic))


def show(message: "ObservedMessage", at: datetime, output: Output) -> None:
    """Print one message: as a line of JSON, or as a coloured line for people."""
    if output is Output.JSON:
        sys.stdout.write(json.dumps(message.record(at.isoformat().replace("+00:00", "Z"))) + "\n")
        sys.stdout.flush()
        return
    from rich.text import Text  # noqa: PLC0415 -- rich takes a while to load

    from manager.cli.support.escaping import printable  # noqa: PLC0415 -- the same
    from manager.cli.support.message_observer import summary  # noqa: PLC0415 -- the same
    from manager.cli.support.printing import print_lines  # noqa: PLC0415 -- the same

    mark, style = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("·", "dim")}[message.verified]
    print_lines(
        Text.assemble(
            (at.astimezone().strftime("%H:%M:%S "), "dim"),
            (f"{mark} ", style),
            (f"{message.name:<16} ", _COLOURS.get(message.name, "")),
            (f"{printable(message.identifier or ''):<20} ", "cyan"),
            printable(summary(message)),
        )
    )
    sys.stdout.flush()


_COLOURS = {"threats": "red", "policy": "magenta", "policy_applied": "magenta", "fleet": "blue", "heartbeat": "dim"}


class _Filter(NamedTuple):
    """Filter of messages; None and an empty list match all."""

    agent: str | None
    topics: list[str] | None

    def matches(self, message: "ObservedMessage") -> bool:
        of_agent = self.agent is None or message.agent_id == self.agent
        return of_agent and (not self.topics or message.name in self.topics)


def _follow(
    messages: Iterable[tuple[str, bytes]], decoder: "MessageDecoder", output: Output, count: int | None, wanted: _Filter
) -> None:
    shown = 0
    for topic, payload in messages:
        message = decoder.decode(topic, payload)
        if message is None or not wanted.matches(message):
            continue
        show(message, datetime.now(UTC), output)
        shown += 1
        if shown == count:
            return


def _credential(path: Path) -> tuple[str, str]:
    try:
        username, colon, password = path.read_text("utf-8").strip().partition(":")
    except (OSError, ValueError) as error:
        raise CommandFailed(
            ExitCode.UNAUTHORIZED, f"{path} cannot be read: name the manager's --data-dir, or a --credential-file"
        ) from error
    if not colon:
        raise CommandFailed(ExitCode.UNAUTHORIZED, f"{path} is no credential: write username:password into it")
    return username, password


def _sign_key(directory: Path) -> str | None:
    """Return the signing key in the data directory's enrollment token; None if it cannot be read."""
    from schemas.errors import TokenError  # noqa: PLC0415 -- needed only here
    from schemas.keys import EnrollmentToken  # noqa: PLC0415 -- the same

    try:
        return EnrollmentToken.parse((directory / "enroll.token").read_text("utf-8")).sign_key
    except (OSError, TokenError, ValueError):
        return None
