"""The inventory's rows of the fence: requests, signed messages and files that it reads, and its answers."""

import json
from contextlib import closing, suppress
from ipaddress import IPv4Network

from hypothesis import strategies as st

from agent.clock import Clock
from agent.manager_time import ManagerTime
from agent.respond.fence import Fence
from agent.respond.fence_client import FenceClient, FenceError, read_answer
from fence.config import build
from fence.host import Host
from fence.manifest import Manifest
from fence.request_verification import UntrustedRequest, verify
from fence.service import Clocks, Peer
from fence.service import Fence as Service
from schemas import message_codes
from tests.fuzz.decoder import Decoder
from tests.fuzz.place import AGENT, KEYRING, LINK, NOW, Place
from tests.spoiling import hostile_json
from tests.support.kernel_twin import KernelTwin

_STATE = b"""{"ok":true,"enforcement":"nftables","missing":null,"policyVersion":3,"blocklistSequence":5,"set":2,
"refused":1,"reasons":[{"value":"192.0.2.1","reason":"it is a gateway of this host"}],"own":1,"byGuard":2,"measures":2,
"confirmed":true,"protectedPorts":[22],"sshPorts":[22]}"""
_ANSWERS = st.sampled_from(
    [
        b'{"ok":true,"outcome":"taken","id":"fen-1","measure":"block","value":"203.0.113.7","seconds":60}',
        _STATE,
        b'{"ok":true,"entries":[{"id":"fen-1","value":"203.0.113.7","secondsLeft":3.5}]}',
        b'{"ok":false,"outcome":"refused","reason":"somebody logged in from it","instead":"throttle"}',
    ]
)


class _Answering(FenceClient):
    """A client whose every answer is the same line."""

    def __init__(self, line: bytes) -> None:
        super().__init__()
        self._line = line

    def ask(self, request: str, **_members: object) -> dict[str, object]:
        assert request
        return read_answer(self._line)


def _answer(_place: Place, data: bytes) -> None:
    """Whatever it answers, the guard goes on and its heartbeat can be made."""
    fence = Fence(_Answering(data), Clock(), ManagerTime(Clock()))
    fence.check(0.0)
    fence.decide("block", "203.0.113.7", 60, "five failures", ssh=True)
    fence.take("policy", "agents/a/policy", b"{}")
    fence.has_seen("203.0.113.7")
    fence.own_blocks()
    assert fence.enforced().body()
    assert fence.kind in {"nftables", "impossible"}
    assert fence.ineffective is None or fence.ineffective
    read_answer(data)


_REQUESTS = st.sampled_from(
    [
        b'{"request":"block","value":"203.0.113.7","seconds":60,"port":22,"reason":"x","own":true}',
        b'{"request":"throttle","value":"2001:db8::/64","seconds":1e3}',
        b'{"request":"lift","value":"203.0.113.7"}',
        b'{"request":"lift","id":"fen-1"}',
        b'{"request":"managed","topic":"agents/ag-1/policy","payload":"{}","managerTime":1.5}',
        b'{"request":"keys","successions":[%b]}' % LINK.body(),
        b'{"request":"still_through","value":"203.0.113.7"}',
        b'{"request":"seen","value":"203.0.113.7","port":22}',
        b'{"request":"list","value":"203.0.113.7","origin":"own"}',
        *(b'{"request":"%b"}' % name for name in (b"check", b"status", b"release", b"trial", b"confirm", b"panic")),
    ]
)
_POLICY = b"""{"agentId":"%b","version":3,"sentAt":"2026-01-01T00:00:00Z","secondsLeft":{"203.0.113.7":60},
"blocklist":{"ips":["203.0.113.0/24",{"value":"203.0.113.7","expiresAt":"2026-01-01T01:00:00Z"}]},
"allowlist":{"ips":["192.0.2.1"]}}"""
_CHANGE = b"""{"organizationId":"acme","fromSequence":1,"sequence":2,"sentAt":"2026-01-01T00:00:00Z",
"never":["192.0.2.0/24"],"added":[{"kind":"ip","value":"203.0.113.7","secondsLeft":60}],
"removed":[{"kind":"ip","value":"192.0.2.1"}]}"""
_SIGNED = st.sampled_from([_POLICY % AGENT.encode(), _CHANGE])
LOOPBACK = IPv4Network("127.0.0.0/8")
_BOOT = "00000000-0000-0000-0000-000000000000"


def _request(place: Place, data: bytes) -> None:
    """Every line has one answer, from root and from the guard; nothing is taken without an end or against a rule."""
    kernel = KernelTwin()
    with closing(Manifest(place.folder("fence"), _BOOT)) as manifest:
        manifest.load(0.0, NOW)
        config = build({"protected_ports": [22], "sign_keys": [KEYRING.sign_public], "guard_uid": 10_001})
        clocks, host = Clocks(lambda: 1000.0, lambda: NOW), Host(place.folder("root"))
        fence = Service(
            config, kernel=kernel, manifest=manifest, host=host, clocks=clocks, boot_id=_BOOT, log=lambda _event: None
        )
        for uid in (10_001, 0):
            try:
                request = json.loads(data)
            except (ValueError, RecursionError):
                request = None
            answer = fence.answer(Peer(uid), request)
            assert json.dumps(answer)
            assert type(answer["ok"]) is bool
        assert all(1000.0 < entry.ends_at <= 1000.0 + config.longest for entry in manifest.entries.values())
        assert not any(
            entry.network.overlaps(LOOPBACK) for entry in manifest.entries.values() if entry.network.version == 4
        )
        manifest.change([], list(manifest.entries), {"panic": "false"})


def _managed(_place: Place, data: bytes) -> None:
    """What cannot be read is refused, though its signature is right."""
    for topic, body in ((f"agents/{AGENT}/policy", data), ("organizations/acme/blocklist/changes", data)):
        signed = message_codes.with_signature(KEYRING.sign_key, topic, body)
        with suppress(UntrustedRequest):
            managed = verify(topic, signed, (KEYRING.sign_key.public_key().public_bytes_raw(),), AGENT, "acme")
            assert managed.number >= 0


def _files(place: Place, data: bytes) -> None:
    """Login records and the kernel's texts are read as far as they can be."""
    root = place.folder("fence-root")
    for name in ("run/utmp", "var/log/wtmp", "etc/resolv.conf", "proc/net/route", "proc/net/fib_trie", "proc/net/tcp"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    host = Host(root)
    for read in (host.own_addresses, host.gateways, host.resolvers, host.sessions, lambda: host.recent_logins(0.0)):
        read()
    host.listens(22)


FENCE = (
    Decoder("the fence's answers", "network", hostile_json(_ANSWERS), _answer, (FenceError,)),
    Decoder("requests to the fence", "network", hostile_json(_REQUESTS), _request, slow=True),
    Decoder("signed messages at the fence", "network", hostile_json(_SIGNED), _managed),
    Decoder("the host's files at the fence", "disk", st.binary(max_size=2000), _files, slow=True),
)
