"""The rules by which a guard takes a policy, without a broker."""

import json
from collections import Counter
from typing import Any

import pytest

from agent.clock import Clock
from agent.connection.identity import Enrolled
from agent.policy.policy_store import PolicyStore
from agent.respond.desired_measures import Effective
from agent.storage.database import Database
from schemas import message_codes
from schemas.keys import ManagerKeyring, version_statement
from schemas.policy import default_sections, digest_of
from schemas.presence import PolicyState
from schemas.topics import POLICY

AGENT = "ag-00000000000000aa"
KEYRING = ManagerKeyring(bytes(range(32)))
ENROLLED = Enrolled(AGENT, "default", KEYRING.sign_public)


def signed(version: int, agent_id: str = AGENT, digest: str | None = None, **sections: Any) -> bytes:
    document = default_sections() | sections
    named = digest or digest_of(document)
    head = {
        "version": version,
        "digest": named,
        "updatedAt": "2026-01-01T00:00:00Z",
        "scope": "agent",
        "agentId": agent_id,
        "versionProof": message_codes.to_base64url(KEYRING.sign_key.sign(version_statement(agent_id, version, named))),
    }
    body = json.dumps(head | document).encode()
    return message_codes.with_signature(KEYRING.sign_key, POLICY.below_root(AGENT), body)


class Enforcer:
    def __init__(self) -> None:
        self.obeyed: list[Effective] = []
        self.errors: list[str] = []

    def __call__(self, effective: Effective) -> list[str]:
        self.obeyed.append(effective)
        return self.errors


@pytest.fixture
def ignored() -> Counter[str]:
    return Counter()


@pytest.fixture
def enforcer() -> Enforcer:
    return Enforcer()


@pytest.fixture
def keeper(database: Database, enforcer: Enforcer, ignored: Counter[str]) -> PolicyStore:
    fresh = PolicyStore(database, Clock(), enforcer, ignored)
    fresh.pin(ENROLLED)
    return fresh


def test_versions_only_rise(keeper: PolicyStore, ignored: Counter[str]) -> None:
    """An older policy is ignored, an equal one is acknowledged again, an equal version of another digest is not."""
    answers = [keeper.receive(signed(5)), keeper.receive(signed(4)), keeper.receive(signed(5))]
    other = keeper.receive(signed(5, thresholds={"autoRespond": 1}))
    assert [answer and answer.version for answer in answers] == [5, None, 5]
    assert other is None
    assert ignored == {"policy_outdated": 2}


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (signed(5)[:-3] + b'A"}', "policy_forged"),
        (signed(5, agent_id="ag-00000000000000bb"), "policy_of_another_agent"),
        (signed(5, digest="0" * 64), "policy_digest_wrong"),
        (
            message_codes.with_signature(KEYRING.sign_key, POLICY.below_root(AGENT), b'{"version":1}'),
            "policy_unreadable",
        ),
        (
            message_codes.with_signature(KEYRING.sign_key, POLICY.below_root("ag-00000000000000bb"), b"{}"),
            "policy_forged",
        ),
    ],
)
def test_what_is_not_rightly_the_managers_changes_nothing(
    keeper: PolicyStore, enforcer: Enforcer, ignored: Counter[str], payload: bytes, reason: str
) -> None:
    """Signature, agentId, digest and proof all have to be right; what is not is counted by its reason."""
    before = len(enforcer.obeyed)
    assert keeper.receive(payload) is None
    assert ignored == {reason: 1}
    assert (keeper.in_force, len(enforcer.obeyed)) == (None, before)


def test_a_bad_section_leaves_the_others_in_force(keeper: PolicyStore, enforcer: Enforcer) -> None:
    """A section that cannot be read is reported `partial` by name, keeps its last good value, and delays no other."""
    keeper.receive(signed(1, thresholds={"autoRespond": 70}))
    answer = keeper.receive(
        signed(2, thresholds={"autoRespond": 170}, blocklist={"ips": ["203.0.113.7"], "domains": [], "fileHashes": []})
    )
    assert answer is not None
    assert (answer.version, answer.state) == (2, PolicyState.PARTIAL)
    assert answer.error is not None
    assert answer.error.startswith("thresholds.autoRespond")
    sections = enforcer.obeyed[-1].sections
    assert (sections.thresholds.auto_respond, sections.blocklist.ips) == (70, ["203.0.113.7"])


def test_a_section_that_cannot_be_enforced_is_partial(keeper: PolicyStore, enforcer: Enforcer) -> None:
    """What the responder could not do stands in the acknowledgement."""
    enforcer.errors = ["detection: no engine"]
    answer = keeper.receive(signed(1))
    assert answer is not None
    assert (answer.state, answer.error) == (PolicyState.PARTIAL, "detection: no engine")


