"""Check of an operator's policy document: all errors at once, with "did you mean", and warnings.

Guards ignore fields that they do not know, so a mistyped one would be lost silently. It is refused here instead.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from manager.domain.policies.rules import effects, parse_rule, unevaluated_conditions
from manager.errors import Invalid
from schemas.policy import PolicyDocument, PolicyGroup

ACTIONS = ("block_ip", "throttle_ip", "kill_process", "quarantine_file", "isolate_host", "notify")
"""The actions that a policy may allow."""

_MOST_ERRORS = 20
_MOST_WARNINGS = 20


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


class DocumentWarnings:
    """The warnings of all documents in force, for operators. `sentences` may be read from any thread."""

    def __init__(self) -> None:
        self.sentences: tuple[str, ...] = ()
        self.channels: Collection[str] = ()
        """The names of the manager's channels."""
        self._by_scope: dict[str, list[str]] = {}

    def set(self, documents: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Set the documents of scopes; None stands for a scope without one."""
        for scope, document in documents.items():
            found = self._warnings_of(document) if document is not None else []
            if found:
                self._by_scope[scope] = found
            else:
                self._by_scope.pop(scope, None)
        every = [f"policy of {scope}: {text}" for scope, found in self._by_scope.items() for text in found]
        more = len(every) - _MOST_WARNINGS
        self.sentences = (*every[:_MOST_WARNINGS], *([f"policies have {more} more warnings"] if more > 0 else []))

    def _warnings_of(self, document: Mapping[str, Any]) -> list[str]:
        unknown = [f"{text}; it is ignored" for text in unknown_channels(document, self.channels)]
        return [*check_document(document).warnings, *unknown]


def unknown_channels(written: Mapping[str, Any], channels: Collection[str]) -> Iterator[str]:
    """Yield a sentence for each name in `alerting.channels` that is no channel of the manager."""
    alerting = written.get("alerting")
    named = alerting.get("channels") if isinstance(alerting, Mapping) else None
    for index, name in enumerate(named if isinstance(named, list) else ()):
        if isinstance(name, str) and name not in channels:
            has = f"the manager has {', '.join(sorted(channels))}" if channels else "the manager has none"
            close = get_close_matches(name, channels, 1)
            hint = f"did you mean {close[0]}?" if close else f"{has}; define [notifications.NAME] in manager.toml"
            yield f"alerting.channels.{index}: no such channel, {hint}"


def check_document(
    written: Mapping[str, Any], *, allow_unknown: bool = False, channels: Collection[str] | None = None
) -> Check:
    """Check a document beyond the types of its fields.

    Args:
        written: the document as the operator wrote it.
        allow_unknown: whether unknown fields are warned of, and not refused.
        channels: the names of the manager's channels; None does not check the names.
    """
    unknown = list(_unknown(PolicyDocument, written, ""))
    errors = [] if allow_unknown else list(unknown)
    warnings = [f"{text}; it is ignored" for text in unknown] if allow_unknown else []
    errors += _rule_errors(written.get("rules"))
    errors += _action_errors(written.get("response"))
    errors += _mode_errors(written)
    errors += _quiet_hours_errors(written.get("alerting"))
    errors += () if channels is None else unknown_channels(written, channels)
    for differ, text in _overlaps(written):
        (errors if differ else warnings).append(text)
    monitors = written.get("monitors")
    if isinstance(monitors, Mapping) and monitors.get("enabled") == []:
        errors.append("monitors.enabled: an empty list leaves guards without a detector, so name at least one monitor")
    return Check(errors, [*warnings, *_warnings(written)])


def check_group(written: Mapping[str, Any], *, allow_unknown: bool = False) -> Check:
    """Check a group without its policy, beyond the types of its fields; see `check_document`."""
    around = {name: value for name, value in written.items() if name != "policy"}
    unknown = list(_unknown(PolicyGroup, around, ""))
    errors = [] if allow_unknown else unknown
    warnings = [f"{text}; it is ignored" for text in unknown] if allow_unknown else []
    selector = written.get("selector")
    if isinstance(selector, Mapping) and not any(selector.get(name) for name in ("tagsAll", "tagsAny", "sites")):
        errors.append(
            "selector: name tagsAll, tagsAny or sites; a policy for every agent is the global or an organization's"
        )
    return Check(errors, warnings)


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


def _quiet_hours_errors(alerting: Any) -> Iterator[str]:
    quiet = alerting.get("quietHours") if isinstance(alerting, Mapping) else None
    if not isinstance(quiet, Mapping):
        return
    if quiet.get("start") is not None and quiet.get("start") == quiet.get("end"):
        yield "alerting.quietHours: start and end are the same minute"
    zone = quiet.get("timeZone")
    if isinstance(zone, str):
        try:
            ZoneInfo(zone)
        except (LookupError, OSError, ValueError):
            yield "alerting.quietHours.timeZone: no such time zone; give an IANA name such as Europe/Berlin, or UTC"


def _mode_errors(written: Mapping[str, Any]) -> Iterator[str]:
    response = written.get("response")
    other = response.get("mode") if isinstance(response, Mapping) else None
    mode = written.get("mode")
    if other is not None and mode is not None and other != mode:  # any JSON: neither may be hashable
        yield f"mode: response.mode says {other}; set mode alone"


def _warnings(written: Mapping[str, Any]) -> Iterator[str]:
    detection = written.get("detection")
    for name in ("sigma", "yara"):
        if isinstance(detection, Mapping) and detection.get(name):
            yield f"detection.{name}: the rules are kept and sent, but no guard runs them yet"
    for index, rule in _enabled_rules(written):
        changes = bool(_effects_of(rule))
        for name in unevaluated_conditions(rule):
            effect = "so the rule applies whatever it says" if changes else "so the rule changes nothing"
            yield f"rules.{index}.{name}: no guard evaluates it yet, {effect}"
        if rule.get("type") == "custom":
            yield f"rules.{index}: it is kept and sent, but no guard runs custom rules yet"


def _enabled_rules(written: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rules = written.get("rules")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, Mapping) and rule.get("enabled", True) is True:
            yield index, rule


def _effects_of(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that a rule sets, by their paths; none for an invalid rule, which has an error of its own."""
    found: dict[str, Any] = {}
    with suppress(Invalid):
        for sections in effects({"rules": [rule]}):
            for section, members in sections.items():
                for name, value in members.items():
                    if section == "blocklist":
                        found |= {f"blocklist.{name}[{entry['value']}]": entry for entry in value}
                    else:
                        found[f"{section}.{name}"] = value
    return found


def _overlaps(written: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield, for each value that a rule sets and another place sets too, whether it is an error, and a sentence."""
    places: dict[str, tuple[int, Any]] = {}
    for index, rule in _enabled_rules(written):
        for path, value in _effects_of(rule).items():
            section, _, name = path.partition(".")
            members = written.get(section)
            if isinstance(members, Mapping) and members.get(name, value) != value:
                yield False, f"rules.{index}: it replaces the value of {path} in this document"
            first, known = places.setdefault(path, (index, value))
            if known != value:
                yield True, f"rules.{index}: it sets {path}, as rules.{first} does, to another value: keep one of them"
            elif first != index:
                yield False, f"rules.{index}: it sets {path}, as rules.{first} does, to the same value"
