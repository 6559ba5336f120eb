"""A rotation of the signing key with real processes: a manager, and guards that are online, away, new or over HTTP."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.keys import EnrollmentToken, ManagerKeyring
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager
from tests.support.processes import GuardProcess, ManagerProcess
from tests.support.waiting import eventually

DAY = 86_400.0

pytestmark = pytest.mark.timeout(400)


def _keys(manager: ManagerProcess, *words: str) -> dict[str, Any]:
    """Return the answer of `panguard manager keys …`."""
    command = [sys.executable, "-m", "panguard", "manager", "keys", *words, "-o", "json"]
    done = subprocess.run(  # noqa: S603 -- our own command
        [*command, "--data-dir", str(manager.data)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _obeys(manager: ManagerProcess, hostname: str, confidence: int) -> None:
    """Set a policy, and wait until a guard has applied it."""
    manager.request("PUT", "/api/policies/global", {"thresholds": {"autoRespond": confidence}})

    def applied() -> bool:
        record = manager.agent(hostname)
        wanted = manager.get("/api/policies/drift")
        return record.get("status") == "online" and hostname not in {each["hostname"] for each in wanted}

    eventually(applied, 60, f"{hostname} obeys a policy of now")


def _identity(guard: GuardProcess) -> dict[str, Any]:
    return dict(json.loads((guard.data / "identity.json").read_text()))


@pytest.mark.long("tests/property/test_key_succession.py")
def test_guards_change_over_without_registering_again(tmp_path: Path) -> None:
    """Online, away, with a token of before, over HTTP: all obey the new key with the id that they had."""
    with ManagerProcess(tmp_path) as manager:
        online, away = GuardProcess(manager, "online"), GuardProcess(manager, "away")
        by_http = GuardProcess(manager, "by-http", url=manager.http)
        late = GuardProcess(manager, "late")
        guards = [online, away, by_http, late]
        try:
            ids = {guard.hostname: guard.start() for guard in (online, away, by_http)}
            away.stop()
            former = _keys(manager, "status")["signKey"]
            assert _keys(manager, "rotate", "--dry-run")["signKey"] == former
            shutil.copy(manager.data / "enroll.token", tmp_path / "former.token")
            new = _keys(manager, "rotate", "--yes")["signKey"]
            assert new != former
            token = (manager.data / "enroll.token").read_text()
            eventually(lambda: EnrollmentToken.parse((manager.data / "enroll.token").read_text()).sign_key == new, 60)
            assert (
                EnrollmentToken.parse(token).token_id
                == EnrollmentToken.parse((tmp_path / "former.token").read_text()).token_id
            )
            _obeys(manager, "online", 71)
            _obeys(manager, "by-http", 72)
            assert _identity(online)["successions"][0]["successor"] == new

            # Away since before: its own file has the former token still.
            words = ["--enroll-token-file", str(tmp_path / "former.token")]
            assert away.start(*words) == ids["away"]
            _obeys(manager, "away", 73)
            late.start(*words)
            _obeys(manager, "late", 74)

            # The manager's restart and the guard's own keep the new key.
            manager.stop()
            manager.start()
            online.stop()
            assert online.start(*words) == ids["online"]
            _obeys(manager, "online", 75)
            state = eventually(lambda: _all_changed(manager, 3), 60, "all guards on the new key")
            assert state["agents"] == {"changed": 3, "former": 0, "foreign": 0, "unknown": 0, "http": 1}

            assert _keys(manager, "rollback", "--yes")["signKey"] == former
            _obeys(manager, "online", 76)
            _obeys(manager, "away", 77)
            actions = [entry["action"] for entry in manager.get("/api/audit")]
            assert [action for action in actions if action.startswith("keys.")] == ["keys.rollback", "keys.rotate"]
        finally:
            for guard in guards:
                guard.stop()


def _all_changed(manager: ManagerProcess, count: int) -> dict[str, Any] | None:
    state = _keys(manager, "status")
    return state if state["agents"]["changed"] >= count else None


def test_a_guard_that_was_away_for_29_days_changes_over(guard: GuardThread, manager: ScriptedManager) -> None:
    """With the token of before and the identity that it had; the version goes on."""
    guard.start().ready()
    manager.push_policy(1)
    eventually(manager.applied, what="the first policy")
    guard.stop()
    new = ManagerKeyring(bytes([7]) * 32)
    manager.rotate(new, ago=29 * DAY)
    assert guard.start().ready() == 2
    assert guard.status()["agentId"] == manager.agent_id
    manager.push_policy(2)
    eventually(lambda: [(each.version, each.sign_key) for each in manager.applied()][-1] == (2, new.sign_public))
    assert guard.status()["ignored"] == {}


def test_a_guard_that_was_away_for_31_days_waits_for_a_token_of_today(
    guard: GuardThread, manager: ScriptedManager
) -> None:
    """It refuses all that the new key signs, played links included, and says why; with a new token it obeys."""
    guard.start().ready()
    manager.push_policy(1)
    eventually(manager.applied, what="the first policy")
    guard.stop()
    new = ManagerKeyring(bytes([7]) * 32)
    manager.rotate(new, ago=31 * DAY)
    guard.start().ready()
    manager.push_policy(2)
    refused = {"policy_forged", "succession_ended"}
    eventually(lambda: refused <= set(guard.status()["ignored"]), what="a refused policy and a refused rotation")
    assert "replaced more than 30 days ago" in guard.errors()
    assert {each.version for each in manager.applied()} == {1}
    guard.stop()
    assert guard.token is not None
    guard.token = str(replace(EnrollmentToken.parse(guard.token), sign_key=new.sign_public))
    guard.start().ready()
    manager.push_policy(3)
    eventually(lambda: manager.applied()[-1].version == 3, what="a policy under the new key")
    assert guard.status()["agentId"] == manager.agent_id
