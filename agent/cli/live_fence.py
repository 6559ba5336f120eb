"""The fence's own word in a guard's status: the guard's is as old as its last check of the fence."""

import os
from typing import Any

from agent.errors import GuardError
from agent.respond.enforced_counts import GUARDS_REASONS
from agent.respond.fence_client import FenceClient
from agent.settings import read_settings
from schemas.presence import Mode

_PATIENCE = 5.0
_STOPPED = {
    "name": "fence",
    "state": "stopped",
    "reason": "stopped by `panic`: nothing is blocked on this host until `panguard guard resume`",
}


def with_live_fence(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a guard's status with the counts of the fence, and with what it says of `panic`, where it answers.

    Measures that only the guard knows, such as domains, stay among `impossible` and the reasons.
    """
    try:
        answer = FenceClient(read_settings(os.environ).fence_socket, patience=_PATIENCE).ask("check")
    except GuardError:
        return fields
    if answer.get("enforcement") != "nftables":
        return fields
    fields = without_stopped(fields)
    if answer.get("panic") and fields.get("mode") == Mode.PROTECTION:
        fields = fields | {"health": "degraded", "sources": [*(fields.get("sources") or ()), _STOPPED]}
    if fields.get("enforcement") != "nftables":
        return fields
    told = fields.get("enforced") or {}
    reasons = [each for each in answer.get("reasons") or () if isinstance(each, dict)]
    beside = [each for each in told.get("reasons") or () if each.get("reason") in GUARDS_REASONS]
    counts = {name: answer.get(name, 0) for name in ("set", "ineffective", "refused", "failed")}
    return fields | {"enforced": {**told, **counts, "reasons": [*reasons, *beside]}}


def without_stopped(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a guard's status without its statement that the fence is stopped, which the fence itself makes."""
    sources = fields.get("sources") or []
    others = [each for each in sources if (each["name"], each["state"]) != ("fence", "stopped")]
    if len(others) == len(sources):
        return fields
    is_well = bool(others) and all(each["state"] == "ok" for each in others)
    return fields | {"sources": others, **({"health": "ok"} if is_well else {})}
