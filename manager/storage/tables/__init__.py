"""The tables, as peewee models. Times are seconds since 1970 (UTC); JSON is text."""

from manager.storage.tables.agents import AgentHistoryTable, AgentPolicyTable, AgentTable
from manager.storage.tables.incidents import (
    EmergencyEntryTable,
    IncidentMemberTable,
    IncidentResponseTable,
    IncidentTable,
    IndicatorEvidenceTable,
)
from manager.storage.tables.operators import (
    AccessTokenTable,
    AuditEntryTable,
    DeadLetterTable,
    MetaTable,
    PolicyRevisionTable,
    TokenTable,
)
from manager.storage.tables.projections import (
    ProjectionProgressTable,
    ThreatAgentCountTable,
    ThreatBitmapTable,
    ThreatKindCountTable,
    ThreatSliceTable,
    ThreatSourceCountTable,
    ThreatSourceTable,
)
from manager.storage.tables.protection import (
    BlockLiftTable,
    HostLoginTable,
    LoginReporterTable,
    ReportedMeasureTable,
)
from manager.storage.tables.table import Table, database
from manager.storage.tables.threats import StoredIdTable, ThreatTable

ALL = (
    AgentTable,
    AgentHistoryTable,
    ThreatTable,
    ThreatKindCountTable,
    ThreatAgentCountTable,
    ThreatSourceTable,
    ThreatSourceCountTable,
    ThreatSliceTable,
    ThreatBitmapTable,
    ProjectionProgressTable,
    StoredIdTable,
    AgentPolicyTable,
    IncidentTable,
    IncidentMemberTable,
    IncidentResponseTable,
    EmergencyEntryTable,
    IndicatorEvidenceTable,
    ReportedMeasureTable,
    HostLoginTable,
    LoginReporterTable,
    BlockLiftTable,
    PolicyRevisionTable,
    TokenTable,
    AccessTokenTable,
    AuditEntryTable,
    DeadLetterTable,
    MetaTable,
)

__all__ = [
    "ALL",
    "AccessTokenTable",
    "AgentHistoryTable",
    "AgentPolicyTable",
    "AgentTable",
    "AuditEntryTable",
    "BlockLiftTable",
    "DeadLetterTable",
    "EmergencyEntryTable",
    "HostLoginTable",
    "IncidentMemberTable",
    "IncidentResponseTable",
    "IncidentTable",
    "IndicatorEvidenceTable",
    "LoginReporterTable",
    "MetaTable",
    "PolicyRevisionTable",
    "ProjectionProgressTable",
    "ReportedMeasureTable",
    "StoredIdTable",
    "Table",
    "ThreatAgentCountTable",
    "ThreatBitmapTable",
    "ThreatKindCountTable",
    "ThreatSliceTable",
    "ThreatSourceCountTable",
    "ThreatSourceTable",
    "ThreatTable",
    "TokenTable",
    "database",
]
