"""What a guard asks over HTTP, in which order, and what it makes of the answers, on a virtual clock."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.http_exchange import Answer, Request, Task
from agent.link.link import (
    Closed,
    Delivered,
    Event,
    GenerationReceived,
    Opened,
    PolicyReceived,
    ReceiptReceived,
    RegistrationAnswered,
    Subscribed,
)
from agent.link.request_queue import MOST_REPORTS, REPORTS_EVERY, RequestQueue
from schemas.generations import StoreGeneration
from schemas.limits import BODY_LIMIT
from schemas.threats import Receipt
from schemas.topics import HEARTBEAT, POLICY, POLICY_APPLIED, PRESENCE, RECEIPTS, REGISTRATION, THREATS

AGENT = "ag-00000000000000aa"
WALL = 1_700_000_000.0


class Exchange:
    """A queue of requests, and a manager that answers what a test says."""

    def __init__(self, agent_id: str = AGENT, version: int | None = 3) -> None:
        self.version = version
        self.requests = RequestQueue(agent_id, lambda: self.version)
        self.now = 100.0

    def ask(self) -> Request:
        request = self.requests.next(self.now, WALL)
        assert request is not None
        return request

    def idle(self) -> bool:
        return self.requests.next(self.now, WALL) is None

    def say(self, status: int, data: Any = None, *, error: str = "", retry_after: float = 0.0) -> list[Event]:
        """Answer what is asked now."""
        body = {"ok": True, "data": data} if data is not None else {"ok": False, "error": error}
        content = b"" if status == 304 else json.dumps(body).encode()
        return self.requests.answered(self.ask(), Answer(status, content, retry_after, "192.0.2.1"), self.now)

    def open(self) -> "Exchange":
        self.say(304)
        return self

    def report(self, *ids: str, size: int = 0) -> None:
        for report_id in ids:
            self.requests.publish(THREATS, json.dumps({"id": report_id, "mac": "x", "pad": "p" * size}).encode())

    def reports(self) -> list[str]:
        """Return which reports are asked for now, by the request's own body."""
        return [report["id"] for report in json.loads(self.ask().body or b"")["threats"]]


def heartbeat(**fields: Any) -> bytes:
    return json.dumps({"cpu": 1.0, "session": 4, "sequence": 9, "mac": "x", **fields}).encode()


def test_a_session_opens_with_a_poll_that_names_the_version() -> None:
    """The first request is the policy's, and its answer opens the link, with the address that gave it."""
    exchange = Exchange(version=7)
    assert exchange.requests.events() == []
    assert exchange.ask() == Request(Task.POLICY, "GET", f"/api/policy/agent/{AGENT}?version=7")
    assert exchange.say(304) == [Opened("192.0.2.1")]
    assert exchange.idle()


def test_a_guard_without_a_policy_names_no_version() -> None:
    """It asks for whatever there is, and takes what it gets."""
    exchange = Exchange(version=None)
    assert exchange.ask().path == f"/api/policy/agent/{AGENT}"
    assert exchange.say(200, {"version": 1}) == [Opened("192.0.2.1"), PolicyReceived({"version": 1})]


def test_the_first_subscription_is_answered_by_the_opening_poll() -> None:
    """Only later ones ask for the policy again, and all are confirmed at once."""
    exchange = Exchange().open()
    exchange.requests.subscribe((PRESENCE, POLICY))
    assert exchange.requests.events() == [Subscribed((PRESENCE, POLICY))]
    assert exchange.idle()
    exchange.requests.subscribe((POLICY,))
    assert exchange.ask().task is Task.POLICY


def test_a_subscription_to_what_http_has_not_asks_nothing() -> None:
    """Receipts, presence and the blocklist have no request of their own."""
    exchange = Exchange().open()
    exchange.requests.subscribe((POLICY,))
    exchange.requests.subscribe((RECEIPTS, PRESENCE))
    assert exchange.idle()


def test_heartbeats_come_first_and_the_newest_counts() -> None:
    """A heartbeat goes before polls and reports, without what belongs to a broker, and an older one is not sent."""
    exchange = Exchange().open()
    exchange.report("a")
    exchange.requests.publish(HEARTBEAT, heartbeat(cpu=1.0))
    exchange.requests.publish(HEARTBEAT, heartbeat(cpu=2.0))
    request = exchange.ask()
    assert (request.method, request.path) == ("POST", f"/api/agents/{AGENT}/heartbeat")
    assert json.loads(request.body or b"") == {"cpu": 2.0}
    assert exchange.say(200, {"pendingPolicies": []}) == []
    assert exchange.reports() == ["a"]


