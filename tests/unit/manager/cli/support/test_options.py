"""Words and codes that stand in two places say the same in both."""

from pathlib import Path
from typing import get_args

import pytest

from manager.cli.support import options
from manager.cli.support.failures import EPILOG, MEANINGS, ExitCode
from manager.domain.agents.agent import State
from manager.domain.correlation import Kind
from manager.domain.policies.allowlist_entries import AllowlistEntryKind
from manager.domain.response import ResponseState
from manager.domain.response.emergency_entry import EntryKind
from schemas.threats import Severity


@pytest.mark.parametrize(
    ("offered", "known"),
    [
        (options.StateWord, tuple(State)),
        (options.SeverityWord, tuple(Severity)),
        (options.IndicatorWord, get_args(Kind)),
        (options.ResponseWord, tuple(ResponseState)),
        (options.EntryWord, get_args(EntryKind)),
        (options.AllowanceWord, get_args(AllowlistEntryKind)),
    ],
)
def test_options_take_the_words_of_the_rules(offered: object, known: tuple[str, ...]) -> None:
    """Neither more nor fewer."""
    assert sorted(get_args(offered)) == sorted(str(word) for word in known)


def test_the_documentation_has_every_exit_code() -> None:
    """In the words of the code, and so has the help text."""
    text = (Path(__file__).parents[5] / "docs" / "commands.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:3].strip("| ").isdigit()]
    assert {int(code): meaning for code, meaning in rows} == MEANINGS
    assert list(MEANINGS) == list(ExitCode)
    assert all(f"{code.value} {meaning}" in EPILOG for code, meaning in MEANINGS.items())
