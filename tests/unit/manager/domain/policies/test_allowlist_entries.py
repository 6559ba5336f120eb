"""One entry of an allowlist at a time: told apart, added, taken away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.domain.policies.allowlist_entries import (
    MEMBERS,
    AllowlistEntryKind,
    allows,
    kind_of,
    normalize_entry,
    with_entry,
    without_entry,
)
from manager.errors import Invalid

kinds = st.sampled_from(list(MEMBERS))
documents = st.fixed_dictionaries(
    {},
    optional={
        "thresholds": st.just({"autoRespond": 70}),
        "allowlist": st.dictionaries(
            st.sampled_from(list(MEMBERS.values())),
            st.lists(st.sampled_from("abcd"), min_size=1, unique=True),
            min_size=1,
        ),
    },
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("192.0.2.1", "ip"),
        ("2001:db8::/48", "ip"),
        ("d41d8cd98f00b204e9800998ecf8427e", "file_hash"),
        ("AB" * 32, "file_hash"),
        ("sshd", None),
        ("10.0.0.0/33", None),
        ("", None),
    ],
)
def test_looks_tell_addresses_and_hashes_and_nothing_else(text: str, kind: AllowlistEntryKind | None) -> None:
    """A process looks like nothing: its kind must be said."""
    assert kind_of(text) == kind


@pytest.mark.parametrize(
    ("kind", "value"),
    [(None, "sshd"), ("ip", "sshd"), ("file_hash", "192.0.2.1"), ("ip", "0.0.0.0/0"), ("process", "  "), (None, "")],
)
def test_what_is_not_what_it_is_said_to_be_is_refused(kind: AllowlistEntryKind | None, value: str) -> None:
    """The sentence names the field."""
    with pytest.raises(Invalid, match=r"^value: "):
        normalize_entry(kind, value)


@given(documents, kinds, st.sampled_from("xyz"))
def test_adding_changes_one_member_and_taking_away_restores_the_document(
    document: dict[str, object], kind: AllowlistEntryKind, value: str
) -> None:
    """Added, it stands there and all else is the same; taken away again, the document is what it was."""
    added = with_entry(document, kind, value)
    assert allows(added, kind, value)
    assert {**added, "allowlist": None} == {**document, "allowlist": None}
    assert with_entry(added, kind, value) == added
    assert (without_entry(added, kind, value) or {}) == document
    assert not allows(document, kind, value)
