"""Forged, old, foreign or truncated messages of a malicious broker are not accepted.

Each case offers one kind of tampering with one kind of message, behind it a message that is refused for sure, and waits
until that one is counted: what came before it has then been judged. Honest messages pass all the while.
"""

from collections.abc import Iterator

import pytest

from schemas import topics
from schemas.topics import Topic
from tests.faults.hostile_broker.fleet import HostileFleet
from tests.faults.hostile_broker.past import OTHER, STRANGER, VICTIM
from tests.integration.guard.guard_thread import GuardThread
from tests.support.hostile.lies import lie
from tests.support.hostile.packets import Message
from tests.support.hostile.tampering import OFFERS, Known, Withheld
from tests.support.waiting import eventually

TO_MANAGER = {
    topics.REGISTRATION: "registration",
    topics.PRESENCE: "presence",
    topics.HEARTBEAT: "heartbeat",
    topics.THREATS: "threats",
    topics.POLICY_APPLIED: "policy_applied",
}
"""What the manager reads, with the counter of its messages."""

TO_GUARD = {
    topics.PRESENCE: "presence_forged",
    topics.RECEIPTS: "receipt_forged",
    topics.POLICY: "policy_forged",
    topics.BLOCKLIST: "blocklist_forged",
    topics.BLOCKLIST_CHANGES: "blocklist_forged",
}
"""What guards read, with what a forged one is counted under."""

TRUE = ("replay", "reorder")
"""The tamperings that offer nothing but what was truly said, in that place."""

_MOST = 20


def offered(fleet: HostileFleet, row: Topic, guard: GuardThread) -> tuple[str, Known]:
    """Return the topic at which a guard is aimed, and what the broker knows of it."""
    status = guard.status()
    if row is topics.REGISTRATION:
        newest = fleet.registrations(guard.hostname)[-1].topic
        status |= {"hostname": guard.hostname, "clientId": newest.rpartition("/")[2]}
        own, others = fleet.registrations(guard.hostname), fleet.registrations(OTHER)
        return newest, Known(lie(row, status["clientId"], status), _payloads(own), _payloads(others))
    mine, theirs = (each.status() for each in (guard, fleet.guards[OTHER]))
    if row.placeholder == "organizationId":
        theirs = fleet.guards[VICTIM].status() if guard.hostname == STRANGER else fleet.guards[STRANGER].status()
    kind = str(row.placeholder)
    status["outbox"] = fleet.outbox(guard)
    own, others = fleet.heard(row, mine[kind]), fleet.heard(row, theirs[kind])
    return row.address(mine[kind]), Known(lie(row, mine[kind], status), _payloads(own), _payloads(others))


def _payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages[-_MOST:]]


def refused_registrations(known: Known, offers: list[bytes]) -> int:
    """Return how many of these are not the newest registration, byte for byte."""
    return sum(payload != known.own[-1] for payload in offers)


@pytest.mark.parametrize("tampering", OFFERS)
@pytest.mark.parametrize("row", TO_MANAGER, ids=lambda row: row.name)
def test_the_manager_stores_nothing_false(past: HostileFleet, row: Topic, tampering: str) -> None:
    """Tampered messages change nothing at the manager; each forgery is a dead letter, and counted."""
    topic, known = offered(past, row, past.guards[VICTIM])
    offers, before, counted = OFFERS[tampering](known), past.facts(), past.counters()
    assert offers
    if row is topics.REGISTRATION and tampering in TRUE:
        own = past.registrations(VICTIM)[-_MOST:]
        topic_of = {message.payload: message.topic for message in own}
        messages = [Message(topic_of[payload], payload) for payload in offers]
    else:
        messages = [Message(topic, payload, row.qos, row.retained) for payload in offers]
    past.broker.publish(*messages, Message(topic, b"the last one", row.qos))
    refused = 0 if tampering in TRUE else len(offers)
    if row is topics.REGISTRATION:
        refused = refused_registrations(known, offers)
    expected = counted.get("dead_letters", 0) + refused + 1
    eventually(lambda: past.count("dead_letters") >= expected, what="the last one refused")
    assert past.count("dead_letters") == expected
    assert past.count(TO_MANAGER[row]) >= counted[TO_MANAGER[row]] + len(offers) + 1
    assert past.facts() == before


@pytest.mark.parametrize("tampering", OFFERS)
@pytest.mark.parametrize("row", TO_GUARD, ids=lambda row: row.name)
def test_a_guard_obeys_nothing_false(past: HostileFleet, row: Topic, tampering: str) -> None:
    """Tampered messages change neither a guard's policy nor its outbox; each forgery is counted."""
    swapped_list = tampering == "swap" and row.placeholder == "organizationId"
    guard = past.guards[STRANGER if swapped_list else VICTIM]
    topic, known = offered(past, row, guard)
    offers, before, reason = OFFERS[tampering](known), past.facts(), TO_GUARD[row]
    assert offers
    counted = guard.status()["ignored"].get(reason, 0)
    messages = [Message(topic, payload, row.qos) for payload in offers]
    past.broker.publish(*messages, Message(topic, b"the last one", row.qos))
    expected = counted + 1 + (0 if tampering in TRUE else len(offers))
    eventually(lambda: guard.status()["ignored"].get(reason, 0) >= expected, what="the last one refused")
    assert guard.status()["ignored"][reason] == expected
    assert past.facts() == before


@pytest.fixture
def unstored(past: HostileFleet, tampering: str) -> Iterator[str]:
    """A report of the victim that the broker withholds from the manager; it is stored when the test is over."""
    guard, attacker = past.guards[VICTIM], f"198.51.100.{list(OFFERS).index(tampering)}"
    withheld = Withheld([topics.THREATS], guard.status()["agentId"])
    with past.broker.tampering(withheld):
        guard.log.attack(attacker)
        eventually(lambda: withheld.kept, what="a report in the broker's hands")
        (report_id,) = past.outbox(guard)
        yield report_id
    eventually(lambda: past.outbox(guard) == [], what="the receipt of a report that was sent again")
    assert attacker in past.stored(VICTIM)


@pytest.mark.parametrize("tampering", OFFERS)
def test_no_receipt_but_its_own_makes_a_guard_drop_a_report(past: HostileFleet, unstored: str, tampering: str) -> None:
    """A report that is not stored stays in the outbox, whatever receipts a broker makes, keeps, changes or mixes up."""
    guard = past.guards[VICTIM]
    topic, known = offered(past, topics.RECEIPTS, guard)
    assert unstored.encode() in known.lie
    others = [payload.replace(_id_in(payload), unstored.encode()) for payload in known.own]
    counted = guard.status()["ignored"].get("receipt_forged", 0)
    offers = [*OFFERS[tampering](known), *others]
    past.broker.publish(*(Message(topic, payload) for payload in [*offers, b"the last one"]))
    forged = len(offers) + 1 if tampering not in TRUE else len(others) + 1
    eventually(lambda: guard.status()["ignored"].get("receipt_forged", 0) >= counted + forged, what="all judged")
    assert past.outbox(guard) == [unstored]
    assert guard.status()["deadLetters"] == 0


def _id_in(receipt: bytes) -> bytes:
    return receipt.partition(b'"stored":["')[2].partition(b'"')[0]
