"""The inventory's rows of the fence's socket: what the guard reads of its answers."""

from hypothesis import strategies as st

from agent.clock import Clock
from agent.manager_time import ManagerTime
from agent.respond.fence import Fence
from agent.respond.fence_client import FenceClient, FenceError, read_answer
from tests.fuzz.decoder import Decoder
from tests.fuzz.place import Place
from tests.spoiling import hostile_json

_STATE = b"""{"ok":true,"enforcement":"nftables","missing":null,"policyVersion":3,"blocklistSequence":5,"set":2,
"refused":1,"reasons":[{"value":"192.0.2.1","reason":"it is a gateway of this host"}],"own":1,"byGuard":2,"measures":2,
"confirmed":true,"protectedPorts":[22]}"""
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
    fence.decide("block", "203.0.113.7", 60, "five failures", service=True)
    fence.take("policy", "agents/a/policy", b"{}")
    fence.has_seen("203.0.113.7")
    fence.own()
    assert fence.enforced().body()
    assert fence.kind in {"nftables", "impossible"}
    assert fence.ineffective is None or fence.ineffective
    read_answer(data)


FENCE = (Decoder("the fence's answers", "network", hostile_json(_ANSWERS), _answer, (FenceError,)),)
