"""Every setting of the manager: what it means, its default, and the environment variable that sets it."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from manager.domain.agents.registry import Takeover
from manager.domain.networks import network_of
from schemas.loopback import is_loopback


def default_data_directory() -> Path:
    """Return where data lives if nothing else is said: the system's place for root, the user's own for others."""
    if os.geteuid() == 0:
        return Path("/var/lib/panguard/manager")
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "panguard" / "manager"


def _listed(value: object) -> object:
    """Read a list as an environment variable has it: words between commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if network_of(text) is None:
            raise ValueError("say addresses and CIDRs, such as 10.0.0.0/8, with commas between them")
    return texts


Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_networks)]


class Settings(BaseSettings):
    """Read from the environment (`PANGUARD_…`) and from flags, which win. Times are in seconds."""

    model_config = SettingsConfigDict(env_prefix="PANGUARD_", extra="ignore", populate_by_name=True)

    data_dir: Path = Field(default_factory=default_data_directory, description="where keys and the store live")
    host: str = Field("127.0.0.1", description="the address that both doors listen on")
    port: int = Field(8443, ge=0, le=65535, description="the HTTP port; 0 takes a free one")
    mqtt_port: int = Field(1883, ge=0, le=65535, description="the embedded broker's port; 0 takes a free one")
    broker: str = Field("embedded", description="`embedded`, or the URL of a broker: mqtts://[user@]host:port")
    broker_password: SecretStr | None = Field(None, description="the manager's password at a broker of its own")
    auth_token: SecretStr | None = Field(
        None,
        validation_alias="MANAGER_AUTH_TOKEN",
        description="the admin token; made and kept in the data directory if none is given",
    )
    insecure: bool = Field(False, description="serve, and reach the broker, beyond loopback without TLS")
    tls_certificate: Path | None = Field(
        None, description="the HTTP door's certificate and chain, PEM; by default tls/http.crt in the data directory"
    )
    tls_key: Path | None = Field(None, description="its private key, PEM; by default tls/http.key")
    broker_certificate: Path | None = Field(
        None, description="the embedded broker's certificate and chain, PEM; by default tls/broker.crt"
    )
    broker_key: Path | None = Field(None, description="its private key, PEM; by default tls/broker.key")
    broker_ca_file: Path | None = Field(
        None, description="whom to trust for a broker of its own, PEM; by default the system's and tls/ca.crt"
    )
    trusted_networks: Networks = Field(
        (), description="addresses and CIDRs whose hosts may register over HTTP without a token"
    )
    trusted_proxies: Networks = Field(
        (), description="addresses and CIDRs of the proxies whose X-Forwarded-For is believed"
    )
    rate_limit: int = Field(
        60, ge=0, description="HTTP requests a minute of one agent, or of one address without a token; 0 for no limit"
    )
    cors_allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        (),
        validation_alias="CORS_ALLOWED_ORIGINS",
        description="web pages that may read answers, such as https://dashboard.example; * is every page",
    )

    heartbeat_interval: float = Field(30, gt=0, description="how often agents are asked to send a heartbeat")
    stale_after: float = Field(90, gt=0, description="silence from which an agent is stale")
    sweep_interval: float = Field(30, gt=0, description="how often silence is looked for")
    held_back_after: float = Field(
        90, gt=0, description="how long reports may wait on a guard with nothing new of it stored, before it is said"
    )
    republish_after: float = Field(
        10, gt=0, description="how long a guard has to take a policy before the policy is published to it again"
    )
    snapshot_every: float = Field(
        10, gt=0, description="how much time lies between two snapshots of an organization's blocklist at least"
    )
    settling_time: float = Field(5, ge=0, description="how long a last will waits for a newer sign of life")
    policy_poll_interval: float = Field(300, gt=0, description="how often HTTP agents are asked to poll")
    takeover: Takeover | None = Field(
        None,
        description="when a registration without the old credential replaces it: allow, when-offline or proof; "
        "by default allow on loopback, when-offline beyond",
    )
    source_ip_agents: int = Field(2, ge=2, description="agents that must share a source address to make an incident")
    file_hash_agents: int = Field(2, ge=2, description="agents that must share a file hash to make an incident")
    technique_agents: int = Field(2, ge=2, description="agents that must share a technique to make an incident")
    organization_agents: int = Field(
        3, ge=2, description="agents from which on an address or hash is blocked in the whole organization"
    )
    block_duration: float = Field(4 * 3600, gt=0, description="how long an emergency block lasts at first")
    block_limit: int = Field(
        100, ge=1, description="new emergency blocks in 5 minutes; what is over waits for approval"
    )
    simulation: bool = Field(False, description="only record what incidents would have done")
    admin_networks: Networks = Field((), description="addresses and CIDRs that are never blocked: where you sit")
    threat_retention: float = Field(86_400, gt=0, description="how long threats are kept")
    id_retention: float = Field(7 * 86_400, gt=0, description="how long the ids of stored threats are known")
    agent_messages: float = Field(200, gt=0, description="messages a second that one agent may send")
    agent_bytes: float = Field(2 * 1024 * 1024, gt=0, description="bytes a second that one agent may send")
    agent_burst: float = Field(10, gt=0, description="seconds for which an unused budget adds up")
    suspension: float = Field(
        60, gt=0, description="how long an agent that floods is kept out at the broker (Mosquitto)"
    )
    batch_limit: int = Field(500, ge=1, le=10_000, description="messages in one transaction at most")

    @property
    def on_loopback(self) -> bool:
        """Whether both doors are closed to other machines."""
        return is_loopback(self.host)

    @property
    def takeover_rule(self) -> Takeover:
        """The takeover rule in force."""
        if self.takeover is not None:
            return self.takeover
        return Takeover.ALLOW if self.on_loopback else Takeover.WHEN_OFFLINE
