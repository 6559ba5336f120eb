"""Notifications of two managers on one database and one broker: whichever leads tells each event once."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.postgresql import Postgresql
from tests.support.processes import ManagerProcess
from tests.support.receivers import http_receiver, ids_in_file, syslog_stream
from tests.support.several_managers import DatabaseManagers, leads, stands_by, step_down
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.long("tests/unit/manager/notifications/test_worker.py"),
    pytest.mark.postgresql,
    pytest.mark.mosquitto,
]

CHANNELS = ("siem", "hook", "tcp")


class ToldManagers:
    """Two managers with the same channels, the receivers of these, and the events in the database.

    Args:
        home: for everything that they write.
        cluster: has their database.
        stack: ends them.
    """

    def __init__(self, home: Path, cluster: Postgresql, stack: ExitStack) -> None:
        address = cluster.create_empty()
        self._cluster, self._database = cluster, address.url.rsplit("/", 1)[1]
        hook, stream = stack.enter_context(http_receiver()), stack.enter_context(syslog_stream())
        log = home / "siem.jsonl"
        self.heard: dict[str, Callable[[], list[str]]] = {
            "siem": lambda: ids_in_file(log),
            "hook": hook.ids,
            "tcp": stream.ids,
        }
        managers = DatabaseManagers(home, address.url, stack.enter_context(Mosquitto()).url)
        stack.callback(managers.stop)
        self.first, self.second = managers.add(), managers.add()
        for manager in managers.all:
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
                """
            )
        self._agents = 0

    def expected(self) -> set[str]:
        """Return the ids of the stored events that the policy chose channels for."""
        rows = self._cluster.execute("SELECT sequence, at FROM event WHERE alerting IS NOT NULL", self._database)
        return {f"event-{sequence}-{round(at * 1000):x}" for sequence, at in rows}

    def register(self, manager: ManagerProcess, number: int) -> None:
        """Register agents at a manager: an event for each."""
        with manager.client() as client:
            for _ in range(number):
                self._agents += 1
                host = {"hostname": f"web-{self._agents}", "os": "Debian 12", "arch": "x64", "version": "1.0"}
                assert client.post("/api/agents/register", json=host).status_code == 201

    def each_told_once(self, manager: ManagerProcess) -> int:
        """Wait until every channel has heard of every event and a manager knows so; return the number of events."""

        def settled() -> bool:
            waits = [each for each in manager.get("/api/notifications") if each["behind"] or each["pending"]]
            return not waits and all(set(ids()) == self.expected() for ids in self.heard.values())

        eventually(settled, what="every channel has heard of every event")
        for name, ids in self.heard.items():
            assert {each: count for each, count in Counter(ids()).items() if count > 1} == {}, name
        return len(self.expected())


@pytest.fixture
def told(tmp_path: Path, postgresql_cluster: Postgresql) -> Iterator[ToldManagers]:
    with ExitStack() as stack:
        yield ToldManagers(tmp_path, postgresql_cluster, stack)


def test_each_event_is_told_once_over_a_fail_over_and_a_hand_over(told: ToldManagers) -> None:
    """Asked at either door; then the leader is killed, and its successor hands the lead over amid new events."""
    first, second = told.first, told.second
    first.start()
    leads(first)
    second.start()
    stands_by(second)
    second.request("PUT", "/api/policies/global", {"alerting": {"channels": CHANNELS, "minimumSeverity": "low"}})
    for manager in (first, second):
        told.register(manager, 3)
    before = told.each_told_once(second)
    assert before >= 6

    first.kill()
    leads(second)
    told.register(second, 3)
    first.start()
    stands_by(first)
    told.register(first, 3)
    between = told.each_told_once(second)
    assert between >= before + 6

    told.register(first, 10)
    step_down(second)
    leads(first)
    stands_by(second)
    told.register(second, 3)
    assert told.each_told_once(first) >= between + 13
