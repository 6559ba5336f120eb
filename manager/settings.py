"""The manager's settings: meaning, default and environment variable of each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from manager.data_directory import DataDirectory
from manager.domain.agents.registry import Takeover
from manager.domain.networks import network_of
from manager.domain.response import OrganizationResponse
from manager.errors import SetupError
from manager.role import Role
from manager.storage.location import StoreLocation
from manager.storage.postgresql.address import database_address
from schemas.durations import parse_seconds
from schemas.loopback import is_loopback

_ENROLLMENT_RATE = 60
_ORGANIZATION_AGE = 86_400.0
_ORGANIZATION_NETWORKS = 2


def default_data_directory() -> Path:
    """Return the default data directory: a system directory for root, one in the home directory for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/panguard/manager")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "panguard" / "manager"


def _listed(value: object) -> object:
    """Parse a comma-separated list."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _database(url: str | None) -> str | None:
    if url is not None:
        try:
            return database_address(url).url
        except SetupError as error:
            raise ValueError(str(error)) from None  # pydantic would quote the URL of the cause
    return None


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if network_of(text) is None:
            raise ValueError("give addresses and CIDRs separated by commas, such as 10.0.0.0/8")
    return texts


Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_networks)]

Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(allow_inf_nan=False)]
"""A time in seconds, also written as a duration such as ``15m``."""

NotificationTables = Annotated[Mapping[str, Mapping[str, Any]], NoDecode]


class Settings(BaseSettings):
    """Settings from the environment (`PANGUARD_…`) and from those given, which take precedence. Times are in seconds.

    `manager.configuration` gives those of options and settings file.
    """

    model_config = SettingsConfigDict(env_prefix="PANGUARD_", extra="ignore", populate_by_name=True)

    data_dir: Path = Field(default_factory=default_data_directory, description="directory of the keys and the store")
    key_file: Path | None = Field(
        None, description="file with the key that seals the secrets in the store; default manager.key in data_dir"
    )
    database: Annotated[str | None, AfterValidator(_database)] = Field(
        None,
        description="the store in PostgreSQL: postgresql://USER@HOST:PORT/NAME; default an SQLite file in data_dir",
    )
    database_password_file: Path | None = Field(
        None, description="file with the password of the database's user; default libpq's password file"
    )
    role: Role = Field(
        Role.ALL,
        description="part of this process among those of one database: all (leads or stands by), or ingest",
    )
    address: str | None = Field(
        None,
        description="URL at which the other managers of the database reach this one's HTTP door; default by host and"
        " port, with the host's name where it listens on all addresses",
    )
    host: str = Field("127.0.0.1", description="address that both doors listen on")
    port: int = Field(8443, ge=0, le=65535, description="HTTP port; 0 takes a free one")
    mqtt_port: int = Field(1883, ge=0, le=65535, description="port of the embedded broker; 0 takes a free one")
    broker: str = Field("embedded", description="`embedded`, or the URL of a broker: mqtts://[user@]host:port")
    broker_password: SecretStr | None = Field(None, description="the manager's password at an external broker")
    broker_password_file: Path | None = Field(
        None, description="file with the manager's password at an external broker; broker_password goes before it"
    )
    auth_token: SecretStr | None = Field(
        None,
        validation_alias="MANAGER_AUTH_TOKEN",
        description="admin token; by default created in the data directory",
    )
    auth_token_file: Path | None = Field(None, description="file with the admin token; auth_token goes before it")
    insecure: bool = Field(False, description="allow doors and broker connection beyond loopback without TLS")
    tls_certificate: Path | None = Field(
        None, description="certificate and chain of the HTTP door, PEM; default tls/http.crt in the data directory"
    )
    tls_key: Path | None = Field(None, description="private key of the HTTP door, PEM; default tls/http.key")
    broker_certificate: Path | None = Field(
        None, description="certificate and chain of the embedded broker, PEM; default tls/broker.crt"
    )
    broker_key: Path | None = Field(None, description="private key of the embedded broker, PEM; default tls/broker.key")
    broker_ca_file: Path | None = Field(
        None, description="trusted CA certificates for an external broker, PEM; default the system's and tls/ca.crt"
    )
    trusted_networks: Networks = Field(
        (), description="addresses and CIDRs whose hosts may register over HTTP without a token"
    )
    trusted_proxies: Networks = Field((), description="addresses and CIDRs of proxies whose X-Forwarded-For is trusted")
    rate_limit: int = Field(
        60, ge=0, description="HTTP requests a minute of one agent, or of one address without a token; 0 is no limit"
    )
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (),
        validation_alias="CORS_ALLOWED_ORIGINS",
        description="origins that may read responses, such as https://dashboard.example; * is any origin",
    )

    heartbeat_interval: Seconds = Field(30, gt=0, description="seconds between an agent's heartbeats")
    stale_after: Seconds = Field(90, gt=0, description="seconds without a heartbeat after which an agent is stale")
    sweep_interval: Seconds = Field(30, gt=0, description="seconds between two checks for stale agents")
    held_back_after: Seconds = Field(
        90,
        gt=0,
        description="seconds that reports may wait on a guard with none stored until they count as held back",
    )
    republish_after: Seconds = Field(
        10, gt=0, description="seconds until a policy that a guard has not applied is published again"
    )
    snapshot_every: Seconds = Field(
        10, gt=0, description="least seconds between two snapshots of an organization's blocklist"
    )
    settling_time: Seconds = Field(5, ge=0, description="seconds that a last will waits for a newer sign of life")
    policy_poll_interval: Seconds = Field(300, gt=0, description="seconds between an HTTP agent's policy polls")
    takeover: Takeover | None = Field(
        None,
        description="condition for a registration to replace a credential without it: allow, when-offline or proof; "
        "default allow on loopback, else when-offline",
    )
    enrollment_rate: int | None = Field(
        None,
        ge=0,
        description="new agents an hour that an enrollment token without limits registers; 0 is no limit; "
        "default 60, and no limit where HTTP and broker are on loopback only",
    )
    source_ip_agents: int = Field(2, ge=2, description="agents with one source address that make an incident")
    file_hash_agents: int = Field(2, ge=2, description="agents with one file hash that make an incident")
    technique_agents: int = Field(2, ge=2, description="agents with one technique that make an incident")
    organization_agents: int = Field(
        3,
        ge=2,
        description="agents of an incident from which on its address or hash is blocked in the whole organization",
    )
    organization_response: OrganizationResponse | None = Field(
        None,
        description="agents that the organization-wide block counts: vouched (those that prove who wrote the report) "
        "or any; default as chosen before, in a new store vouched",
    )
    organization_response_age: Seconds | None = Field(
        None,
        ge=0,
        description="seconds for which these agents have to be registered, else the block waits for approval; 0 is "
        "off; default 24 h, and off where HTTP and broker are on loopback only",
    )
    organization_response_networks: int | None = Field(
        None,
        ge=0,
        description="networks (/24, /48) that these agents have to be in, else the block waits for approval; 0 is "
        "off; default 2, and off where HTTP and broker are on loopback only",
    )
    block_duration: Seconds = Field(4 * 3600, gt=0, description="seconds of an emergency block's first term")
    block_limit: int = Field(
        100, ge=1, description="new emergency blocks in 5 minutes; more than that wait for approval"
    )
    simulation: bool = Field(False, description="record responses without carrying them out")
    admin_networks: Networks = Field((), description="addresses and CIDRs of administrators, which are never blocked")
    fleet_networks: Networks = Field((), description="addresses and CIDRs of the fleet, which no guard ever blocks")
    threat_retention: Seconds = Field(86_400, gt=0, description="seconds that threats are kept")
    id_retention: Seconds = Field(7 * 86_400, gt=0, description="seconds that the ids of stored threats are kept")
    history_retention: Seconds = Field(90 * 86_400, gt=0, description="seconds that changes of agents' states are kept")
    audit_retention: Seconds = Field(
        730 * 86_400, ge=90 * 86_400, description="seconds that audit entries are kept, at least 90 days"
    )
    offline_retention: Seconds | None = Field(
        None,
        gt=0,
        description="seconds after which an agent that signed off and did not come back is removed for good; "
        "default never; an agent that is only stale is never removed",
    )
    agent_messages: float = Field(200, gt=0, description="messages a second that one agent may send")
    agent_bytes: float = Field(2 * 1024 * 1024, gt=0, description="bytes a second that one agent may send")
    agent_burst: Seconds = Field(10, gt=0, description="seconds over which an unused budget accumulates")
    suspension: Seconds = Field(
        60, gt=0, description="seconds that a flooding agent is suspended at the broker (Mosquitto)"
    )
    batch_limit: int = Field(4000, ge=1, le=10_000, description="most messages in one transaction")
    notifications: NotificationTables = Field(
        default_factory=dict, description="channels of notifications by name: tables of the settings file"
    )

    @property
    def store(self) -> StoreLocation:
        """The place of the store.

        Raises:
            SetupError: the file of the database's password cannot be read.
        """
        if self.database is None:
            return DataDirectory(self.data_dir).store
        return database_address(self.database, self.database_password_file)

    @property
    def on_loopback(self) -> bool:
        """Whether both doors listen on loopback only."""
        return is_loopback(self.host)

    @property
    def enrollment_limit(self) -> int:
        """The configured enrollment rate, or the default for the addresses of HTTP and broker; 0 is no limit."""
        if self.enrollment_rate is not None:
            return self.enrollment_rate
        return 0 if self._serves_loopback_only else _ENROLLMENT_RATE

    @property
    def organization_age(self) -> float:
        """The configured age of agents for the organization-wide block, in seconds, or the default; 0 is off."""
        if self.organization_response_age is not None:
            return self.organization_response_age
        return 0.0 if self._serves_loopback_only else _ORGANIZATION_AGE

    @property
    def organization_networks(self) -> int:
        """The configured number of networks for the organization-wide block, or the default; 0 is off."""
        if self.organization_response_networks is not None:
            return self.organization_response_networks
        return 0 if self._serves_loopback_only else _ORGANIZATION_NETWORKS

    @property
    def _serves_loopback_only(self) -> bool:
        broker_host = self.host if self.broker == "embedded" else urlsplit(self.broker).hostname
        return self.on_loopback and is_loopback(broker_host or "")

    @property
    def takeover_rule(self) -> Takeover:
        """The configured takeover rule, or the default for the host."""
        if self.takeover is not None:
            return self.takeover
        return Takeover.ALLOW if self.on_loopback else Takeover.WHEN_OFFLINE
