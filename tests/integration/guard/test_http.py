"""The guard's lifecycle over HTTP, the whole runtime against a scripted manager."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from schemas.keys import EnrollmentToken, ManagerKeyring
from tests.integration.guard.certificates import make_certificates
from tests.integration.guard.guard_thread import QUICK, GuardThread
from tests.integration.guard.http_manager import AGENT, Asked, HttpManager, Reply, refusal
from tests.integration.guard.scripted_manager import eventually

TOKEN = str(EnrollmentToken.new(ManagerKeyring(bytes(range(32))).sign_public))


@pytest.fixture
def manager() -> Iterator[HttpManager]:
    with HttpManager() as running:
        yield running


@pytest.fixture
def guard(tmp_path: Path, manager: HttpManager, guard_log: StringIO) -> Iterator[GuardThread]:
    thread = GuardThread(tmp_path, manager.url, TOKEN, guard_log)
    yield thread
    thread.stop()
    assert "Traceback" not in guard_log.getvalue()


def _kept_token(guard: GuardThread) -> str:
    path = guard.directory / "identity.json"
    assert path.stat().st_mode & 0o777 == 0o600
    return str(json.loads(path.read_text())["http"]["token"])


def _watching(guard: GuardThread) -> None:
    """Start a guard that is not to come so far as to say `ready`, and wait until it watches its log."""
    guard.start()
    eventually((guard.directory / "status.json").exists, "its first round")


def _dead_letters(guard: GuardThread) -> list[str]:
    with closing(sqlite3.connect(guard.directory / "guard.db")) as database:
        return [row[0] for row in database.execute("SELECT reason FROM dead_letters")]


def test_the_lifecycle_is_the_pages(guard: GuardThread, manager: HttpManager) -> None:
    """Register once, poll, heartbeat, report, and DELETE at the end, in this order and with the right tokens."""
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    eventually(lambda: manager.stored, "a threat")
    eventually(lambda: len(manager.about("heartbeat")) > 2, "heartbeats")
    guard.stop()
    order = list(dict.fromkeys(asked.about for asked in manager.asked))
    assert order == ["register", "policy", "heartbeat", "events", "farewell"]
    assert [asked.bearer for asked in manager.about("register")] == [TOKEN]
    assert {asked.bearer for asked in manager.asked if asked.about != "register"} == {"token-1"}
    assert manager.asked[-1] == Asked("farewell", f"/api/agents/{AGENT}", "token-1")
    assert _kept_token(guard) == "token-1"


def test_a_registration_and_a_heartbeat_say_what_the_page_asks(guard: GuardThread, manager: HttpManager) -> None:
    """The five fields of one, the five of the other."""
    guard.options = {"organization": "acme"}
    guard.start().ready()
    eventually(lambda: manager.about("heartbeat"), "a heartbeat")
    registration, heartbeat = manager.about("register")[0].body, manager.about("heartbeat")[0].body
    assert {"hostname", "os", "arch", "version", "organizationId"} <= set(registration)
    assert {"cpu", "memory", "eventsProcessed", "mode", "uptime"} <= set(heartbeat)
    assert "mac" not in heartbeat


def test_a_threat_is_reported_in_the_pages_shape(guard: GuardThread, manager: HttpManager) -> None:
    """`agentId`, `threat`, `response` and `timestamp`, with the id that makes it idempotent."""
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    threat = eventually(lambda: list(manager.stored.values()), "a threat")[0]
    assert threat["agentId"] == AGENT
    assert threat["threat"]["evidence"]["sourceIp"] == "203.0.113.7"
    assert threat["response"]["action"] == "block_ip"
    assert {"id", "timestamp"} <= set(threat)


def test_the_policy_is_polled_with_the_version_in_force(guard: GuardThread, manager: HttpManager) -> None:
    """The first poll names none, later ones the one in force, also after a restart; 304 changes nothing."""
    manager.version = 4
    guard.settings = QUICK.model_copy(update={"policy_poll_interval": 0.1})
    guard.start().ready()
    eventually(lambda: guard.status()["policyVersion"] == 4, "the policy")
    before = len(manager.about("policy"))
    eventually(lambda: len(manager.about("policy")) > before + 1, "polls")
    guard.stop()
    paths = [asked.path.partition("?")[2] for asked in manager.about("policy")]
    assert paths[0] == ""
    assert set(paths[before + 1 :]) == {"version=4"}
    manager.asked.clear()
    guard.start().ready()
    assert manager.about("policy")[0].path.endswith("?version=4")


def test_a_new_policy_is_in_force_by_the_same_rules(guard: GuardThread, manager: HttpManager) -> None:
    """Good sections are obeyed, bad ones reported in the next heartbeat, an older version is not obeyed."""
    manager.version, manager.pending = 5, True
    manager.sections = {"blocklist": {"ips": ["198.51.100.9"]}, "thresholds": {"autoRespond": 900}}
    guard.start().ready()
    last = eventually(
        lambda: next((beat.body for beat in manager.about("heartbeat") if beat.body.get("policyVersion") == 5), None),
        "the word that it is in force",
    )
    assert (last["policyState"], last["policyError"].partition(":")[0]) == ("partial", "thresholds.autoRespond")
    assert [measure["value"] for measure in guard.status()["recorded"]] == ["198.51.100.9"]
    manager.version, manager.sections = 3, {}
    eventually(lambda: guard.status()["ignored"].get("policy_outdated"), "an old policy refused")
    assert guard.status()["policyVersion"] == 5


def test_a_pending_policy_is_fetched_at_once(guard: GuardThread, manager: HttpManager) -> None:
    """The poll is five minutes away; a heartbeat's answer brings it forward."""
    guard.start().ready()
    eventually(lambda: guard.status()["policyVersion"] == 1, "the first policy")
    manager.version, manager.pending = 2, True
    eventually(lambda: guard.status()["policyVersion"] == 2, "the urgent policy")


