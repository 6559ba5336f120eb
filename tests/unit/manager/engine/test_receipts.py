"""Receipts for stored reports, written without their model."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from manager.engine.outgoing.receipts import stored_receipt
from schemas.generations import LARGEST_GENERATION
from schemas.model import utc
from schemas.threats import Receipt

_IDS = st.lists(st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True), min_size=1, max_size=150)
_TIMES = st.floats(min_value=-62_135_596_800.0, max_value=253_402_300_799.0)
_STATES: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.builds(
    lambda generation, mark: {"generation": generation, "mark": mark},
    st.none() | st.integers(min_value=1, max_value=LARGEST_GENERATION),
    st.none() | st.from_regex(r"[A-Za-z0-9._-]{1,160}", fullmatch=True),
)


@given(_IDS, _TIMES, _STATES)
def test_a_receipt_for_stored_reports_is_the_text_that_its_model_writes(
    ids: list[str], sent_at: float, state: dict[str, Any]
) -> None:
    """Byte for byte, for all times and states of the store."""
    at = utc(sent_at)
    assert stored_receipt(ids, at, state) == Receipt(stored=ids, sent_at=at, **state).body()
