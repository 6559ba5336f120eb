"""The guard's settings: times in seconds, sizes in bytes, from the environment, with documented defaults.

They are read without pydantic-settings, whose import alone takes 4 MB of the 60 that a guard at rest may have.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import ConfigurationError
from schemas.decoding import complaint
from schemas.limits import MIB

_PREFIX = "PANGUARD_"


class GuardSettings(BaseModel):
    """What an operator may tune; each is read from ``PANGUARD_`` and its name in upper case."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    heartbeat_interval: float = Field(default=30, gt=0, description="seconds between heartbeats")
    policy_poll_interval: float = Field(
        default=300,
        gt=0,
        description="seconds between two looks at the policy: over HTTP its poll, over MQTT in case a push was lost",
    )
    keep_alive: int = Field(
        default=30, ge=5, le=3600, description="seconds of silence after which the broker is asked whether it lives"
    )
    connect_timeout: float = Field(
        default=15, gt=0, description="seconds a broker or manager may take to accept a connection"
    )
    reconnect_base: float = Field(default=1, gt=0, description="seconds; the longest wait after a first failure")
    reconnect_cap: float = Field(default=60, gt=0, description="seconds; the longest wait after any failure")
    registration_timeout: float = Field(
        default=5, gt=0, description="seconds to wait for the manager's reply before the same registration goes again"
    )
    registration_attempts: int = Field(default=3, ge=1, description="times that one registration is sent on one link")
    log_poll_interval: float = Field(default=0.2, gt=0, description="seconds between two looks at the watched log")
    source_check_interval: float = Field(
        default=5, gt=0, description="seconds between two checks whether something can reach each log"
    )
    journal_directory: Path | None = Field(
        default=None, description="the directory of the journal that is read [default: this host's own]"
    )
    simulate_enforcement: bool = Field(
        default=False, description="pretend to enforce: report what would be taken, for demonstrations and tests"
    )
    outbox_max_reports: int = Field(
        default=100_000, ge=1, description="reports that wait for the manager; what is over is dropped and counted"
    )
    outbox_max_bytes: int = Field(default=64 * MIB, ge=MIB, description="bytes of reports that wait for the manager")
    outbox_window: int = Field(default=200, ge=1, description="reports sent and not yet confirmed")
    receipt_timeout: float = Field(
        default=30, gt=0, description="seconds without a receipt after which a report is sent again; doubled each time"
    )
    block_duration: float = Field(
        default=3600, gt=0, description="seconds for which the guard blocks an address that it judged by itself"
    )


def read_settings(environment: Mapping[str, str]) -> GuardSettings:
    """Return the settings that an environment gives; what it does not name keeps its default.

    Raises:
        ConfigurationError: one of them cannot be read; the text names it.
    """
    names = {name: _PREFIX + name.upper() for name in GuardSettings.model_fields}
    given = {name: environment[variable] for name, variable in names.items() if environment.get(variable)}
    try:
        return GuardSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{names[str(first['loc'][0])]}: {complaint(first)}") from error
