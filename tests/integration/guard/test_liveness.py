"""Presence and heartbeats against a real broker: births, wills, sign-offs, sessions."""

import json

from agent.report.login_reports import REPETITIONS
from schemas import topics
from tests.integration.guard.guard_process import GuardProcess
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.support.mosquitto import Mosquitto


def _states(manager: ScriptedManager) -> list[tuple[str, int]]:
    return [(presence.state, presence.session) for presence in manager.presences()]


def test_a_killed_guard_is_lost_through_its_will(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """After SIGKILL the broker publishes `lost` with the session and the code of the guard_process."""
    guard_process.start().ready()
    guard_process.kill()
    eventually(lambda: ("lost", 1) in _states(manager), "the last will")


def test_a_clean_stop_is_offline_and_leaves_no_will(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """SIGTERM ends in `offline`, exit code 0, and nothing after it."""
    guard_process.start().ready()
    assert guard_process.stop() == 0
    eventually(lambda: ("offline", 1) in _states(manager), "the sign-off")
    guard_process.start().ready()
    eventually(lambda: ("online", 2) in _states(manager), "the next birth")
    assert _states(manager) == [("online", 1), ("offline", 1), ("online", 2)]


def test_a_stop_needs_no_broker(guard: GuardThread, manager: ScriptedManager, broker: Mosquitto) -> None:
    """A guard without a broker ends all the same, with exit code 0."""
    guard.start().ready()
    broker.kill()
    guard.stop()
    assert guard.failure is None
    assert guard.status()["state"] == "stopped"
    assert manager.presences()


def test_heartbeats_rise_within_a_session_and_count_every_event(guard: GuardThread, manager: ScriptedManager) -> None:
    """Sequences rise, and the events of all heartbeats add up to the total."""
    guard.start().ready()
    guard.log.attack("203.0.113.7", failures=7)
    beats = eventually(
        lambda: [beat for beat in manager.heartbeats() if beat.events_total == 7] and manager.heartbeats(), "7 events"
    )
    assert [beat.sequence for beat in beats] == list(range(1, len(beats) + 1))
    assert sum(beat.events_processed for beat in beats) == 7
    assert {beat.mode for beat in beats} == {"learning"}


def test_a_reconnect_is_a_higher_session(guard: GuardThread, manager: ScriptedManager, broker: Mosquitto) -> None:
    """After the broker came back the guard is born again under a higher session."""
    guard.start().ready()
    broker.restart()
    eventually(lambda: [state for state in _states(manager) if state[0] == "online" and state[1] > 1], "a new birth")
    sessions = [session for state, session in _states(manager) if state == "online"]
    assert sessions == sorted(set(sessions))


def test_an_older_session_in_the_own_presence_is_overwritten(guard: GuardThread, manager: ScriptedManager) -> None:
    """A late will of an old session is followed by the birth of the current one."""
    manager.known_session = 9
    guard.start().ready()
    eventually(lambda: _states(manager) == [("online", 10)], "a birth")
    manager.say_raw(topics.PRESENCE, manager.agent_id, manager.coded_presence(session=3))
    eventually(lambda: _states(manager) == [("online", 10), ("lost", 3), ("online", 10)], "the birth again")


def test_a_higher_session_in_the_own_presence_is_surpassed(guard: GuardThread, manager: ScriptedManager) -> None:
    """A guard restored from an older copy, without a token, connects above the session that the fleet has seen."""
    guard.start().ready()
    guard.stop()
    guard.token = None
    manager.say_raw(topics.PRESENCE, manager.agent_id, manager.coded_presence(session=70))
    guard.start().ready()
    eventually(lambda: ("online", 72) in _states(manager), "a birth above session 70")


def test_a_forged_presence_moves_nobody(guard: GuardThread, manager: ScriptedManager) -> None:
    """A presence of a higher session without the right code is counted and changes nothing."""
    guard.start().ready()
    forged = manager.coded_presence(session=70).replace(b'"session":70', b'"session":71')
    manager.say_raw(topics.PRESENCE, manager.agent_id, forged)
    eventually(lambda: guard.status()["ignored"].get("presence_forged"), "a forged presence counted")
    assert guard.status()["session"] == 1


def test_the_client_id_is_kept_and_cannot_be_guessed(guard: GuardThread, manager: ScriptedManager) -> None:
    """The identity's client id is the agentId and 128 random bits, the same after a restart."""
    guard.start().ready()
    before = json.loads((guard.directory / "identity.json").read_text())
    guard.stop()
    guard.start().ready()
    after = json.loads((guard.directory / "identity.json").read_text())
    assert before["agent_id"] == manager.agent_id
    assert len(bytes.fromhex(before["connection"])) == 16
    assert (after["connection"], after["secret"]) == (before["connection"], before["secret"])


def test_heartbeats_report_logins(guard: GuardThread, manager: ScriptedManager) -> None:
    """A login that the log proves is in three heartbeats, so that the manager can judge a block of its address."""
    guard.start().ready()
    guard.log.write("Accepted publickey for bob from 203.0.113.9 port 40000 ssh2: ED25519 SHA256:abc")
    eventually(lambda: len(_logins(manager)) >= REPETITIONS, "the login")
    beats = len(manager.heartbeats())
    eventually(lambda: len(manager.heartbeats()) >= beats + 2, "two more heartbeats")
    assert _logins(manager) == [("203.0.113.9", "bob", False)] * REPETITIONS


def test_a_log_that_proves_nothing_reports_no_login(guard: GuardThread, manager: ScriptedManager) -> None:
    """Anybody may write such a line; the guard says that it reports logins, and has none."""
    guard.log_option = "logs"
    guard.start().ready()
    guard.log.write("Accepted publickey for bob from 203.0.113.9 port 40000 ssh2: ED25519 SHA256:abc")
    eventually(lambda: any(beat.events_total for beat in manager.heartbeats()), "the line")
    beats = len(manager.heartbeats())
    eventually(lambda: len(manager.heartbeats()) >= beats + 2, "two more heartbeats")
    assert {tuple(beat.logins or ()) for beat in manager.heartbeats()} == {()}
    assert manager.heartbeats()[-1].logins == []


def _logins(manager: ScriptedManager) -> list[tuple[str, str, bool]]:
    return [
        (login.source_ip, login.user, login.guessed) for beat in manager.heartbeats() for login in beat.logins or ()
    ]
