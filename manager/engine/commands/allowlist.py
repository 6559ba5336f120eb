"""Adding to and taking from an allowlist: one entry of a scope's document, read and set in the same batch."""

from collections.abc import Callable
from dataclasses import dataclass

from manager.domain.policies.allowlist_entries import (
    AllowlistEntryKind,
    allows,
    normalize_entry,
    with_entry,
    without_entry,
)
from manager.domain.policies.fleet_policies import Scope, Sections
from manager.engine.commands.requests import PolicySet, SetPolicy
from manager.engine.context import Context
from manager.errors import Invalid, NotFound


@dataclass(frozen=True, slots=True)
class ChangeAllowlist:
    """Put an entry on a scope's allowlist, or take it away (`listed`). Answered by an `AllowlistChanged`.

    `kind` is None where the value says it by its looks. NotFound if what is to be taken away does not stand there.
    """

    scope: Scope
    kind: AllowlistEntryKind | None
    value: str
    listed: bool
    author: str


@dataclass(frozen=True, slots=True)
class AllowlistChanged:
    """An entry was put on an allowlist or taken away: its kind and normal form, and what became of the policy."""

    kind: AllowlistEntryKind
    value: str
    policy: PolicySet


def change_allowlist(
    set_policy: Callable[[Context, SetPolicy], PolicySet], context: Context, request: ChangeAllowlist
) -> AllowlistChanged:
    """Change one entry of a document's allowlist; what else stands in the document is not touched."""
    document = context.fleet.policies.document(request.scope)
    if request.listed:
        kind, value = normalize_entry(request.kind, request.value)
        wanted: Sections | None = with_entry(document, kind, value)
    else:
        kind, value = _standing(request)
        if document is None or not allows(document, kind, value):
            raise NotFound(f"{request.value} does not stand on the allowlist of {request.scope}")
        wanted = without_entry(document, kind, value)
    return AllowlistChanged(kind, value, set_policy(context, SetPolicy(request.scope, wanted, request.author)))


def _standing(request: ChangeAllowlist) -> tuple[AllowlistEntryKind, str]:
    """Return what is meant by an entry to be taken away; what looks like nothing else is a process."""
    try:
        return normalize_entry(request.kind, request.value)
    except Invalid:
        if request.kind is not None:
            raise
        return "process", request.value
