"""Revision history: documents at an earlier revision, and their differences."""

from collections.abc import Iterable, Mapping

from manager.domain.policies.diff import Difference, diff
from manager.domain.policies.fleet_policies import Revision, Scope, Sections


def documents_at(history: Iterable[Revision], revision: int) -> dict[Scope, Sections]:
    """Return the documents by scope at a revision, from revisions in any order."""
    documents: dict[Scope, Sections] = {}
    for change in sorted(history, key=lambda each: each.revision):
        if change.revision > revision:
            break
        if change.document is None:
            documents.pop(change.scope, None)
        else:
            documents[change.scope] = change.document
    return documents


def differences(before: Mapping[Scope, Sections], after: Mapping[Scope, Sections]) -> dict[Scope, list[Difference]]:
    """Return the differences between the documents of two revisions by scope; scopes without any are left out."""
    found = {scope: diff(before.get(scope, {}), after.get(scope, {})) for scope in sorted({*before, *after})}
    return {scope: changes for scope, changes in found.items() if changes}
