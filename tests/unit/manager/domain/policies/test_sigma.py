"""Structure check of Sigma rules: right ones pass, and each error is named with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.policies.sigma import sigma_errors

RIGHT = """
title: Failed logins
status: test
level: medium
logsource: {product: linux, service: sshd}
detection:
  selection:
    message|contains|all: [Failed password, root]
  other_1: {user: a}
  other_2: [{user: b}, {"port|gte": 1024}]
  words: [panic, oops]
  timeframe: 5m
  condition: selection and not (1 of other_* or words)
"""


def _rule(condition: str, detection: str = "  a: {x: 1}\n  b: {y: 2}") -> str:
    return f"title: t\nlogsource: {{category: process_creation}}\ndetection:\n{detection}\n  condition: {condition}\n"


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        _rule("all of them"),
        _rule("a or not b and (b)"),
        _rule("[a, b]"),
        _rule("1 OF a* AND NOT b"),
        f"{_rule('a')}---\n{_rule('b')}",
        "title: c\ncorrelation: {type: event_count, rules: [x]}\n",
    ],
)
def test_a_right_rule_passes(text: str) -> None:
    """Several rules may stand in one text; correlation rules are mappings with a title."""
    assert list(sigma_errors(text)) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("title: [", "line 2, column 1: "),
        ("a: b\n c: d", "line 2, column 3: "),
        ("", "there is no rule in it"),
        ("just text", "a rule is a mapping"),
        ("title: t\nlogsource: {}\ndetection: {a: {x: 1}, condition: a}", "logsource: name at least one of"),
        ("title: t\nlogsource: {product: x}", "detection: it is missing"),
        ("logsource: {product: x}\ndetection: {a: {x: 1}, condition: a}", "title: it is missing"),
        ("title: t\nlevel: hgh\nlogsource: {product: x}\ndetection: {a: {x: 1}, condition: a}", "level: say"),
        (_rule("a", "  a: {'x|contans': 1}"), "detection.a.x|contans: no such modifier, did you mean contains?"),
        (_rule("a and"), "detection.condition: column 6: expected a search identifier"),
        (_rule("a and selecton", "  a: {x: 1}\n  selection: {y: 1}"), "column 7: `selecton` is no search identifier"),
        (_rule("(a or b"), "column 8: expected `)`"),
        (_rule("a b"), "column 3: expected `and`, `or` or the end"),
        (_rule("1 of c*"), "column 6: no search identifier matches `c*`"),
        (_rule("a | count() > 5"), "column 3: an aggregation"),
        (_rule("("  * 90 + "a" + ")" * 90), "nested too deeply"),
        (_rule("'5'"), "`5` is no search identifier"),
        (_rule("''"), "detection.condition: say a condition"),
        (_rule("a", "  a:"), "detection.a: it is empty"),
        ("[" * 3000, ""),
        (f"{_rule('a')}---\n{_rule('c')}", "rule 2: detection.condition: column 1: `c` is no search"),
    ],
)  # fmt: skip
def test_an_error_is_named_with_its_place(text: str, error: str) -> None:
    """By line and column, by member, or by the column of the condition."""
    found = list(sigma_errors(text))
    assert any(error in each for each in found), found


@given(st.text(st.characters(codec="utf-8")) | st.text("a:{}[]&*!-\n \"'|>%@,"))
def test_no_text_raises(text: str) -> None:
    """Whatever stands in a rule, it is right or has errors."""
    for error in sigma_errors(text):
        assert isinstance(error, str)
