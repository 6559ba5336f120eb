"""Allowances: the life of each allowlist entry, from the history of the policy documents."""

from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple

from manager.domain.policies.fleet_policies import Scope
from manager.domain.protection.forecast import Allowance


class AllowlistRevision(NamedTuple):
    """The addresses on the allowlist of a scope's document from a time on; none where the document was removed."""

    scope: Scope
    at: float
    addresses: frozenset[str]


def allowances(
    revisions: Iterable[AllowlistRevision], members: Callable[[Scope], frozenset[int] | None]
) -> list[Allowance]:
    """Return every entry with the times at which it was added and removed.

    Args:
        revisions: in the order of their numbers.
        members: returns the agents of a scope by number; None for the fleet and for an organization.
    """
    found: list[Allowance] = []
    live: dict[Scope, dict[str, float]] = {}
    for revision in revisions:
        entries = live.setdefault(revision.scope, {})
        found += [
            _allowance(revision.scope, value, entries.pop(value), revision.at, members)
            for value in entries.keys() - revision.addresses
        ]
        for value in revision.addresses - entries.keys():
            entries[value] = revision.at
    for scope, entries in live.items():
        found += [_allowance(scope, value, since, inf, members) for value, since in entries.items()]
    return found


def _allowance(
    scope: Scope, value: str, since: float, until: float, members: Callable[[Scope], frozenset[int] | None]
) -> Allowance:
    organization_id = scope.target if scope.kind == "organization" else None
    return Allowance(value, str(scope), organization_id, members(scope), since, until)