def test_a_policy_for_another_agent_changes_nothing(guard: GuardThread, manager: HttpManager) -> None:
    """A connection vouches for who speaks, not for what was mixed up."""
    policy = manager.policy() | {"agentId": "ag-00000000000000bb"}
    manager.script = lambda asked: Reply(200, {"ok": True, "data": policy}) if asked.about == "policy" else None
    guard.start().ready()
    eventually(lambda: guard.status()["ignored"].get("policy_of_another_agent"), "it counted")
    assert guard.status()["policyVersion"] is None


def test_a_restart_shows_the_own_token_and_keeps_the_name(guard: GuardThread, manager: HttpManager) -> None:
    """So it takes its own place again while the manager still counts it as online."""
    guard.start().ready()
    guard.stop()
    guard.start().ready()
    assert [asked.bearer for asked in manager.about("register")] == [TOKEN, "token-1"]
    assert guard.status()["agentId"] == AGENT


@pytest.mark.parametrize("status", [401, 404])
def test_a_removed_guard_registers_again(guard: GuardThread, manager: HttpManager, status: int) -> None:
    """When its heartbeat finds nobody it comes back with the enrollment token, and with the token that it then gets."""
    guard.start().ready()
    manager.token = "token-2"

    def removed(asked: Asked) -> Reply | None:
        return refusal(401 if asked.about == "register" else status) if asked.bearer == "token-1" else None

    manager.script = removed
    eventually(lambda: [beat for beat in manager.about("heartbeat") if beat.bearer == "token-2"], "a new life")
    assert [asked.bearer for asked in manager.about("register")] == [TOKEN, "token-1", TOKEN]
    assert _kept_token(guard) == "token-2"


def test_without_a_token_a_trusting_manager_is_enough(guard: GuardThread, manager: HttpManager) -> None:
    """The request then has no Authorization at all, as the page's guard sends it."""
    guard.token = None
    guard.start().ready()
    assert manager.about("register")[0].bearer is None


def test_a_first_start_that_no_retry_helps_ends(guard: GuardThread, manager: HttpManager) -> None:
    """A new guard that is turned away says the manager's reason and ends."""
    manager.script = lambda _asked: refusal(403, "the enrollment token has expired; ask for a new one")
    guard.start()
    failure = eventually(lambda: guard.failure, "its end")
    assert "the enrollment token has expired" in str(failure)


def test_a_conflict_is_waited_out(guard: GuardThread, manager: HttpManager) -> None:
    """Another instance of this host is not replaced by force: the guard asks again until it may."""
    answers = iter([refusal(409, "it is online")] * 2)
    manager.script = lambda asked: next(answers, None) if asked.about == "register" else None
    guard.start().ready()
    assert len(manager.about("register")) == 3


@pytest.mark.parametrize("status", [500, 503])
def test_what_cannot_be_stored_is_kept_and_sent_again(guard: GuardThread, manager: HttpManager, status: int) -> None:
    """Each threat stays in the outbox until a 2xx, and goes again under the same id."""
    guard.start().ready()
    answers = iter([refusal(status)] * 3)
    manager.script = lambda asked: next(answers, None) if asked.about == "events" else None
    guard.log.attack("203.0.113.7")
    eventually(lambda: manager.stored, "the threat stored")
    asked = manager.about("events")
    assert len(asked) == 4
    assert {threat["id"] for request in asked for threat in request.body["threats"]} == set(manager.stored)
    eventually(lambda: guard.status()["outboxSize"] == 0, "an empty outbox")


