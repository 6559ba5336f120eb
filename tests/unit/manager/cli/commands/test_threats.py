"""The table of threats: it says of a response what became of it."""

import pytest

from manager.cli.commands.threats import response_text


@pytest.mark.parametrize(
    ("response", "shown"),
    [
        (None, None),
        ("block_ip", "block_ip"),
        ({"action": "block_ip"}, "block_ip"),
        ({"action": "block_ip", "outcome": "taken"}, "block_ip"),
        ({"action": "block_ip", "outcome": "would_be_taken"}, "block_ip (would_be_taken)"),
        ({"action": "block_ip", "outcome": "refused: a proxy?"}, "block_ip (refused: a proxy?)"),
    ],
)
def test_a_response_that_was_not_taken_says_so(response: object, shown: object) -> None:
    """An action alone means that it was taken, or that its agent says nothing of the outcome."""
    assert response_text(response) == shown