@pytest.mark.parametrize("pending", [[{"version": 4}], 1])
def test_a_pending_policy_is_polled_at_once(pending: object) -> None:
    """A heartbeat's answer that announces one is followed by a poll."""
    exchange = Exchange().open()
    exchange.requests.publish(HEARTBEAT, heartbeat())
    exchange.say(200, {"pendingPolicies": pending})
    assert exchange.ask().task is Task.POLICY
    assert exchange.say(200, {"version": 4}) == [PolicyReceived({"version": 4})]
    assert exchange.idle()


def test_the_logins_of_unsent_heartbeats_go_with_the_next_ones() -> None:
    """While a manager is away no login is lost with the heartbeats that it did not take: the newest go first."""
    exchange = Exchange().open()
    for number in range(40):
        logins = [_login(f"user-{each}") for each in (number, number + 1)]
        exchange.requests.publish(HEARTBEAT, heartbeat(logins=logins))
    told = []
    for _ in range(3):
        told += [each["user"] for each in json.loads(exchange.ask().body or b"").get("logins", [])]
        exchange.say(200, {})
        exchange.requests.publish(HEARTBEAT, heartbeat(logins=[]))
    assert told[:16] == [f"user-{each}" for each in range(25, 41)]
    assert sorted(told) == sorted(f"user-{each}" for each in range(41))
    assert not json.loads(exchange.ask().body or b"").get("logins")


def test_logins_of_a_heartbeat_that_was_replaced_while_it_was_answered_are_told_once() -> None:
    """The answer settles what the request carried, and not what has come since."""
    exchange = Exchange().open()
    exchange.requests.publish(HEARTBEAT, heartbeat(logins=[_login("first")]))
    request = exchange.ask()
    exchange.requests.publish(HEARTBEAT, heartbeat(logins=[_login("second")]))
    body = json.dumps({"ok": True, "data": {}}).encode()
    exchange.requests.answered(request, Answer(200, body), exchange.now)
    assert [each["user"] for each in json.loads(exchange.ask().body or b"")["logins"]] == ["first", "second"]
    exchange.say(200, {})
    exchange.requests.publish(HEARTBEAT, heartbeat())
    assert "logins" not in json.loads(exchange.ask().body or b"")


def _login(user: str) -> dict[str, str]:
    return {"sourceIp": "203.0.113.7", "user": user, "at": "2026-11-29T08:00:00Z"}


def test_heartbeats_say_why_a_policy_is_in_force_in_part() -> None:
    """Over HTTP an acknowledgement has no request of its own; its error goes with each heartbeat until it is gone."""
    exchange = Exchange().open()
    for applied, expected in [({"version": 4, "error": "rules: no"}, {"policyError": "rules: no"}), ({}, {})]:
        exchange.requests.publish(POLICY_APPLIED, json.dumps(applied).encode())
        exchange.requests.publish(HEARTBEAT, heartbeat())
        assert json.loads(exchange.ask().body or b"") == {"cpu": 1.0} | expected
        exchange.say(200, {})


def test_reports_gather_and_leave_when_all_are_stored() -> None:
    """All that wait go in one request with the time of sending; the answer's number settles them."""
    exchange = Exchange().open()
    exchange.report("a", "b", "a")
    request = exchange.ask()
    assert json.loads(request.body or b"")["sentAt"] == "2023-11-14T22:13:20.000Z"
    assert exchange.reports() == ["a", "b"]
    assert exchange.say(201, {"accepted": 2}) == [ReceiptReceived(Receipt(stored=["a", "b"]))]
    assert exchange.idle()


def test_reports_that_are_sent_again_wait_for_the_others() -> None:
    """Reports that the store lost go after all others, in requests of their own that say so."""
    exchange = Exchange().open()
    again = {"reports": [{"id": "x"}, {"id": "y"}], "resent": True, "mac": "x"}
    exchange.requests.publish(THREATS, json.dumps(again).encode())
    exchange.report("a")
    assert (exchange.reports(), "resent" in json.loads(exchange.ask().body or b"")) == (["a"], False)
    exchange.say(201, {"accepted": 1})
    exchange.now += REPORTS_EVERY
    assert (exchange.reports(), json.loads(exchange.ask().body or b"")["resent"]) == (["x", "y"], True)
    assert exchange.say(201, {"accepted": 2}) == [ReceiptReceived(Receipt(stored=["x", "y"]))]
    assert exchange.idle()


