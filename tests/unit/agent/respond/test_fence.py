"""A guard's responses through the fence's own code, with a table in memory in place of the kernel's."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Clock
from agent.events import Verdict
from agent.manager_time import ManagerTime
from agent.respond.desired_measures import Effective
from agent.respond.enforcement import Enforcement
from agent.respond.fence import CHECK_EVERY, IDLE_CHECK_EVERY, Fence
from agent.respond.fence_client import FenceClient, FenceError
from agent.respond.mode import ModeControl
from agent.respond.own_blocks import OwnBlocks
from agent.respond.recording_responder import RecordingResponder
from agent.storage.database import Database
from fence.config import build
from fence.host import Host
from fence.manifest import Manifest
from fence.service import Clocks, Peer
from fence.service import Fence as Service
from schemas.decoding import validate
from schemas.policy import PolicySections
from schemas.presence import Enforced, Mode
from tests.support.kernel_twin import KernelTwin

SEEN, UNSEEN = "198.51.100.7", "198.51.100.8"
"""Addresses that the twin's kernel has and has not answered."""

GUARD_UID = 10_001
BOOT = "11111111-1111-1111-1111-111111111111"


class InProcess(FenceClient):
    """A client whose fence is in this process; `away` is a fence that does not answer."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service
        self.away = False

    def ask(self, request: str, **members: Any) -> dict[str, Any]:
        if self.away:
            raise FenceError("no fence on this host")
        line = json.dumps({"request": request, **members})
        answer: dict[str, Any] = json.loads(json.dumps(self.service.answer(Peer(GUARD_UID), json.loads(line))))
        return answer


class World:
    """A guard's enforcement and its fence on one virtual clock."""

    def __init__(
        self, root: Path, database: Database, mode: Mode, kernel: KernelTwin | None = None, **settings: Any
    ) -> None:
        self.now = 1_000_000.0
        (root / "proc/net").mkdir(parents=True)
        (root / "proc/net/tcp").write_text("head\n0: 00000000:0016 00000000:0000 0A\n")
        self.root = root
        self.kernel = KernelTwin() if kernel is None else kernel
        manifest = Manifest(root / "state", BOOT)
        clocks = Clocks(lambda: self.now, lambda: self.now)
        config = build({"protected_ports": [22], "guard_uid": GUARD_UID, "sign_keys": [], **settings})
        self.service = Service(
            config,
            kernel=self.kernel,
            manifest=manifest,
            host=Host(root),
            clocks=clocks,
            boot_id=BOOT,
            log=lambda _event: None,
        )
        self.service.enforcement.missing = lambda: None  # type: ignore[method-assign] -- no capability is needed
        self.client = InProcess(self.service)
        clock = Clock(lambda: self.now, lambda: self.now)
        manager_time = ManagerTime(clock)
        self.fence = Fence(self.client, clock, manager_time)
        self.fence.check(self.now)
        self.mode = ModeControl(database, clock, manager_time, host=mode)
        self.enforcement = Enforcement(
            responder=RecordingResponder(database),
            own=OwnBlocks(database),
            organization=list,
            mode=self.mode,
            protected=["192.0.2.1"],
            duration=3600,
            clock=clock,
            manager_time=manager_time,
            fence=self.fence,
        )
        self.enforcement.tick(self.now)

    def respond(self, address: str, *, throttle: bool = False) -> tuple[str, str | None]:
        """Return action and outcome of the response to an attack just now."""
        response = self.enforcement.respond(_threat(address, self.now, throttle=throttle))
        assert response is not None
        return response.action, response.outcome

    def measures(self, measure: str) -> list[str]:
        return self.kernel.addresses(measure)

    def as_root(self, **request: Any) -> dict[str, Any]:
        return self.service.answer(Peer(0), request)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.enforcement.tick(self.now)


def _threat(address: str, now: float, *, throttle: bool) -> Verdict:
    return Verdict(
        type="brute_force",
        technique="T1110",
        severity="high",
        confidence=95,
        rule_id="sshd-brute-force",
        count=5,
        first_seen=now,
        last_seen=now,
        detected_at=now,
        evidence={"sourceIp": address, "targetService": "sshd"},
        target="sourceIp",
        vouched=frozenset({"sourceIp"}),
        throttle=throttle,
    )


