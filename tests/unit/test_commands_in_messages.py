"""The commands in messages to people exist and take the arguments that the messages give them."""

import functools
from itertools import product
from typing import Any

from typer.main import get_command

import panguard
from manager.domain.notifications.event import KINDS
from manager.domain.notifications.judgement import JudgementSettings
from manager.domain.notifications.judgement.classification import CONTROLS, ENDINGS
from tests.support.judged import START, Events, JudgedChannel

DATA = {
    "type": "login_after_failures", "user": "dave", "sourceIp": "203.0.113.7", "value": "2001:db8::/64", "count": 3,
    "incidentId": "inc-0123456789abcdef", "agents": 2, "kind": "file_hash", "connections": 2, "reason": "of a test",
    "sources": [], "name": "mqtt", "channel": "night", "expiresAt": START + 4 * 3600,
}  # fmt: skip


@functools.cache
def root() -> Any:
    """Return the command `panguard` with all of its parts, which no worker needs before the tests run."""
    for mount in panguard._PARTS.values():
        mount()
    return get_command(panguard.app)


@functools.cache
def commands() -> list[str]:
    """Return the commands of the messages and escalations on each kind of event, alone and in a flood."""
    found: set[str] = set()
    for name, floods in product(set(KINDS) - set(ENDINGS) - CONTROLS, (1, 30)):
        events, channel = Events(), JudgedChannel(JudgementSettings(escalate_after=600.0))
        for number in range(floods):
            channel.take(events.make(name, START + number, f"srv-{number}", organization_id=f"org-{number}", **DATA))
        channel.pass_until(START + 5 * 3600)
        messages = [*channel.told, *(channel.escalated if floods == 1 else ())]
        found.update(message.command or "" for _, message in messages)
    return sorted(found - {""})


def test_the_commands_in_messages_are_ones_that_panguard_takes() -> None:
    """Whoever copies one gets what it says, not an error of usage."""
    for command in commands():
        program, *words = command.split()
        context = root().make_context(program, words)
        while (protected := [*context._protected_args, *context.args]) and hasattr(context.command, "resolve_command"):
            name, sub, rest = context.command.resolve_command(context, protected)
            assert sub is not None, command
            context = sub.make_context(name, rest, parent=context)
        assert not context.args, command


def test_messages_have_commands_of_every_sort() -> None:
    """The test above is not empty by mistake."""
    verbs = {" ".join(command.split()[1:4]) for command in commands()}
    assert verbs >= {
        "manager blocks add", "manager blocks lift", "manager incidents approve", "manager incidents show",
        "manager notifications acknowledge", "manager agents list", "manager now",
    }  # fmt: skip
