"""Fast decoding of heartbeats with msgspec, for those whose form leaves no doubt; pydantic remains the contract.

`fast_heartbeat` returns a heartbeat only if `Heartbeat` accepts the payload with the same values, as `fast_report` does
for threat reports.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal, Protocol

import msgspec
from msgspec import Meta, Struct, field

from schemas.limits import LOGINS_IN_HEARTBEAT
from schemas.model import is_plain_time
from schemas.presence import Enforced, Heartbeat, Mode, PolicyState, ReportedLogin, SourceReport

_DIGEST_LENGTH = 64
_STATES = frozenset(
    {"ok", "missing", "unreadable", "silent", "dropping", "unparsed", "clock", "ineffective", "stopped"}
)
_ENFORCEMENTS = frozenset({"nftables", "route", "simulated", "impossible", None})
"""The words of today's guards; the contract takes others."""

FastCount = Annotated[int, Meta(ge=0, le=2**53 - 1)]
FastPercentage = Annotated[float, Meta(ge=0, le=100)]
FastMark = Annotated[str, Meta(min_length=1, max_length=160)]
_Reason = Annotated[str, Meta(max_length=512)]
_Short = Annotated[str, Meta(min_length=1, max_length=64)]
_find_other_than_mark = re.compile(r"[^A-Za-z0-9._-]").search
_find_other_than_hex = re.compile(r"[^0-9a-f]").search


class FastSource(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `SourceReport`, decoded fast."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    state: str
    records: FastCount = 0
    understood: FastCount = 0
    last_stamp: str | None = field(default=None, name="lastAt")
    reason: _Reason | None = None

    @property
    def last_at(self) -> datetime | None:
        """The time at which the last record was read."""
        return None if self.last_stamp is None else datetime.fromisoformat(self.last_stamp)


class FastLogin(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `ReportedLogin`, decoded fast."""

    source_ip: _Short
    user: _Short
    stamp: str = field(name="at")
    guessed: bool = False

    @property
    def at(self) -> datetime:
        """The time of the login, on the agent's clock."""
        return datetime.fromisoformat(self.stamp)


class FastUnenforced(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `Unenforced`, decoded fast."""

    value: Annotated[str, Meta(min_length=1, max_length=512)]
    reason: _Reason


class FastEnforced(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `Enforced`, decoded fast; hashable."""

    policy_version: FastCount | None = None
    blocklist_sequence: FastCount | None = None
    set: FastCount = 0
    ineffective: FastCount = 0
    refused: FastCount = 0
    impossible: FastCount = 0
    failed: FastCount = 0
    reasons: Annotated[tuple[FastUnenforced, ...], Meta(max_length=5)] = ()


class FastHeartbeat(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `Heartbeat`, decoded fast."""

    cpu: FastPercentage
    memory: FastPercentage
    events_processed: FastCount
    mode: Mode
    uptime: Annotated[float, Meta(ge=0, le=1e10)]
    stamp: str = field(name="sentAt")
    session: FastCount
    sequence: FastCount
    events_total: FastCount | None = None
    mode_wanted: Mode | None = None
    trial_seconds_left: Annotated[float, Meta(ge=0)] | None = None
    policy_version: FastCount | None = None
    policy_digest: str | None = None
    policy_state: PolicyState | None = None
    version_proof: Annotated[str, Meta(max_length=128)] | None = None
    blocklist_sequence: FastCount | None = None
    outbox_size: FastCount | None = None
    outbox_dropped: FastCount | None = None
    health: Literal["ok", "degraded"] | None = None
    sources: Annotated[list[FastSource], Meta(max_length=64)] | None = None
    enforcement: str | None = None
    enforced: FastEnforced | None = None
    logins: Annotated[list[FastLogin], Meta(max_length=LOGINS_IN_HEARTBEAT)] | None = None
    receipt_mark: FastMark | None = None

    @property
    def sent_at(self) -> datetime:
        """The time of sending, on the agent's clock."""
        return datetime.fromisoformat(self.stamp)


AnyHeartbeat = Heartbeat | FastHeartbeat
"""A decoded heartbeat, whichever decoder made it."""

AnySource = SourceReport | FastSource
AnyEnforced = Enforced | FastEnforced
AnyLogins = Sequence[ReportedLogin] | Sequence[FastLogin]

_decode = msgspec.json.Decoder(FastHeartbeat).decode


def fast_heartbeat(payload: bytes) -> FastHeartbeat | None:
    """Return the heartbeat in a payload, or None if only `Heartbeat` can judge it.

    Args:
        payload: JSON without its message code.
    """
    try:
        heartbeat = _decode(payload)
        return heartbeat if _is_in_order(heartbeat) else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_in_order(heartbeat: FastHeartbeat) -> bool:
    """Return whether the texts of a heartbeat are in the grammar, so far as that is easily told.

    Raises:
        ValueError: a time is none of the calendar.
    """
    return is_plain_time(heartbeat.stamp) and is_plain_condition(heartbeat)


class _Condition(Protocol):
    """The members that heartbeats over MQTT and over HTTP have in common, and whose texts have a grammar."""

    @property
    def enforcement(self) -> str | None: ...
    @property
    def policy_digest(self) -> str | None: ...
    @property
    def receipt_mark(self) -> str | None: ...
    @property
    def sources(self) -> list[FastSource] | None: ...
    @property
    def logins(self) -> list[FastLogin] | None: ...


def is_plain_condition(heartbeat: _Condition) -> bool:
    """Return whether the texts of these members are in the grammar, so far as that is easily told.

    Raises:
        ValueError: a time is none of the calendar.
    """
    return (
        heartbeat.enforcement in _ENFORCEMENTS
        and (heartbeat.policy_digest is None or _is_digest(heartbeat.policy_digest))
        and (heartbeat.receipt_mark is None or _find_other_than_mark(heartbeat.receipt_mark) is None)
        and (heartbeat.sources is None or all(map(_is_source_in_order, heartbeat.sources)))
        and (heartbeat.logins is None or all(is_plain_time(login.stamp) for login in heartbeat.logins))
    )


def _is_source_in_order(source: FastSource) -> bool:
    return source.state in _STATES and (source.last_stamp is None or is_plain_time(source.last_stamp))


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_LENGTH and _is_hexadecimal(text)


@lru_cache(1024)  # a fleet has few policies
def _is_hexadecimal(text: str) -> bool:
    return _find_other_than_hex(text) is None
