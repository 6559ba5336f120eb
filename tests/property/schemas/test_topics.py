"""The topic table names topics and reads them back, and lets no other name through."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from schemas.errors import TopicError
from schemas.topics import MAX_TOPIC_LENGTH, PREFIX, TABLE, Principal, Role, Topic, filters, may, may_retain, resolve
from tests import strategies as wire

BY_ROW = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)

LEVELS = sorted({level for row in TABLE for level in row.pattern.split("/") if "{" not in level})
ANY_LEVEL = (
    st.sampled_from([*LEVELS, "", "+", "#", "$SYS", "$share", "panguard", "v1", ".", ".."])
    | st.one_of(*wire.IDENTIFIERS.values())
    | st.text(max_size=5)
)
PRINCIPALS = st.builds(
    Principal, role=st.sampled_from(Role), identifiers=st.fixed_dictionaries({}, optional=dict(wire.IDENTIFIERS))
)


def identifiers(row: Topic) -> st.SearchStrategy[str | None]:
    """Return valid ids for the topic of a row, or None where it has no place for one."""
    return st.none() if row.placeholder is None else wire.IDENTIFIERS[row.placeholder]


def covers(topic_filter: str, topic: str) -> bool:
    """Return whether an MQTT filter matches a topic, as 3.1.1 section 4.7 says."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


@BY_ROW
@given(data=st.data())
def test_resolve_inverts_address(row: Topic, data: st.DataObject) -> None:
    """A topic made of a row and an id is read as that row and that id, whatever word of the table the id is."""
    identifier = data.draw(identifiers(row))
    topic = row.address(identifier)
    assert topic == PREFIX + row.below_root(identifier)
    assert len(topic) <= MAX_TOPIC_LENGTH
    assert resolve(topic) == (row, identifier)
    assert may_retain(topic) is row.retained
    assert covers(row.filter, topic)


@BY_ROW
@given(data=st.data())
def test_rows_never_share_a_topic(row: Topic, data: st.DataObject) -> None:
    """The filter of a row matches no topic of another row: a message has one meaning."""
    other = data.draw(st.sampled_from(TABLE))
    assume(other is not row)
    assert not covers(row.filter, other.address(data.draw(identifiers(other))))


@given(
    topic=st.text()
    | st.lists(ANY_LEVEL, max_size=6).map("/".join)
    | st.lists(ANY_LEVEL, max_size=5).map(lambda levels: PREFIX + "/".join(levels))
)
@example(topic="panguard/v1/organizations/blocklist/anything")
@example(topic="panguard/v1/organizations/blocklist/+")
@example(topic="panguard/v1/manager/presence/")
@example(topic="panguard/v1/fleet")
@example(topic="panguard/v1/fleet/")
@example(topic="panguard/v1/agents/presence/presence")
@example(topic="PANGUARD/v1/manager/presence")
@example(topic="/panguard/v1/manager/presence")
@example(topic="panguard/v1/manager/presence\n")
@example(topic="panguard/v1/fleet/a\0")
@example(topic="panguard/v1/" + "/" * 1_000_000)
def test_any_text_is_a_topic_of_the_table_or_a_topic_error(topic: str) -> None:
    """`resolve` raises nothing but TopicError, and what it takes is exactly the address it would make."""
    try:
        row, identifier = resolve(topic)
    except TopicError:
        assert may_retain(topic) is False
        return
    assert row.address(identifier) == topic


@given(principal=PRINCIPALS, topic=st.text() | st.lists(ANY_LEVEL, max_size=5).map(lambda x: PREFIX + "/".join(x)))
@example(principal=Principal(Role.AGENT, {"organizationId": "blocklist"}), topic=PREFIX + "organizations/blocklist/x")
def test_nobody_may_publish_or_receive_what_is_no_topic(principal: Principal, topic: str) -> None:
    """A topic outside the table is closed to every role, and asking about it raises nothing."""
    known = any(covers(row.filter, topic) for row in TABLE)
    for action in ("publish", "receive"):
        assert not may(principal, action, topic) or known
    assert isinstance(may(principal, "subscribe", topic), bool)


@given(principal=PRINCIPALS)
def test_the_filters_of_a_principal_are_those_it_may_subscribe_to(principal: Principal) -> None:
    """The access list grants every filter that a client is told to subscribe to."""
    for topic_filter in filters(principal):
        assert may(principal, "subscribe", topic_filter)


@BY_ROW
@given(principal=PRINCIPALS, data=st.data())
def test_whoever_may_receive_a_topic_has_a_filter_for_it(row: Topic, principal: Principal, data: st.DataObject) -> None:
    """No reader is left without a subscription that brings it what it may read."""
    own = principal.identifiers.get(row.placeholder) if row.placeholder else None
    topic = row.address(own or data.draw(identifiers(row)))
    if may(principal, "receive", topic):
        assert any(covers(topic_filter, topic) for topic_filter in filters(principal))
