"""Every acceptance test runs with two managers as well, or says why it does not."""

import re
from pathlib import Path

import pytest

ACCEPTANCE = Path(__file__).parents[2] / "acceptance"
_WITH_TWO = re.compile(r"\b(each_deployment|KINDS_AND_TWO|DatabaseManagers)\b")
_WITHOUT = re.compile(r"^Not with two managers\b.*: \w", re.MULTILINE)


@pytest.mark.parametrize("path", sorted(ACCEPTANCE.glob("*.py")), ids=lambda path: path.stem)
def test_an_acceptance_test_has_two_managers_or_a_reason(path: Path) -> None:
    """A file that uses no deployment of several managers names the reason in one sentence."""
    text = path.read_text()
    assert _WITH_TWO.search(text) or _WITHOUT.search(text)
