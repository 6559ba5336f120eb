"""The signing keys that agents state to trust, and the warning of keys that the store has never had."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nsmallest

_AGREEING = 2
"""Agents that state the same unknown key before the warning says that the store may be an older copy."""

_NAMED = 5
"""The maximum number of agents that the warning names."""


@dataclass(slots=True)
class TrustedKeys:
    """The newest signing key that each agent trusts, as it said since the start.

    Nothing proves the statement of an agent: one agent can state any key.

    Attributes:
        stated: the keys, by agent id.
        foreign: those that the store has never had, by agent id.
    """

    stated: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)

    def record(self, agent_id: str, sign_key: str, *, is_known: bool) -> None:
        """Record the statement of an agent; a former one is replaced."""
        self.stated[agent_id] = sign_key
        if is_known:
            self.foreign.pop(agent_id, None)
        else:
            self.foreign[agent_id] = sign_key

    def judge(self, is_known: Callable[[str, str], bool]) -> None:
        """Judge all statements again, after the keys of the store have changed.

        Args:
            is_known: returns whether the statement of an agent, by its id and key, is none of an unknown key.
        """
        self.foreign = {agent_id: key for agent_id, key in self.stated.items() if not is_known(agent_id, key)}

    def forget(self, agent_id: str) -> None:
        """Drop an agent that is removed."""
        self.stated.pop(agent_id, None)
        self.foreign.pop(agent_id, None)

    def warning(self, name_of: Callable[[str], str]) -> str | None:
        """Return the warning for operators; None while no agent states an unknown key.

        Args:
            name_of: returns the name of an agent that operators know, by its id.
        """
        foreign = self.foreign.copy()
        if not foreign:
            return None
        counts = Counter(foreign.values())
        named = nsmallest(_NAMED, foreign, key=lambda agent_id: -counts[foreign[agent_id]])
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        who = ", ".join(map(name_of, named)) + more
        agreeing = max(counts.values())
        if agreeing < _AGREEING:
            return (
                f"a signing key that this store has never had is stated by {who}, and by no second agent: such an agent"
                " is broken or lies, unless the store was restored from a copy before a rotation. It may refuse this"
                " manager's policies: look at it, and register it anew with a token of today"
            )
        return (
            f"{agreeing} agents state that they trust the same signing key, which this store has never had ({who}): if"
            " the store was restored from a copy before a rotation, they refuse this manager's policies 30 days after"
            " that rotation at the latest: restore a later copy, or register them anew with a token of today"
        )
