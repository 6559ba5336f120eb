"""Check of an operator's policy document: all errors at once, with "did you mean", and warnings.

Guards ignore fields that they do not know, so a mistyped one would be lost silently. It is refused here instead.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from manager.domain.policies.rules import parse_rule
from manager.errors import Invalid
from schemas.policy import PolicyDocument

ACTIONS = ("block_ip", "throttle_ip", "kill_process", "quarantine_file", "isolate_host", "notify")
"""The actions that a policy may allow."""

_MOST_ERRORS = 20


class Check(NamedTuple):
    """Errors and warnings of a document, each with its path."""

    errors: list[str]
    warnings: list[str]

    def raise_errors(self) -> None:
        """Raise all errors as one error.

        Raises:
            Invalid: there is an error.
        """
        if self.errors:
            more = len(self.errors) - _MOST_ERRORS
            shown = self.errors[:_MOST_ERRORS] + ([f"and {more} more"] if more > 0 else [])
            raise Invalid("; ".join(shown))


def check_document(written: Mapping[str, Any], *, allow_unknown: bool = False) -> Check:
    """Check a document beyond the types of its fields.

    Args:
        written: the document as the operator wrote it.
        allow_unknown: whether unknown fields are warned of, and not refused.
    """
    unknown = list(_unknown(PolicyDocument, written, ""))
    errors = [] if allow_unknown else list(unknown)
    warnings = [f"{text}; it is ignored" for text in unknown] if allow_unknown else []
    errors += _rule_errors(written.get("rules"))
    errors += _action_errors(written.get("response"))
    monitors = written.get("monitors")
    if isinstance(monitors, Mapping) and monitors.get("enabled") == []:
        errors.append("monitors.enabled: an empty list leaves guards without a detector, so name at least one monitor")
    return Check(errors, [*warnings, *_warnings(written)])


def _unknown(model: type[BaseModel], document: Mapping[str, Any], path: str) -> Iterator[str]:
    fields = {str(field.alias): field for field in model.model_fields.values()}
    for name, value in document.items():
        if name not in fields:
            close = get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(fields)}"
            yield f"{path}{name}: no such field, {hint}"
            continue
        for nested in _models_in(fields[name].annotation):
            elements = enumerate(value) if isinstance(value, list) else [(None, value)]
            for index, element in elements:
                if isinstance(element, Mapping):
                    place = f"{path}{name}." if index is None else f"{path}{name}.{index}."
                    yield from _unknown(nested, element, place)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _rule_errors(rules: Any) -> Iterator[str]:
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        try:
            if isinstance(rule, Mapping):
                parse_rule(rule, f"rules.{index}")
        except Invalid as error:
            yield str(error)


def _action_errors(response: Any) -> Iterator[str]:
    actions = response.get("actions") if isinstance(response, Mapping) else None
    for index, action in enumerate(actions if isinstance(actions, list) else ()):
        if isinstance(action, str) and action not in ACTIONS:
            close = get_close_matches(action, ACTIONS, 1)
            hint = f"did you mean {close[0]}?" if close else f"the actions are {', '.join(ACTIONS)}"
            yield f"response.actions.{index}: no such action, {hint}"


def _warnings(written: Mapping[str, Any]) -> Iterator[str]:
    detection, alerting, rules = written.get("detection"), written.get("alerting"), written.get("rules")
    for name in ("sigma", "yara"):
        if isinstance(detection, Mapping) and detection.get(name):
            yield f"detection.{name}: the rules are kept and sent, but no guard runs them yet"
    if isinstance(alerting, Mapping) and alerting.get("channels"):
        yield "alerting.channels: the names are kept, but nothing sends notifications to them yet"
    last: dict[str, int] = {}
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        kind = rule.get("type") if isinstance(rule, Mapping) and rule.get("enabled", True) else None
        if kind in {"auto_respond", "alert_threshold"}:
            if kind in last:
                yield f"rules.{index}: it may replace the effect of rules.{last[kind]}, which has the same type"
            last[kind] = index
