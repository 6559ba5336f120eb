"""Two booted hosts, attacked over ssh from one address: each blocks by itself, and the manager has both block."""

from collections.abc import Iterator

import pytest

from tests.support.booted_host.attacker import WRONG
from tests.support.booted_host.scene import Scene, two_booted
from tests.support.waiting import eventually

pytestmark = [pytest.mark.long("tests/integration/guard/test_fenced.py"), pytest.mark.booted]

ATTACKER, BYSTANDER = "203.0.113.110", "203.0.113.111"


@pytest.fixture(scope="module")
def scenes(_bootable: None) -> Iterator[tuple[Scene, Scene]]:
    with two_booted() as scenes:
        yield scenes


def test_the_managers_block_is_in_both_kernels_after_the_second_attack(scenes: tuple[Scene, Scene]) -> None:
    """The first attack is the first host's own affair; the second one makes a policy that both fences enforce."""
    for scene in scenes:
        assert "policy" not in _origins(scene)
        clients = [scene.attacker.start("root", ATTACKER, WRONG, WRONG, WRONG) for _ in range(2)]
        try:
            eventually(lambda scene=scene: "own" in _origins(scene), what="the host's own block")
        finally:
            for client in clients:
                scene.attacker.end(client)
    for scene in scenes:
        eventually(lambda scene=scene: "policy" in _origins(scene), what="the manager's block", pause=0.2)
        assert scene.fleet.in_kernel(ATTACKER)
        assert not scene.attacker.reaches(ATTACKER)
        assert scene.attacker.reaches(BYSTANDER)
        done = scene.host.panguard("guard", "status", "--data-dir", scene.fleet.data)
        assert "online" in done.stdout


def _origins(scene: Scene) -> set[str]:
    """Return by whose word the host's fence holds measures over the attacker's address."""
    return {each["origin"] for each in scene.fleet.entries(ATTACKER) if each["measure"] == "block"}
