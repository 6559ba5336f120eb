"""What a shell offers for a value: ids and names of a list of the manager's, if it answers at once."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import typer

Suggest = Callable[[typer.Context, str], list[str]]

_AT_ONCE = 1.0
"""Seconds for which somebody who pressed a key is kept waiting."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
"""What no shell takes for anything but a word: zsh evaluates what it is offered, and hostnames come from outside."""


def listed(path: str, *members: str, **query: str) -> Suggest:
    """Return what offers these members of a list's first page; nothing where no manager answers or lets in."""

    def suggest(context: typer.Context, incomplete: str) -> list[str]:
        # A word on standard error, or a traceback, would land in the middle of what is being typed.
        with suppress(Exception):
            from manager.cli.support.connection import opened  # noqa: PLC0415 -- a manager is asked only here

            names = ("manager", "auth_token", "auth_token_file", "data_dir", "ca_file", "insecure")
            given: dict[str, Any] = {name: context.params.get(name) for name in names}
            with opened(**given, timeout=_AT_ONCE) as client:
                found = client.answer("GET", path, {**query, "limit": "200"})["data"]
            values = dict.fromkeys(str(each[member]) for member in members for each in found)
            return [value for value in values if value.startswith(incomplete) and _PLAIN.fullmatch(value)]
        return []

    return suggest


machines = listed("/api/agents", "hostname", "agentId")
agent_ids = listed("/api/agents", "agentId")
incidents = listed("/api/incidents", "id")
waiting_incidents = listed("/api/incidents", "id", response="pending_approval")
blocks = listed("/api/blocks", "id")
tokens = listed("/api/tokens", "tokenId")
allowances = listed("/api/allowlist", "value")