@pytest.fixture
def world(tmp_path: Path, database: Database) -> World:
    return World(tmp_path / "root", database, Mode.PROTECTION)


def test_only_what_the_kernel_has_is_taken(world: World) -> None:
    """A witnessed address is blocked; another is refused with the fence's reason, and nothing is recorded of it."""
    assert world.respond(SEEN) == ("block_ip", "taken")
    action, outcome = world.respond(UNSEEN)
    assert action == "block_ip"
    assert outcome == "refused: this address never spoke to port 22 here; is a proxy in front?"
    assert world.measures("block") == [SEEN]
    assert [measure.value for measure in world.enforcement.measures] == [SEEN]


def test_an_address_with_logins_of_its_own_is_throttled(world: World) -> None:
    """The report names the measure that was taken."""
    assert world.respond(SEEN, throttle=True) == ("throttle_ip", "taken")
    assert (world.measures("block"), world.measures("throttle")) == ([], [SEEN])


def test_a_recent_login_that_only_the_fence_knows_turns_a_block_into_a_throttle(world: World) -> None:
    """Wtmp names the address: a block is refused, the throttle that the fence offers is taken."""
    record = struct.pack("=hxxi32s4s32s256shhiii4I20x", 7, 1, b"", b"", b"bob", b"", 0, 0, 0, int(world.now) - 60, 0,
        int.from_bytes(bytes(map(int, SEEN.split("."))), "little"), 0, 0, 0)  # fmt: skip
    (world.root / "var/log").mkdir(parents=True)
    (world.root / "var/log/wtmp").write_bytes(record)
    world.now += 10
    assert world.respond(SEEN) == ("throttle_ip", "taken")
    assert world.measures("block") == []


def test_a_block_that_does_not_bite_is_ineffective(world: World) -> None:
    """Failures of a blocked address half a minute later are said so, in the report and in `enforced`."""
    world.respond(SEEN)
    world.now += 20
    assert world.respond(SEEN)[1] == "taken"
    world.now += 31
    outcome = world.respond(SEEN)[1]
    assert outcome is not None
    assert outcome.startswith("ineffective: the kernel has it, and it still gets through")
    world.pass_time(0)
    enforced = world.enforcement.enforced(is_signed=True)
    assert (enforced.set, enforced.ineffective) == (0, 1)
    assert world.fence.ineffective is not None


def test_a_fence_that_does_not_answer_makes_everything_impossible(world: World) -> None:
    """With what it needs; when it answers again the guard blocks again."""
    world.client.away = True
    assert world.respond(SEEN) == ("block_ip", "impossible: no fence on this host")
    assert world.enforcement.kind == "impossible"
    assert world.enforcement.enforced(is_signed=True).impossible == 1
    world.client.away = False
    world.pass_time(31)
    assert world.enforcement.kind == "nftables"
    assert world.respond(SEEN) == ("block_ip", "taken")


def test_what_an_operator_lifts_is_not_set_again(world: World) -> None:
    """The fence's list is the truth: the guard ends its own record at the next check."""
    world.respond(SEEN)
    assert world.as_root(request="lift", value=SEEN)["ok"]
    world.pass_time(31)
    assert world.enforcement.measures == []
    assert world.measures("block") == []


def test_a_throttle_of_an_address_whose_block_was_lifted_keeps_no_block_alive(world: World) -> None:
    """Blocks are compared with blocks: one measure each is not the same measure."""
    world.respond(SEEN)
    world.respond(SEEN, throttle=True)
    block = next(each for each in world.as_root(request="list")["entries"] if each["measure"] == "block")
    assert world.as_root(request="lift", id=block["id"])["ok"]
    world.pass_time(31)
    assert (world.enforcement.measures, world.measures("throttle")) == ([], [SEEN])


