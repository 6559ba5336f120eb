"""Scopes of policy documents, and revisions: one change of a scope's document."""

from dataclasses import dataclass
from typing import Literal

from manager.domain.policies.groups import PolicyGroup
from manager.domain.policies.layers import Sections
from manager.domain.policies.rules import stamp_rules

ScopeKind = Literal["global", "organization", "group", "agent"]


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Scope of a policy document: global, one organization, one group, or one agent (`target` names it)."""

    kind: ScopeKind
    target: str = ""

    def __str__(self) -> str:
        """Return the scope as tables and logs show it."""
        return f"{self.kind}:{self.target}" if self.target else self.kind

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """Parse a scope from its text."""
        kind, _, target = text.partition(":")
        match kind:
            case "organization" | "group" | "agent":
                return cls(kind, target)
            case _:
                return cls("global")


GLOBAL = Scope("global")


def policy_of(scope: Scope, document: Sections) -> Sections:
    """Return the policy in a scope's document: all of it, or the `policy` member of a group's."""
    return document["policy"] if scope.kind == "group" else document


def check_shape(scope: Scope, document: Sections) -> None:
    """Check that a stored document of a group has the members of one.

    Raises:
        LookupError: a member is missing.
        TypeError: a member has another type.
    """
    if scope.kind == "group":
        PolicyGroup.of(scope.target, document)
        if not isinstance(document["policy"], dict):
            raise TypeError("the policy of a group is no object")


def stamped(scope: Scope, document: Sections, before: Sections | None, at: float) -> Sections:
    """Return a scope's document with the time at which each of its block rules was set."""
    known = None if before is None else policy_of(scope, before)
    policy = stamp_rules(policy_of(scope, document), known, at)
    return {**document, "policy": policy} if scope.kind == "group" else policy


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of a policy document: the scope's new document, or None if it was removed."""

    revision: int
    scope: Scope
    document: Sections | None
    at: float
    author: str
    message: str | None = None
