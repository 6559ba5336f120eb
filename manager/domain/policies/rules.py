"""Typed rules of a policy document: parsing of the documented shapes, and their effects on the sections.

A rule acts in its own layer, as if its effect were written in that layer's sections beside it:

- ``block_ip`` puts an address or CIDR on ``blocklist.ips``, until `duration` after it was set; with a `condition` and
  no address it means the source of every threat that meets the condition, and guards get it as it is;
- ``alert_threshold`` sets ``alerting.minimumSeverity`` by a severity, or ``thresholds.notifyAndWait`` by a confidence;
- ``auto_respond`` sets ``thresholds.autoRespond`` by a confidence, or leaves only ``notify`` in ``response.actions``
  by `false` or ``off``; with a condition that names no confidence the threshold in force is kept;
- ``custom`` does not change the sections: guards get it unchanged.

A rule whose own `enabled` is false is checked, too, and has no effect. The shapes (the contract, section 3,
``POST /api/policy``) carry their values in different places: in the rule itself, in `config`, or in `condition`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any

from manager.domain.networks import network_of
from manager.errors import Invalid
from schemas import durations
from schemas.model import iso
from schemas.threats import Severity

PASSIVE_ACTIONS = ("notify",)
"""Actions that a guard may still take when auto-respond is off."""

_LONGEST = 10 * 366 * 86_400
_ADDRESS_MEMBERS = ("value", "ip", "address", "cidr", "sourceIp", "source_ip")
_SEVERITY_MEMBERS = ("value", "minimumSeverity", "severity", "threshold", "minSeverity")
_CONFIDENCE_MEMBERS = ("value", "autoRespond", "threshold", "confidence", "minConfidence")


_MEMBERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "block_ip": (_ADDRESS_MEMBERS, ("duration",), ("reason",)),
    "alert_threshold": (_SEVERITY_MEMBERS,),
    "auto_respond": (_CONFIDENCE_MEMBERS, ("enabled",)),
}
"""The members that each type of rule takes from its `config`, its `condition` or itself."""


@dataclass(frozen=True, slots=True)
class BlockIp:
    """Block an address or CIDR, for `duration` seconds from when the rule was set, or permanently with None."""

    value: str
    duration: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class AlertThreshold:
    """Alert from a severity on, or notify and wait from a confidence (in percent) on; one of the two is None."""

    minimum_severity: Severity | None
    notify_and_wait: float | None


@dataclass(frozen=True, slots=True)
class AutoRespond:
    """Respond automatically from a confidence (in percent) on; None switches it off."""

    confidence: float | None


@dataclass(frozen=True, slots=True)
class Custom:
    """A rule that only guards interpret, or that leaves the sections as they are."""


TypedRule = BlockIp | AlertThreshold | AutoRespond | Custom


def parse_rule(rule: Mapping[str, Any], path: str) -> TypedRule:
    """Parse a rule.

    Args:
        rule: a rule as JSON values in wire names, with one of the four types.
        path: name of the rule in errors, such as ``rules.0``.

    Raises:
        Invalid: it lacks a value that its type needs; the text names the field.
    """
    match rule.get("type"):
        case "block_ip":
            return Custom() if _is_conditional(rule, _ADDRESS_MEMBERS) else _block_ip(rule, path)
        case "alert_threshold":
            return _alert_threshold(rule, path)
        case "auto_respond":
            return _auto_respond(rule, path)
        case "custom":
            return Custom()
    raise Invalid(f"{path}.type: say block_ip, alert_threshold, auto_respond or custom")


def parse_duration(text: Any, path: str) -> float | None:
    """Return a duration such as ``30m``, ``24h`` or ``7d``, or a number of seconds, in seconds; None for ``permanent``.

    Raises:
        Invalid: it is none of these, or longer than ten years.
    """
    if text == "permanent":
        return None
    seconds: float = 0
    if isinstance(text, str) and durations.is_duration(text):
        seconds = durations.parse_duration(text)
    elif isinstance(text, int | float) and not isinstance(text, bool):
        seconds = text
    if not 1 <= seconds <= _LONGEST:
        raise Invalid(f"{path}: write 30s, 15m, 1h, 7d, 2w or a number of seconds (at most ten years), or permanent")
    return float(seconds)


def check_rules(document: Mapping[str, Any]) -> None:
    """Check every rule of a document.

    Raises:
        Invalid: a rule lacks a value that its type needs; the text names the field.
    """
    for index, rule in enumerate(document.get("rules", ())):
        parse_rule(rule, f"rules.{index}")


def stamp_rules(document: Mapping[str, Any], before: Mapping[str, Any] | None, at: float) -> Mapping[str, Any]:
    """Return the document with the time at which each block rule was set, in `config.setAt`: its duration starts there.

    A rule that is in the document before, and has not expired, keeps its time: to set the same document again prolongs
    nothing. A rule with a `config.setAt` (a document that was read and is written back) keeps that.
    """
    if not any(_needs_date(rule) for rule in document.get("rules", ())):
        return document
    known = [rule for rule in (before or {}).get("rules", ()) if at < rule_expiry(rule) < inf]
    rules = []
    for rule in document["rules"]:
        dated = rule
        if _needs_date(rule):
            same = (old for old in known if _undated(old) == _undated(rule))
            dated = next(same, None) or {**rule, "config": {**(rule.get("config") or {}), "setAt": iso(at)}}
        rules.append(dated)
    return {**document, "rules": rules}


def rule_expiry(rule: Mapping[str, Any]) -> float:
    """Return the expiry of a checked and stamped rule, in seconds since 1970; infinity for a permanent one."""
    if rule.get("type") != "block_ip" or _is_conditional(rule, _ADDRESS_MEMBERS):
        return inf
    duration, set_at = _block_ip(rule, "rule").duration, _set_at(rule)
    return inf if duration is None or set_at is None else set_at + duration


def effects(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the sections that each enabled rule of a checked document sets, to be merged over it."""
    for index, rule in enumerate(document.get("rules", ())):
        if not rule.get("enabled", True):
            continue
        match parse_rule(rule, f"rules.{index}"):
            case BlockIp(value, _, reason):
                entry: dict[str, Any] = {"value": value}
                if reason is not None:
                    entry["reason"] = reason
                expires = rule_expiry(rule)
                if expires < inf:
                    entry["expiresAt"] = iso(expires)
                yield {"blocklist": {"ips": [entry]}}
            case AlertThreshold(None, confidence):
                yield {"thresholds": {"notifyAndWait": confidence}}
            case AlertThreshold(Severity() as severity, _):
                yield {"alerting": {"minimumSeverity": severity.value}}
            case AutoRespond(None):
                yield {"response": {"actions": list(PASSIVE_ACTIONS)}}
            case AutoRespond(confidence):
                yield {"thresholds": {"autoRespond": confidence}}


