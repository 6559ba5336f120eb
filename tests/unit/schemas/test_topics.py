"""The topic table against the contract, row by row, and who may do what with each topic."""

from dataclasses import dataclass
from typing import Literal

import pytest

from schemas import limits
from schemas.errors import TopicError
from schemas.topics import PREFIX, TABLE, Principal, Role, Topic, filters, may, may_retain, resolve
from tests.unit.schemas.hostile_ids import OTHER, VALID, hostile

MANAGER, AGENT, REGISTRATION, OBSERVER = "manager", "agent", "registration", "observer"
KIB = 1024


@dataclass(frozen=True)
class Expected:
    """A row of wire.md section 2, written out by hand: who publishes, who else reads, and how."""

    topic: str
    publisher: str
    readers: tuple[str, ...]
    qos: int
    retained: bool
    code: str
    messages: tuple[str, ...]
    limit: int = 16 * KIB


# What the manager publishes itself it may or may not read: wire.md is silent there, and so is this table.
ROWS = [
    Expected("manager/presence", MANAGER, (AGENT, REGISTRATION, OBSERVER), 1, True, "none", ("ManagerPresence",)),
    Expected("manager/keys", MANAGER, (AGENT, REGISTRATION, OBSERVER), 1, True, "signature", ("ManagerKeys",)),
    Expected("registration/{clientId}", REGISTRATION, (MANAGER,), 1, False, "proof", ("Registration",)),
    Expected(
        "registration/{clientId}/reply",
        MANAGER,
        (REGISTRATION,),
        1,
        False,
        "signature",
        ("RegistrationReply", "Rejection"),
    ),
    Expected("agents/{agentId}/presence", AGENT, (MANAGER, AGENT, OBSERVER), 1, True, "mac", ("Presence",)),
    Expected("agents/{agentId}/heartbeat", AGENT, (MANAGER, OBSERVER), 0, False, "mac", ("Heartbeat",)),
    Expected(
        "agents/{agentId}/threats",
        AGENT,
        (MANAGER, OBSERVER),
        1,
        False,
        "mac",
        ("ThreatReport", "ThreatReportBatch"),
        256 * KIB,
    ),
    Expected("agents/{agentId}/receipts", MANAGER, (AGENT, OBSERVER), 1, False, "mac", ("Receipt",)),
    Expected("agents/{agentId}/policy", MANAGER, (AGENT, OBSERVER), 1, True, "signature", ("Policy",), 256 * KIB),
    Expected("agents/{agentId}/policy/applied", AGENT, (MANAGER, OBSERVER), 1, False, "mac", ("PolicyApplied",)),
    Expected(
        "organizations/{organizationId}/blocklist",
        MANAGER,
        (AGENT, OBSERVER),
        1,
        True,
        "signature",
        ("BlocklistSnapshot",),
        2048 * KIB,
    ),
    Expected(
        "organizations/{organizationId}/blocklist/changes",
        MANAGER,
        (AGENT, OBSERVER),
        1,
        False,
        "signature",
        ("BlocklistChange",),
        256 * KIB,
    ),
    Expected("fleet/{event}", MANAGER, (OBSERVER,), 0, False, "none", ("FleetEvent",)),
]
BY_EXPECTED = pytest.mark.parametrize("expected", ROWS, ids=lambda row: row.topic)
BY_ROLE = pytest.mark.parametrize("role", [MANAGER, AGENT, REGISTRATION, OBSERVER])
BY_OWNER = pytest.mark.parametrize("ids", [VALID, OTHER], ids=["own", "other"])

# What each role speaks for, as the brokers' authentication says: an agent has its id and its organization, a client
# that registers has its client id, the others speak for nobody.
PRINCIPALS = {
    MANAGER: Principal(Role.MANAGER, {}),
    AGENT: Principal(Role.AGENT, {"agentId": VALID["agentId"], "organizationId": VALID["organizationId"]}),
    REGISTRATION: Principal(Role.REGISTERING, {"clientId": VALID["clientId"]}),
    OBSERVER: Principal(Role.OBSERVER, {}),
}


def filled(pattern: str, ids: dict[str, str]) -> str:
    """Return the whole topic of a pattern with these ids."""
    for kind, identifier in ids.items():
        pattern = pattern.replace("{" + kind + "}", identifier)
    return f"panguard/v1/{pattern}"


