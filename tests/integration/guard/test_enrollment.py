"""The guard's registration against a real broker and a scripted manager."""

from schemas import topics
from schemas.decoding import decode
from schemas.keys import ManagerKeyring
from schemas.model import WireModel
from schemas.registration import Registration
from tests.integration.guard.guard_process import GuardProcess
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import PATIENCE, ScriptedManager, eventually


def test_a_first_start_registers_and_is_born(guard: GuardThread, manager: ScriptedManager) -> None:
    """A first start ends in one registration, a birth, a heartbeat, and a line that says so."""
    assert guard.start().ready() == 1
    assert guard.status()["agentId"] == manager.agent_id
    assert len(manager.registrations) == 1
    birth = eventually(manager.presences, "a birth")[0]
    assert (birth.state, birth.session) == ("online", 1)
    eventually(manager.heartbeats, "a heartbeat")
    assert [heard.row for heard in manager.heard[:2]] == [topics.PRESENCE, topics.HEARTBEAT]


def test_the_registration_says_what_the_page_asks(guard: GuardThread, manager: ScriptedManager) -> None:
    """The five fields, site, tags and addresses stand in the registration, and no secret does."""
    guard.options = {"organization": "acme", "site": "berlin", "tags": ["web", "edge"]}
    guard.start().ready()
    payload = manager.registrations[0]
    said = decode(Registration, payload, topics.REGISTRATION.limit)
    assert (said.hostname, said.organization_id, said.site, said.tags) == ("srv-01", "acme", "berlin", ["web", "edge"])
    assert said.os
    assert said.arch
    assert said.version
    assert str(manager.token).split(".")[2].encode() not in payload


def test_a_lost_reply_is_asked_for_with_the_same_bytes(guard: GuardThread, manager: ScriptedManager) -> None:
    """A registration without an answer goes again byte for byte, and is answered then."""
    answers = iter([False, False, True])

    def sometimes(scripted: ScriptedManager, registration: Registration) -> WireModel | None:
        return scripted.accept(registration) if next(answers) else None

    manager.on_registration = sometimes
    guard.start().ready()
    assert len(manager.registrations) == 3
    assert len(set(manager.registrations)) == 1


def test_an_unanswered_registration_outlives_a_kill(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """A guard killed before the reply sends the same registration after its restart: a used-up token still counts."""
    manager.on_registration = lambda _manager, _registration: None
    guard_process.start()
    eventually(lambda: manager.registrations, "a registration")
    guard_process.kill()
    manager.on_registration = None
    guard_process.start().ready()
    assert len(set(manager.registrations)) == 1


def test_a_restart_registers_anew_and_keeps_its_name(guard: GuardThread, manager: ScriptedManager) -> None:
    """A guard that starts again registers with the same secret, and connects with a higher session."""
    assert guard.start().ready() == 1
    keys = manager.keys
    guard.stop()
    assert guard.start().ready() == 2
    assert manager.keys == keys
    assert len(set(manager.registrations)) == 2


def test_the_reply_lifts_the_session(guard: GuardThread, manager: ScriptedManager) -> None:
    """A guard whose data directory was wiped connects above the session that the manager knows."""
    manager.known_session = 41
    assert guard.start().ready() == 42


def test_a_guard_without_a_token_uses_its_identity(guard: GuardThread, manager: ScriptedManager) -> None:
    """Once registered, a guard needs no token to come back."""
    guard.start().ready()
    guard.stop()
    guard.token = None
    guard.start().ready()
    assert len(manager.registrations) == 1


def test_a_first_start_without_a_token_says_what_to_do(guard_process: GuardProcess) -> None:
    """Without token and identity the guard ends with one sentence behind its log, and exit code 1."""
    guard_process.token = None
    guard_process.start()
    assert guard_process.process.wait(10) == 1
    sentences = [line for line in guard_process.errors().splitlines() if not line.startswith("timestamp=")]
    assert len(sentences) == 1
    assert sentences[0].startswith("error: this guard is not registered yet: give it an enrollment token")


def test_a_final_rejection_ends_a_first_start(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """A guard that no retry could register ends and says the manager's reason."""
    manager.on_registration = lambda scripted, registration: scripted.reject(registration, "expired_token")
    guard_process.start()
    assert guard_process.process.wait(10) == 1
    assert "expired_token" in guard_process.errors().splitlines()[-1]


def test_a_known_guard_goes_on_after_a_rejection(guard: GuardThread, manager: ScriptedManager) -> None:
    """A guard with an identity connects with it, whatever the manager says of its registration."""
    guard.start().ready()
    guard.stop()
    manager.on_registration = lambda scripted, registration: scripted.reject(registration, "outdated")
    assert guard.start().ready() == 2


def test_a_conflict_is_waited_out(guard: GuardThread, manager: ScriptedManager) -> None:
    """A first start that meets another instance of its name tries again, with a new registration, until it can."""
    answers = iter([False, True])

    def later(scripted: ScriptedManager, registration: Registration) -> WireModel:
        return scripted.accept(registration) if next(answers) else scripted.reject(registration, "conflict")

    manager.on_registration = later
    guard.start().ready()
    assert len(set(manager.registrations)) == 2


def test_a_strange_manager_gets_no_registration(guard: GuardThread, manager: ScriptedManager) -> None:
    """A broker whose manager is not the token's gets nothing; the guard waits for the right one."""
    right, manager.keyring = manager.keyring, ManagerKeyring(bytes(32))
    manager.announce().wait_for_publish(PATIENCE)
    guard.start()
    eventually(lambda: "not the one that issued the token" in guard.errors(), "a complaint")
    assert manager.registrations == []
    manager.keyring = right
    manager.announce()
    guard.ready()


def test_a_forged_reply_is_ignored(guard: GuardThread, manager: ScriptedManager) -> None:
    """A reply with another signature names nobody; the right one, later, does."""
    forger = ManagerKeyring(bytes(32))
    right = manager.keyring

    def forged_first(scripted: ScriptedManager, registration: Registration) -> WireModel | None:
        if len(scripted.registrations) > 1:
            return scripted.accept(registration)
        reply = scripted.accept(registration).model_copy(update={"agent_id": "ag-ffffffffffffffff"})
        scripted.keyring = forger
        scripted.say(topics.REGISTRATION_REPLY, registration.client_id, reply)
        scripted.keyring = right
        return None

    manager.on_registration = forged_first
    guard.start().ready()
    assert guard.status()["agentId"] == manager.agent_id
    assert "its signature is not the manager's" in guard.errors()


def test_the_data_directory_is_private(guard: GuardThread) -> None:
    """Only the owner can read what a guard keeps."""
    guard.start().ready()
    assert guard.directory.stat().st_mode & 0o777 == 0o700
    # What ends in .new is about to take the place of the file without it, and may be gone when it is looked at.
    kept = [path for path in guard.directory.iterdir() if path.suffix != ".new"]
    modes = {path.name: path.stat().st_mode & 0o777 for path in kept}
    assert set(modes.values()) == {0o600}, modes
