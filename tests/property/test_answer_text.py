"""The text of an answer against the standard library's: the same values, in ASCII, and what is no JSON is refused."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.api.envelope import ok

texts = st.one_of(
    st.text(), st.text(st.characters(categories=["Cs", "Cc", "Lu"])), st.sampled_from(["a", "ü", "\ud800"])
)
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(texts, inner)),
)


@given(values)
def test_an_answer_says_what_the_standard_library_says(data: Any) -> None:
    """Lone surrogates and integers of any size included."""
    body = bytes(ok(data).body)
    assert body.isascii()
    expected = json.loads(json.dumps({"ok": True, "data": data}))
    assert json.loads(body) == expected
    assert _signs(json.loads(body)) == _signs(expected)


def _signs(value: Any) -> Any:
    """Return the value with types and signs, which equal numbers need not share."""
    if isinstance(value, dict):
        return {key: _signs(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_signs(each) for each in value]
    return (type(value), math.copysign(1, value)) if isinstance(value, float) else type(value)


@dataclass
class _Secret:
    value: str


@pytest.mark.parametrize("data", [_Secret("s"), datetime.now(UTC), b"bytes", {1, 2}, object()], ids=type)
def test_an_answer_of_another_type_is_an_error(data: Any) -> None:
    """Nothing is written out that no route has made a record of."""
    with pytest.raises(TypeError):
        ok({"member": data})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_not_written(number: float) -> None:
    """JSON has no such number: it is null, or an error beside what orjson refuses."""
    assert bytes(ok([number]).body) == b'{"ok":true,"data":[null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        ok([number, "\ud800"])
