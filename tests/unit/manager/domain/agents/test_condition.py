"""The condition of an agent by its own statement."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manager.domain.agents.condition import SOURCES_LIMIT, Condition
from schemas.presence import SourceReport

REPORTS = st.lists(
    st.builds(
        SourceReport,
        name=st.text(min_size=1, max_size=128),
        state=st.sampled_from(["ok", "missing", "silent"]),
        reason=st.none() | st.text(max_size=512),
    ),
    max_size=64,
)


def as_json(reports: list[SourceReport]) -> list[dict[str, Any]]:
    return [report.model_dump(mode="json", by_alias=True, exclude_none=True) for report in reports]


@example([SourceReport(name="a", state="ok")] * 64)
@given(REPORTS)
def test_as_many_sources_are_kept_as_there_is_room_for(reports: list[SourceReport]) -> None:
    """The longest beginning, the unwell ones first, whose JSON is at most 2 KiB of UTF-8."""
    condition = Condition()
    condition.update(
        mode=(None, None), health="ok", sources=reports, enforcement=None, mode_wanted=None, trial_seconds_left=None
    )
    ordered = as_json(
        [each for each in reports if each.state != "ok"] + [each for each in reports if each.state == "ok"]
    )
    fitting = [
        count
        for count in range(len(ordered) + 1)
        if len(json.dumps(ordered[:count], separators=(",", ":"), ensure_ascii=False).encode()) <= SOURCES_LIMIT
    ]
    assert condition.sources is not None
    assert json.loads(condition.sources) == ordered[: max(fitting)]
    assert len(condition.sources.encode()) <= SOURCES_LIMIT


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_of_sources_counts_every_byte(over: int, more: int) -> None:
    """Reports of exactly 2 KiB are kept, whether others follow or not; with one byte more the last one is left out."""
    reports = [SourceReport(name=f"s{number}", state="ok", reason="x" * 430) for number in range(4)]
    missing = SOURCES_LIMIT - len(json.dumps(as_json(reports), separators=(",", ":")))
    assert 0 <= missing < 82
    reports[0] = reports[0].model_copy(update={"reason": "x" * (430 + missing + over)})
    reports += [SourceReport(name="more", state="ok")] * more
    condition = Condition()
    condition.update(
        mode=(None, None), health="ok", sources=reports, enforcement=None, mode_wanted=None, trial_seconds_left=None
    )
    assert condition.sources is not None
    assert len(json.loads(condition.sources)) == 4 - over
