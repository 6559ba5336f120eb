"""The state directory: identities come back, sessions never fall, and nobody else may read them."""

from pathlib import Path

import pytest

from simulate.errors import PlanError
from simulate.identity import Identity, StateDirectory

SIGN_KEY = "k" * 43


def _registered(number: int, session: int = 0) -> Identity:
    return Identity(f"sim-1-{number:05d}", agent_id=f"ag-{number:016x}", session=session, http_token="t")


def test_an_identity_comes_back(tmp_path: Path) -> None:
    """A later run finds secret, agent id and tokens; another manager's agents are others."""
    one = _registered(1, session=4)
    StateDirectory(tmp_path / "s", SIGN_KEY).keep(one)
    assert StateDirectory(tmp_path / "s", SIGN_KEY).identity(one.hostname) == one
    assert StateDirectory(tmp_path / "s", "other" + SIGN_KEY).identity(one.hostname).agent_id == ""


def test_a_killed_run_does_not_use_a_session_twice(tmp_path: Path) -> None:
    """Sessions are set aside before connecting; only an orderly end gives the unused ones back."""
    one, other = _registered(1, session=4), _registered(2, session=9)
    state = StateDirectory(tmp_path, SIGN_KEY)
    state.keep(one)
    state.keep(other)
    state.reserve([one])
    killed = StateDirectory(tmp_path, SIGN_KEY)
    assert (killed.identity(one.hostname).session, killed.identity(other.hostname).session) == (1004, 9)
    one.session = 6
    state.release([one])
    assert StateDirectory(tmp_path, SIGN_KEY).identity(one.hostname).session == 6


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    """Directory and file hold secrets: 0700 and 0600, and after each rewriting."""
    state = StateDirectory(tmp_path / "s", SIGN_KEY)
    state.reserve([_registered(1)])
    (file,) = (tmp_path / "s").iterdir()
    assert ((tmp_path / "s").stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_torn_line_costs_one_identity(tmp_path: Path) -> None:
    """What was not written to its end is skipped: that agent registers again."""
    state = StateDirectory(tmp_path, SIGN_KEY)
    state.keep(_registered(1))
    state.keep(_registered(2))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-20])
    again = StateDirectory(tmp_path, SIGN_KEY)
    assert (again.identity("sim-1-00001").agent_id, again.identity("sim-1-00002").agent_id) == (f"ag-{1:016x}", "")


def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    """The sentence says what to do."""
    (tmp_path / "file").touch()
    with pytest.raises(PlanError, match="name another directory"):
        StateDirectory(tmp_path / "file", SIGN_KEY)