def test_a_section_that_is_gone_is_at_its_default_again(keeper: PolicyStore, enforcer: Enforcer) -> None:
    """Only a section that cannot be read keeps its old value."""
    keeper.receive(signed(1, thresholds={"autoRespond": 70}))
    keeper.receive(signed(2))
    assert enforcer.obeyed[-1].sections.thresholds.auto_respond == 85


def test_a_restart_obeys_what_was_kept(keeper: PolicyStore, database: Database, ignored: Counter[str]) -> None:
    """The last good value of each section and the version survive; an older policy is ignored after it too."""
    keeper.receive(signed(1, thresholds={"autoRespond": 70}))
    keeper.receive(signed(2, thresholds={"autoRespond": "much"}))
    enforcer = Enforcer()
    again = PolicyStore(database, Clock(), enforcer, ignored)
    again.pin(ENROLLED)
    assert again.in_force == keeper.in_force
    assert enforcer.obeyed[-1].sections.thresholds.auto_respond == 70
    assert again.receive(signed(1)) is None


@pytest.mark.parametrize(
    "other",
    [
        Enrolled("ag-00000000000000bb", "default", KEYRING.sign_public),
        Enrolled(AGENT, "default", ManagerKeyring(bytes(32)).sign_public),
    ],
)
def test_a_new_identity_starts_at_any_version(keeper: PolicyStore, other: Enrolled) -> None:
    """Under another name or manager the old version binds nobody, and what is in force stays until the first policy."""
    keeper.receive(signed(50, thresholds={"autoRespond": 70}))
    keeper.pin(other)
    assert keeper.in_force is None
    assert keeper.effective.sections.thresholds.auto_respond == 70


def answered(version: int, **sections: Any) -> dict[str, Any]:
    """Return a policy as an HTTP answer has it: unsigned."""
    document: dict[str, Any] = json.loads(signed(version, **sections))
    del document["signature"]
    return document


@pytest.fixture
def trusting(keeper: PolicyStore) -> PolicyStore:
    """The keeper of a guard that is enrolled over HTTP."""
    keeper.pin(Enrolled(AGENT, "default", token="t"))
    return keeper


def test_an_unsigned_policy_is_obeyed_by_the_same_rules(
    trusting: PolicyStore, enforcer: Enforcer, ignored: Counter[str], database: Database
) -> None:
    """Over HTTP versions only rise too, bad sections leave the others in force, and a restart obeys what was kept."""
    answer = trusting.take(answered(5, thresholds={"autoRespond": 70}, blocklist={"ips": 5}))
    assert answer is not None
    assert (answer.version, answer.state) == (5, PolicyState.PARTIAL)
    assert enforcer.obeyed[-1].sections.thresholds.auto_respond == 70
    assert trusting.take(answered(4)) is None
    assert ignored == {"policy_outdated": 1}
    again = PolicyStore(database, Clock(), Enforcer(), ignored)
    again.pin(Enrolled(AGENT, "default", token="t"))
    assert again.in_force == trusting.in_force


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"agentId": "ag-00000000000000bb"}, "policy_of_another_agent"),
        ({"digest": "0" * 64}, "policy_digest_wrong"),
        ({"version": "5"}, "policy_unreadable"),
        ({"rules": [float("nan")]}, "policy_unreadable"),
    ],
)
def test_an_unsigned_policy_that_is_not_whole_changes_nothing(
    trusting: PolicyStore, ignored: Counter[str], change: dict[str, Any], reason: str
) -> None:
    """Its agentId and digest have to be right, as in a signed one."""
    assert trusting.take(answered(5) | change) is None
    assert ignored == {reason: 1}


def test_nothing_unsigned_counts_where_a_key_is_pinned(keeper: PolicyStore, ignored: Counter[str]) -> None:
    """A guard that is enrolled over MQTT obeys signatures alone; one over HTTP has no key to believe one by."""
    assert keeper.take(answered(5)) is None
    assert (keeper.in_force, ignored) == (None, {"policy_unsigned": 1})
    keeper.pin(Enrolled(AGENT, "default", token="t"))
    assert keeper.receive(signed(5)) is None
    assert keeper.in_force is None


def test_a_guard_that_is_nobody_takes_no_policy(database: Database, ignored: Counter[str]) -> None:
    """Before a manager has named it there is none for it."""
    assert PolicyStore(database, Clock(), Enforcer(), ignored).take(answered(5)) is None


def test_unknown_members_are_ignored(keeper: PolicyStore) -> None:
    """An older guard obeys a newer manager's policy: what it does not know is no error, and counts in the digest."""
    answer = keeper.receive(signed(3, thresholds={"autoRespond": 70, "novelty": 1}))
    assert answer is not None
    assert answer.state is PolicyState.APPLIED
