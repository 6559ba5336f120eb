"""The inbox: fair between commands and agents, and without memory of idle senders."""

from manager.domain.budget import Budget, TokenBucket, drop_full
from manager.engine.commands.http_agent_requests import RecordHeartbeat, StoreReports
from manager.engine.inbox import Command, Inbound, Inbox
from schemas import topics
from schemas.http_agents import HttpHeartbeat
from tests.support.engine import Bench

FIRST = "ag-0000000000000000"
PLENTY = Budget(1000.0, 1e9, 10.0)


def message(agent_id: str, payload: bytes = b"{}") -> Inbound:
    return Inbound(topics.THREATS, agent_id, topics.THREATS.below_root(agent_id), payload, 1)


def test_commands_leave_half_of_each_batch_to_the_agents() -> None:
    """However many commands wait, messages get every second place, and commands the rest when nothing else waits."""
    inbox = Inbox(PLENTY)
    for _ in range(100):
        inbox.submit(Command("request", lambda *_: None))
    for number in range(8):
        inbox.put(message(f"ag-{number:016x}"), 0.0)
    for _ in range(2):
        taken = inbox.take(8)
        assert [isinstance(item, Inbound) for item in taken] == [False] * 4 + [True] * 4
    assert all(isinstance(item, Command) for item in inbox.take(8))
    assert len(inbox) == 100 - 16


def test_messages_leave_a_place_in_each_batch_to_commands() -> None:
    """A fleet that fills every batch does not keep a command waiting."""
    inbox = Inbox(PLENTY)
    for number in range(100):
        inbox.put(message(f"ag-{number:016x}"), 0.0)
    inbox.submit(Command("request", lambda *_: None))
    assert isinstance(inbox.take(4)[0], Command)


def test_withdrawn_commands_take_no_place_in_a_batch() -> None:
    """A batch is full of commands that are carried out, although others before them were withdrawn."""
    inbox = Inbox(PLENTY)
    commands = [Command(number, lambda *_: None) for number in range(10)]
    for command in commands:
        inbox.submit(command)
    for command in commands[::2]:
        assert command.claim()
    taken = inbox.take(3)
    assert [item.request for item in taken if isinstance(item, Command)] == [1, 3, 5]
    assert not any(command.claim() for command in commands[:6])


def test_the_engine_forgets_idle_agents_and_receipts(bench: Bench) -> None:
    """Housekeeping calls what forgets: neither budgets nor times of receipts stay of an agent that went silent."""
    agent = bench.enroll("web-1")
    bench.receive(topics.THREATS, agent.agent_id, agent.threat(bench.wall))
    receipts = bench.engine._after_commit.receipts
    assert (agent.agent_id in bench.engine.inbox._budgets, agent.agent_id in receipts._last) == (True, True)
    bench.pass_time(200, step=5)
    assert (bench.engine.inbox._budgets, receipts._last) == ({}, {})


def test_token_buckets_of_idle_agents_are_forgotten() -> None:
    """After the length of a burst nothing is remembered of agents that sent, flooded and fell silent."""
    inbox = Inbox(Budget(1.0, 1e9, 10.0))
    for number in range(100):
        for _ in range(30):
            inbox.put(message(f"ag-{number:016x}"), 0.0)
    assert len(inbox._budgets) == len(inbox._excess_budgets) == 100
    inbox.forget_idle(9.0)
    assert len(inbox._budgets) == 100
    inbox.put(message(FIRST), 9.5)
    inbox.forget_idle(10.0)
    assert list(inbox._budgets) == [FIRST]
    inbox.forget_idle(20.0)
    assert not inbox._budgets
    assert not inbox._excess_budgets


def test_a_message_is_accounted_until_it_is_taken() -> None:
    """Bytes and lengths of the inbox are those of the messages that wait."""
    inbox = Inbox(PLENTY, batch_bytes=5)
    for number in range(3):
        inbox.put(message(f"ag-{number:016x}", b"1234"), 0.0)
    assert (len(inbox), inbox.bytes) == (3, 12)
    assert len(inbox.take(10)) == 2
    assert (len(inbox), inbox.bytes) == (1, 4)