def wildcard(pattern: str) -> str:
    """Return the filter of everybody's topics of a pattern."""
    return filled(pattern, dict.fromkeys(VALID, "+"))


def reaches(expected: Expected, role: str, ids: dict[str, str]) -> bool:
    """Return whether the ids in a topic leave it open to a role: agents and clients have their own topics only."""
    return role in (MANAGER, OBSERVER) or "{" not in expected.topic or ids is VALID


def test_the_table_has_the_rows_of_the_contract_in_its_order() -> None:
    """No topic is missing and none was added."""
    assert [row.pattern for row in TABLE] == [row.topic for row in ROWS]


@pytest.mark.parametrize(
    ("row", "expected"), list(zip(TABLE, ROWS, strict=True)), ids=lambda row: getattr(row, "name", "")
)
def test_a_row_is_as_the_contract_has_it(row: Topic, expected: Expected) -> None:
    """QoS, retain flag, code, messages and size limit are those of wire.md."""
    assert (row.qos, row.retained, row.code, row.limit) == (
        expected.qos,
        expected.retained,
        expected.code,
        expected.limit,
    )
    assert tuple(model.__name__ for model in row.models) == expected.messages
    assert row.publisher.value == expected.publisher
    assert may_retain(filled(expected.topic, VALID)) is expected.retained


def test_the_limits_are_those_of_the_contract() -> None:
    """256 KiB for threats, policies and changes, 2 MiB for a snapshot, 16 KiB for the rest, 1 MiB over HTTP."""
    assert (limits.THREAT_LIMIT, limits.POLICY_LIMIT) == (262_144, 262_144)
    assert (limits.BLOCKLIST_LIMIT, limits.MESSAGE_LIMIT, limits.BODY_LIMIT) == (2_097_152, 16_384, 1_048_576)
    assert (limits.AGENT_EMERGENCY_ENTRIES, limits.ORGANIZATION_EMERGENCY_ENTRIES) == (200, 10_000)


@BY_EXPECTED
@BY_ROLE
@BY_OWNER
def test_who_may_publish(expected: Expected, role: str, ids: dict[str, str]) -> None:
    """Each topic has one publisher, under its own id only; the manager also clears what others may have left."""
    clears = role == MANAGER and (expected.retained or expected.topic == "registration/{clientId}")
    allowed = (role == expected.publisher or clears) and reaches(expected, role, ids)
    assert may(PRINCIPALS[role], "publish", filled(expected.topic, ids)) is allowed


@BY_EXPECTED
@BY_ROLE
@BY_OWNER
@pytest.mark.parametrize("action", ["receive", "subscribe"])
def test_who_may_read(
    expected: Expected, role: str, ids: dict[str, str], action: Literal["receive", "subscribe"]
) -> None:
    """A topic is read by those it is for, and by the observer, who reads all but registrations."""
    if role == MANAGER and (expected.publisher == MANAGER or action == "subscribe"):
        return  # its own words, see ROWS; it subscribes by wildcards, see below
    allowed = role in expected.readers and reaches(expected, role, ids)
    assert may(PRINCIPALS[role], action, filled(expected.topic, ids)) is allowed


@BY_EXPECTED
@BY_ROLE
def test_who_may_subscribe_to_everybodys_topics(expected: Expected, role: str) -> None:
    """Wildcards in the place of an id are for the manager and the observer, for what they may read."""
    if role == MANAGER and expected.publisher == MANAGER:
        return  # see ROWS
    allowed = role in expected.readers and (role in (MANAGER, OBSERVER) or "{" not in expected.topic)
    assert may(PRINCIPALS[role], "subscribe", wildcard(expected.topic)) is allowed


