"""The help of every command: both names of the option, and examples that parse."""

import re
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from typer.main import get_command

from agent.cli.examples import EXAMPLES as GUARD_EXAMPLES
from fence.cli import command_line
from manager.cli import app as manager
from manager.cli.examples import EXAMPLES as MANAGER_EXAMPLES
from manager.cli.support.help_pages import CONNECTION
from tests.support.command_lines import ROOT, parse


def _commands(command: Any, context: Any) -> Iterator[tuple[str, Any]]:
    yield context.command_path, context
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(
            child, child.context_class(child, info_name=name, parent=context, **child.context_settings)
        )


CONTEXTS = dict(_commands(ROOT, ROOT.context_class(ROOT, info_name="panguard", **ROOT.context_settings)))
HELPS = {path: context.command.get_help(context) for path, context in CONTEXTS.items()}


def _examples(text: str) -> list[str]:
    _, _, section = text.partition("\n  Examples:\n")
    return [line.strip() for line in section.split("\n\n")[0].splitlines()]


def test_the_walk_finds_the_commands() -> None:
    """Of all parts, and of groups within groups."""
    assert {"panguard", "panguard demo", "panguard manager agents list", "panguard guard outbox retry"} <= set(HELPS)
    assert len(HELPS) > 100


@pytest.mark.parametrize("path", HELPS)
def test_every_help_has_examples_that_parse(path: str) -> None:
    """Of the command itself, or in a group's help of one of its commands."""
    examples = _examples(HELPS[path]) if path != "panguard fence" else ["panguard fence check-config"]
    assert examples
    for example in examples:
        parsed = parse(example)
        group = hasattr(CONTEXTS[path].command, "commands")
        assert parsed.startswith(f"{path} ") if group else parsed.startswith(path)


@pytest.mark.parametrize("path", HELPS)
def test_help_has_a_short_name(path: str) -> None:
    """`-h` everywhere; the fence has its own command line."""
    if path == "panguard fence":
        assert "-h, --help" in command_line().format_help()
        return
    assert "-h, --help" in HELPS[path]
    assert CONTEXTS[path].help_option_names == ["-h", "--help"]


def test_no_example_is_of_a_command_that_does_not_exist() -> None:
    """Both tables name commands and groups."""
    for part, examples in (("manager", MANAGER_EXAMPLES), ("guard", GUARD_EXAMPLES)):
        assert {f"panguard {part} {words}".strip() for words in examples} <= set(HELPS)


@pytest.mark.parametrize("words", [[], ["serve"], ["check-config"]])
def test_the_fences_own_help_has_an_example_that_parses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Its own, and that of each of its commands."""
    with pytest.raises(SystemExit):
        command_line().parse_args([*words, "-h"])
    example = capsys.readouterr().out.partition("\nExample: ")[2]
    assert parse(" ".join(example.split())).startswith(" ".join(["panguard", "fence", *words]))


@pytest.mark.parametrize("path", ["panguard manager agents list", "panguard manager blocks add"])
def test_the_options_that_locate_the_manager_are_in_one_panel(path: str) -> None:
    """Below the command's own options."""
    own, _, panel = HELPS[path].partition(f"\n{CONNECTION}:\n")
    flags = re.findall(r"^  (--[\w-]+)", panel, re.MULTILINE)
    assert flags == ["--manager", "--auth-token", "--auth-token-file", "--data-dir", "--ca-file", "--insecure"]
    assert "Options:" in own
    assert "--manager" not in own.partition("Options:")[2]


def test_every_command_that_asks_a_manager_has_that_panel() -> None:
    """No command has some of these options elsewhere."""
    for path, text in HELPS.items():
        own, _, panel = text.partition("  Examples:\n")[0].partition(f"\n{CONNECTION}:\n")
        if path.startswith("panguard manager ") and "--auth-token-file" in own + panel:
            assert "--auth-token-file" in panel
            assert "--auth-token-file" not in own


def test_the_manager_alone_has_the_same_help() -> None:
    """It is run without the other parts, too."""
    command = get_command(manager)
    context = command.context_class(command, info_name="panguard manager")
    assert _examples(command.get_help(context)) == _examples(HELPS["panguard manager"])


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the installed program."""
    assert ROOT.main(["--version"], "panguard", standalone_mode=False) == 0
    assert capsys.readouterr().out == f"panguard {version('panguard')}\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("guard mode maybe", "Error: Invalid value for '[MODE]': 'maybe' is not one of 'learning', 'protection'."),
        ("manager status -o xml", "Error: Invalid value for '--output' / '-o': 'xml' is not one of 'table', 'json'."),
    ],
)
def test_a_refused_value_is_told_without_the_words_of_a_library(
    line: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason follows the name of the option."""
    with pytest.raises(SystemExit) as ended:
        ROOT.main(line.split(), "panguard")

    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == reason
