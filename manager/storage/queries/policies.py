"""Policy documents by scope, their history, and the differences between revisions."""

import json
from collections.abc import Collection

from peewee import Expression, Value, fn

from manager.domain.policies.fleet_policies import GLOBAL, Scope, Sections
from manager.domain.policies.revision_history import differences
from manager.errors import NotFound
from manager.storage.queries.reader import Page, Query, Reader, Record, moment
from manager.storage.tables import AgentTable, MetaTable, PolicyRevisionTable


def last_of(reader: Reader, scope: Scope) -> Record | None:
    """Return a scope's last revision, whose document is None if it was removed; None for a scope without revisions."""
    query = PolicyRevisionTable.select().where(PolicyRevisionTable.scope == str(scope))
    row = reader.row(query.order_by(PolicyRevisionTable.revision.desc()))
    return None if row is None else record_of(row)


def history(reader: Reader, organizations: Collection[str] | None, limit: int, cursor: str | None) -> Page:
    """Return every revision that concerns organizations, newest first."""
    query = PolicyRevisionTable.select()
    if organizations is not None:
        query = query.where(_concerns(organizations))
    return reader.page(query, PolicyRevisionTable.revision, record_of, limit, cursor)


def current(reader: Reader, organizations: Collection[str] | None, limit: int, cursor: str | None) -> Page:
    """Return the current documents that concern organizations, the last set first."""
    table = PolicyRevisionTable
    query = table.select().where(table.revision.in_(_last_revisions()), table.document.is_null(False))
    if organizations is not None:
        query = query.where(_concerns(organizations))
    return reader.page(query, table.revision, record_of, limit, cursor)


def groups(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return the current documents of groups, the last set first."""
    table = PolicyRevisionTable
    last = _last_revisions().where(table.scope.startswith("group:"))
    query = table.select().where(table.revision.in_(last), table.document.is_null(False))
    return reader.page(query, table.revision, record_of, limit, cursor)


def documents(reader: Reader, at: int, organizations: Collection[str] | None = None) -> dict[Scope, Sections]:
    """Return the documents at a revision that concern organizations."""
    table = PolicyRevisionTable
    last_by_then = _last_revisions().where(table.revision <= at)
    query = table.select().where(table.revision.in_(last_by_then), table.document.is_null(False))
    if organizations is not None:
        query = query.where(_concerns(organizations))
    rows = reader.rows(query)
    return {Scope.parse(row["scope"]): json.loads(row["document"]) for row in rows}


def compared(
    reader: Reader, before: int, after: int | None, organizations: Collection[str] | None = None
) -> list[Record]:
    """Return the differences between the documents of two revisions, scope by scope; None is the newest revision.

    Only the documents that concern `organizations` are compared; None for all.

    Raises:
        NotFound: a revision does not exist yet.
    """
    newest = revision(reader)
    later = newest if after is None else after
    for wanted in (before, later):
        if wanted > newest:
            raise NotFound(f"Revision {wanted} not found: the newest is {newest}")
    found = differences(documents(reader, before, organizations), documents(reader, later, organizations))
    return [
        {"scope": scope.kind, "target": scope.target or None, **change._asdict()}
        for scope, changes in found.items()
        for change in changes
    ]


def revision(reader: Reader, organizations: Collection[str] | None = None) -> int:
    """Return the fleet's revision, which counts from 1; with organizations the last one that concerns them."""
    if organizations is not None:
        newest = PolicyRevisionTable.select(fn.MAX(PolicyRevisionTable.revision).alias("newest"))
        return int(reader.rows(newest.where(_concerns(organizations)))[0]["newest"] or 1)
    return int(reader.select("policies.fleet_revision")[0][0])


def active(reader: Reader) -> Record | None:
    """Return the fleet's document as a named list of rules, or None."""
    found = last_of(reader, GLOBAL)
    if found is None or found["document"] is None:
        return None
    policy_id = f"pol-{found['revision']}"
    about = _name_and_description(reader, f"policy:{GLOBAL}", found["revision"])
    return {
        "id": policy_id,
        "policyId": policy_id,
        "name": about.get("name") or policy_id,
        "description": about.get("description"),
        "version": found["revision"],
        "rules": found["document"].get("rules", []),
        "createdAt": found["updatedAt"],
        "updatedAt": found["updatedAt"],
        "author": found["author"],
    }


def _name_and_description(reader: Reader, key: str, of_revision: int) -> Record:
    """Return the stored name and description of the rules; empty if the policy was changed after they were stored."""
    row = reader.row(MetaTable.select(MetaTable.value).where(MetaTable.key == key))
    about = {} if row is None else dict(json.loads(row["value"]))
    return about if about.get("revision", 0) >= of_revision else {}


def record_of(row: Record) -> Record:
    """Return the record of one revision."""
    scope = Scope.parse(row["scope"])
    return {
        "revision": row["revision"],
        "scope": scope.kind,
        "target": scope.target or None,
        "document": None if row["document"] is None else json.loads(row["document"]),
        "updatedAt": moment(row["at"]),
        "author": row["author"],
        "message": row["message"],
    }


def _concerns(organizations: Collection[str]) -> Expression:
    """Return the condition for the fleet's documents, the organizations' own and those of their agents."""
    agents = AgentTable.select(Value("agent:").concat(AgentTable.agent_id)).where(
        AgentTable.organization_id.in_(list(organizations))
    )
    own = [str(GLOBAL), *(str(Scope("organization", organization)) for organization in organizations)]
    return PolicyRevisionTable.scope.in_(own) | PolicyRevisionTable.scope.in_(agents)


def _last_revisions() -> Query:
    """Return the query of each scope's last revision."""
    return PolicyRevisionTable.select(fn.MAX(PolicyRevisionTable.revision)).group_by(PolicyRevisionTable.scope)
