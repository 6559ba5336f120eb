"""Scope, duration and reason texts of an incident's entries."""

from collections.abc import Sequence

from manager.domain.correlation import Incident, Kind
from manager.domain.correlation.indicators import hash_algorithm
from manager.domain.correlation.reports import WINDOW
from manager.domain.response.evidence_index import EvidenceIndex
from manager.domain.response.settings import RepeatOffenderRule, ResponderSettings

_REASONS: dict[Kind, str] = {
    "source_ip": "several agents were attacked from this address",
    "file_hash": "several agents found this file",
    "technique": "several agents were attacked with this technique",
}

_MOST_DOUBLINGS = 32
_REPORTS_NAMED = 3


def entry_duration(incident: Incident, settings: ResponderSettings, repeat: RepeatOffenderRule) -> float:
    """Return the seconds for which an incident's entries stay in force.

    Doubled at each return of the indicator, up to a day; for a repeat offender, as the policy defines it, at least
    `response.escalation`, also where that is more than a day.
    """
    doubled = settings.duration * 2.0 ** min(incident.return_count, _MOST_DOUBLINGS)
    duration = min(doubled, settings.longest)
    if incident.kind != "technique" and incident.return_count >= repeat.threshold:
        duration = max(duration, repeat.duration)
    return duration


def local_scope_reason(incident: Incident, evidence: EvidenceIndex) -> str | None:
    """Return the reason why an incident's entries stay in its agents' own policies; None without one."""
    if incident.kind == "technique":
        return "a technique concerns the agents that see it"
    if incident.site is not None:
        return "a private address is another host on another network"
    path = evidence.system_path(incident.indicator) if incident.kind == "file_hash" else None
    return f"a system keeps this file at {path[:200]}" if path is not None else None


def untimely_reason(incident: Incident, reports: Sequence[str], *, clock_unknown: bool) -> str:
    """Return the reason why too few reports of an incident count for a response.

    Args:
        incident: the incident, when it opens.
        reports: sentence parts about its agents' reports that do not count, with the clock that is off.
        clock_unknown: whether a report whose event time is not known is part of it.
    """
    reason = _untimely_rule(incident, clock_unknown=clock_unknown)
    more = f"; and {len(reports) - _REPORTS_NAMED} more" if len(reports) > _REPORTS_NAMED else ""
    return f"{reason}: {'; '.join(reports[:_REPORTS_NAMED])}{more}" if reports else reason


def _untimely_rule(incident: Incident, *, clock_unknown: bool) -> str:
    if not clock_unknown:
        return f"too few agents reported it within {WINDOW:.0f} s of the attack"
    if not incident.late:
        return "too few of the agents that reported it have a known clock offset; the next heartbeat of each teaches it"
    return f"too few agents reported it within {WINDOW:.0f} s of the attack and with a known clock offset"


def entry_reason(incident: Incident) -> str:
    """Return the reason of an entry that a guard's status shows."""
    return _REASONS[incident.kind]


def describe_outcome(incident: Incident, *, wide: bool, obstacle: str | None, approval: str | None = None) -> str:
    """Return a description of the result of an incident's response, for people."""
    if incident.kind == "technique":
        return "the agents that see it are more attentive"
    decided = "alert decided" if hash_algorithm(incident.value) in {"md5", "sha1"} else "block decided"
    if wide:
        return f"{decided} for the whole organization"
    told = f"{decided} for the agents that report it"
    if approval is not None:
        return f"{told}; the whole organization waits for approval: {approval}"
    return f"{told} only: {obstacle}" if obstacle is not None else told