@pytest.mark.parametrize(
    ("stated", "members"),
    [
        ({"generation": 7, "mark": "7.a.1"}, {"generation": 7, "mark": "7.a.1"}),
        ({"generation": "7", "mark": "7.a.1"}, {}),
        ({"generation": 7, "mark": "no mark"}, {}),
        ({}, {}),
    ],
)
def test_a_receipt_has_what_the_answer_says_of_the_store(stated: dict[str, Any], members: dict[str, Any]) -> None:
    """Generation and mark of an answer are the receipt's; values that are none settle the reports all the same."""
    exchange = Exchange().open()
    exchange.report("a")
    assert exchange.say(201, {"accepted": 1, **stated}) == [ReceiptReceived(Receipt(stored=["a"], **members))]


def test_the_generation_of_the_store_comes_with_the_answer_to_a_heartbeat() -> None:
    """The answer's member is passed on; anything else in its place is nothing."""
    exchange = Exchange().open()
    told = []
    for stated in ({"number": 3, "resendFrom": "2026-01-01T00:00:00Z"}, {"number": 0}, 5, None):
        exchange.requests.publish(HEARTBEAT, heartbeat())
        told.append(exchange.say(200, {"storeGeneration": stated}))
    asked = StoreGeneration(number=3, resend_from=datetime(2026, 1, 1, tzinfo=UTC))
    assert told == [[GenerationReceived(asked)], [], [], []]


def test_a_burst_stays_within_what_a_manager_takes_in_a_minute() -> None:
    """The first report goes at once; those that follow wait, so that heartbeats always find room."""
    exchange = Exchange().open()
    exchange.report("a")
    exchange.say(200, {"accepted": 1})
    exchange.report("b", "c")
    assert exchange.idle()
    assert exchange.requests.wait(exchange.now) == REPORTS_EVERY
    exchange.now += REPORTS_EVERY
    assert exchange.reports() == ["b", "c"]
    assert 60 / REPORTS_EVERY <= 50


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>welcome to the hotel</html>"), (200, b'{"ok":true,"data":{"accepted":1}}'), (204, b""), (302, b"")],
)
def test_only_a_managers_word_empties_the_outbox(status: int, body: bytes) -> None:
    """An answer that does not say that all are stored ends the link, and settles nothing."""
    exchange = Exchange().open()
    exchange.report("a", "b")
    (event,) = exchange.requests.answered(exchange.ask(), Answer(status, body), exchange.now)
    assert isinstance(event, Closed)
    assert not event.unauthorized


@pytest.mark.parametrize("status", [400, 409])
def test_a_report_that_is_named_as_bad_is_refused_alone(status: int) -> None:
    """The named one is refused with the manager's sentence, and the others go again."""
    exchange = Exchange().open()
    exchange.report("a", "b", "c")
    (event,) = exchange.say(status, error="threats.1.threat.type: too long")
    assert isinstance(event, ReceiptReceived)
    assert [(refusal.id, refusal.reason) for refusal in event.receipt.refused] == [
        ("b", "threats.1.threat.type: too long")
    ]
    exchange.now += REPORTS_EVERY
    assert exchange.reports() == ["a", "c"]


@given(st.integers(1, 40), st.data())
def test_a_report_that_nobody_names_is_found_out(count: int, data: st.DataObject) -> None:
    """Whatever is bad among however many, with refusals that name nothing: just that is refused, the rest is stored."""
    ids = [f"t{number}" for number in range(count)]
    bad = set(data.draw(st.lists(st.sampled_from(ids), unique=True)))
    exchange = Exchange().open()
    exchange.report(*ids)
    stored: list[str] = []
    refused: list[str] = []
    for _ in range(20 * count):
        exchange.now += REPORTS_EVERY
        if exchange.idle():
            break
        asked = exchange.reports()
        events = (
            exchange.say(413, error="too much") if bad & set(asked) else exchange.say(200, {"accepted": len(asked)})
        )
        for event in events:
            assert isinstance(event, ReceiptReceived)
            stored += event.receipt.stored
            refused += [refusal.id for refusal in event.receipt.refused]
    assert (sorted(stored), sorted(refused)) == (sorted(set(ids) - bad), sorted(bad))


def test_a_request_stays_within_the_limits() -> None:
    """No body is larger than a manager takes, and none has more reports."""
    exchange = Exchange().open()
    exchange.report(*(f"t{number}" for number in range(7)), size=200_000)
    assert len(exchange.ask().body or b"") <= BODY_LIMIT
    assert len(exchange.reports()) == 5
    many = Exchange().open()
    many.report(*(f"t{number}" for number in range(MOST_REPORTS + 1)))
    assert len(many.reports()) == MOST_REPORTS


