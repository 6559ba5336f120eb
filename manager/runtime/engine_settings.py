"""Derives the engine's settings from the manager's, including the manager's own addresses, which are never blocked."""

import hmac
import socket

import psutil
import structlog

from manager.domain.agents.liveness import LivenessTimes
from manager.domain.correlation import CorrelatorSettings
from manager.domain.response import ResponderSettings
from manager.engine.settings import EngineSettings
from manager.mqtt.broker_address import BrokerAddress
from manager.notifications.settings import read_channels
from manager.runtime import clock
from manager.runtime.transport_security import EMBEDDED
from manager.settings import Settings
from schemas.keys import derive

log = structlog.get_logger(__name__)


def engine_settings(settings: Settings, ca_fingerprint: str | None = None, admin_text: str = "") -> EngineSettings:
    """Return the engine's settings; new enrollment tokens contain `ca_fingerprint`, `admin_text` names the admin token.

    The addresses of people who used another admin token are not those of operators any more.
    """
    return EngineSettings(
        admin_text=admin_text,
        ca_fingerprint=ca_fingerprint,
        boot_id=clock.boot_id(),
        sweep_interval=settings.sweep_interval,
        batch_limit=settings.batch_limit,
        agent_messages=settings.agent_messages,
        agent_bytes=settings.agent_bytes,
        burst=settings.agent_burst,
        suspension=settings.suspension,
        threat_retention=settings.threat_retention,
        id_retention=settings.id_retention,
        history_retention=settings.history_retention,
        audit_retention=settings.audit_retention,
        offline_retention=settings.offline_retention,
        takeover=settings.takeover_rule,
        enrollment_rate=settings.enrollment_limit,
        republish_after=settings.republish_after,
        snapshot_every=settings.snapshot_every,
        held_back_after=settings.held_back_after,
        times=LivenessTimes(settings.stale_after, settings.settling_time),
        correlator=CorrelatorSettings(settings.source_ip_agents, settings.file_hash_agents, settings.technique_agents),
        responder=ResponderSettings(
            duration=settings.block_duration,
            longest=max(settings.block_duration, ResponderSettings().longest),
            organization_agents=settings.organization_agents,
            organization_age=settings.organization_age,
            organization_networks=settings.organization_networks,
            blocks=settings.block_limit,
            simulation=settings.simulation,
        ),
        own_addresses=own_addresses(settings.broker),
        admin_networks=settings.admin_networks,
        fleet_networks=settings.fleet_networks,
        channels=frozenset(settings.notifications),
        channel_organizations={
            name: frozenset(channel.organizations)
            for name, channel in read_channels(settings.notifications).items()
            if channel.organizations is not None
        },
    )


def keyed_id(key: bytes, secret: str) -> str:
    """Return an id of a secret by which nobody without the key can try guesses."""
    return hmac.digest(key, secret.encode(), "sha256")[:8].hex()


def own_addresses(broker: str) -> tuple[str, ...]:
    """Return the addresses of this host and of the broker; no guard blocks them."""
    addresses = {
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in {socket.AF_INET, socket.AF_INET6}
    }
    if broker != EMBEDDED:
        try:
            addresses |= {str(found[4][0]) for found in socket.getaddrinfo(BrokerAddress.parse(broker).host, None)}
        except OSError as error:
            log.warning(
                "broker_not_resolved", reason=str(error), hint="its address is not protected from being blocked"
            )
    return tuple(sorted(addresses))


def share_group(database_key: bytes) -> str:
    """Return the name of the shared subscriptions of a database's processes, from a key that only they have."""
    return f"panguard-{derive(database_key, b'share group').hex()[:16]}"


def life_key(store_key: bytes) -> bytes:
    """Return the key of the messages between the processes of a database."""
    return derive(store_key, b"worker life")
