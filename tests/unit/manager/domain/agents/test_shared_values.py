"""Equal values of agents are one object, and what one agent makes up stays in no memory."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest

from manager.domain.agents.agent import StatedPolicy
from manager.domain.agents.condition import Condition
from manager.domain.agents.host import Host
from manager.domain.response.evidence_index import EvidenceIndex
from manager.storage import rows
from manager.storage.queries import agents
from manager.storage.queries.agent_statements import stating_agent
from schemas.decoding import decode
from schemas.fast_heartbeats import fast_heartbeat
from schemas.limits import MESSAGE_LIMIT
from schemas.presence import Enforced
from tests.support.engine import START
from tests.support.simulated import iso

STATEMENTS = 300
_HEARTBEAT = {
    "cpu": 1.0, "memory": 2.0, "eventsProcessed": 0, "mode": "protection", "uptime": 5.0, "sentAt": iso(START),
    "session": 1, "sequence": 1,
}  # fmt: skip


def _long(number: int, length: int) -> str:
    """Return a text that no other number has, of four bytes for each character in memory."""
    return f"\N{GRINNING FACE}{number} ".ljust(length, "x")


def _enforced(number: int, length: int = 512) -> dict[str, Any]:
    reasons = [{"value": _long(10 * number + each, length), "reason": "x" * length} for each in range(5)]
    return {"ineffective": 5, "reasons": reasons}


def _heartbeat(**members: Any) -> Any:
    return fast_heartbeat(json.dumps({**_HEARTBEAT, **members}, ensure_ascii=False).encode())


def _state_measures(number: int) -> Any:
    return Condition().enforcing(_heartbeat(enforced=_enforced(number)).enforced)


def _state_measures_slowly(number: int) -> Any:
    return Condition().enforcing(decode(Enforced, json.dumps(_enforced(10_000 + number)).encode(), MESSAGE_LIMIT))


def _state_digest(number: int) -> Any:
    return _heartbeat(policyDigest=_long(number, 12_000))


def _state_error(number: int) -> Any:
    return StatedPolicy(1, "a" * 64, "failed", _long(number, 1024)).shared()


def _state_tags(number: int) -> Any:
    return Host.of("web-01", "Debian 12", "x64", "1.0", reported_tags=tuple(_long(number, 60 + n) for n in range(32)))


def _state_version(number: int) -> Any:
    return _state_tags(0).changed(version=_long(number, 256))


def _read_measures(number: int) -> Any:
    return rows._measures(json.dumps(_enforced(20_000 + number)))


def _read_addresses(number: int) -> Any:
    return rows._texts(json.dumps([_long(number, 64) for _ in range(32)]))


def _report_evidence(number: int) -> Any:
    evidence = {
        "filePath": "/bin/sh",
        "fileHash": _long(number, 5_000),
        "sourceIp": _long(number, 5_000),
        "lastLogin": 1,
    }
    return EvidenceIndex().record("default", None, "ag-1", evidence, 1.0)


def _read_record(number: int) -> Any:
    columns = ("enforced",)
    with patch.object(agents, "record_of", dict):
        return agents._shared_record(columns, (json.dumps(_enforced(40_000 + number)),))


def _read_statement(number: int) -> Any:
    row = dict.fromkeys(("agent_id", "hostname", "policy_state", "door", "enforcement", "mode"), "")
    return stating_agent(
        {**row, "policy_version": 1, "blocklist_sequence": 1, "enforced": json.dumps(_enforced(30_000 + number))}
    )


@pytest.mark.parametrize(
    "state",
    [
        _state_measures, _state_measures_slowly, _state_digest, _state_error, _state_tags, _state_version,
        _read_measures, _read_addresses, _read_record, _report_evidence, _read_statement,
    ],
)  # fmt: skip
def test_long_texts_of_an_agent_leave_memory_with_their_message(state: Callable[[int], Any]) -> None:
    state(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1, STATEMENTS):
            state(number)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert kept < 500 * STATEMENTS


def test_equal_values_are_one_object() -> None:
    def state(policy: int) -> tuple[Any, ...]:
        enforced = _enforced(policy, length=50)
        measures = (
            Condition().enforcing(_heartbeat(enforced=enforced).enforced),
            Condition().enforcing(decode(Enforced, json.dumps(enforced).encode(), MESSAGE_LIMIT)),
        )
        traits = Host.of("web-01", "Debian 12", "x64", "1.0", tags=(f"rack-{policy}",)).traits
        error = StatedPolicy(policy, "a" * 64, "failed", f"no room for {policy}").shared()
        return *measures, *(each.enforced for each in measures), traits, error

    one, other = state(3), state(3)

    assert all(each is equal for each, equal in zip(one, other, strict=True))


def test_a_condition_with_long_reasons_stays_the_same_object_while_its_agent_repeats_it() -> None:
    before = _state_measures(1)

    assert before.enforcing(_heartbeat(enforced=_enforced(1)).enforced) is before
