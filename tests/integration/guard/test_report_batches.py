"""Several reports in one message, where the manager says that it takes them."""

import pytest

from schemas import message_codes, topics
from schemas.presence import ManagerKeys
from schemas.report_batches import FEATURE, is_batch
from tests.integration.guard.guard_thread import GuardThread
from tests.integration.guard.scripted_manager import ScriptedManager, eventually
from tests.support.mosquitto import Mosquitto


def _batches(manager: ScriptedManager) -> list[bytes]:
    threats = [heard.payload for heard in list(manager.heard) if heard.row is topics.THREATS]
    return [payload for payload in threats if is_batch(payload)]


def _away_and_back(guard: GuardThread, broker: Mosquitto, attackers: int) -> None:
    """Let threats be found while the broker is away, and wait until all of them have a receipt."""
    broker.kill()
    for number in range(attackers):
        guard.log.attack(f"198.51.100.{number}")
    eventually(lambda: guard.status()["outboxSize"] == attackers, "reports that wait")
    broker.start()
    eventually(lambda: guard.status()["outboxSize"] == 0, "an empty outbox")


@pytest.mark.parametrize("features", [[FEATURE], [], ["threats.later"]], ids=["listed", "nothing", "another"])
def test_reports_that_wait_go_together_if_the_manager_lists_it(
    guard: GuardThread, manager: ScriptedManager, broker: Mosquitto, features: list[str]
) -> None:
    """After an outage: one message of all to a manager that lists batches, one for each to any other; none is lost."""
    manager.accepts = features
    manager.announce().wait_for_publish()
    guard.start().ready()
    guard.log.attack("203.0.113.7")
    eventually(lambda: guard.status()["outboxSize"] == 0 and manager.reports(), "the first report")
    _away_and_back(guard, broker, attackers=12)
    addresses = {report.threat.evidence["sourceIp"] for report in manager.reports()}
    assert addresses == {"203.0.113.7"} | {f"198.51.100.{number}" for number in range(12)}
    assert bool(_batches(manager)) is (features == [FEATURE])


def test_forged_keys_change_nothing(guard: GuardThread, manager: ScriptedManager, broker: Mosquitto) -> None:
    """Keys without the pinned key's signature are counted, whatever they list."""
    guard.start().ready()
    keys = ManagerKeys(sign_key=manager.keyring.sign_public, seal_key=manager.keyring.seal_public, accepts=[FEATURE])
    forged = message_codes.with_signature(manager.keyring.sign_key, "manager/presence", keys.body())
    manager.say_raw(topics.MANAGER_KEYS, None, forged)
    eventually(lambda: guard.status()["ignored"].get("keys_forged"), "forged keys")
    _away_and_back(guard, broker, attackers=5)
    assert _batches(manager) == []
