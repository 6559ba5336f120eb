"""The mode at the top of an operator's document."""

import pytest

from manager.domain.policies.document_check import check_document


@pytest.mark.parametrize(
    ("document", "errors"),
    [
        ({"mode": "protection"}, []),
        ({"response": {"mode": "learning"}}, []),
        ({"mode": "learning", "response": {"mode": "learning"}}, []),
        (
            {"mode": "protection", "response": {"mode": "learning"}},
            ["mode: response.mode says learning; set mode alone"],
        ),
    ],
)
def test_two_modes_that_differ_are_refused(document: dict[str, object], errors: list[str]) -> None:
    """An operator who sets both is told which to leave out."""
    assert check_document(document).errors == errors
