"""The guard's status as text: one line for each matter, about ten in all."""

from collections.abc import Iterator
from typing import Any

_SHOWN = 5
_COUNTS = ("ineffective", "refused", "impossible", "failed")


def as_text(fields: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a status, as `agent.status.inspect_guard` returns it."""
    for name, text in _rows(fields):
        yield f"{name + ':':<10} {text}"


def _rows(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    of_process = ", ".join(
        f"{name} {fields[member]}"
        for name, member in (("agentId", "agentId"), ("organization", "organizationId"), ("session", "session"))
        if fields.get(member) is not None
    )
    pid = "" if fields["pid"] is None else f" (pid {fields['pid']})"
    yield "guard", f"{fields['state']}{pid}" + (f", {of_process}" if of_process else "")
    trouble = fields.get("notConnected")
    yield "manager", str(fields.get("manager") or "unknown") + (f"; not connected: {trouble}" if trouble else "")
    yield "health", str(fields.get("health") or "unknown")
    for source in fields.get("sources") or ():
        reason = f": {source['reason']}" if source.get("reason") else ""
        read = f", {source['records']} records, {source['understood']} understood" if source.get("records") else ""
        yield "source", f"{source['name']} {source['state']}{reason}{read}"
    left = fields.get("trialSecondsLeft")
    trial = "" if left is None else f"; on trial for {left} s: panguard guard confirm keeps it"
    yield "mode", f"{fields.get('mode', 'unknown')} (wanted: {fields.get('modeWanted', 'unknown')}){trial}"
    yield "blocking", _blocking(fields)
    enforced = fields.get("enforced") or {}
    for each in (enforced.get("reasons") or ())[:_SHOWN]:
        yield "not held", f"{each['value']}: {each['reason']}"
    yield "wanted", _wanted(fields["recorded"])
    yield "policy", _policy(fields)
    yield "reports", _reports(fields)
    for each in (fields.get("responses") or ())[:_SHOWN]:
        yield "response", f"{each['at']} {each['action']} {each.get('target', '')}: {each.get('outcome', 'reported')}"
    if fields.get("ignored"):
        yield "ignored", ", ".join(f"{count} {reason}" for reason, count in sorted(fields["ignored"].items()))


def _blocking(fields: dict[str, Any]) -> str:
    enforced, kind = fields.get("enforced") or {}, str(fields.get("enforcement") or "unknown")
    if fields.get("enforcementNeeds"):
        kind += f": {fields['enforcementNeeds']}"
    others = [f"{enforced[name]} {name}" for name in _COUNTS if enforced.get(name)]
    return "; ".join([kind, f"{enforced.get('set', 0)} measures in force", *others])


def _wanted(recorded: list[dict[str, Any]]) -> str:
    values = [str(each["value"]) for each in recorded]
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return f"{len(values)} blocks" + (f": {', '.join(values[:_SHOWN])}{more}" if values else "")


def _policy(fields: dict[str, Any]) -> str:
    version, sequence = fields.get("policyVersion"), fields["blocklistSequence"]
    told = "none" if version is None else f"version {version}, {fields.get('policyState')}"
    error = f": {fields['policyError']}" if fields.get("policyError") else ""
    return f"{told}{error}; blocklist {sequence or 'none'}"


def _reports(fields: dict[str, Any]) -> str:
    """Return the number of records read, and of reports that wait, were dropped, or were refused by the manager."""
    names = {"outboxSize": "wait", "outboxDropped": "dropped", "deadLetters": "refused by the manager"}
    counts = ", ".join(f"{fields[member]} {name}" for member, name in names.items())
    return f"{counts}; {fields['eventsTotal']} records read"
