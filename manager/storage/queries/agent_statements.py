"""Agents' statements: the policy and blocklist that each has accepted, and those that its host enforces."""

from operator import itemgetter
from typing import NamedTuple

from manager.domain.agents.agent import Door
from manager.domain.agents.condition import Condition, EnforcedMeasures, unenforced_values
from manager.domain.agents.shared_values import remembering
from manager.storage.queries.reader import Record
from schemas.presence import Mode, PolicyState

_REFUSED_WHOLE = ("policy version", "blocklist sequence")
"""The values of a guard's reasons that concern all of a policy or blocklist."""


class StatingAgent(NamedTuple):
    """An agent, and its statements: accepted and enforced numbers by medium; -1 where nothing is certain."""

    agent_id: str
    hostname: str
    policy: int
    sequence: int
    enforced_policy: int
    enforced_sequence: int
    reasons: dict[str, str]
    otherwise: str

    def why_not(self, value: str, number: int, *, wide: bool) -> str:
        """Return the reason why its host does not enforce a block: its own word, else one that its statements imply."""
        if value in self.reasons:
            return self.reasons[value]
        if (self.sequence if wide else self.policy) < number:
            return "it has not accepted it yet"
        return self.otherwise


class _Statement(NamedTuple):
    """The last members of `StatingAgent`, which many agents state alike."""

    policy: int
    sequence: int
    enforced_policy: int
    enforced_sequence: int
    reasons: dict[str, str]
    otherwise: str


_STATED = ("policy_version", "policy_state", "blocklist_sequence", "door", "enforcement", "enforced", "mode")
_stated = itemgetter(*_STATED)


def stating_agent(row: Record) -> StatingAgent:
    """Return an agent from a row of the agents' table."""
    return StatingAgent(row["agent_id"], row["hostname"], *_statement(*_stated(row)))


def _read_statement(  # noqa: PLR0917 -- the columns of `_STATED`
    policy_version: int,
    policy_state: str | None,
    sequence: int,
    door: str,
    enforcement: str | None,
    enforced: str | None,
    mode: str | None,
) -> _Statement:
    policy = policy_version if policy_state == PolicyState.APPLIED else -1
    stated = None if enforced is None else EnforcedMeasures.of_json(enforced)
    reasons = {} if stated is None else {each.value: each.reason for each in stated.reasons}
    condition = Condition(enforcement=enforcement, enforced=stated)
    enforced_policy = enforced_sequence = -1
    if stated is not None and condition.enforces() and unenforced_values(stated) is not None:
        enforced_policy = stated.policy_version or -1
        number = stated.policy_version if door == Door.HTTP else stated.blocklist_sequence
        enforced_sequence = number or -1
    return _Statement(
        policy, sequence, enforced_policy, enforced_sequence, reasons, _implied(enforcement, mode, stated)
    )


def _length_of_columns(*columns: object) -> int:
    return sum(len(each) for each in columns if isinstance(each, str))


_statement = remembering(_read_statement, _length_of_columns, 1024, longest=1024)


def _implied(enforcement: str | None, mode: str | None, stated: EnforcedMeasures | None) -> str:
    """Return the reason why an agent's host does not enforce what the agent has accepted, as its statements imply."""
    if enforcement is None or stated is None:
        return "it does not say what its host enforces: an older guard, or another agent"
    if enforcement == "simulated":
        return "it only simulates enforcement"
    if mode == Mode.LEARNING:
        return "its mode is learning: it only reports"
    refused = [each.reason for each in stated.reasons if each.value in _REFUSED_WHOLE]
    if enforcement == "impossible":
        stated_reasons = {each.reason for each in stated.reasons}
        refused.append(stated_reasons.pop() if len(stated_reasons) == 1 else "nothing can be blocked on its host")
    if unenforced_values(stated) is None:
        refused.append("more of its measures do not hold than it gives reasons for")
    return [*refused, "its fence has not taken it yet"][0]
