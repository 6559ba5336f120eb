"""Structure check of Sigma rules: YAML, required members, search identifiers, field modifiers, and the condition.

It follows the Sigma specification 2.0. Regular expressions, field names and values are not checked, because they
depend on the engine that runs a rule. Correlation and filter rules are only checked to be YAML mappings with a title.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import yaml

_LEVELS = ("informational", "low", "medium", "high", "critical")
_STATES = ("stable", "test", "experimental", "deprecated", "unsupported")
_SOURCES = ("category", "product", "service")
_MODIFIERS = frozenset(
    {
        "all", "base64", "base64offset", "cased", "cidr", "contains", "day", "endswith", "exists", "expand", "fieldref",
        "gt", "gte", "hour", "i", "lt", "lte", "m", "minute", "month", "neq", "re", "s", "startswith", "utf16",
        "utf16be", "utf16le", "week", "wide", "windash", "year",
    }
)  # fmt: skip
_TOKEN = re.compile(r"\s*(?:([()|])|([^\s()|]+))")
_QUANTIFIER = re.compile(r"all|any|[1-9][0-9]*", re.IGNORECASE)
_DEEPEST = 50
_AGGREGATION = "an aggregation (`|`) is not part of Sigma 2"


def sigma_errors(text: str) -> Iterator[str]:
    """Yield the errors of a text with one or more Sigma rules, each with its place."""
    try:
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        yield _yaml_error(error)
        return
    except (RecursionError, ValueError) as error:
        yield f"this is no YAML: {'nested too deeply' if isinstance(error, RecursionError) else error}"
        return
    rules = [document for document in documents if document is not None]
    if not rules:
        yield "there is no rule in it"
    for number, rule in enumerate(rules):
        place = f"rule {number + 1}: " if len(rules) > 1 else ""
        for found in _rule_errors(rule):
            yield place + found


def _yaml_error(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else str(problem)


def _rule_errors(rule: Any) -> Iterator[str]:
    if not isinstance(rule, Mapping):
        yield "a rule is a mapping of title, logsource and detection"
        return
    if not isinstance(rule.get("title"), str) or not rule["title"].strip():
        yield "title: it is missing"
    for name, known in (("level", _LEVELS), ("status", _STATES)):
        if name in rule and rule[name] not in known:
            yield f"{name}: say {', '.join(known)}"
    if "correlation" in rule or "filter" in rule:
        return
    source = rule.get("logsource")
    if not isinstance(source, Mapping) or not any(isinstance(source.get(name), str) for name in _SOURCES):
        yield f"logsource: name at least one of {', '.join(_SOURCES)}"
    detection = rule.get("detection")
    if not isinstance(detection, Mapping):
        yield "detection: it is missing"
        return
    searches = [str(name) for name in detection if name not in {"condition", "timeframe"}]
    if not searches:
        yield "detection: there is no search identifier in it"
    for name in searches:
        yield from _search_errors(detection.get(name), f"detection.{name}")
    yield from _conditions_errors(detection.get("condition"), searches)


def _search_errors(search: Any, path: str, depth: int = 0) -> Iterator[str]:
    """Yield the errors of a search: a mapping of fields to values, or a list of mappings or of keywords."""
    if depth > _DEEPEST:
        yield f"{path}: it is nested too deeply"
    elif isinstance(search, Mapping):
        for field in search:
            for modifier in str(field).split("|")[1:]:
                if modifier not in _MODIFIERS:
                    close = get_close_matches(modifier, _MODIFIERS, 1)
                    yield f"{path}.{field}: no such modifier" + (f", did you mean {close[0]}?" if close else "")
    elif isinstance(search, list):
        for index, element in enumerate(search):
            if isinstance(element, Mapping | list):
                yield from _search_errors(element, f"{path}.{index}", depth + 1)
    elif search is None:
        yield f"{path}: it is empty"


def _conditions_errors(condition: Any, searches: list[str]) -> Iterator[str]:
    conditions = condition if isinstance(condition, list) else [condition]
    if not conditions or not all(isinstance(each, str) and each.strip() for each in conditions):
        yield "detection.condition: say a condition, or a list of them"
        return
    for each in conditions:
        error = _ConditionParser(each, searches).error()
        if error is not None:
            yield f"detection.condition: {error}"


class _ConditionError(Exception):
    """A condition that does not parse; its text says where and why."""


class _ConditionParser:
    """Recursive descent over a condition: ``or``, ``and``, ``not``, parentheses, ``1 of``, ``all of``, identifiers."""

    def __init__(self, text: str, searches: list[str]) -> None:
        self._tokens = [
            (match.group(1) or match.group(2), match.start(1 if match.group(1) else 2) + 1)
            for match in _TOKEN.finditer(text)
        ]
        self._end = len(text) + 1
        self._searches = searches
        self._next = 0

    def error(self) -> str | None:
        """Return why and where the condition does not parse; None if it does."""
        try:
            self._disjunction(0)
            if self._word() == "|":
                self._fail(_AGGREGATION)
            if self._next < len(self._tokens):
                self._fail("expected `and`, `or` or the end")
        except _ConditionError as error:
            return str(error)
        return None

    def _disjunction(self, depth: int) -> None:
        if depth > _DEEPEST:
            self._fail("nested too deeply")
        self._conjunction(depth)
        while self._word() == "or":
            self._next += 1
            self._conjunction(depth)

    def _conjunction(self, depth: int) -> None:
        self._negation(depth)
        while self._word() == "and":
            self._next += 1
            self._negation(depth)

    def _negation(self, depth: int) -> None:
        while self._word() == "not":
            self._next += 1
        if self._word() == "(":
            self._next += 1
            self._disjunction(depth + 1)
            if self._word() != ")":
                self._fail("expected `)`")
            self._next += 1
        else:
            self._selection()

    def _selection(self) -> None:
        word = self._word()
        if word in {"", "and", "or", "of", ")", "|"}:
            self._fail(_AGGREGATION if word == "|" else "expected a search identifier")
        if _QUANTIFIER.fullmatch(word) and self._word(1) == "of":
            self._next += 2
            pattern = self._given()
            if pattern.lower() != "them" and not any(fnmatchcase(name, pattern) for name in self._searches):
                self._fail(f"no search identifier matches `{pattern}`" if pattern else "expected `them` or a pattern")
        elif self._given() not in self._searches:
            close = get_close_matches(self._given(), self._searches, 1)
            hint = f", did you mean {close[0]}?" if close else ""
            self._fail(f"`{self._given()}` is no search identifier of the rule{hint}")
        self._next += 1

    def _given(self, ahead: int = 0) -> str:
        place = self._next + ahead
        return self._tokens[place][0] if place < len(self._tokens) else ""

    def _word(self, ahead: int = 0) -> str:
        return self._given(ahead).lower()

    def _fail(self, reason: str) -> None:
        column = self._tokens[self._next][1] if self._next < len(self._tokens) else self._end
        raise _ConditionError(f"column {column}: {reason}")
