"""Correlation: finds addresses, file hashes and techniques that several agents report at once. No I/O, no clock."""

from manager.domain.correlation.allowlist import Allowed, Allowlist
from manager.domain.correlation.correlator import Correlator
from manager.domain.correlation.incidents import ChangeKind, Incident, IncidentChange
from manager.domain.correlation.indicators import Indicator, Kind
from manager.domain.correlation.reports import CorrelatorSettings, History, NoHistory, PastReport, Report, Span
from manager.domain.correlation.vouching import vouched_bits

__all__ = [
    "Allowed",
    "Allowlist",
    "ChangeKind",
    "Correlator",
    "CorrelatorSettings",
    "History",
    "Incident",
    "IncidentChange",
    "Indicator",
    "Kind",
    "NoHistory",
    "PastReport",
    "Report",
    "Span",
    "vouched_bits",
]
