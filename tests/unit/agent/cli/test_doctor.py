"""`guard doctor`: what it says, and what `--fix` writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.doctor import VOUCHED_FILE, fix_rsyslog
from agent.errors import ConfigurationError

DEBIAN = 'module(load="imuxsock") # provides support for local system logging\nmodule(load="imklog")\n'


def test_the_findings_are_one_document(tmp_path: Path) -> None:
    """`-o json` names every log with state, writers, and whether it vouches; the exit code says if one can be read."""
    words = [sys.executable, "-m", "agent", "doctor", "-o", "json", "--data-dir", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 -- the guard itself
    document = json.loads(done.stdout)
    assert done.returncode == (0 if document["chosen"] else 3)
    assert [log["name"] for log in document["logs"]][:2] == ["journal", "file:/var/log/auth.log"]
    for log in document["logs"]:
        assert set(log) == {"name", "path", "state", "reason", "writers", "vouches", "chosen"}
        assert (log["reason"] is None) == (log["state"] == "ok")
    assert any("nothing is blocked" in problem["problem"] for problem in document["problems"])
    assert document["guard"] is None


def test_rsyslog_is_told_to_annotate_once(tmp_path: Path) -> None:
    """Imuxsock gets the two settings in its own line, the original is kept, and a second time changes nothing."""
    path, drop_in = tmp_path / "rsyslog.conf", tmp_path / "20-panguard.conf"
    path.write_text(DEBIAN)
    told = fix_rsyslog(path, drop_in)
    changed = path.read_text()
    assert changed.splitlines()[0] == (
        'module(load="imuxsock" SysSock.Annotate="on" SysSock.ParseTrusted="on")'
        " # provides support for local system logging"
    )
    assert changed.splitlines()[1:] == DEBIAN.splitlines()[1:]
    assert (tmp_path / "rsyslog.conf.before-panguard").read_text() == DEBIAN
    assert str(VOUCHED_FILE) in drop_in.read_text()
    assert any("--trust-log" in line for line in told)
    fix_rsyslog(path, drop_in)
    assert path.read_text() == changed
    assert (tmp_path / "rsyslog.conf.before-panguard").read_text() == DEBIAN


def test_without_rsyslog_nothing_is_written(tmp_path: Path) -> None:
    """The refusal says what is missing."""
    with pytest.raises(ConfigurationError, match="rsyslog cannot be set up"):
        fix_rsyslog(tmp_path / "none.conf", tmp_path / "20-panguard.conf")
    (tmp_path / "old.conf").write_text("$ModLoad imuxsock\n")
    with pytest.raises(ConfigurationError, match="does not load imuxsock by module"):
        fix_rsyslog(tmp_path / "old.conf", tmp_path / "20-panguard.conf")
    assert not (tmp_path / "20-panguard.conf").exists()
