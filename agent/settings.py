"""The guard's settings: times in seconds or as durations, sizes in bytes, with documented defaults.

Read without pydantic-settings: its import takes 4 MB of the 60 MB that a guard at rest may have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agent.errors import ConfigurationError
from agent.respond.fence_client import DEFAULT_SOCKET
from agent.respond.mode import TRIAL
from schemas.decoding import complaint
from schemas.durations import parse_seconds
from schemas.limits import MIB

_PREFIX = "PANGUARD_"

Seconds = Annotated[float, BeforeValidator(parse_seconds)]
"""A time in seconds, also written as a duration such as ``15m``."""


class GuardSettings(BaseModel):
    """The settings; each is read from the variable ``PANGUARD_`` and its name in upper case."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    heartbeat_interval: Seconds = Field(default=30, gt=0, description="seconds between heartbeats")
    policy_poll_interval: Seconds = Field(
        default=300,
        gt=0,
        description="seconds between two policy polls; over MQTT a fallback for a lost push",
    )
    keep_alive: int = Field(default=30, ge=5, le=3600, description="MQTT keep-alive in seconds")
    connect_timeout: Seconds = Field(default=15, gt=0, description="seconds to wait for a connection to be accepted")
    reconnect_base: Seconds = Field(default=1, gt=0, description="seconds; the longest wait before the first retry")
    reconnect_cap: Seconds = Field(default=60, gt=0, description="seconds; the longest wait before any retry")
    registration_timeout: Seconds = Field(
        default=5, gt=0, description="seconds to wait for the reply before a registration is sent again"
    )
    registration_attempts: int = Field(default=3, ge=1, description="times to send a registration on one connection")
    log_poll_interval: Seconds = Field(
        default=0.2, gt=0, description="seconds between two reads of a log; half of it for 5 minutes after a record"
    )
    source_check_interval: Seconds = Field(
        default=5, gt=0, description="seconds between two checks whether something can reach each log"
    )
    journal_directory: Path | None = Field(
        default=None, description="the directory of the journal that is read [default: this host's own]"
    )
    simulate_enforcement: bool = Field(
        default=False, description="pretend to enforce: report what would be taken, for demonstrations and tests"
    )
    fence_socket: Path = Field(
        default=DEFAULT_SOCKET, description="the socket of the fence, which blocks in the kernel"
    )
    mode_trial: Seconds = Field(
        default=TRIAL, gt=0, description="seconds within which mode protection must be confirmed"
    )
    outbox_max_reports: int = Field(
        default=100_000, ge=1, description="capacity of the outbox; the lowest severity is dropped first, and counted"
    )
    outbox_max_bytes: int = Field(default=64 * MIB, ge=MIB, description="capacity of the outbox in bytes")
    kept_max_reports: int = Field(
        default=20_000,
        ge=0,
        description="reports with a receipt from the last 24 hours that are kept, to be sent again if the manager's"
        " store loses them; the oldest are dropped first",
    )
    kept_max_bytes: int = Field(default=16 * MIB, ge=0, description="capacity for those reports in bytes")
    outbox_window: int = Field(default=200, ge=1, description="reports in flight: sent and without a receipt")
    receipt_timeout: Seconds = Field(
        default=30, gt=0, description="seconds without a receipt before a report is sent again; doubled each time"
    )
    block_duration: Seconds = Field(
        default=3600, gt=0, description="seconds that a block by the guard's own decision lasts"
    )


def read_settings(environment: Mapping[str, str]) -> GuardSettings:
    """Return the settings from environment variables alone, with defaults for those that are not set.

    `agent.configuration` reads those of the settings file, too.

    Raises:
        ConfigurationError: a value is invalid; the text names the variable.
    """
    names = {name: _PREFIX + name.upper() for name in GuardSettings.model_fields}
    given = {name: environment[variable] for name, variable in names.items() if environment.get(variable)}
    try:
        return GuardSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{names[str(first['loc'][0])]}: {complaint(first)}") from error
