"""The ledger's check against a naive oracle, which looks for each report in the whole list."""

from hypothesis import given
from hypothesis import strategies as st

from simulate.ledger import LedgerEntry, Stored, check

LATE_AFTER = 5.0
_DIGESTS = st.sampled_from([b"x", b"y"])
_IDS = st.sampled_from([f"r{number}" for number in range(6)])
_ENTRIES = st.builds(
    LedgerEntry,
    digest=_DIGESTS,
    made_at=st.floats(0, 10),
    receipted_at=st.none() | st.floats(10, 20),
    refusal=st.sampled_from([None, None, "no"]),
)


@given(st.dictionaries(_IDS, _ENTRIES), st.lists(st.builds(Stored, _IDS, _DIGESTS), max_size=12))
def test_the_check_finds_what_a_search_finds(entries: dict[str, LedgerEntry], stored: list[Stored]) -> None:
    """Lost, doubled, altered, late, refused and unsent reports are the ones that a search by hand finds."""
    found = {name: [record for record in stored if record.report_id == name] for name in entries}
    balance = check(entries, stored, LATE_AFTER)
    assert balance.sent == len(entries)
    assert balance.stored == len([name for name in entries if found[name]])
    assert balance.lost == [name for name, entry in entries.items() if not found[name] and not entry.refusal]
    assert balance.doubled == [name for name in entries if len(found[name]) >= 2]
    assert balance.altered == [
        name for name, entry in entries.items() if any(record.digest != entry.digest for record in found[name])
    ]
    assert balance.refused == [name for name, entry in entries.items() if entry.refusal]
    assert balance.late == [
        name
        for name, entry in entries.items()
        if found[name] and (entry.receipted_at is None or entry.receipted_at - entry.made_at > LATE_AFTER)
    ]
    assert balance.unsent == sorted({record.report_id for record in stored} - set(entries))
    expected = bool(balance.lost or balance.doubled or balance.altered or balance.refused)
    assert balance.is_even is not expected
