"""A guard that was taken over, restarts, wrong clocks and full disks against the fence: nobody is locked out."""

import shutil
import sqlite3
import struct
import tempfile
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fence.addresses import covers, parse
from fence.host import _UTMP
from tests.support.examples import examples
from tests.unit.fence.conftest import SENT_AT, Bench

OWN, GATEWAY, RESOLVER, LISTED = "203.0.113.1", "203.0.113.254", "198.51.100.53", "198.51.100.200"
LOGIN, SESSION, PRIVATE = "198.51.100.103", "198.51.100.101", "10.0.0.9"
PROTECTED = (OWN, GATEWAY, RESOLVER, LISTED, SESSION, PRIVATE, "127.0.0.1", "169.254.169.254")
ORDINARY = ("198.51.100.7", "198.51.100.8", "192.0.2.9", "203.0.114.5")
NETWORKS = ("198.51.100.0/24", "198.51.100.0/28", "203.0.113.0/24", "198.51.100.100/30", "192.0.2.0/24")
VALUES = st.sampled_from((*PROTECTED, LOGIN, *ORDINARY, *NETWORKS, "0.0.0.0/0", "::ffff:127.0.0.1"))
SECONDS = st.sampled_from((1, 60, 3600, 100_000, 90 * 86_400))
PORTS = st.sampled_from((None, 22))
LIMIT = 2
DAY = 86_400.0


