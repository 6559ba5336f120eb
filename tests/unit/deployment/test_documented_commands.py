"""Every command in README and docs is one: it parses, with its options."""

import re
import shlex
from pathlib import Path

import pytest

from tests.support.command_lines import parse

TOP = Path(__file__).parents[3]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
_PARTS = {"demo", "fence", "guard", "manager", "simulate"}


def _lines(text: str) -> list[str]:
    """Return the command lines in a page's blocks, without what the shell does with them."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    shell = "\n".join(block for language, block in blocks if language in {"", "sh", "console"})
    found = []
    for line in shell.replace("\\\n", " ").splitlines():
        if "panguard " not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not word or not set(word) <= set("();<>|&"):
                words.append(word)
                continue
            command = words[words.index("panguard") :] if "panguard" in words else []
            found += [shlex.join(command)] if len(command) > 1 and command[1] in _PARTS else []
            words = []
    return found


COMMANDS = [(page.name, line) for page in PAGES for line in _lines(page.read_text())]
INLINE = [
    (page.name, text.replace("\n", " "))
    for page in PAGES
    for text in re.findall(r"(?<!`)`(panguard [a-z][^`]+)`(?!`)", page.read_text())
    if "…" not in text
]


RUN_BY = {
    "README.md": "tests/acceptance/test_readme.py",
    "access.md": "tests/integration/api/test_access_tokens.py",
    "blocks.md": "tests/integration/documents/test_pages.py",
    "commands.md": "tests/integration/documents/test_pages.py",
    "configuration.md": "tests/integration/documents/test_pages.py",
    "groups.md": "tests/integration/api/test_group_commands.py",
    "notifications.md": "tests/integration/documents/test_pages.py",
    "lifecycle.md": "tests/integration/api/test_enrollment_tokens.py",
    "operations.md": "tests/integration/api/test_operations_page.py",
    "protection.md": "tests/integration/api/test_protection.py",
    "scale.md": "tests/acceptance/test_several_managers.py",
    "store.md": "tests/integration/documents/test_pages.py",
    "tls.md": "tests/integration/documents/test_pages.py",
}
"""The test that runs the commands of each page, but for those that ask a machine which a test does not have."""

NOT_RUN = {
    "brokers.md": "names another machine; tests of the production broker run the same steps",
    "containers.md": "needs containers; tests/acceptance/test_compose.py runs the file",
    "fence.md": "needs root and the configuration of a host; tests/unit/deployment/test_fence_page.py reads it",
    "guard.md": "changes the host; tests/acceptance/host runs such commands on a booted one",
    "simulate.md": "connects 9,900 agents; tests/integration/simulate runs the command with fewer",
}
"""Pages whose commands are only parsed, and why."""


def test_the_commands_of_every_page_are_run_by_a_test() -> None:
    """Or the page is named with the reason why they are not; each test reads the page."""
    assert {page for page, _ in COMMANDS} == set(RUN_BY) | set(NOT_RUN)
    assert not set(RUN_BY) & set(NOT_RUN)
    for page, test in RUN_BY.items():
        assert page in (TOP / test).read_text()


def test_the_pages_have_commands() -> None:
    """Of each part that people run by hand."""
    assert len(COMMANDS) > 80
    assert {line.split()[1] for _, line in COMMANDS} == _PARTS - {"demo"}
    assert len(INLINE) > 20


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_command_of_a_page_parses(page: str, line: str) -> None:
    """With its arguments and options."""
    assert parse(line).startswith("panguard "), page


@pytest.mark.parametrize(("page", "line"), INLINE)
def test_every_command_in_a_sentence_parses(page: str, line: str) -> None:
    """It may leave out what is required, and names nothing that does not exist."""
    fault = None
    try:
        parse(line)
    except Exception as error:  # noqa: BLE001 -- its class is private to typer
        fault = error
    assert type(fault).__name__ in {"NoneType", "MissingParameter", "NoArgsIsHelpError"}, (page, line, fault)