def test_throttles_beside_blocks_have_the_fence_list_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list may be long, and is asked for only where it differs from the guard's."""
    world.kernel.seen = {(22, SEEN), (22, UNSEEN)}
    world.respond(SEEN)
    world.respond(UNSEEN, throttle=True)
    asked: list[str] = []
    ask = world.client.ask
    monkeypatch.setattr(world.client, "ask", lambda name, **more: asked.append(name) or ask(name, **more))
    world.pass_time(31)
    assert "check" in asked
    assert "list" not in asked
    assert [each.value for each in world.enforcement.measures] == [SEEN]


def test_another_block_at_the_fence_does_not_stand_for_the_guards(world: World) -> None:
    """As many blocks are not the same blocks."""
    world.respond(SEEN)
    world.as_root(request="lift", value=SEEN)
    world.kernel.seen = {(22, SEEN), (22, UNSEEN)}
    assert world.fence.decide("block", UNSEEN, 60, "x", ssh=True).word == "taken"
    world.pass_time(31)
    assert world.enforcement.measures == []


def test_the_twenty_first_address_without_a_witness_is_refused(world: World) -> None:
    """The fence's cap holds for a guard that names no protected service."""
    outcomes = [world.fence.decide("block", f"198.51.100.{n}", 60, "x", ssh=False).word for n in range(1, 22)]
    assert outcomes == ["taken"] * 20 + ["refused"]


def test_learning_releases_what_was_set_and_an_operators_block_stays(world: World) -> None:
    """A mode that falls back takes its blocks with it."""
    world.respond(SEEN)
    world.as_root(request="block", value="203.0.113.9", seconds=60)
    policy = Effective(validate(PolicySections, {"response": {"mode": "learning"}}), version=4)
    world.enforcement.obey(policy)
    world.pass_time(1)
    assert world.mode.effective is Mode.LEARNING
    assert world.measures("block") == ["203.0.113.9"]
    assert world.enforcement.enforced(is_signed=True) == Enforced()
    assert world.respond(SEEN) == ("block_ip", "would_be_taken")


def test_an_unsigned_policy_is_not_enforced(world: World) -> None:
    """Over HTTP there is no signature: its addresses count as impossible, and the reason says what to do."""
    world.enforcement.obey(Effective(validate(PolicySections, {"blocklist": {"ips": [SEEN]}}), version=4))
    enforced = world.enforcement.enforced(is_signed=False)
    assert (enforced.policy_version, enforced.set, enforced.impossible) == (4, 0, 1)
    assert "connect over MQTT" in enforced.reasons[0].reason
    assert world.measures("block") == []


def test_a_web_servers_customer_is_no_witness_of_an_ssh_failure(tmp_path: Path, database: Database) -> None:
    """What this host sent from another protected port proves nothing that a record of sshd says."""
    kernel = KernelTwin([22, 443], seen={(443, SEEN), (22, UNSEEN)})
    world = World(tmp_path / "root", database, Mode.PROTECTION, kernel, protected_ports=[22, 443])
    listening = "head\n0: 00000000:0016 00000000:0000 0A\n1: 00000000:01BB 00000000:0000 0A\n"
    (world.root / "proc/net/tcp").write_text(listening)
    assert (world.fence.has_seen(SEEN), world.fence.has_seen(UNSEEN)) == (False, True)
    refused = "refused: this address never spoke to port 22 here; is a proxy in front?"
    assert world.respond(SEEN) == ("block_ip", refused)
    assert world.respond(UNSEEN) == ("block_ip", "taken")


@pytest.mark.parametrize(("answer", "interval"), [({}, IDLE_CHECK_EVERY), ({"waiting": 1}, CHECK_EVERY)])
def test_entries_that_wait_at_the_fence_are_looked_after_as_measures_are(
    answer: dict[str, Any], interval: float
) -> None:
    """Heartbeats say within 30 s that they are set."""
    fence = Fence(Scripted({"ok": True, "enforcement": "nftables", **answer}), Clock(), ManagerTime(Clock()))
    fence.check(0.0)
    assert fence.due == interval


class Scripted(FenceClient):
    """A client whose fence gives one answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__()
        self.answer = answer

    def ask(self, request: str, **members: Any) -> dict[str, Any]:
        del request, members
        return self.answer
