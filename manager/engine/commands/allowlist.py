"""Allowlist commands: add or remove one entry of a scope's policy document."""

from manager.domain.policies.allowlist_entries import (
    AllowlistEntryKind,
    allows,
    normalize_entry,
    with_entry,
    without_entry,
)
from manager.domain.policies.fleet_policies import Sections
from manager.engine.commands.policies import set_policy
from manager.engine.commands.requests import AllowlistChanged, ChangeAllowlist, SetPolicy
from manager.engine.context import Context
from manager.errors import Invalid, NotFound


def change_allowlist(context: Context, request: ChangeAllowlist) -> AllowlistChanged:
    """Change one entry of a document's allowlist; the rest of the document is unchanged.

    Raises:
        Invalid: the value does not match its kind.
        NotFound: the entry to be removed is not on the allowlist.
    """
    document = context.fleet.policies.document(request.scope)
    if request.listed:
        kind, value = normalize_entry(request.kind, request.value)
        changed: Sections | None = with_entry(document, kind, value)
    else:
        kind, value = _entry_to_remove(request)
        if document is None or not allows(document, kind, value):
            raise NotFound(f"{request.value} does not stand on the allowlist of {request.scope}")
        changed = without_entry(document, kind, value)
    return AllowlistChanged(kind, value, set_policy(context, SetPolicy(request.scope, changed, request.author)))


def _entry_to_remove(request: ChangeAllowlist) -> tuple[AllowlistEntryKind, str]:
    """Return kind and normal form of an entry to be removed; the kind is `process` if no other kind fits."""
    try:
        return normalize_entry(request.kind, request.value)
    except Invalid:
        if request.kind is not None:
            raise
        return "process", request.value
