"""Evidence of logins and system paths in a table of its own, filled from the newest stored threats."""

import json
from collections.abc import Iterator
from typing import Any

from peewee import AutoField, Database, DoubleField, Model, TextField
from playhouse.migrate import SchemaMigrator

from manager.domain.response.evidence_index import EvidenceIndex

_THREATS_READ = 200_000
"""The newest threats that are read: some seconds, whatever the store holds."""


def up(_migrator: SchemaMigrator, db: Database) -> None:
    class IndicatorEvidenceTable(Model):
        id = AutoField()
        kind = TextField()
        value = TextField()
        organization_id = TextField()
        site = TextField(null=True)
        renewed_at = DoubleField()
        last_login = DoubleField(null=True)
        agent_id = TextField()
        system_path = TextField(null=True)

        class Meta:
            database = db
            table_name = "indicator_evidence"
            indexes = ((("value", "kind", "organization_id"), False),)

    db.create_tables([IndicatorEvidenceTable])
    index = EvidenceIndex()
    for organization_id, site, agent_id, received_at, evidence in _stored_evidence(db):
        index.record(organization_id, site, agent_id, evidence, received_at)
    rows = [(*indicator, *observed) for indicator, observed in index.take_changes().items() if observed is not None]
    db.connection().executemany(
        "INSERT INTO indicator_evidence (kind, value, organization_id, site, renewed_at, last_login, agent_id, "
        "system_path) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _stored_evidence(db: Database) -> Iterator[tuple[str, str | None, str, float, dict[str, Any]]]:
    rows = db.execute_sql(
        "SELECT organization_id, site, agent_id, received_at, document "
        "FROM threat JOIN agent ON agent.number = threat.agent_number "
        "WHERE sequence > (SELECT max(sequence) FROM threat) - ? "
        "AND (document LIKE '%\"lastLogin\"%' OR document LIKE '%\"filePath\"%') ORDER BY sequence",
        (_THREATS_READ,),
    )
    for organization_id, site, agent_id, received_at, document in rows:
        try:
            evidence = json.loads(document)["threat"]["evidence"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(evidence, dict):
            yield organization_id, site, agent_id, received_at, evidence
