"""Requests of people: the values that commands carry into the inbox, and their answers."""

from dataclasses import dataclass
from typing import Literal

from manager.domain.policies.allowlist_entries import AllowlistEntryKind
from manager.domain.policies.diff import Difference
from manager.domain.policies.explain import Explained
from manager.domain.policies.fleet_policies import Scope, Sections
from manager.domain.response import OrganizationResponse

UNCHANGED = ""
"""The value of a member that a request does not change; no site has an empty name."""

WorkAction = Literal["acknowledge", "note", "close"]
"""The work of people on an incident."""


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Set the policy document of a scope, or remove it with None. Answered by a `PolicySet`."""

    scope: Scope
    document: Sections | None
    author: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The fleet's revision after a policy change, and the number of agents with a new effective policy."""

    revision: int
    changed: bool
    agents: int


@dataclass(frozen=True, slots=True)
class RemoveAgent:
    """Remove an agent from the registry permanently. Answered by its agent id; NotFound if there is none."""

    agent_id: str
    author: str


@dataclass(frozen=True, slots=True)
class DeregisterAgent:
    """Mark an agent as offline and keep its record. Answered by its agent id; NotFound if there is none."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class ChangeAgent:
    """Set tags, site or organization of an agent. Answered by its id; NotFound if there is none.

    `tags` and `organization_id` None, and `site` UNCHANGED, leave what is; `site` None takes it away.
    """

    agent_id: str
    author: str
    tags: tuple[str, ...] | None = None
    site: str | None = UNCHANGED
    organization_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeAgents:
    """Add and remove tags, set site or organization of several agents, all or none. Answered by an `AgentsChanged`.

    `site` and `organization_id` are those of `ChangeAgent`; a dry run changes nothing. Conflict if one is refused,
    NotFound if there is no such agent.
    """

    agent_ids: tuple[str, ...]
    author: str
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    site: str | None = UNCHANGED
    organization_id: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class AgentsChanged:
    """The agents whose tags, site or organization change, the number of changed policies, and each refusal.

    `agents` are ids with hostnames; `refused`, of a dry run, are ids with hostnames and the reason.
    """

    agents: tuple[tuple[str, str], ...]
    policies: int
    refused: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ReadOrganizations:
    """List the organizations of agents, tokens and policies. Answered by the number of agents of each, by name."""


@dataclass(frozen=True, slots=True)
class PruneAgents:
    """Remove the agents that are not online and were last heard of before a time, permanently.

    `before` is in seconds since 1970. Answered by a `PrunedAgents`; a dry run removes nothing.
    """

    before: float
    author: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class PrunedAgents:
    """The agents that were or would be removed, as ids with hostnames; `more` if a repetition removes further ones."""

    agents: list[tuple[str, str]]
    more: bool


@dataclass(frozen=True, slots=True)
class RecognizeThreat:
    """Record that a threat is a person's own doing, or take that back. Answered by whether it changed something.

    `organization_id` is that of the agent, for the event.
    """

    threat_id: str
    agent_id: str
    organization_id: str
    author: str
    recognized: bool
    note: str | None = None


@dataclass(frozen=True, slots=True)
class CreateToken:
    """Create an enrollment token. Answered by the `EnrollmentToken`; its secret is never shown again.

    `expires_at` is in seconds since 1970; `max_uses` counts agents; None means without limit. `rate` is the number of
    new agents an hour. Conflict if a token that is not revoked has the name.
    """

    author: str
    organization_id: str | None = None
    site: str | None = None
    tags: tuple[str, ...] = ()
    expires_at: float | None = None
    max_uses: int | None = None
    name: str | None = None
    rate: int | None = None
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class RotateToken:
    """Replace the secret of an enrollment token, by id or name. Answered by the `EnrollmentToken`; NotFound if none."""

    token_id: str
    author: str


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """Revoke an enrollment token, by id or name. Answered by its id; NotFound if there is none."""

    token_id: str
    author: str


@dataclass(frozen=True, slots=True)
class AcceptClock:
    """Trust the manager's clock for the deletion of old rows. Answered by its time, as the wire writes it."""

    author: str


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """Read an agent's effective policy. Answered by an `AgentPolicy`; NotFound if there is no such agent."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class AgentPolicy:
    """An agent's effective policy: the document that is signed and sent, without the signature."""

    agent_id: str
    version: int
    digest: str
    document: Sections


