"""Shell completion: ids and names from the manager's lists, if it answers within a second."""

import re
from collections.abc import Callable
from contextlib import suppress

import typer

Suggest = Callable[[typer.Context, str], list[str]]

_TIMEOUT = 1.0
"""The timeout of a completion in seconds."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
"""Words without shell syntax: zsh evaluates completions, and hostnames are untrusted."""


def _complete_from(path: str, *members: str, **query: str) -> Suggest:
    """Return a completion function for members of a list's first page; empty if the manager does not answer."""

    def suggest(context: typer.Context, incomplete: str) -> list[str]:
        # Any output, or a traceback, would appear in the middle of the typed command line.
        with suppress(Exception):
            from manager.cli.support.manager_connection import (  # noqa: PLC0415 -- only completion needs it
                location,
                open_client,
            )

            with open_client(**location(context), timeout=_TIMEOUT) as client:
                found = client.answer("GET", path, {**query, "limit": "200"})["data"]
            values = dict.fromkeys(str(each[member]) for member in members for each in found if each[member])
            return [value for value in values if value.startswith(incomplete) and _PLAIN.fullmatch(value)]
        return []

    return suggest


agents = _complete_from("/api/agents", "hostname", "agentId")
agent_ids = _complete_from("/api/agents", "agentId")
incidents = _complete_from("/api/incidents", "id")
waiting_incidents = _complete_from("/api/incidents", "id", response="pending_approval")
blocks = _complete_from("/api/blocks", "id")
access_names = _complete_from("/api/access", "name")
groups = _complete_from("/api/policies/groups", "name")
tokens = _complete_from("/api/tokens", "tokenId", "name")
allowances = _complete_from("/api/allowlist", "value")
