"""Counts of the measures that hold on this host, as heartbeats and `policy/applied` state them, with reasons."""

from collections.abc import Iterable, Sequence

from agent.respond.fence import Fence
from agent.respond.responder import Measure
from schemas.presence import Enforced, Unenforced

_ADDRESSES_ONLY = "this guard blocks addresses only"
_UNSIGNED = "over HTTP the policy has no signature that the fence could verify: connect over MQTT"

GUARDS_REASONS = frozenset({_ADDRESSES_ONLY, _UNSIGNED})
"""Reasons that the guard knows and the fence does not: measures with them were never asked of the fence."""

_MOST_REASONS = 5


def enforced_counts(
    measures: Sequence[Measure], fence: Fence | None, policy_version: int, unsigned: Iterable[Measure] | None
) -> Enforced:
    """Return the measures that hold, and why others do not.

    Args:
        measures: The wanted ones.
        fence: The fence; None where measures are only recorded.
        policy_version: The version of the policy that is obeyed; 0 for none.
        unsigned: Measures of a policy that came without a signature, so that the fence cannot take them; None where
            policies come signed.
    """
    addresses = [measure for measure in measures if measure.kind == "ip"]
    if fence is None:
        return Enforced(policy_version=policy_version or None, set=len(addresses))
    unenforced = [(measure.value, _ADDRESSES_ONLY) for measure in measures if measure.kind != "ip"]
    if fence.missing is not None:
        unenforced = [(measure.value, fence.missing) for measure in addresses] + unenforced
        base = Enforced(policy_version=policy_version or None)
    else:
        base = fence.enforced()
        if unsigned is not None:
            unenforced = [(each.value, _UNSIGNED) for each in unsigned if each.kind == "ip"] + unenforced
            base = base.model_copy(update={"policy_version": policy_version or None})
    room = max(0, _MOST_REASONS - len(base.reasons))
    reasons = [Unenforced(value=value[:512], reason=reason[:512]) for value, reason in unenforced[-room:] if room]
    return base.model_copy(
        update={"impossible": base.impossible + len(unenforced), "reasons": [*base.reasons, *reasons]}
    )