def test_a_command_with_many_reports_fills_a_batch_by_itself() -> None:
    """100 requests of 1,000 reports each are 100 steps, not one of many seconds."""
    inbox = Inbox(PLENTY)
    reports = (object(),) * 1000
    for _ in range(3):
        inbox.submit(Command(StoreReports(FIRST, reports), lambda *_: None))  # type: ignore[arg-type]
    inbox.submit(Command("request", lambda *_: None))
    assert [len(inbox.take(500)) for _ in range(4)] == [1, 1, 1, 1]


def test_without_a_transaction_the_first_command_that_needs_one_stays_and_all_behind_it() -> None:
    """A command that arrives after the engine looked for one waits for the next batch, in its order."""
    inbox = Inbox(PLENTY)
    heartbeat = RecordHeartbeat(FIRST, HttpHeartbeat())
    inbox.submit(Command(heartbeat, lambda *_: None))
    assert not inbox.needs_transaction
    inbox.submit(Command("request", lambda *_: None))
    inbox.submit(Command(heartbeat, lambda *_: None))
    taken = inbox.take(8, has_transaction=False)
    assert [item.request for item in taken if isinstance(item, Command)] == [heartbeat]
    assert inbox.needs_transaction
    assert len(inbox.take(8)) == 2


def test_a_share_of_many_token_buckets_is_looked_at_in_each_call() -> None:
    """The full ones of it are dropped; one in debt goes behind the others and is kept however often it is looked at."""
    budget = Budget(10.0, 1e6, 1.0)
    buckets = {str(number): TokenBucket(budget, 0.0) for number in range(5_000)}
    buckets["0"].consume(1, 0.0, 100_000)
    drop_full(buckets, 0.0)
    assert len(buckets) == 3_001
    assert next(reversed(buckets)) == "0"
    for _ in range(3):
        drop_full(buckets, 0.0)
    assert list(buckets) == ["0"]


def test_each_agent_has_the_same_share_of_a_batchs_bytes() -> None:
    """Where large messages fill a batch, the first agent takes no more of it than the others."""
    inbox = Inbox(PLENTY, batch_bytes=4000)
    for number in range(8):
        for agent in "ab":
            inbox.put(message(f"ag-{agent * 16}", b'{"id":"%d"}' % number + bytes(990)), 0.0)
    taken = inbox.take(100)
    assert "".join(item.identifier[-1] for item in taken if isinstance(item, Inbound)) == "aabb"


def test_messages_that_all_fit_are_one_batch_in_the_order_of_each_agent() -> None:
    """A batch with room for all takes all and leaves no bytes; with less, each agent has the same share."""
    for limit, expected in ((5, "aaabb"), (4, "aabb"), (3, "aba"), (1, "a")):
        inbox = Inbox(PLENTY)
        for number, agent in enumerate("ababa"):
            inbox.put(message(f"ag-{agent * 16}", b'{"id":"%d"}' % number), 0.0)
        taken = [item for item in inbox.take(limit) if isinstance(item, Inbound)]
        assert "".join(item.identifier[-1] for item in taken) == expected
        assert [item.payload for item in taken if item.identifier[-1] == "a"] == sorted(
            item.payload for item in taken if item.identifier[-1] == "a"
        )
        assert (len(inbox), inbox.bytes) == (5 - limit, (5 - limit) * len(b'{"id":"0"}'))
        assert len(inbox.take(5)) == 5 - limit
        assert not len(inbox) + inbox.bytes


def test_messages_of_many_reports_fill_a_batch_by_their_reports() -> None:
    """Two messages of three reports do not fit where five reports do: the second waits for the next batch."""
    inbox = Inbox(PLENTY)
    for agent in "ab":
        reports = b",".join(b'{"id":"t-%d"}' % number for number in range(3))
        inbox.put(message(f"ag-{agent * 16}", b'{"reports":[%b]}' % reports), 0.0)
    assert [len(inbox.take(3)), len(inbox.take(5))] == [1, 1]
    assert not len(inbox) + inbox.bytes
