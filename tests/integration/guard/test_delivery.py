"""What becomes of a detected threat: reported, confirmed, kept over kills of everything."""

import json
import subprocess
import sys
import time

from schemas import message_codes, topics
from schemas.threats import Deferral, Receipt, Refusal, ThreatReport
from tests.integration.guard.guard_process import GuardProcess
from tests.integration.guard.guard_thread import QUICK, GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.support.mosquitto import Mosquitto


def _silent(_report: ThreatReport) -> Receipt | None:
    return None


def _addresses(reports: list[ThreatReport]) -> list[str]:
    return [str(report.threat.evidence["sourceIp"]) for report in reports]


def _emptied(guard: GuardProcess) -> bool:
    return bool(guard.status()["outboxSize"] == 0)


def test_a_threat_is_reported_and_a_receipt_empties_the_outbox(guard: GuardThread, manager: ScriptedManager) -> None:
    """Five failed logins become one report with its evidence, and the receipt ends its wait."""
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    report = eventually(manager.reports, "a report")[0]
    assert (report.threat.type, report.threat.technique, report.threat.count) == ("brute_force", "T1110", 5)
    assert report.threat.evidence["sourceIp"] == "203.0.113.7"
    eventually(lambda: _emptied(guard), "an empty outbox")
    assert guard.status()["eventsTotal"] == 5


