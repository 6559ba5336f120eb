"""What admins set for each scope, and every change that they made."""

import json

from manager.domain.policies import Scope
from manager.storage.queries.reader import Page, Reader, Record, moment
from manager.storage.tables import MetaTable, PolicyRevisionTable


def newest(reader: Reader, scope: Scope) -> Record | None:
    """Return the newest revision of a scope, whose document is None if the scope lost it; None if it had none."""
    query = PolicyRevisionTable.select().where(PolicyRevisionTable.scope == str(scope))
    row = reader.row(query.order_by(PolicyRevisionTable.revision.desc()))
    return None if row is None else record_of(row)


def history(reader: Reader, limit: int, cursor: str | None) -> Page:
    """Return every change, newest first."""
    return reader.page(PolicyRevisionTable.select(), PolicyRevisionTable.revision, record_of, limit, cursor)


def revision(reader: Reader) -> int:
    """Return the fleet's revision, which counts from 1."""
    row = reader.row(MetaTable.select(MetaTable.value).where(MetaTable.key == "fleet_revision"))
    return 1 if row is None else int(row["value"])


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
