"""Fast decoding of heartbeats over HTTP with msgspec; pydantic remains the contract.

`fast_http_heartbeat` returns a heartbeat only if `HttpHeartbeat` accepts the body with the same values, as
`fast_heartbeats` does for those over MQTT.
"""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from schemas.fast_heartbeats import (
    FastCount,
    FastEnforced,
    FastLogin,
    FastMark,
    FastPercentage,
    FastSource,
    is_plain_condition,
)
from schemas.http_agents import LARGEST_UPTIME, HttpHeartbeat, uptime_in_seconds
from schemas.limits import LOGINS_IN_HEARTBEAT, MESSAGE_LIMIT
from schemas.model import is_plain_time
from schemas.presence import PolicyState

_Word = Annotated[str, Meta(min_length=1, max_length=128)]


class FastHttpHeartbeat(Struct, rename="camel", forbid_unknown_fields=True, frozen=True, gc=False):
    """The members of `HttpHeartbeat`, decoded fast; each under its first name."""

    cpu: FastPercentage | None = None
    memory: FastPercentage | None = None
    memory_usage_mb: Annotated[float, Meta(ge=0)] | None = field(default=None, name="memoryUsageMB")
    events_processed: FastCount | None = None
    threats_detected: FastCount | None = None
    actions_executed: FastCount | None = None
    mode: _Word | None = None
    uptime: Annotated[float, Meta(ge=0, le=LARGEST_UPTIME)] | None = None
    version: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    policy_version: FastCount | None = None
    time: str | None = field(default=None, name="timestamp")
    sent: str | None = field(default=None, name="sentAt")
    events_total: FastCount | None = None
    policy_digest: str | None = None
    policy_state: PolicyState | None = None
    policy_error: Annotated[str, Meta(max_length=1024)] | None = None
    blocklist_sequence: FastCount | None = None
    outbox_size: FastCount | None = None
    outbox_dropped: FastCount | None = None
    mode_wanted: _Word | None = None
    trial_seconds_left: Annotated[float, Meta(ge=0)] | None = None
    enforced: FastEnforced | None = None
    health: Literal["ok", "degraded"] | None = None
    sources: Annotated[list[FastSource], Meta(max_length=64)] | None = None
    enforcement: str | None = None
    logins: Annotated[list[FastLogin], Meta(max_length=LOGINS_IN_HEARTBEAT)] | None = None
    receipt_mark: FastMark | None = None

    @property
    def timestamp(self) -> datetime | None:
        """The time of sending, as earlier agents state it."""
        return None if self.time is None else datetime.fromisoformat(self.time)

    @property
    def sent_at(self) -> datetime | None:
        """The time of sending, on the agent's clock."""
        return None if self.sent is None else datetime.fromisoformat(self.sent)

    @property
    def uptime_seconds(self) -> float | None:
        """Uptime in seconds."""
        return uptime_in_seconds(self.uptime, self.memory_usage_mb)


AnyHttpHeartbeat = HttpHeartbeat | FastHttpHeartbeat
"""A decoded heartbeat over HTTP, whichever decoder made it."""

_decode = msgspec.json.Decoder(FastHttpHeartbeat).decode


def fast_http_heartbeat(body: bytes) -> FastHttpHeartbeat | None:
    """Return the heartbeat in a request body, or None if only `HttpHeartbeat` can judge it.

    Args:
        body: JSON, UTF-8.
    """
    if len(body) > MESSAGE_LIMIT:
        return None
    try:
        heartbeat = _decode(body)
        return heartbeat if _is_in_order(heartbeat) else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_in_order(heartbeat: FastHttpHeartbeat) -> bool:
    """Return whether the texts of a heartbeat are in the grammar, so far as that is easily told.

    Raises:
        ValueError: a time is none of the calendar.
    """
    return (
        (heartbeat.mode is None or heartbeat.mode.isprintable())
        and (heartbeat.mode_wanted is None or heartbeat.mode_wanted.isprintable())
        and (heartbeat.version is None or heartbeat.version.isprintable())
        and (heartbeat.time is None or is_plain_time(heartbeat.time))
        and (heartbeat.sent is None or is_plain_time(heartbeat.sent))
        and is_plain_condition(heartbeat)
    )
