"""Managers of several releases on one database, against columns that each release needs and each migration makes."""

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from manager.domain.rolling_upgrade import (
    LiveManager,
    Migration,
    SchemaRefused,
    SchemaState,
    common_features,
    pending_migrations,
)

WORDS = st.sampled_from(["a", "b", "c", "d", "e"])


@given(own=st.lists(WORDS, unique=True), others=st.lists(st.sets(WORDS), max_size=6))
def test_what_is_announced_is_what_every_manager_has(own: list[str], others: list[set[str]]) -> None:
    """It is the intersection of the sets, in the order of the one that announces."""
    found = common_features(own, others)
    expected = set(own)
    for features in others:
        expected &= features
    assert set(found) == expected
    assert list(found) == [feature for feature in own if feature in expected]


@given(own=st.lists(WORDS, unique=True), others=st.lists(st.sets(WORDS), max_size=6), joining=st.sets(WORDS))
def test_a_manager_that_joins_takes_back_what_it_lacks(
    own: list[str], others: list[set[str]], joining: set[str]
) -> None:
    """It adds nothing, takes away exactly what it lacks, and its end gives that back."""
    before = common_features(own, others)
    after = common_features(own, [*others, joining])
    assert set(before) - set(after) == set(before) - joining
    assert set(after) <= set(before)
    assert common_features(own, others) == before


class Column(NamedTuple):
    """A part of the schema: releases from `added` up to `unused` need it, and it exists until `dropped`."""

    added: int
    unused: int
    dropped: int


@dataclass
class Line:
    """A line of releases, the nth with n migrations, and the columns that they make, need and drop."""

    length: int
    columns: list[Column] = field(default_factory=list)

    def migrations(self, release: int) -> list[Migration]:
        """Return the migrations of a release; a number that was raised is never lowered."""
        oldest, found = 1, []
        for number in range(1, release + 1):
            oldest = max([oldest, *(column.unused for column in self.columns if column.dropped == number)])
            found.append(Migration(f"{number:04}_step", oldest))
        return found

    def needs(self, release: int) -> set[Column]:
        """Return the columns that a release reads and writes."""
        return {column for column in self.columns if column.added <= release < column.unused}

    def has(self, applied: int) -> set[Column]:
        """Return the columns of the schema after so many migrations."""
        return {column for column in self.columns if column.added <= applied < column.dropped}


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Draw a line of releases; a column is unused before it is dropped, as expand and contract ask for."""
    length = draw(st.integers(2, 9))
    columns = []
    for _ in range(draw(st.integers(0, 5))):
        added = draw(st.integers(1, length - 1))
        unused = draw(st.integers(added + 1, length))
        columns.append(Column(added, unused, draw(st.integers(unused, length + 1))))
    return Line(length, columns)


class Upgrades(RuleBasedStateMachine):
    """Managers of any release start and stop on one database, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(2)
        self.live: list[int] = []
        self.applied = self.oldest = 0

    @initialize(line=lines())
    def begin(self, line: Line) -> None:
        self.line = line

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """A manager starts, if the rule lets it: exactly where nobody would miss a column."""
        release = data.draw(st.integers(1, self.line.length))
        known = self.line.migrations(release)
        names = frozenset(each.name for each in self.line.migrations(self.applied))
        schema = SchemaState(names, self.oldest if self.applied else None)
        managers = [LiveManager(f"host-{each}", each) for each in self.live]
        reached = max(self.applied, release)
        # Whoever knows a later migration than the one from which on a dropped column is unused misses nothing.
        dropped = [column for column in self.line.columns if column.dropped <= reached]
        fits = all(each >= column.unused for each in [*self.live, release] for column in dropped)
        if not fits:
            with pytest.raises(SchemaRefused):
                pending_migrations(known, schema, managers)
            return
        pending = pending_migrations(known, schema, managers)
        assert [each.number for each in pending] == list(range(self.applied + 1, release + 1))
        self.applied = reached
        self.oldest = max([self.oldest, *(each.oldest for each in pending)])
        self.live.append(release)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        self.live.remove(data.draw(st.sampled_from(self.live)))

    @invariant()
    def nobody_misses_a_column(self) -> None:
        """Every manager that lives finds all that it needs."""
        for release in self.live:
            assert self.line.needs(release) <= self.line.has(self.applied)

    @invariant()
    def a_later_start_is_consistent(self) -> None:
        """The number in the schema is that of its migrations, whoever applied them."""
        stated = [each.oldest for each in self.line.migrations(self.applied)]
        assert self.oldest == max(stated, default=0)


TestUpgrades = Upgrades.TestCase
