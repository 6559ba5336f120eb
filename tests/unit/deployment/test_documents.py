"""What the documents point to is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file or folder of this repository."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_security_names_tests_that_exist() -> None:
    """Each protection that claims to be shown names the file that shows it, and every section says what is left."""
    text = (ROOT / "docs" / "security.md").read_text()
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
    assert len(named) > 20
    assert {name for name in named if "def test_" not in (ROOT / name).read_text()} == set()


def test_every_page_is_within_reach_of_the_readme() -> None:
    """The pages of `docs` stand in the README's list."""
    listed = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}
