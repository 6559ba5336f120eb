"""What admins set for each scope, and every change that they made."""

import json

from peewee import fn

from manager.domain.policies.fleet_policies import GLOBAL, Scope, Sections
from manager.domain.policies.revision_history import differences
from manager.errors import NotFound
from manager.storage.queries.reader import Page, Query, Reader, Record, moment
from manager.storage.tables import MetaTable, PolicyRevisionTable


def newest(reader: Reader, scope: Scope) -> Record | None:
    """Return the newest revision of a scope, whose document is None if the scope lost it; None if it had none."""
    query = PolicyRevisionTable.select().where(PolicyRevisionTable.scope == str(scope))
    row = reader.row(query.order_by(PolicyRevisionTable.revision.desc()))
    return None if row is None else record_of(row)


def history(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return every change, newest first."""
    return reader.page(PolicyRevisionTable.select(), PolicyRevisionTable.revision, record_of, limit, cursor)


def current(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return the documents that scopes have now, the last set first."""
    table = PolicyRevisionTable
    query = table.select().where(table.revision.in_(_newest()), table.document.is_null(False))
    return reader.page(query, table.revision, record_of, limit, cursor)


def documents(reader: Reader, at: int) -> dict[Scope, Sections]:
    """Return the documents that scopes had at a revision."""
    table = PolicyRevisionTable
    newest_by_then = _newest().where(table.revision <= at)
    rows = reader.rows(table.select().where(table.revision.in_(newest_by_then), table.document.is_null(False)))
    return {Scope.parse(row["scope"]): json.loads(row["document"]) for row in rows}


def compared(reader: Reader, before: int, after: int | None) -> list[Record]:
    """Return what differs between the documents of two revisions, scope by scope; the newest one stands for None.

    Raises:
        NotFound: there is no such revision yet.
    """
    newest_revision = revision(reader)
    later = newest_revision if after is None else after
    for wanted in (before, later):
        if wanted > newest_revision:
            raise NotFound(f"Revision {wanted} not found: the newest is {newest_revision}")
    found = differences(documents(reader, before), documents(reader, later))
    return [
        {"scope": scope.kind, "target": scope.target or None, **change._asdict()}
        for scope, changes in found.items()
        for change in changes
    ]


def revision(reader: Reader) -> int:
    """Return the fleet's revision, which counts from 1."""
    row = reader.row(MetaTable.select(MetaTable.value).where(MetaTable.key == "fleet_revision"))
    return 1 if row is None else int(row["value"])


def active(reader: Reader) -> Record | None:
    """Return the whole fleet's document as a list of rules under a name, or None if there is none."""
    found = newest(reader, GLOBAL)
    if found is None or found["document"] is None:
        return None
    policy_id = f"pol-{found['revision']}"
    about = _about(reader, f"policy:{GLOBAL}", found["revision"])
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


def _about(reader: Reader, key: str, of_revision: int) -> Record:
    """Return the name and description that a scope's rules were set under, unless its document was set since."""
    row = reader.row(MetaTable.select(MetaTable.value).where(MetaTable.key == key))
    about = {} if row is None else dict(json.loads(row["value"]))
    return about if about.get("revision", 0) >= of_revision else {}


def record_of(row: Record) -> Record:
    """Return one change: which scope got which document, when, by whom."""
    scope = Scope.parse(row["scope"])
    return {
        "revision": row["revision"],
        "scope": scope.kind,
        "target": scope.target or None,
        "document": None if row["document"] is None else json.loads(row["document"]),
        "updatedAt": moment(row["at"]),
        "author": row["author"],
    }


def _newest() -> Query:
    """Return the query for each scope's last revision."""
    return PolicyRevisionTable.select(fn.MAX(PolicyRevisionTable.revision)).group_by(PolicyRevisionTable.scope)