def test_too_many_requests_are_waited_out() -> None:
    """After 429 nothing is asked before its time, nothing is lost, and the newest heartbeat goes first."""
    exchange = Exchange().open()
    exchange.requests.publish(HEARTBEAT, heartbeat(cpu=1.0))
    assert exchange.say(429, error="slowly", retry_after=17) == []
    exchange.report("a")
    exchange.requests.publish(HEARTBEAT, heartbeat(cpu=2.0))
    assert exchange.requests.wait(exchange.now) == 17
    exchange.now += 16.9
    assert exchange.idle()
    exchange.now += 0.1
    assert json.loads(exchange.ask().body or b"") == {"cpu": 2.0}
    exchange.say(200, {})
    assert exchange.reports() == ["a"]


@pytest.mark.parametrize("agent_id", ["", AGENT])
def test_too_many_requests_before_the_link_is_open_end_it(agent_id: str) -> None:
    """Whoever dials next knows how long to wait."""
    exchange = Exchange(agent_id)
    if not agent_id:
        assert exchange.requests.events() == [Opened()]
        exchange.requests.publish(REGISTRATION, b"{}")
    (event,) = exchange.say(429, error="slowly", retry_after=17)
    assert isinstance(event, Closed)
    assert (event.retry_after, event.unauthorized) == (17, False)


def test_a_hold_is_never_shorter_than_a_moment_nor_longer_than_a_quarter_of_an_hour() -> None:
    """A manager that says nothing of the time is not asked at once again; one that says a day is asked before."""
    for said, expected in [(0, 1), (86_400, 900)]:
        exchange = Exchange().open()
        exchange.report("a")
        exchange.say(429, retry_after=said)
        assert exchange.requests.wait(exchange.now) == expected


def test_a_store_that_cannot_commit_ends_the_link() -> None:
    """503 settles nothing, says how long to wait, and is no reason to register again."""
    exchange = Exchange().open()
    exchange.report("a")
    (event,) = exchange.say(503, error="the store cannot commit", retry_after=5)
    assert event == Closed("a report was answered 503: the store cannot commit", retry_after=5)


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("task", list(Task)[1:4])
def test_a_manager_that_does_not_know_the_guard_ends_the_link(status: int, task: Task) -> None:
    """Removed, or with a token that is not good any more, the guard learns that from any request."""
    exchange = Exchange().open()
    match task:
        case Task.HEARTBEAT:
            exchange.requests.publish(HEARTBEAT, heartbeat())
        case Task.REPORTS:
            exchange.report("a")
        case Task.POLICY:
            exchange.requests.subscribe((POLICY,))
            exchange.requests.subscribe((POLICY,))
    assert exchange.ask().task is task
    (event,) = exchange.say(status, error="Unauthorized")
    assert isinstance(event, Closed)
    assert event.unauthorized


def test_the_birth_is_taken_and_the_sign_off_is_the_last_request() -> None:
    """`online` was said by opening the link; `offline` goes before all that waits, whatever is on hold, and ends it."""
    exchange = Exchange().open()
    assert exchange.requests.publish(PRESENCE, b'{"state":"online"}') == 1
    assert exchange.requests.events() == [Delivered(1)]
    exchange.report("a")
    exchange.say(429, retry_after=60)
    exchange.requests.publish(HEARTBEAT, heartbeat())
    number = exchange.requests.publish(PRESENCE, b'{"state":"offline"}')
    assert exchange.ask() == Request(Task.FAREWELL, "DELETE", f"/api/agents/{AGENT}")
    assert exchange.say(404) == [Delivered(number)]
    assert exchange.idle()
    assert exchange.requests.wait(exchange.now + 1_000) is None


def test_a_registration_is_answered_as_it_is() -> None:
    """Its link is open from the beginning, and what the manager says is for the registration to read."""
    exchange = Exchange("")
    assert exchange.requests.events() == [Opened()]
    assert exchange.idle()
    exchange.requests.publish(REGISTRATION, b'{"hostname":"h"}')
    assert exchange.ask() == Request(Task.REGISTRATION, "POST", "/api/agents/register", b'{"hostname":"h"}')
    (event,) = exchange.say(409, error="taken")
    assert event == RegistrationAnswered(409, b'{"ok": false, "error": "taken"}')
    assert exchange.idle()


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda it: json.dumps(it).encode()))
def test_no_answer_whatever_it_says_breaks_the_link(body: bytes) -> None:
    """Any bytes under any status are either understood or end the link in order."""
    for status in (200, 201, 400, 404, 429, 500):
        exchange = Exchange().open()
        exchange.requests.publish(HEARTBEAT, heartbeat())
        exchange.report("a")
        events = exchange.requests.answered(exchange.ask(), Answer(status, body), exchange.now)
        assert all(isinstance(event, Closed) for event in events)