def unevaluated_conditions(rule: Mapping[str, Any]) -> list[str]:
    """Return the parts of a rule's condition that nobody evaluates: all but the values that the rule takes from it."""
    condition = rule.get("condition")
    if condition is None:
        return []
    taken = {place for members in _MEMBERS.get(str(rule.get("type")), ()) if (place := _find_member(rule, members)[0])}
    if not isinstance(condition, Mapping):
        return [] if "condition" in taken else ["condition"]
    return [f"condition.{name}" for name in condition if f"condition.{name}" not in taken]


def _block_ip(rule: Mapping[str, Any], path: str) -> BlockIp:
    member, value = _find_member(rule, _ADDRESS_MEMBERS)
    network = network_of(value) if isinstance(value, str) else None
    if network is None:
        raise Invalid(f"{path}.{member}: say an IP address or a CIDR")
    if not network.prefixlen:
        raise Invalid(f"{path}.{member}: this is every address there is")
    whole = network.prefixlen == network.max_prefixlen
    where, duration = _find_member(rule, ("duration",), default="permanent")
    _, reason = _find_member(rule, ("reason",), default=None)
    if "setAt" in (rule.get("config") or {}) and _set_at(rule) is None:
        raise Invalid(f"{path}.config.setAt: say a time with its zone, or leave it out")
    return BlockIp(
        value=str(network.network_address) if whole else str(network),
        duration=parse_duration(duration, f"{path}.{where}"),
        reason=reason if isinstance(reason, str) else None,
    )


def _alert_threshold(rule: Mapping[str, Any], path: str) -> AlertThreshold:
    member, value = _find_member(rule, _SEVERITY_MEMBERS)
    if isinstance(value, str) and value in {severity.value for severity in Severity}:
        return AlertThreshold(Severity(value), None)
    confidence = _confidence(value)
    if confidence is None:
        raise Invalid(f"{path}.{member}: say low, medium, high or critical, or a confidence from 0 to 100")
    return AlertThreshold(None, confidence)


def _auto_respond(rule: Mapping[str, Any], path: str) -> AutoRespond | Custom:
    member, value = _find_member(rule, _CONFIDENCE_MEMBERS)
    switched_off = any(isinstance(place, Mapping) and place.get("enabled") is False for place in _places(rule)[:2])
    if value is False or value == "off" or switched_off:
        return AutoRespond(None)
    if _is_conditional(rule, _CONFIDENCE_MEMBERS):
        return Custom()
    confidence = _confidence(value)
    if confidence is None:
        raise Invalid(f"{path}.{member}: say a confidence from 0 to 100, or false")
    return AutoRespond(confidence)


def _is_conditional(rule: Mapping[str, Any], members: tuple[str, ...]) -> bool:
    """Return whether a rule has a condition (an object, it may be empty) and none of these members."""
    return isinstance(rule.get("condition"), Mapping) and _find_member(rule, members)[1] is None


def _find_member(rule: Mapping[str, Any], members: tuple[str, ...], default: Any = None) -> tuple[str, Any]:
    """Return the place and value of the first of these members that a rule has; the default if it has none."""
    for prefix, place in zip(("config.", "condition.", ""), _places(rule), strict=True):
        if isinstance(place, Mapping):
            for member in members:
                if place.get(member) is not None:
                    return prefix + member, place[member]
        elif place is not None and "value" in members:
            return "condition", place
    return members[0], default


def _places(rule: Mapping[str, Any]) -> tuple[Any, Any, Mapping[str, Any]]:
    return rule.get("config"), rule.get("condition"), rule


def _confidence(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 100 else None  # noqa: PLR2004 -- percent


def _needs_date(rule: Mapping[str, Any]) -> bool:
    is_block = rule.get("type") == "block_ip" and not _is_conditional(rule, _ADDRESS_MEMBERS)
    return is_block and "setAt" not in (rule.get("config") or {})


def _undated(rule: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: value for name, value in (rule.get("config") or {}).items() if name != "setAt"}
    return {
        **{name: value for name, value in rule.items() if name != "config"},
        **({"config": config} if config else {}),
    }


def _set_at(rule: Mapping[str, Any]) -> float | None:
    text = (rule.get("config") or {}).get("setAt")
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment.timestamp() if moment is not None and moment.tzinfo is not None else None
