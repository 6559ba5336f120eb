"""The guard's settings: times in seconds, sizes in bytes, from the environment, with documented defaults."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent.errors import ConfigurationError
from schemas.limits import MIB


class GuardSettings(BaseSettings):
    """What an operator may tune; each is read from ``PANGUARD_`` and its name in upper case."""

    model_config = SettingsConfigDict(env_prefix="PANGUARD_", extra="ignore", frozen=True)

    heartbeat_interval: float = Field(default=30, gt=0, description="seconds between heartbeats")
    policy_poll_interval: float = Field(
        default=300, gt=0, description="seconds after which the retained policy is read again, should a push be lost"
    )
    keep_alive: int = Field(
        default=30, ge=5, le=3600, description="seconds of silence after which the broker is asked whether it lives"
    )
    connect_timeout: float = Field(default=15, gt=0, description="seconds a broker may take to accept a connection")
    reconnect_base: float = Field(default=1, gt=0, description="seconds; the longest wait after a first failure")
    reconnect_cap: float = Field(default=60, gt=0, description="seconds; the longest wait after any failure")
    registration_timeout: float = Field(
        default=5, gt=0, description="seconds to wait for the manager's reply before the same registration goes again"
    )
    registration_attempts: int = Field(default=3, ge=1, description="times that one registration is sent on one link")
    log_poll_interval: float = Field(default=0.2, gt=0, description="seconds between two looks at the watched log")
    outbox_max_reports: int = Field(
        default=100_000, ge=1, description="reports that wait for the manager; what is over is dropped and counted"
    )
    outbox_max_bytes: int = Field(default=64 * MIB, ge=MIB, description="bytes of reports that wait for the manager")
    outbox_window: int = Field(default=200, ge=1, description="reports sent and not yet confirmed by a receipt")
    receipt_timeout: float = Field(
        default=30, gt=0, description="seconds without a receipt after which a report is sent again; doubled each time"
    )
    block_duration: float = Field(
        default=3600, gt=0, description="seconds for which the guard blocks an address that it judged by itself"
    )


def read_settings() -> GuardSettings:
    """Return the settings that the environment gives.

    Raises:
        ConfigurationError: one of them cannot be read; the text names it.
    """
    try:
        return GuardSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper()
        raise ConfigurationError(f"PANGUARD_{name.removeprefix('PANGUARD_')}: {first['msg']}") from error