def test_a_killed_guard_loses_and_doubles_nothing(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """Reports without a receipt survive SIGKILL under their ids, and lines read are not counted again."""
    manager.on_report = _silent
    guard_process.start().ready()
    guard_process.log.attack("203.0.113.7")
    before = eventually(manager.reports, "a report")[0]
    guard_process.kill()
    guard_process.log.attack("198.51.100.9")
    manager.heard.clear()
    manager.on_report = lambda report: Receipt(stored=[report.id])
    guard_process.start().ready()
    eventually(lambda: len(manager.reports()) >= 2, "both reports")
    eventually(lambda: _emptied(guard_process), "an empty outbox")
    reports = manager.reports()
    assert _addresses(reports) == ["203.0.113.7", "198.51.100.9"]
    assert reports[0].id == before.id
    assert guard_process.status()["eventsTotal"] == 10


def test_an_attack_that_spans_a_kill_is_one_attack(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """Failures before and after SIGKILL are counted together."""
    guard_process.start().ready()
    guard_process.log.attack("203.0.113.7", failures=3)
    eventually(lambda: guard_process.status()["eventsTotal"] == 3, "three lines read")
    guard_process.kill()
    guard_process.log.attack("203.0.113.7", failures=2, first_port=50_000)
    guard_process.start().ready()
    assert eventually(manager.reports, "a report")[0].threat.count == 5


def test_threats_found_while_the_broker_is_down_arrive_later(
    guard: GuardThread, manager: ScriptedManager, broker: Mosquitto
) -> None:
    """A guard whose broker is away goes on detecting, and delivers when it is back."""
    guard.start().ready()
    broker.kill()
    for number in range(20):
        guard.log.attack(f"198.51.100.{number}")
    eventually(lambda: guard.status()["outboxSize"] == 20, "20 reports that wait")
    broker.start()
    eventually(lambda: _emptied(guard), "an empty outbox")
    assert len({report.id for report in manager.reports()}) == 20


def test_a_guard_detects_before_it_was_ever_connected(guard: GuardThread, broker: Mosquitto) -> None:
    """With no broker from the first second on a guard spools what it finds, and delivers it once it has a name."""
    broker.kill()
    guard.start()
    eventually((guard.directory / "status.json").exists, "a started guard")
    guard.log.attack("203.0.113.7")
    eventually(lambda: guard.status()["outboxSize"] == 1, "a report that waits")
    broker.start()
    guard.ready()
    eventually(lambda: _emptied(guard), "an empty outbox")


def test_the_heartbeat_goes_out_before_the_outbox(guard: GuardThread, manager: ScriptedManager) -> None:
    """A new session says its clock before it reports, so that event times can be trusted."""
    manager.on_report = _silent
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    eventually(manager.reports, "a report")
    guard.stop()
    manager.heard.clear()
    guard.start().ready()
    eventually(manager.reports, "the report again")
    rows = [heard.row for heard in manager.heard if heard.row is not topics.PRESENCE]
    assert rows.index(topics.HEARTBEAT) < rows.index(topics.THREATS)


def test_without_a_receipt_the_same_bytes_go_again(guard: GuardThread, manager: ScriptedManager) -> None:
    """A report whose receipt was lost goes again, byte for byte, after a while."""
    seen: list[str] = []

    def second_time(report: ThreatReport) -> Receipt | None:
        seen.append(report.id)
        return Receipt(stored=[report.id]) if len(seen) > 1 else None

    manager.on_report = second_time
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    eventually(lambda: len(seen) >= 2, "the report again")
    payloads = [heard.payload for heard in manager.heard if heard.row is topics.THREATS]
    assert payloads[0] == payloads[1]
    eventually(lambda: _emptied(guard), "an empty outbox")


def test_a_refused_report_becomes_a_dead_letter(guard: GuardThread, manager: ScriptedManager) -> None:
    """What can never be stored leaves the queue, is kept with its reason, and blocks nothing behind it."""
    manager.on_report = lambda report: (
        Receipt(refused=[Refusal(id=report.id, reason="the same id with other content")])
        if report.threat.evidence["sourceIp"] == "203.0.113.7"
        else Receipt(stored=[report.id])
    )
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    guard.log.attack("198.51.100.9")
    eventually(lambda: _emptied(guard), "an empty outbox")
    eventually(lambda: guard.status()["deadLetters"] == 1, "a dead letter")
    assert "the same id with other content" in guard.errors()


def test_a_deferred_report_waits_and_goes_again(guard: GuardThread, manager: ScriptedManager) -> None:
    """What the manager defers is sent again when it says, not before, and others are not held up.

    The guard waits long for a receipt, so that on a busy machine no copy is taken for the report that goes again.
    """
    sent_at: list[float] = []

    def defer_once(report: ThreatReport) -> Receipt | None:
        match report.threat.evidence["sourceIp"]:
            case "203.0.113.7":
                sent_at.append(time.monotonic())
                return Receipt(deferred=[Deferral(ids=[report.id], retry_after=2.0)] if len(sent_at) == 1 else [])
            case "203.0.113.8":
                return Receipt(deferred=[Deferral(ids=[report.id], retry_after=86_400.0)])
        return Receipt(stored=[report.id])

    manager.on_report = defer_once
    guard.settings = QUICK.model_copy(update={"receipt_timeout": 60.0})
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    guard.log.attack("203.0.113.8")
    eventually(lambda: len(manager.reports()) == 2, "two deferrals")
    guard.log.attack("198.51.100.9")
    eventually(lambda: guard.status()["outboxSize"] == 2, "the report behind them stored")
    eventually(lambda: len(sent_at) == 2, "the deferred report again")
    assert sent_at[1] - sent_at[0] >= 2.0
    assert sorted(_addresses(manager.reports())) == ["198.51.100.9", "203.0.113.7", "203.0.113.7", "203.0.113.8"]


def test_a_forged_receipt_drops_nothing(guard: GuardThread, manager: ScriptedManager) -> None:
    """A receipt without the right code is counted, and the report goes on waiting."""
    manager.on_report = _silent
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    report = eventually(manager.reports, "a report")[0]
    body = Receipt(stored=[report.id]).body()
    forged = message_codes.with_mac(bytes(32), topics.RECEIPTS.below_root(manager.agent_id), body)
    for payload in (body, forged, b"", b"{"):
        manager.say_raw(topics.RECEIPTS, manager.agent_id, payload)
    eventually(lambda: guard.status()["ignored"].get("receipt_forged", 0) == 4, "four forged receipts counted")
    assert guard.status()["outboxSize"] == 1


def test_a_refused_report_is_sent_again_at_a_persons_word(
    guard_process: GuardProcess, manager: ScriptedManager
) -> None:
    """`guard outbox retry` beside the running guard: the same id goes out again, and a receipt ends its wait."""
    manager.on_report = lambda report: Receipt(refused=[Refusal(id=report.id, reason="the store cannot hold it")])
    guard_process.start().ready()
    guard_process.log.attack("203.0.113.7")
    first = eventually(manager.reports, "a report")[0]
    eventually(lambda: guard_process.status()["deadLetters"] == 1, "a dead letter")
    manager.heard.clear()
    manager.on_report = lambda report: Receipt(stored=[report.id])
    command = [
        sys.executable,
        "-m",
        "agent",
        "outbox",
        "retry",
        "--data-dir",
        str(guard_process.directory),
        "-o",
        "json",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 -- the guard
    assert json.loads(told.stdout) == {"retried": 1, "left": 0}
    assert eventually(manager.reports, "the report again")[0].id == first.id
    eventually(lambda: _emptied(guard_process), "an empty outbox")
    assert guard_process.status()["deadLetters"] == 0
