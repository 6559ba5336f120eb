"""The index by HTTP token finds what a list in the order of addition finds, also where many share a bucket."""

from hypothesis import given
from hypothesis import strategies as st

from manager.domain.agents.agent import Agent, Credential, Door
from manager.domain.agents.agents_by_token import AgentsByToken
from manager.domain.agents.host import Host

_AGENTS = [
    Agent(
        number, f"ag-{number}", "acme", Host.of(f"host-{number}", "os", "arch", "1"),
        Credential(bytes(64) + bytes([number // 4 * 16, 7 + number % 2]) + bytes(29) + bytes([number // 2 % 3])),
        None, Door.HTTP, 0.0,
    )
    for number in range(24)
]  # fmt: skip
_numbers = st.integers(0, len(_AGENTS) - 1)


@given(st.lists(st.tuples(st.booleans(), _numbers), max_size=80))
def test_index_agrees_with_list(steps: list[tuple[bool, int]]) -> None:
    index, listed = AgentsByToken(), list[Agent]()
    for is_added, number in steps:
        agent = _AGENTS[number]
        if not is_added:
            index.discard(agent)
            listed = [each for each in listed if each is not agent]
        elif not any(each is agent for each in listed):
            index.add(agent)
            listed.append(agent)
        for each in _AGENTS:
            digest = each.credential.http_digest
            expected = [known for known in listed if known.credential.http_digest == digest]
            assert index.find(digest) is (expected[-1] if expected else None)


def test_shorter_digest_finds_nothing() -> None:
    index = AgentsByToken()
    index.add(_AGENTS[0])
    assert index.find(b"") is None
    assert index.find(_AGENTS[0].credential.http_digest[:31]) is None
