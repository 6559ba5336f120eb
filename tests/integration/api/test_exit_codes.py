"""Each exit code of the commands, and the one line that goes with it."""

import pytest
from typer.testing import CliRunner

from manager.cli import app
from manager.cli.support.failures import ExitCode
from tests.integration.api.served import Served
from tests.integration.api.terminal import Terminal
from tests.support.ports import free_port

CASES = {
    ExitCode.OK: ("agents list", ""),
    ExitCode.FAILURE: ("policies set --global --file /nowhere/policy.json", "/nowhere/policy.json cannot be read"),
    ExitCode.USAGE: ("threats list --since yesterday", "'yesterday' is no time: write 15m, 24h, 7d"),
    ExitCode.UNREACHABLE: ("status --manager http://127.0.0.1:{closed}", "start one, or name another by --manager"),
    ExitCode.UNAUTHORIZED: ("status --auth-token wrong", "refuses this token: it is unknown, expired or revoked"),
    ExitCode.NOT_FOUND: ("agents show srv-03", "no agent has the id or hostname srv-03: agents list shows"),
    ExitCode.CONFLICT: (
        "agents remove --machine-id srv-01",
        "2 agents have this hostname; name one by its id: ag-",
    ),
    ExitCode.UNTRUSTED: ("status --manager http://192.0.2.1:8443", "write https://, or add --insecure"),
}


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name)
def test_a_script_can_tell_how_a_command_ended(served: Served, terminal: Terminal, code: ExitCode) -> None:
    """By the code; a person by one line on standard error, which names what to do."""
    for organization in ("acme", "other"):
        served.enroll("srv-01", organization_id=organization)
    command, words = CASES[code]
    result = terminal.run(*command.format(closed=free_port()).split())
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == (0 if code is ExitCode.OK else 1)
    assert result.stderr == "" or result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("agents lst", "'list'"),
        ("agents list --status asleep", "'online', 'stale', 'offline'"),
        ("policies set", "'--file'"),
        ("agents show", "'machine_id'"),
    ],
)
def test_what_the_command_line_itself_refuses_is_wrong_usage(terminal: Terminal, command: str, known: str) -> None:
    """An unknown command, a word that an option does not know, a missing option or argument: 2, and what is known."""
    result = terminal.run(*command.split())
    assert result.exit_code == ExitCode.USAGE
    assert "Usage: " in result.stderr
    assert known in result.stderr


def test_help_texts_lose_none_of_their_brackets() -> None:
    """Help texts are plain text, not markup: defaults and placeholders are shown."""
    text = " ".join(CliRunner().invoke(app, ["start", "--help"]).output.split())
    assert "mqtts://[user@]host:port [default: embedded]" in text
    assert "[default: 8443]" in text