@pytest.mark.parametrize(
    ("topic_filter", "roles"),
    [
        ("panguard/v1/manager/+", {AGENT, REGISTRATION, OBSERVER}),
        ("panguard/v1/#", {OBSERVER}),
        ("#", set()),
        ("+", set()),
        ("+/#", set()),
        ("panguard/#", set()),
        ("panguard/+/#", set()),
        ("+/v1/#", set()),
        ("$SYS/#", set()),
        ("$CONTROL/#", set()),
        ("$share/g/panguard/v1/#", set()),
        ("$share/g/panguard/v1/agents/+/threats", set()),
        ("panguard/v1/registration/#", set()),
        ("panguard/v1/registration/+/reply", set()),
        ("panguard/v1/registration/" + VALID["clientId"] + "/#", set()),
        ("panguard/v1/agents/" + VALID["agentId"] + "/#", {OBSERVER}),
        ("panguard/v1/agents/" + VALID["agentId"] + "/+", {OBSERVER}),
        ("panguard/v1/organizations/#", {OBSERVER}),
        ("panguard/v1x/#", set()),
        ("", set()),
    ],
)
def test_who_may_subscribe_to_a_wide_filter(topic_filter: str, roles: set[str]) -> None:
    """Nobody subscribes to more than it reads; the observer's one filter for all is cut at delivery."""
    granted = {role for role, principal in PRINCIPALS.items() if may(principal, "subscribe", topic_filter)}
    assert granted - {MANAGER} == roles


def test_the_manager_subscribes_by_one_filter_for_each_topic_it_reads() -> None:
    """The manager hears every agent and every registration by wildcards of the table, none of them wider."""
    granted = set(filters(PRINCIPALS[MANAGER]))
    read = {wildcard(row.topic) for row in ROWS if MANAGER in row.readers}
    own = {wildcard(row.topic) for row in ROWS if row.publisher == MANAGER}
    assert read <= granted <= read | own


@pytest.mark.parametrize("action", ["publish", "receive"])
def test_a_filter_is_no_topic(action: Literal["publish", "receive"]) -> None:
    """Nothing is published to a wildcard, and nothing arrives on one."""
    for row in ROWS:
        if "{" in row.topic:
            for principal in PRINCIPALS.values():
                assert not may(principal, action, wildcard(row.topic))


@pytest.mark.parametrize("role", [AGENT, REGISTRATION])
@BY_EXPECTED
def test_whoever_speaks_for_nobody_has_no_topics_with_ids(role: str, expected: Expected) -> None:
    """An agent or client whose ids are not known publishes nothing and reads the manager's topics only."""
    nobody = Principal(PRINCIPALS[role].role, {})
    topic = filled(expected.topic, VALID)
    assert not may(nobody, "publish", topic)
    for action in ("receive", "subscribe"):
        assert may(nobody, action, topic) is expected.topic.startswith("manager/")


@BY_EXPECTED
def test_hostile_ids_make_no_topic(expected: Expected) -> None:
    """An id outside its grammar is refused where a topic is made, where one is read, and where access is asked for."""
    row = TABLE[ROWS.index(expected)]
    kind = row.placeholder
    if kind is None:
        assert row.address() == PREFIX + expected.topic
        return
    with pytest.raises(TopicError):
        row.address()
    for text in hostile(kind):
        topic = filled(expected.topic, {kind: text})
        with pytest.raises(TopicError):
            row.address(text)
        with pytest.raises(TopicError):
            row.below_root(text)
        with pytest.raises(TopicError):
            resolve(topic)
        assert not may_retain(topic)
        for role in Role:
            for principal in (Principal(role, {kind: text}), Principal(role, VALID)):
                assert not may(principal, "publish", topic)
                assert not may(principal, "receive", topic)


@pytest.mark.parametrize("kind", ["agentId", "clientId", "organizationId"])
@pytest.mark.parametrize("role", [Role.AGENT, Role.REGISTERING])
def test_a_principal_with_a_hostile_id_is_refused_and_raises_nothing(kind: str, role: Role) -> None:
    """A client that connects under an id with wildcards in it gets a no from the access list, not an exception."""
    for text in hostile(kind):
        principal = Principal(role, {kind: text})
        for pattern in (row.topic for row in ROWS if kind in row.topic):
            assert may(principal, "subscribe", filled(pattern, {kind: text})) is False


def test_a_refused_id_is_not_repeated() -> None:
    """The text of a TopicError has no byte of what was refused."""
    for row in TABLE:
        if row.placeholder:
            with pytest.raises(TopicError) as caught:
                row.address("hunter2+")
            assert "hunter2" not in str(caught.value)
    with pytest.raises(TopicError) as caught:
        resolve("panguard/v1/agents/hunter2/threats")
    assert "hunter2" not in str(caught.value)
