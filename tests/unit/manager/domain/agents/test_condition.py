"""The condition of an agent by its own statement."""

import json
from typing import Any

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
