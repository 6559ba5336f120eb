"""The guard gives its fence the rotations of the manager's key until the fence has them or refuses them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.clock import Clock
from agent.manager_time import ManagerTime
from agent.respond.fence import CHECK_EVERY, Fence
from agent.respond.fence_client import FenceError
from fence.config import build
from fence.host import Host
from fence.manifest import Manifest
from fence.service import Clocks
from fence.service import Fence as Service
from schemas.message_codes import to_base64url
from schemas.succession import TrustedKeys, signed_link
from tests.support.kernel_twin import KernelTwin
from tests.unit.agent.respond.test_fence import BOOT, GUARD_UID, InProcess, Scripted

NOW = 1_800_000_000.0
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(3)]
NAMES = [to_base64url(key.public_key().public_bytes_raw()) for key in KEYS]
TRUSTED = TrustedKeys(NAMES[0]).followed(
    [signed_link(*KEYS[:2], number=1, now=NOW), signed_link(*KEYS[1:], number=2, now=NOW)], NOW
)


class Counting(InProcess):
    """A client that counts the requests for a rotation; `loses_keys` is a fence that ends before it answers them."""

    asked = 0
    loses_keys = False

    def ask(self, request: str, **members: Any) -> dict[str, Any]:
        self.asked += request == "keys"
        if request == "keys" and self.loses_keys:
            raise FenceError("the fence does not answer")
        return super().ask(request, **members)


class World:
    """A guard's side of the fence, and the fence with a real manifest, on one virtual clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 0.0
        (root / "proc/net").mkdir(parents=True)
        (root / "proc/net/tcp").write_text("head\n0: 00000000:0016 00000000:0000 0A\n")
        self.manifest = Manifest(root / "state", BOOT)
        self.client = Counting(self.service(NAMES[0]))
        clock = Clock(wall=lambda: NOW + self.now, monotonic=lambda: self.now)
        self.fence = Fence(self.client, clock, ManagerTime(clock))
        self.fence.check(self.now)

    def service(self, key: str) -> Service:
        """Return the fence with a key in its configuration."""
        service = Service(
            build({"protected_ports": [22], "guard_uid": GUARD_UID, "sign_keys": [key]}),
            kernel=KernelTwin(),
            manifest=self.manifest,
            host=Host(self.root),
            clocks=Clocks(lambda: self.now, lambda: NOW + self.now),
            boot_id=BOOT,
            log=lambda _event: None,
        )
        service.enforcement.missing = lambda: None  # type: ignore[method-assign]
        return service

    def writes(self, *, can: bool) -> None:
        """Let SQLite refuse every write to the manifest, or take them again."""
        self.manifest._database.execute(f"PRAGMA query_only = {int(not can)}")

    def next_check(self) -> None:
        """Let the time of the next check come, which is within 30 s."""
        assert self.fence.due - self.now <= CHECK_EVERY
        self.now = self.fence.due
        self.fence.check(self.now)


@pytest.fixture
def world(tmp_path: Path) -> Iterable[World]:
    made = World(tmp_path)
    yield made
    made.manifest.close()


def test_a_fence_that_ends_during_a_rotation_gets_it_with_the_next_check(world: World) -> None:
    """No answer is no refusal."""
    world.client.loses_keys = True
    world.fence.trust(TRUSTED)
    world.next_check()
    world.client.loses_keys = False
    world.next_check()
    assert world.fence.state["signKeys"] == [NAMES[2]]


def test_a_fence_that_cannot_keep_a_rotation_gets_it_again(world: World) -> None:
    """A manifest that cannot be written is no refusal, whether at the rotation or at a check."""
    world.writes(can=False)
    world.fence.trust(TRUSTED)
    world.next_check()
    assert (world.client.asked, world.fence.state["signKeys"]) == (2, [NAMES[0]])
    world.writes(can=True)
    world.next_check()
    assert world.fence.state["signKeys"] == [NAMES[2]]
    asked = world.client.asked
    world.fence.check(world.now)
    assert world.client.asked == asked


@pytest.mark.parametrize("outcome", ["refused", "failed"])
def test_only_a_refusal_of_a_policy_counts_as_one(outcome: str) -> None:
    """A policy that the fence could not keep is passed on again, also where its version is smaller than the fence's."""
    answer = {"ok": False, "outcome": outcome, "reason": "x"}
    fence = Fence(Scripted(answer), Clock(), ManagerTime(Clock()))
    fence.take("policy", "agents/a/policy", b"{}")
    assert fence.has_refused("policy") is (outcome == "refused")
    assert [each.reason for each in fence.enforced().reasons] == ["x"]


def test_a_refused_rotation_is_given_once_and_again_to_a_fence_with_another_key(world: World) -> None:
    """A fence of another manager is not asked for ever; one that is then installed with a key of the chain is."""
    world.client.service = world.service(to_base64url(bytes(32)))
    world.fence.check(world.now)
    world.fence.trust(TRUSTED)
    for _ in range(5):
        world.fence.check(world.now)
    assert world.client.asked == 1
    world.client.service = world.service(NAMES[1])
    world.fence.check(world.now)
    assert world.fence.state["signKeys"] == [NAMES[2]]
