"""An agent over HTTP heeds every answer: what must wait waits, what is refused is written down, nothing is dropped."""

import asyncio
import time
from collections.abc import Callable

from simulate.address import Address
from simulate.agent import Agent, Tally
from simulate.doors.door import keep_connected
from simulate.doors.http import HttpDoor
from simulate.doors.http_connection import HttpConnection
from simulate.identity import Identity
from simulate.ledger import Ledger
from simulate.outbox import Outbox
from simulate.schedule import detections
from tests.unit.simulate.plans import TOKEN, plan
from tests.unit.simulate.scripted_manager import ScriptedManager

NO = {"ok": False, "error": "no"}


def _conversation(script: Callable[[ScriptedManager], None], reports: int = 3) -> tuple[Agent, ScriptedManager]:
    """Have one agent report to a scripted manager until it has its word on every report; return both."""
    agent = Agent(0, Identity("sim-1-00000"), Outbox(30.0), Ledger(), Tally(), time.monotonic())

    async def converse() -> ScriptedManager:
        leaving = asyncio.Event()
        async with ScriptedManager() as manager:
            script(manager)
            connection = HttpConnection(Address("http", "127.0.0.1", manager.port), None)
            door = HttpDoor(
                connections=[connection],
                token=TOKEN,
                keep=lambda _identity: None,
                heartbeat_interval=None,
                policy_poll_interval=300.0,
                leaving=leaving,
            )
            for each in detections(plan(agents=1, threats=reports)):
                agent.detected(each)
            task = asyncio.create_task(keep_connected(agent, door, leaving, 0.01, 0.01))
            async with asyncio.timeout(20):
                while agent.ledger.waiting:  # noqa: ASYNC110 -- a look now and then, with a deadline
                    # the pause between two looks; the deadline above ends it
                    await asyncio.sleep(0.01)
                leaving.set()
                if agent.session is not None:
                    agent.session.sign_off()
                await task
            await door.close()
            return manager

    return agent, asyncio.run(converse())


def _batches(manager: ScriptedManager) -> list[int]:
    return [len(body["threats"]) for _, path, body in manager.asked if path.endswith("/events")]


def test_one_turn_of_the_lifecycle() -> None:
    """Registration, poll, heartbeat, reports in one request, farewell: in this order, and nothing else."""
    agent, manager = _conversation(lambda _manager: None)
    path = "/api/agents/ag-0000000000000001"
    assert [(method, path) for method, path, _ in manager.asked] == [
        ("POST", "/api/agents/register"),
        ("GET", "/api/policy/agent/ag-0000000000000001"),
        ("POST", f"{path}/heartbeat"),
        ("POST", f"{path}/events"),
        ("DELETE", path),
    ]
    assert (agent.tally.registered, agent.tally.receipts, agent.tally.reconnects) == (1, 1, 0)


def test_a_limit_defers() -> None:
    """Reports that were answered 429 go again after the time that the manager names, in the same session."""

    def script(manager: ScriptedManager) -> None:
        manager.answer("events", 429, NO, Retry_After="2")

    agent, manager = _conversation(script)
    assert _batches(manager) == [3, 3]
    assert agent.ledger.longest_pause(0.0) >= 2
    assert (agent.tally.deferred, agent.tally.reconnects) == (3, 0)


def test_a_manager_that_cannot_commit_is_asked_again() -> None:
    """After 503 all that waits goes again in a new session, whatever part of it was stored."""

    def script(manager: ScriptedManager) -> None:
        manager.answer("events", 503, NO)
        manager.answer("heartbeat", 503, NO)

    agent, manager = _conversation(script)
    assert _batches(manager) == [3, 3]
    assert agent.tally.reconnects == 2
    assert "answered 503: no" in agent.tally.last_error


def test_the_refused_report_is_found() -> None:
    """The report that a 400 names is refused with its sentence; the others go again and are stored."""

    def script(manager: ScriptedManager) -> None:
        manager.answer("events", 400, {"ok": False, "error": "threats.1: bad evidence"})

    agent, manager = _conversation(script)
    entries = list(agent.ledger.entries.values())
    assert [entry.refusal for entry in entries] == [None, "threats.1: bad evidence", None]
    assert [entry.receipted_at is None for entry in entries] == [False, True, False]
    assert _batches(manager) == [3, 2]


def test_a_refusal_that_names_nobody_is_halved() -> None:
    """Where no report is named, smaller requests find the one that is refused."""

    def script(manager: ScriptedManager) -> None:
        for _ in range(2):
            manager.answer("events", 409, NO)

    agent, manager = _conversation(script)
    assert _batches(manager)[:2] == [3, 1]
    assert [entry.refusal for entry in agent.ledger.entries.values()].count("no") == 1


def test_an_unknown_agent_registers_again() -> None:
    """After 404 it registers anew, and its reports go with it."""

    def script(manager: ScriptedManager) -> None:
        manager.answer("events", 404, NO)

    agent, manager = _conversation(script)
    assert agent.tally.registered == 2
    assert _batches(manager) == [3, 3]


def test_less_than_all_is_no_receipt() -> None:
    """An answer that does not say that all are stored settles nothing."""

    def script(manager: ScriptedManager) -> None:
        manager.answer("events", 201, {"ok": True, "data": {"accepted": 2}})

    agent, manager = _conversation(script)
    assert _batches(manager) == [3, 3]
    assert agent.tally.receipts == 1