def test_too_many_requests_are_not_answered_with_more(guard: GuardThread, manager: HttpManager) -> None:
    """While the manager wants to be left alone nothing is asked, whatever happens, and a stop is said all the same."""
    guard.start().ready()
    refused: list[str] = []

    def slowly(asked: Asked) -> Reply | None:
        if asked.about == "farewell":
            return None
        refused.append(asked.about)
        return refusal(429, Retry_After="600")

    manager.script = slowly
    eventually(lambda: refused, "a refusal")
    guard.log.attack("203.0.113.7")
    eventually(lambda: guard.status()["outboxSize"] == 1, "the threat kept")
    guard.stop()
    assert len(refused) == 1
    assert manager.asked[-1].about == "farewell"
    assert guard.status()["outboxSize"] == 1


def test_a_threat_that_can_never_be_stored_blocks_nobody(guard: GuardThread, manager: HttpManager) -> None:
    """The one that the manager names goes to the dead letters with its reason, and the others are stored."""

    def picky(asked: Asked) -> Reply | None:
        if asked.about != "events":
            return None
        sources = [threat["threat"]["evidence"]["sourceIp"] for threat in asked.body["threats"]]
        bad = sources.index("203.0.113.2") if "203.0.113.2" in sources else None
        return None if bad is None else refusal(400, f"threats.{bad}.threat: not like this")

    manager.script = picky
    guard.start().ready()
    for number in range(1, 4):
        guard.log.attack(f"203.0.113.{number}")
    eventually(lambda: len(manager.stored) == 2, "the others stored")
    eventually(lambda: guard.status()["outboxSize"] == 0, "an empty outbox")
    (reason,) = _dead_letters(guard)
    assert reason.endswith(".threat: not like this")


def test_a_manager_that_is_away_costs_nothing(guard: GuardThread, manager: HttpManager) -> None:
    """A guard that nobody answers from the first second detects and spools, and reports once somebody does."""
    there, guard.url = guard.url, "http://127.0.0.1:9"
    _watching(guard)
    guard.log.attack("203.0.113.7")
    eventually(lambda: guard.status()["outboxSize"] == 1, "a spooled threat")
    guard.stop()
    guard.url = there
    guard.start().ready()
    eventually(lambda: manager.stored, "the threat stored")


def test_a_page_of_somebody_else_is_no_manager(guard: GuardThread, manager: HttpManager) -> None:
    """A portal that says 200 to everything makes no agent and takes no threat."""
    manager.script = lambda _asked: Reply(200, {"welcome": "to the hotel"})
    _watching(guard)
    guard.log.attack("203.0.113.7")
    eventually(lambda: guard.status()["outboxSize"] == 1, "a spooled threat")
    eventually(lambda: "is no manager" in guard.errors(), "a complaint")
    assert {asked.about for asked in manager.asked} == {"register"}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[HttpManager]:
    _, certificate, key = make_certificates(tmp_path)
    with HttpManager((str(certificate), str(key))) as running:
        yield running


@pytest.fixture
def secured_guard(tmp_path: Path, secured: HttpManager, guard_log: StringIO) -> Iterator[GuardThread]:
    thread = GuardThread(tmp_path, secured.url, TOKEN, guard_log)
    yield thread
    thread.stop()


def test_https_trusts_the_authority_that_it_is_given(secured_guard: GuardThread, tmp_path: Path) -> None:
    """With `--ca-file` the guard lives over TLS."""
    secured_guard.options = {"ca_file": tmp_path / "ca.pem"}
    assert secured_guard.start().ready() == 1


def test_a_manager_of_an_unknown_authority_gets_nothing(secured_guard: GuardThread, secured: HttpManager) -> None:
    """Without it the certificate is refused, no token leaves the host, and the guard says why."""
    secured_guard.start()
    eventually(lambda: "nobody that is trusted here has signed it" in secured_guard.errors(), "a complaint")
    assert secured.asked == []


def test_http_and_mqtt_are_two_lives_of_one_directory(guard: GuardThread, manager: HttpManager) -> None:
    """What a guard became over HTTP is no identity over MQTT: it says that it needs a token, and forgets nothing."""
    guard.start().ready()
    guard.stop()
    guard.url, guard.token, http = "mqtt://127.0.0.1:9", None, guard.url
    guard.start()
    assert "enrollment token" in str(eventually(lambda: guard.failure, "its end"))
    guard.failure, guard.url = None, http
    guard.start().ready()
    assert manager.about("register")[-1].bearer == "token-1"


def test_heartbeats_report_logins(guard: GuardThread, manager: HttpManager) -> None:
    """Over HTTP, too, heartbeats name the logins that the log proves."""
    guard.start().ready()
    guard.log.write("Accepted publickey for bob from 203.0.113.9 port 40000 ssh2: ED25519 SHA256:abc")
    told = eventually(
        lambda: [each for asked in manager.about("heartbeat") for each in asked.body.get("logins") or ()], "the login"
    )
    assert {(each["sourceIp"], each["user"], each["guessed"]) for each in told} == {("203.0.113.9", "bob", False)}