@dataclass(frozen=True, slots=True)
class UndoIncident:
    """Undo an incident's response everywhere and prevent another one. Answered by the incident's id."""

    incident_id: str
    author: str


@dataclass(frozen=True, slots=True)
class ApproveIncident:
    """Approve the response of an incident. Answered by its id; Conflict if it does not wait for approval."""

    incident_id: str
    author: str


@dataclass(frozen=True, slots=True)
class WorkOnIncident:
    """Acknowledge or close an incident, or add a note. Answered by the id of the incident, of one that absorbed it."""

    incident_id: str
    action: WorkAction
    author: str
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RemoveBlock:
    """Remove one emergency entry. Answered by its id; NotFound if it is not in force."""

    entry_id: str
    author: str


@dataclass(frozen=True, slots=True)
class FreezeResponses:
    """Freeze or thaw all automatic response. Answered by `frozen`."""

    frozen: bool
    author: str


@dataclass(frozen=True, slots=True)
class SetOrganizationResponse:
    """Choose which agents the organization-wide step counts. Answered by the choice."""

    counted: OrganizationResponse
    author: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Restore every policy document of a revision. Answered by a `PolicySet`."""

    revision: int
    author: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class PreviewRollback:
    """Count the agents whose effective policy a rollback would change. Answered by a `PolicySet`; changes nothing."""

    revision: int


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Publish every agent's effective policy and every blocklist again. Answered by the number of agents."""

    author: str


@dataclass(frozen=True, slots=True)
class ReadDrift:
    """List the agents whose policy in force differs from their effective policy. Answered by a list of `Drift`.

    Only agents of `organizations` are listed; None for all.
    """

    organizations: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """Preview the effect of a document on effective policies. Answered by a `Previewed`; changes nothing."""

    scope: Scope
    document: Sections | None


@dataclass(frozen=True, slots=True)
class Previewed:
    """The differences that a document would make, and the number of agents whose effective policy would change."""

    differences: list[Difference]
    agents: int


@dataclass(frozen=True, slots=True)
class ExplainPolicy:
    """Explain an agent's effective policy. Answered by an `Explanation`; NotFound if there is no such agent."""

    agent_id: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The policy that an agent has, its groups in the order in which they apply, and the source of each value."""

    hostname: str
    organization_id: str
    version: int
    digest: str
    groups: tuple[str, ...]
    values: list[Explained]


@dataclass(frozen=True, slots=True)
class CountGroups:
    """Count the agents of each policy group. Answered by a `GroupCounts` by name, without groups that have none."""


@dataclass(slots=True)
class GroupCounts:
    """Numbers of a policy group's agents.

    Attributes:
        agents: All of them.
        set_to_protection: Those whose effective policy sets mode protection.
        in_protection: Those that state to be in mode protection.
        blocking: Those of them that state to enforce blocks.
    """

    agents: int = 0
    set_to_protection: int = 0
    in_protection: int = 0
    blocking: int = 0


@dataclass(frozen=True, slots=True)
class ReadResponseStatus:
    """Read the state of automatic response. Answered by a `ResponseStatus`."""


@dataclass(frozen=True, slots=True)
class ResponseStatus:
    """State of automatic response: frozen or simulated, entries in force, incidents that wait for approval.

    `organization_chosen` is false for a store of an earlier release until somebody chooses.
    """

    frozen: bool
    simulation: bool
    organization_response: OrganizationResponse
    organization_chosen: bool
    entries: int
    pending: int


@dataclass(frozen=True, slots=True)
class ChangeAllowlist:
    """Add an entry to a scope's allowlist, or remove it (`listed`). Answered by an `AllowlistChanged`.

    `kind` is None where the form of the value decides. NotFound if an entry to be removed is not on the allowlist.
    """

    scope: Scope
    kind: AllowlistEntryKind | None
    value: str
    listed: bool
    author: str


@dataclass(frozen=True, slots=True)
class AllowlistChanged:
    """Kind and normal form of the entry that was added or removed, and the effect on policies."""

    kind: AllowlistEntryKind
    value: str
    policy: PolicySet
