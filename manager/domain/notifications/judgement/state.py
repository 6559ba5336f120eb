"""State of the judgement, as a plain JSON value that is stored beside the cursor of a channel."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from manager.domain.notifications.judgement.backlog import Backlog
from manager.domain.notifications.judgement.classification import GroupKind
from manager.domain.notifications.judgement.digest import Digest
from manager.domain.notifications.judgement.flapping import Flapping
from manager.domain.notifications.judgement.groups.occurrences import OccurrenceGroup
from manager.domain.notifications.judgement.groups.standing import StandingGroup
from manager.domain.notifications.judgement.limits import MessageLimit
from manager.domain.notifications.judgement.mutes import Mutes


@dataclass(slots=True)
class JudgementState:
    """Everything that the judgement remembers.

    Attributes:
        sequence: the sequence of the last event taken.
        number: the number of ids made apart from events.
        latest: the latest time at which it was asked.
        occurrences: the groups of occurrences, by key.
        standing: the groups of standing conditions, by key.
        flapping: the agents that fell lately.
        mutes: the mutes that hold.
        digest: the numbers of the day.
        backlog: the events that were not told in time; None where there are none.
        limit: the messages of the last hour.
        urgent_limit: those on suspicious logins.
    """

    sequence: int = 0
    number: int = 0
    latest: float = 0.0
    occurrences: dict[str, OccurrenceGroup] = field(default_factory=dict)
    standing: dict[str, StandingGroup] = field(default_factory=dict)
    flapping: Flapping = field(default_factory=Flapping)
    mutes: Mutes = field(default_factory=Mutes)
    digest: Digest = field(default_factory=Digest)
    backlog: Backlog | None = None
    limit: MessageLimit = field(default_factory=MessageLimit)
    urgent_limit: MessageLimit = field(default_factory=MessageLimit)

    def new_id(self, kind: str) -> str:
        """Return an id that no other group of this channel has."""
        self.number += 1
        return f"{kind}-{self.sequence}-{self.number}"


_STATES = TypeAdapter(JudgementState)


def dump(state: JudgementState) -> dict[str, Any]:
    """Return a state as a JSON value."""
    value: dict[str, Any] = _STATES.dump_python(state, mode="json")
    return value


def load(value: dict[str, Any]) -> JudgementState:
    """Return the state of a JSON value.

    Raises:
        ValueError: it is no state.
    """
    return _STATES.validate_python(value)


def group_key(kind: GroupKind, organization_id: str | None, site: str | None) -> str:
    """Return the key of a group."""
    return "\x1f".join((kind, organization_id or "", site or ""))
