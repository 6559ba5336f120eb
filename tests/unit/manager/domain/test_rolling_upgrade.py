"""Sentences by which a release refuses a schema."""

import pytest

from manager.domain.rolling_upgrade import LiveManager, Migration, SchemaRefused, SchemaState, pending_migrations

KNOWN = [Migration("0001_first", 1), Migration("0002_second", 1), Migration("0003_third", 1)]
NAMES = [migration.name for migration in KNOWN]


def test_a_new_database_gets_every_migration() -> None:
    """A database without a schema is no older release's."""
    assert pending_migrations(KNOWN, SchemaState(frozenset(), None)) == KNOWN


def test_a_newer_schema_is_used_as_it_is_if_it_says_so() -> None:
    """Nothing is applied, whatever number it names up to the newest that this release knows."""
    newer = frozenset([*NAMES, "0004_fourth", "0005_fifth"])
    for oldest in (1, 3):
        assert pending_migrations(KNOWN, SchemaState(newer, oldest)) == []
    with pytest.raises(
        SchemaRefused,
        match=r"written by a newer release \(0005_fifth\), and needs one that knows the migration 0004; this one knows"
        r" 0003: install that release",
    ):
        pending_migrations(KNOWN, SchemaState(newer, 4))


def test_a_schema_that_does_not_say_is_refused() -> None:
    """Without the number nothing is known of what the newer migrations removed."""
    with pytest.raises(SchemaRefused, match=r"written by a newer release \(0004_fourth\); this one knows 0003"):
        pending_migrations(KNOWN, SchemaState(frozenset([*NAMES, "0004_fourth"]), None))


@pytest.mark.parametrize(
    "applied", [[*NAMES, "0003_another"], [*NAMES[:2], "0003_another"], [*NAMES[:2], "0004_fourth"], [*NAMES, "odd"]]
)
def test_a_schema_of_another_line_of_releases_is_refused(applied: list[str]) -> None:
    """A migration beside those of this release, or in place of one, was not made for it, whatever the schema says."""
    with pytest.raises(SchemaRefused, match="a release of another line"):
        pending_migrations(KNOWN, SchemaState(frozenset(applied), 1))


def test_a_contraction_is_refused_while_a_manager_needs_the_old_form() -> None:
    """The refusal names the migration, and of the managers those that know too little."""
    known = [*KNOWN, Migration("0004_expand", 1), Migration("0005_contract", 4)]
    managers = [LiveManager("web-1 (leader)", 3), LiveManager("web-2 (standby)", 4), LiveManager("web-3 (ingest)", 2)]
    schema = SchemaState(frozenset([*NAMES, "0004_expand"]), 1)
    with pytest.raises(SchemaRefused) as refusal:
        pending_migrations(known, schema, managers)
    text = str(refusal.value)
    assert "the migration 0005_contract removes what managers of earlier releases need" in text
    assert "web-1 (leader), web-3 (ingest)." in text
    assert "web-2" not in text
    assert [each.name for each in pending_migrations(known, schema, managers[1:2])] == ["0005_contract"]


def test_an_upgrade_that_leaves_a_release_out_changes_nothing_beside_the_old_ones() -> None:
    """The expansion alone would do no harm, but the start that is refused has no use for it."""
    known = [*KNOWN, Migration("0004_expand", 1), Migration("0005_contract", 4)]
    with pytest.raises(SchemaRefused, match="Nothing was changed"):
        pending_migrations(known, SchemaState(frozenset(NAMES), 1), [LiveManager("web-1", 3)])
