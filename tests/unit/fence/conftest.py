"""A fence with a kernel in memory: its manifest is a real file, its host an empty directory."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fence.config import Config
from fence.host import Host
from fence.manifest import Manifest
from fence.service import Clocks, Fence, Peer
from schemas import message_codes
from schemas.model import iso
from tests.support.kernel_twin import KernelTwin

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NEXT_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
AGENT, ORGANIZATION = "ag-0123456789abcdef", "acme"
SENT_AT = 1_795_000_000.0
GUARD_UID = 10_001


def raw(key: Ed25519PrivateKey) -> bytes:
    """Return the public key's bytes."""
    return key.public_key().public_bytes_raw()


class Bench:
    """A fence in memory; `restart` begins a new one on the same manifest and kernel."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        self.now, self.wall, self.boot = 1_000.0, SENT_AT, "boot-1"
        self.seen: set[tuple[int, str]] = set()
        self.kernel = KernelTwin(stands=False, seen=self.seen)
        self.settings: dict[str, Any] = {
            "sign_keys": (raw(KEY),),
            "agent_id": AGENT,
            "organization_id": ORGANIZATION,
            "guard_uid": GUARD_UID,
            **settings,
        }
        self.manifest: Manifest
        self.fence: Fence
        self.events: list[dict[str, Any]] = []
        (home / "proc/net").mkdir(parents=True)
        (home / "proc/net/tcp").write_text(
            "header\n  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n"
        )
        self.restart()

    def restart(self, **settings: Any) -> None:
        """Begin a new fence, with some settings changed."""
        self.settings |= settings
        if hasattr(self, "manifest"):
            self.manifest.close()
        self.manifest = Manifest(self.home / "state", self.boot)
        self.manifest.load(self.now, self.wall)
        self.fence = Fence(
            Config(**self.settings),
            kernel=self.kernel,
            manifest=self.manifest,
            host=Host(self.home),
            clocks=Clocks(lambda: self.now, lambda: self.wall),
            boot_id=self.boot,
            log=self.events.append,
        )
        self.fence.enforcement.start()

    def ask(self, request: str, *, pid: int = 0, **members: Any) -> dict[str, Any]:
        """Return the answer to root, from a process."""
        return self.fence.answer(Peer(0, pid), {"request": request, **members})

    def as_guard(self, request: str, **members: Any) -> dict[str, Any]:
        """Return the answer to the guard."""
        return self.fence.answer(Peer(GUARD_UID), {"request": request, **members})

    def take(
        self,
        sequence: int,
        *values: str,
        key: Ed25519PrivateKey = KEY,
        sent_at: float = SENT_AT,
        seconds: float | None = 600,
        organization: str = ORGANIZATION,
        never: Iterable[str] = (),
        **beside: Any,
    ) -> dict[str, Any]:
        """Hand over a signed blocklist."""
        topic = f"organizations/{organization}/blocklist"
        entry: dict[str, Any] = {"kind": "ip"} if seconds is None else {"kind": "ip", "secondsLeft": seconds}
        document = {
            "organizationId": organization,
            "sequence": sequence,
            "sentAt": iso(sent_at),
            "entries": [{**entry, "value": value} for value in values],
            "never": list(never),
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        payload = message_codes.with_signature(key, topic, body).decode()
        return self.as_guard("managed", topic=topic, payload=payload, **beside)

    def change(self, before: int, sequence: int, removed: Iterable[str] = ()) -> dict[str, Any]:
        """Hand over a signed change of the blocklist that removes some addresses."""
        topic = f"organizations/{ORGANIZATION}/blocklist/changes"
        document = {
            "organizationId": ORGANIZATION,
            "fromSequence": before,
            "sequence": sequence,
            "sentAt": iso(SENT_AT),
            "removed": [{"kind": "ip", "value": value} for value in removed],
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        return self.as_guard("managed", topic=topic, payload=message_codes.with_signature(KEY, topic, body).decode())

    def take_policy(
        self,
        version: int,
        *values: str,
        allowlist: Iterable[str] = (),
        organization: Any = None,
        agent: str = AGENT,
        key: Ed25519PrivateKey = KEY,
    ) -> dict[str, Any]:
        """Hand over a signed policy, which names no organization by default."""
        topic = f"agents/{agent}/policy"
        document = {
            "agentId": agent,
            **({} if organization is None else {"organizationId": organization}),
            "version": version,
            "sentAt": iso(SENT_AT),
            "blocklist": {"ips": list(values)},
            "allowlist": {"ips": list(allowlist)},
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        payload = message_codes.with_signature(key, topic, body).decode()
        return self.as_guard("managed", topic=topic, payload=payload)

    @property
    def blocked(self) -> set[str]:
        """The single addresses that the kernel blocks."""
        return set(self.kernel.sets.get("block4", {}))


@pytest.fixture
def make_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[Callable[..., Bench]]:
    """Return the maker of benches."""
    monkeypatch.setattr("fence.enforcement.can_change_tables", lambda: True)
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(tmp_path / f"host{len(made)}", **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.manifest.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """Return a fence with the usual settings."""
    return make_bench()
