"""Reports with a receipt that the manager's store lost: a real guard sends them again when it is asked."""

import time

from schemas import message_codes, topics
from schemas.generations import StoreGeneration
from schemas.keys import ManagerKeyring
from schemas.model import utc
from schemas.presence import ManagerKeys
from schemas.threats import Receipt, ThreatReport
from tests.integration.guard.guard_process import GuardProcess
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually


def _of_generation(number: int, manager: ScriptedManager) -> None:
    """Have the manager's receipts name a generation, and a mark with its number."""

    def stored(report: ThreatReport) -> Receipt | None:
        return Receipt(stored=[report.id], generation=number, mark=f"mark-{number}", sent_at=utc(time.time()))

    manager.on_report = stored


def _ask(manager: ScriptedManager, number: int) -> None:
    manager.generation = StoreGeneration(number=number, resend_from=utc(time.time() - 3600))
    _of_generation(number, manager)
    manager.announce()


def _ids(manager: ScriptedManager) -> list[str]:
    return [report.id for report in manager.reports()]


def test_asked_reports_are_sent_again_once(guard: GuardThread, manager: ScriptedManager) -> None:
    """The reports with a receipt go again, as they were; a repetition of the ask and an older one bring nothing."""
    _of_generation(1, manager)
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    guard.log.attack("198.51.100.9")
    eventually(lambda: guard.status()["keptReports"] == 2, "two reports with a receipt")
    before = {report.id: report for report in manager.reports()}
    _ask(manager, 5)
    eventually(lambda: len(_ids(manager)) == 4, "both reports again")
    assert {report.id: report for report in manager.reports()[2:]} == before
    eventually(lambda: not guard.status()["resending"], "receipts for them")
    _ask(manager, 5)
    _ask(manager, 4)
    _of_generation(5, manager)
    guard.log.attack("192.0.2.77")
    eventually(lambda: guard.status()["keptReports"] == 3, "a later report")
    assert len(_ids(manager)) == 5
    eventually(lambda: manager.heartbeats()[-1].receipt_mark == "mark-5", "a heartbeat with the newest mark")


def test_a_killed_guard_still_answers(guard_process: GuardProcess, manager: ScriptedManager) -> None:
    """A guard that is killed after it has heard the ask, before it has a receipt, sends the reports after its start."""
    _of_generation(1, manager)
    guard_process.start().ready()
    guard_process.log.attack("203.0.113.7")
    eventually(lambda: guard_process.status()["keptReports"] == 1, "a report with a receipt")
    manager.generation = StoreGeneration(number=2, resend_from=utc(time.time() - 3600))
    manager.on_report = lambda _report: None
    manager.announce()
    eventually(lambda: guard_process.status()["resending"] == 1, "the guard has heard the ask")
    guard_process.kill()
    _of_generation(2, manager)
    heard = len(_ids(manager))
    guard_process.start().ready()
    eventually(lambda: len(_ids(manager)) > heard, "the report again")
    eventually(lambda: guard_process.status()["resending"] == 0, "its receipt")
    assert len(set(_ids(manager))) == 1


def test_a_forged_ask_moves_nothing(guard: GuardThread, manager: ScriptedManager) -> None:
    """An ask that the manager's key has not signed is counted, and no report is sent again."""
    _of_generation(1, manager)
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    eventually(lambda: guard.status()["keptReports"] == 1, "a report with a receipt")
    keys = ManagerKeys(
        sign_key=manager.keyring.sign_public,
        seal_key=manager.keyring.seal_public,
        generation=StoreGeneration(number=3, resend_from=utc(0)),
    )
    stranger = ManagerKeyring(bytes(32)).sign_key
    forged = message_codes.with_signature(stranger, topics.MANAGER_KEYS.below_root(), keys.body())
    manager.say_raw(topics.MANAGER_KEYS, None, forged)
    eventually(lambda: guard.status()["ignored"].get("keys_forged"), "the forged keys are counted")
    guard.log.attack("198.51.100.9")
    eventually(lambda: guard.status()["keptReports"] == 2, "a later report")
    assert len(_ids(manager)) == 2