class _FullDisk:
    """A database that takes no change."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def __getattr__(self, name: str) -> object:
        return getattr(self.database, name)

    def execute(self, statement: str, *given: object) -> object:
        if statement == "COMMIT":
            self.database.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return self.database.execute(statement, *given)  # type: ignore[arg-type]


class Attack(RuleBasedStateMachine):
    """Requests of guard, root and manager in any order, and what happens to a host meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("fence.enforcement.can_change_tables", lambda: True)
        self.panicked = False
        self.boots = 1
        self.sequence = 0
        self.sent: list[tuple[int, tuple[str, ...]]] = []
        self.new: list[float] = []

    @initialize()
    def begin(self) -> None:
        self.bench = Bench(
            self.home / "host", own_limit=LIMIT, witness_limit=LIMIT, never=(ip_network(f"{LISTED}/29"),)
        )
        root = self.bench.home
        little = int.from_bytes(ip_address(GATEWAY).packed, "little")
        number = struct.unpack("=I", ip_address(LOGIN).packed)[0]
        login = _UTMP.pack(7, 1, b"pts/0", b"1", b"bob", b"", 0, 0, 1, int(SENT_AT), 0, number, 0, 0, 0)
        for name, content in (
            ("proc/net/fib_trie", f"   |-- {OWN}\n      /32 host LOCAL\n".encode()),
            ("proc/net/route", f"head\neth0 00000000 {little:08X} 0003\n".encode()),
            ("etc/resolv.conf", f"nameserver {RESOLVER}\n".encode()),
            ("run/systemd/sessions/1", f"STATE=active\nREMOTE_HOST={SESSION}\n".encode()),
            ("var/log/wtmp", login),
        ):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.bench.restart()
        self.bench.seen |= {(22, ORDINARY[0]), (22, SESSION), (22, LOGIN)}

    def teardown(self) -> None:
        self.make_room()
        self.bench.manifest.close()
        self.patch.undo()
        shutil.rmtree(self.home)

    @rule(measure=st.sampled_from(("block", "throttle")), value=VALUES, seconds=SECONDS, port=PORTS)
    def the_guard_decides(self, measure: str, value: str, seconds: float, port: int | None) -> None:
        known = {(entry.network, entry.measure) for entry in self._entries("own")}
        answer = self.bench.as_guard(measure, value=value, seconds=seconds, port=port)
        if answer["ok"] and (parse(value), measure) not in known and port is None:
            self.new = [at for at in self.new if self.bench.now - at < 300] + [self.bench.now]
            assert len(self.new) <= LIMIT

    @rule(measure=st.sampled_from(("block", "throttle")), value=VALUES, seconds=SECONDS, own=st.booleans())
    def root_decides(self, measure: str, value: str, seconds: float, own: bool) -> None:
        if own:
            self.the_guard_decides(measure, value, seconds, None)
        else:
            self.bench.ask(measure, value=value, seconds=min(seconds, DAY))

    @rule(values=st.lists(VALUES, max_size=4), seconds=st.sampled_from((None, 1.0, 600.0)))
    def the_manager_sends_a_list(self, values: list[str], seconds: float | None) -> None:
        self.sequence += 1
        self.sent.append((self.sequence, tuple(values)))
        self.bench.take(self.sequence, *values, seconds=seconds)

    @precondition(lambda self: len(self.sent) > 1)
    @rule(data=st.data())
    def the_guard_replays_an_older_list(self, data: Any) -> None:
        before = self.bench.fence._managed.issuers.number("blocklist")
        sequence, values = data.draw(st.sampled_from(self.sent[:-1]))
        answer = self.bench.take(sequence, *values, managerTime=data.draw(st.sampled_from((0, SENT_AT, 1e12))))
        assert not answer["ok"] or sequence >= before

    @rule(request=st.sampled_from(("release", "check", "status", "panic", "resume", "confirm", "nonsense")))
    def the_guard_asks(self, request: str) -> None:
        answer = self.bench.as_guard(request)
        assert answer["ok"] is (request in {"release", "check", "status"}) or answer["outcome"] == "failed"

    @rule(value=VALUES, by_guard=st.booleans())
    def somebody_lifts(self, value: str, by_guard: bool) -> None:
        by_root = {entry.id for entry in self._entries("operator")}
        (self.bench.as_guard if by_guard else self.bench.ask)("lift", value=value)
        if by_guard:
            assert by_root <= set(self.bench.manifest.entries)

    @rule(seconds=st.sampled_from((-1, 0, 30, 1e9)))
    def the_guard_begins_a_trial(self, seconds: float) -> None:
        self.bench.as_guard("trial", seconds=seconds)

    @rule(value=VALUES)
    def the_guard_says_that_it_still_comes_through(self, value: str) -> None:
        self.bench.as_guard("still_through", value=value)

    @rule()
    def root_panics(self) -> None:
        self.bench.ask("panic")
        self.panicked = True

    @rule()
    def root_resumes(self) -> None:
        self.panicked = not self.bench.ask("resume")["ok"] and self.panicked

    @rule(seconds=st.sampled_from((1, 31, 301, 3601, 100_000)))
    def time_passes(self, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.wall += seconds
        for network in [*self.bench.kernel.sets.values()]:
            for value in [*network]:
                network[value] -= seconds
                if network[value] <= 0:
                    del network[value]
        self._check()

    @rule(seconds=st.sampled_from((-1e9, -3600, 3600, 1e6)))
    def the_wall_clock_steps(self, seconds: float) -> None:
        self.bench.wall += seconds
        (self.bench.home / "var/log/wtmp").touch()

    @rule(is_boot=st.booleans())
    def the_fence_starts_again(self, is_boot: bool) -> None:
        self.make_room()
        if is_boot:
            self.boots += 1
            self.bench.boot, self.bench.now = f"boot-{self.boots}", 5.0
            self.bench.kernel.remove()
            self.new.clear()
        self.bench.kernel.refuses = False
        self.bench.restart()
        self._check()

    @rule()
    def the_disk_is_full(self) -> None:
        if not isinstance(self.bench.manifest._database, _FullDisk):
            self.bench.manifest._database = _FullDisk(self.bench.manifest._database)  # type: ignore[assignment]

    @rule()
    def make_room(self) -> None:
        if isinstance(self.bench.manifest._database, _FullDisk):
            self.bench.manifest._database = self.bench.manifest._database.database
            self.bench.fence.mark_time()

    @rule(refuses=st.booleans())
    def the_kernel_refuses(self, refuses: bool) -> None:
        self.bench.kernel.refuses = refuses

    @rule(address=st.sampled_from(ORDINARY))
    def the_name_server_changes(self, address: str) -> None:
        (self.bench.home / "etc/resolv.conf").write_text(f"nameserver {RESOLVER}\nnameserver {address}\n")
        self.bench.kernel.refuses = False
        self.bench.now += 6
        self._check()
        assert not self._is_blocked(address)

    @invariant()
    def nobody_is_locked_out(self) -> None:
        if not hasattr(self, "bench"):
            return
        assert [value for value in PROTECTED if self._is_blocked(value)] == []
        if self._is_blocked(LOGIN) and not self.bench.kernel.refuses:
            assert any(covers(entry.network, parse(LOGIN)) for entry in self._entries("operator"))

    @invariant()
    def after_a_panic_nothing_is_set(self) -> None:
        if self.panicked:
            assert not any(self.bench.kernel.sets.values())
            assert self.bench.fence.measures == 0

    @invariant()
    def without_a_witness_the_guard_blocks_few_for_a_day(self) -> None:
        if hasattr(self, "bench"):
            blind = [entry for entry in self._entries("own") if entry.port is None]
            assert len(blind) <= 10 * LIMIT
            assert all(entry.ends_at - self.bench.now <= DAY for entry in blind)

    def _check(self) -> None:
        self.bench.ask("check")

    def _entries(self, origin: str) -> list[Any]:
        return [entry for entry in self.bench.manifest.entries.values() if entry.origin == origin]

    def _is_blocked(self, value: str) -> bool:
        address = parse(value)
        sets = self.bench.kernel.sets
        ranges = [text.split("-") for text in sets.get("blockrange4", {})]
        number = int(address.network_address)
        in_range = any(int(ip_address(first)) <= number <= int(ip_address(last)) for first, last in ranges)
        return (value in sets.get("block4", {}) or in_range) and not self.bench.kernel.never.overlaps(address)


Attack.TestCase.settings = settings(max_examples=examples(20), stateful_step_count=25, deadline=None)
TestAttack = pytest.mark.timeout(600)(Attack.TestCase)
