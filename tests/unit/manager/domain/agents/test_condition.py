"""The condition of an agent by its own statement."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manager.domain.agents.condition import SOURCES_LIMIT, Condition, changes_between, kept_sources
from schemas.fast_heartbeats import FastEnforced
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
    kept = kept_sources(reports)
    ordered = as_json(
        [each for each in reports if each.state != "ok"] + [each for each in reports if each.state == "ok"]
    )
    fitting = [
        count
        for count in range(len(ordered) + 1)
        if len(json.dumps(ordered[:count], separators=(",", ":"), ensure_ascii=False).encode()) <= SOURCES_LIMIT
    ]
    assert json.loads(kept) == ordered[: max(fitting)]
    assert len(kept.encode()) <= SOURCES_LIMIT


@pytest.mark.parametrize("more", [0, 3])
@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_of_sources_counts_every_byte(over: int, more: int) -> None:
    """Reports of exactly 2 KiB are kept, whether others follow or not; with one byte more the last one is left out."""
    reports = [SourceReport(name=f"s{number}", state="ok", reason="x" * 430) for number in range(4)]
    missing = SOURCES_LIMIT - len(json.dumps(as_json(reports), separators=(",", ":")))
    assert 0 <= missing < 82
    reports[0] = reports[0].model_copy(update={"reason": "x" * (430 + missing + over)})
    reports += [SourceReport(name="more", state="ok")] * more
    kept = kept_sources(reports)
    assert len(json.loads(kept)) == 4 - over


def test_equal_conditions_are_one_object_and_a_change_reaches_one_agent_alone() -> None:
    first = Condition().stating("ok", "nftables", None, None).enforcing(FastEnforced(set=3, ineffective=1))
    second = Condition().enforcing(FastEnforced(set=3, ineffective=1)).stating("ok", "nftables", None, None)
    assert first is second
    assert first.stating("ok", "nftables", None, None).enforcing(FastEnforced(set=3, ineffective=1)) is first
    changed = first.stating("ok", "nftables", "protection", 30.0).changed(ineffective_untold=0)
    assert (changed.mode_wanted, changed.trial_seconds_left, changed.ineffective_untold) == ("protection", 30.0, 0)
    assert (second.mode_wanted, second.trial_seconds_left, second.ineffective_untold) == (None, None, 1)
    with pytest.raises(AttributeError):
        second.health = "degraded"  # type: ignore[misc]


STATEMENTS = st.lists(st.tuples(st.sampled_from([None, "ok", "degraded"]), st.booleans()), max_size=12)


@given(STATEMENTS)
def test_what_was_not_told_is_told_later_and_a_recovery_follows_what_was_told(
    statements: list[tuple[Any, bool]],
) -> None:
    """The oracle keeps the last health, and whether a degradation was told."""
    condition, last, untold = Condition(), None, False
    for health, is_told in statements:
        now = condition.stating(health, None, None, None)
        events = [each.event for each in changes_between(condition, now, (None, None), [])]
        expected = []
        if health == "degraded" and (last != "degraded" or untold):
            expected, untold = ["agent_degraded"], not is_told
            now = now.changed(degradation_untold=untold)
        elif health == "ok" and last == "degraded":
            expected, untold = ([] if untold else ["agent_recovered"]), False
        assert events == expected
        condition, last = now, health
