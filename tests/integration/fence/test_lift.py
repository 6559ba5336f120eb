"""A lift by the manager at a real fence: blocks of the manager, of the guard itself and of root end for a while."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from manager.domain.response.manual_blocks import FLEET
from manager.engine.commands.block_requests import AddBlocks, LiftAddress, NewBlock
from schemas import topics
from tests.support.engine import Bench
from tests.support.fence_process import FenceProcess
from tests.support.network import Network

pytestmark = pytest.mark.namespaces

ADDRESS, OTHER = "198.51.100.9", "198.51.100.10"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.enroll("a")
    return bench


@pytest.fixture
def fence(bench: Bench, tmp_path: Path) -> Iterator[FenceProcess]:
    """The fence of a host of the manager's organization, without protected ports."""
    (agent_id,) = bench.fleet.registry.agents
    key = bench.keyring.sign_public
    with Network() as network:
        host = network.host("203.0.113.1/24", gateway="203.0.113.254")
        home = tmp_path / "fence"
        home.mkdir()
        with FenceProcess(
            host, home, protected_ports=[], sign_keys=[key], agent_id=agent_id, organization_id="default"
        ) as fence:
            yield fence


def hand_over(bench: Bench, fence: FenceProcess) -> None:
    """Give the fence what the manager published for its organization, as a guard does."""
    topic = topics.BLOCKLIST_CHANGES
    for payload in bench.publisher.take(topic.address("default")):
        request = {"request": "managed", "topic": topic.below_root("default"), "payload": payload.decode()}
        answer = fence.as_guard(**request)
        assert answer["outcome"] in {"taken", "noted"}, answer


def blocked(fence: FenceProcess) -> set[tuple[str, str]]:
    """Return value and origin of what the fence holds."""
    return {(each["value"], each["origin"]) for each in fence.ask(request="list")["entries"]}


def test_a_lift_ends_the_blocks_of_manager_guard_and_root(bench: Bench, fence: FenceProcess) -> None:
    """For five minutes nobody blocks the address here, then everybody may; other addresses are untouched."""
    bench.ask(AddBlocks(FLEET, (NewBlock(ADDRESS, 3600.0, "seen"), NewBlock(OTHER, 3600.0, "seen")), "alice"))
    hand_over(bench, fence)
    assert fence.as_guard(request="block", value=ADDRESS, seconds=600)["outcome"] == "taken"
    assert fence.ask(request="block", value=ADDRESS, seconds=600)["outcome"] == "taken"
    assert {value for value, _ in blocked(fence)} == {ADDRESS, OTHER}
    assert len(blocked(fence)) > 2
    bench.ask(LiftAddress(ADDRESS, "alice"))
    hand_over(bench, fence)
    assert blocked(fence) == {(OTHER, "blocklist")}
    assert "fleet" in fence.as_guard(request="block", value=ADDRESS, seconds=600)["reason"]
    bench.pass_time(301)
    hand_over(bench, fence)
    assert fence.as_guard(request="block", value=ADDRESS, seconds=600)["outcome"] == "taken"


def test_a_block_after_a_lift_holds_at_once(bench: Bench, fence: FenceProcess) -> None:
    """The never list loses the address before the blocklist gets it."""
    bench.ask(LiftAddress(ADDRESS, "alice"))
    bench.ask(AddBlocks(FLEET, (NewBlock(ADDRESS, 3600.0, "seen"),), "alice"))
    hand_over(bench, fence)
    assert blocked(fence) == {(ADDRESS, "blocklist")}
