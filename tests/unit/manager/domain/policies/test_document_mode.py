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


@pytest.mark.parametrize("mode", [{}, [], [{}], 1])
def test_a_mode_that_is_no_text_is_no_failure_of_the_check(mode: object) -> None:
    """Any JSON value can be compared; the types of the fields refuse it."""
    assert check_document({"mode": mode, "response": {"mode": mode}}).errors == []
    assert check_document({"mode": mode, "response": {"mode": "learning"}}).errors[0].startswith("mode: ")
