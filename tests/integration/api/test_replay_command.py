"""`panguard manager replay` on the store of a running manager."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from manager.cli import app
from manager.cli.support.failures import ExitCode
from tests.integration.api.served import Served
from tests.support.attacks import ATTACKER, attack, trusted


def replay(directory: Path, settings: object, *arguments: str) -> Result:
    """Run the command on a data directory."""
    file = directory / "replay.json"
    file.write_text(json.dumps(settings))
    words = ["replay", "--settings", str(file), "--data-dir", str(directory), *arguments]
    return CliRunner().invoke(app, words)


def test_it_tells_what_would_have_opened_and_been_blocked(served: Served, tmp_path: Path) -> None:
    """Beside the running manager, whose store stays as it is; JSON alone on standard output, progress beside it."""
    with served.bench() as bench:
        attack(bench, *trusted(bench, "a", "b"))
    same = replay(tmp_path, {}, "--since", "24h", "-o", "json")
    assert same.exit_code == ExitCode.OK, same.output
    result = json.loads(same.stdout)
    assert (result["threats"], result["opened"], result["blocked"]) == (2, 2, 1)
    assert [each["value"] for each in result["wouldBlock"]] == [ATTACKER]
    assert result["difference"] == {"same": 2, "onlyReal": [], "onlyReplayed": [], "changed": []}
    assert "replayed threats: 2 of 2" in same.stderr
    other = replay(tmp_path, {"correlator": {"sourceIpAgents": 3}, "allowlist": {"ips": ["192.0.2.1"]}})
    assert other.exit_code == ExitCode.OK, other.output
    assert "Would open        1 incident; really 2" in other.stdout
    assert "Opened, but would not: 1" in other.stdout
    assert ATTACKER in other.stdout


def test_what_it_cannot_do_it_says_in_one_sentence(tmp_path: Path) -> None:
    """No store, and none is made; a store of another release; a wrong span."""
    nowhere = replay(tmp_path, {})
    assert (nowhere.exit_code, "no store" in nowhere.stderr) == (ExitCode.NOT_FOUND, True)
    assert not (tmp_path / "panguard.db").exists()
    (tmp_path / "panguard.db").touch()
    empty = replay(tmp_path, {})
    assert (empty.exit_code, empty.stderr.count("\n")) == (ExitCode.FAILURE, 1)
    assert replay(tmp_path, {}, "--since", "yesterday").exit_code == ExitCode.USAGE
    (tmp_path / "panguard.db").write_bytes(b"no database" * 1000)
    assert replay(tmp_path, {}).exit_code == ExitCode.FAILURE
