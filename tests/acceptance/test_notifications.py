"""Notifications of a manager that is killed again and again: every event reaches every channel.

`test_notifying_managers` has two managers that follow each other.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from manager.cli import app
from tests.support.mail_server import mail_server
from tests.support.processes import ManagerProcess
from tests.support.receivers import (
    certificates,
    closed_port,
    http_receiver,
    ids_in_file,
    syslog_datagrams,
    syslog_stream,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.long("tests/unit/manager/notifications/test_worker.py")

KILLS = 5


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _told(manager: ManagerProcess) -> set[str]:
    """Return the ids of the stored events that the policy chose channels for, apart from tests."""
    with sqlite3.connect(manager.data / "panguard.db") as store:
        sql = "SELECT sequence, at FROM event WHERE alerting IS NOT NULL AND name != 'notification_test'"
        found = {f"event-{sequence}-{round(at * 1000):x}" for sequence, at in store.execute(sql)}
    store.close()
    return found


def test_killed_five_times_a_manager_tells_every_event_at_least_once(tmp_path: Path, stack: ExitStack) -> None:
    """File, webhook, syslog and mail get each event or test; a kill repeats at most one for each, by its id."""
    hook, mails = stack.enter_context(http_receiver()), stack.enter_context(mail_server())
    stream, datagrams = stack.enter_context(syslog_stream()), stack.enter_context(syslog_datagrams())
    (tmp_path / "tls").mkdir()
    trusted = certificates(tmp_path / "tls")
    secure = stack.enter_context(syslog_stream(trusted.server))
    log = tmp_path / "siem.jsonl"
    manager = ManagerProcess(tmp_path / "home")
    manager.configure(
        f"""
        [notifications.siem]
        type = "file"
        url = "{log}"
        [notifications.hook]
        type = "webhook"
        url = "http://127.0.0.1:{hook.port}/hook"
        [notifications.tcp]
        type = "syslog"
        url = "tcp://127.0.0.1:{stream.port}"
        [notifications.udp]
        type = "syslog"
        url = "udp://127.0.0.1:{datagrams.port}"
        [notifications.tls]
        type = "syslog"
        url = "tls://127.0.0.1:{secure.port}"
        ca_file = "{trusted.ca_file}"
        [notifications.ops]
        type = "apprise"
        url = "mailto://127.0.0.1:{mails.port}?from=panguard@example.org&to=ops@example.org"
        """
    )
    channels = ["siem", "hook", "tcp", "udp", "tls", "ops"]
    dice = Random(16)  # noqa: S311 -- a seed, not a secret
    tests = 0
    with manager:
        alerting = {"channels": channels, "minimumSeverity": "low"}
        manager.request("PUT", "/api/policies/global", {"alerting": alerting})
        for kill in range(KILLS):
            for number in range(dice.randrange(3, 8)):
                host = {"hostname": f"web-{kill}-{number}", "os": "Debian 12", "arch": "x64", "version": "1.0"}
                with manager.client() as client:
                    assert client.post("/api/agents/register", json=host).status_code == 201
            if dice.random() < 0.5:
                manager.request("POST", "/api/notifications/ops/test", {})
                tests += 1
            manager.kill()
            manager.start()
        expected = _told(manager)
        assert len(expected) > KILLS
        heard = {
            "siem": lambda: ids_in_file(log),
            "hook": hook.ids,
            "tcp": stream.ids,
            "udp": datagrams.ids,
            "tls": secure.ids,
        }
        for name, ids in heard.items():
            eventually(lambda ids=ids: expected <= set(ids()), what=f"{name} has heard of everything")
            counts = Counter(ids())
            assert sum(counts.values()) - len(counts) <= KILLS, f"{name} heard too much twice"
            assert max(counts.values()) <= KILLS + 1
            assert set(counts) == expected
        of_tests = Counter(mail["Message-ID"] for mail in mails.mails if "Test" in mail["Subject"])
        assert len(of_tests) >= tests > 0
        assert sum(of_tests.values()) - len(of_tests) <= KILLS
        behind = [each for each in manager.get("/api/notifications") if each["behind"] or each["pending"]]
        assert behind == []


@pytest.mark.usefixtures("each_deployment")
def test_an_operator_lists_tests_pauses_and_mutes(tmp_path: Path, stack: ExitStack) -> None:
    """Each command says what it did; a channel that fails is named by `test`, `list` and `now`."""
    mails, gone = stack.enter_context(mail_server()), closed_port()
    manager = ManagerProcess(tmp_path / "home")
    manager.configure(
        f"""
        [notifications.ops]
        type = "apprise"
        url = "mailto://127.0.0.1:{mails.port}?from=panguard@example.org&to=ops@example.org"
        [notifications.hook]
        type = "webhook"
        url = "http://127.0.0.1:{gone}/hook?token=s3cret"
        """
    )
    with manager:

        def command(*words: str) -> tuple[int, str]:
            # in this process: most of a command's time is its start
            done = CliRunner().invoke(app, [*words, "--data-dir", str(manager.data)], env={"COLUMNS": "80"})
            return done.exit_code, done.output

        code, text = command("now")
        assert "the channel ops is told nothing" in text
        manager.request("PUT", "/api/policies/global", {"alerting": {"channels": ["ops", "hook"]}})
        assert command("notifications", "test", "ops") == (0, "delivered to ops\n")
        code, text = command("notifications", "test", "hook")
        assert (code, "not delivered to hook: " in text) == (1, True)
        code, text = command("notifications", "test", "hok")
        assert (code, "the manager has hook, ops" in text) == (5, True)
        code, text = command("notifications", "list")
        assert code == 0
        assert "failing" in text
        assert "webhook-hook.key" in text
        assert "hook fail since" in command("now")[1]
        code, text = command("notifications", "history", "--channel", "ops", "-o", "json")
        assert [each["title"] for each in json.loads(text)] == ["Test: notifications to this channel work"]
        code, text = command("notifications", "pause", "ops", "--for", "2h")
        assert text.startswith("ops is paused until ")
        code, text = command("notifications", "test", "ops")
        assert (code, "the channel is paused until" in text) == (1, True)
        assert command("notifications", "continue", "ops") == (0, "ops continues\n")
        eventually(lambda: len(mails.mails) >= 2, what="the test that waited for the end of the pause")
        _mute_twice(manager, command)
        code, text = command("notifications", "acknowledge", "no-such-group")
        assert (code, "no message is of the group 'no-such-group'" in text) == (5, True)
        group = next(row["group"] for row in manager.get("/api/notifications/history"))
        assert group in command("notifications", "history")[1]
        assert command("notifications", "acknowledge", group) == (0, f"acknowledged {group}\n")
        audited = {entry["action"] for entry in manager.get("/api/audit")}
        assert {"notifications.test", "notifications.pause", "notifications.mute"} <= audited
        everything = str(manager.get("/api/notifications")) + str(manager.get("/api/audit"))
        assert "s3cret" not in everything + manager.logs()
        with manager.leader.client() as client:
            metrics = client.get("/metrics").text
        assert 'panguard_notifications_failing{channel="hook"} 1.0' in metrics
        assert 'panguard_notifications_sent_total{channel="ops"}' in metrics


def _mute_twice(manager: ManagerProcess, command: Callable[..., tuple[int, str]]) -> None:
    """Mute a site and end it, in both ways; while it is in force each list shows it."""
    vienna = "mute-3a315f94"
    muted = ("notifications", "mute", "--site", "vienna", "--reason", "a new rack", "--for", "2h")
    for end in (("mute", "--site", "vienna", "--for", "0s"), ("unmute", vienna)):
        assert command(*muted)[1].startswith("muted until ")
        (mute,) = manager.get("/api/notifications/mutes")
        assert mute["id"] == vienna
        assert manager.get("/api/notifications")[0]["mutes"] == [mute]
        said = f"{mute['id']} mutes all topics but got_in of site vienna, by admin, until {mute['mutedUntil']}"
        for shown in (command("notifications", "list"), command("now")):
            assert said in " ".join(shown[1].split())
            assert ": a new rack" in " ".join(shown[1].split())
        assert command("notifications", *end)[0] == 0
        assert manager.get("/api/notifications/mutes") == []
    assert command("notifications", "unmute", vienna)[0] == 5
