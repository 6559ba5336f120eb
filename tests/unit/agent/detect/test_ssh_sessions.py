"""The end of a session is told after a login that looks guessed, and of no other."""

from agent.detect import event_store
from agent.detect.login_detector import LoginDetector
from agent.events import Event, EventKind
from agent.storage.database import Database
from tests.support.accounts import FakeAccounts
from tests.support.ssh_story import START, SshStory

A = "203.0.113.7"
ENDED = "sshd-suspicious-session-ended"


def _guessed(story: SshStory) -> int:
    """Let a user's password be guessed; return the port of the session."""
    for second in range(30):
        story.fail(second, A, "alice")
    story.login(31, A, "alice")
    return story.port


def _end(story: SshStory, second: float, port: int, user: str = "alice") -> list[str]:
    return [each.rule_id for each in story.log(second, f"Disconnected from user {user} {A} port {port}", pid=1)]


def test_the_end_of_a_guessed_login_is_found_once() -> None:
    """With source and user under names that no incident, block or alert is made of."""
    story = SshStory()
    port = _guessed(story)
    assert _end(story, 40, port) == [ENDED]
    ended = story.verdicts[-1]
    assert (ended.severity, ended.target, ended.technique) == ("low", None, "")
    assert "sourceIp" not in ended.evidence
    assert _end(story, 41, port) == []


def test_a_second_session_of_the_pair_must_end_too() -> None:
    """The login that opened it was no finding, because the pair was known by then."""
    story = SshStory()
    first = _guessed(story)
    assert story.login(35, A, "alice") == []
    second = story.port
    assert _end(story, 40, first) == []
    assert _end(story, 50, second) == [ENDED]


def test_ends_of_other_sessions_are_nothing() -> None:
    """Neither of a person, nor of another user from the same address, nor of a port that logged nobody in."""
    story = SshStory()
    port = _guessed(story)
    story.login(60, "198.51.100.9", "bob", method="publickey")
    assert story.log(61, f"Disconnected from user bob 198.51.100.9 port {story.port}") == []
    assert _end(story, 62, port, user="carol") == []
    assert _end(story, 63, port + 1) == []


def test_a_forged_line_ends_no_proven_session() -> None:
    """Anybody may write what sshd writes; what a proven sshd accepted ends by its own line."""
    story = SshStory(vouched=True)
    port = _guessed(story)
    assert story.forge(40, f"Disconnected from user alice {A} port {port}") == []
    assert _end(story, 41, port) == [ENDED]
    assert story.verdicts[-1].vouched >= {"loginSource", "user"}


def test_the_end_after_a_restart_is_found_and_ordinary_ends_are_not_stored(database: Database) -> None:
    """What is stored is the login; ends of a day's thousand sessions would push out the failures that rules need."""
    fields = {"sourceIp": A, "user": "alice", "method": "password", "port": 4000}
    failures = [Event(START + second, EventKind.LOGIN_FAILED, fields | {"port": second}) for second in range(30)]
    login = Event(START + 31, EventKind.LOGIN_SUCCEEDED, fields)
    others = [
        Event(START + number, EventKind.SSH_SESSION_ENDED, {"sourceIp": "198.51.100.9", "user": "bob", "port": number})
        for number in range(1000)
    ]
    with database.transaction() as connection:
        event_store.save(connection, [*failures, login, *others])
    loaded = list(event_store.load(database.connection))
    assert len(loaded) == 31
    restarted = LoginDetector(FakeAccounts())
    for event in loaded:
        restarted.observe(event)
    end = Event(START + 90, EventKind.SSH_SESSION_ENDED, {"sourceIp": A, "user": "alice", "port": 4000})
    assert [found.rule_id for found in restarted.observe(end)] == [ENDED]
