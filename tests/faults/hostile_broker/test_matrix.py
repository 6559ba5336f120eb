"""The matrix of tamperings and messages has no hole."""

from importlib import import_module

import pytest

from schemas.topics import TABLE, Topic
from tests.faults.hostile_broker.matrix import MATRIX, TAMPERINGS, Senseless
from tests.support.hostile.tampering import OFFERS


def test_every_tampering_and_every_topic_is_there() -> None:
    """A new topic, or a new way to tamper, must be shown, or be said to make no sense."""
    assert tuple(MATRIX) == TABLE
    assert tuple(OFFERS) == TAMPERINGS[:-1]
    assert all(tuple(cells) == TAMPERINGS for cells in MATRIX.values())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_cell_names_tests_that_exist_or_a_reason(row: Topic) -> None:
    """A cell's tests are functions of this folder, with a case for this row and tampering where they have cases."""
    for tampering, cell in MATRIX[row].items():
        if isinstance(cell, Senseless):
            assert cell.reason
            continue
        assert cell.tests
        for test in cell.tests:
            module, function = test.split("::")
            found = getattr(import_module(f"tests.faults.hostile_broker.{module}"), function)
            for mark in getattr(found, "pytestmark", []):
                if mark.name == "parametrize" and mark.args[0] == "row":
                    assert row in mark.args[1]
                if mark.name == "parametrize" and mark.args[0] == "tampering":
                    assert tampering in mark.args[1]
