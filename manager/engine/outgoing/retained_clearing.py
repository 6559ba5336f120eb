"""Clearing of the retained messages of removed agents: repeated at each connect until the broker has confirmed it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from manager.engine.batch import Publication
from schemas.identifiers import is_identifier
from schemas.topics import POLICY, PRESENCE

_KEY = "uncleared_agents"
"""Key of the stored value: the ids of removed agents whose retained messages may still be at the broker."""

_TOPICS = (PRESENCE, POLICY)


class RetainedClearing:
    """Topics of removed agents that the broker has not confirmed as cleared, by agent id."""

    def __init__(self) -> None:
        self._pending: dict[str, set[str]] = {}
        self._changed = False

    def load(self, meta: Mapping[str, str]) -> None:
        """Load the agents of the stored value; an invalid value counts as empty."""
        try:
            stored = json.loads(meta.get(_KEY, "[]"))
        except ValueError:
            stored = []
        for agent_id in stored if isinstance(stored, list) else []:
            if isinstance(agent_id, str) and is_identifier("agentId", agent_id):
                self._add(agent_id)

    def add(self, agent_id: str) -> list[Publication]:
        """Add a removed agent; return the publications that clear its retained messages, unless it is put back."""
        self._add(agent_id)
        self._changed = True
        return [replace(each, subject=agent_id) for each in self._publications([agent_id])]

    def discard(self, agent_id: str) -> None:
        """Drop an agent that is put back."""
        self._pending.pop(agent_id, None)
        self._changed = True

    def publications(self) -> list[Publication]:
        """Return the publications that clear all unconfirmed topics."""
        return self._publications(self._pending)

    def changed_value(self) -> dict[str, str]:
        """Return the changed value to be stored, in a list of at most one member, and reset the change."""
        if not self._changed:
            return {}
        self._changed = False
        return {_KEY: json.dumps(sorted(self._pending))}

    def _add(self, agent_id: str) -> None:
        self._pending[agent_id] = {row.address(agent_id) for row in _TOPICS}

    def _publications(self, agent_ids: Iterable[str]) -> list[Publication]:
        return [
            Publication(topic, b"", retained=True, confirm=partial(self._confirmed, agent_id, topic))
            for agent_id in agent_ids
            for topic in sorted(self._pending[agent_id])
        ]

    def _confirmed(self, agent_id: str, topic: str) -> None:
        topics = self._pending.get(agent_id)
        if topics is None:
            return
        topics.discard(topic)
        if not topics:
            del self._pending[agent_id]
            self._changed = True
