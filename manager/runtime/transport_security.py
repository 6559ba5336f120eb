"""Transport security: certificates of the doors, verification of the broker, and refusal of plain text."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from manager.errors import SetupError
from manager.mqtt.broker_address import BrokerAddress
from manager.settings import Settings
from manager.tls.certificate_watch import CertificateWatch, Reload
from manager.tls.certificates import contains
from manager.tls.client_context import client_context, pinned_context
from manager.tls.directory import AUTHORITY, TlsDirectory
from manager.tls.server_certificate import CertificateFiles, find_files
from schemas.loopback import is_loopback

EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class Transport:
    """Certificates of the doors, and verification of the broker; None means plain text.

    Attributes:
        http: The HTTP door's certificate.
        http_tls: The TLS context of the HTTP door.
        broker: The embedded broker's certificate.
        broker_trust: The TLS context that verifies the broker.
        ca_fingerprint: The fingerprint of the manager's own authority, if it issued a door's certificate; new tokens
            contain it.
    """

    http: CertificateFiles | None
    http_tls: ssl.SSLContext | None
    broker: CertificateFiles | None
    broker_trust: ssl.SSLContext | None
    ca_fingerprint: str | None

    @classmethod
    def plan(cls, settings: Settings) -> Self:
        """Return the transport security of the settings and the files in the data directory.

        Raises:
            SetupError: a file cannot be used, or a door would serve plain text beyond loopback.
        """
        directory = TlsDirectory(settings.data_dir)
        embedded = settings.broker == EMBEDDED
        http = find_files(settings.tls_certificate, settings.tls_key, directory, "http")
        broker = find_files(settings.broker_certificate, settings.broker_key, directory, "broker") if embedded else None
        if not settings.insecure:
            _refuse_plain_text(settings, {"HTTP": http, **({"MQTT": broker} if embedded else {})})
        trust = _broker_trust(settings, directory, broker)
        http_tls = None if http is None else http.context()
        return cls(http, http_tls, broker, trust, _own_authority(settings, directory, http, broker))

    def watch(self, reload_broker: Callable[[], None], met: Callable[[], Mapping[str, float]]) -> CertificateWatch:
        """Return the watch over the certificates of the doors.

        Args:
            reload_broker: makes the embedded broker reload its certificate files.
            met: returns the expiry of other servers' certificates; see `CertificateWatch`.

        Raises:
            SetupError: one of the files cannot be read.
        """
        doors: dict[str, tuple[CertificateFiles, Reload]] = {}
        http_tls, trust = self.http_tls, self.broker_trust
        if self.http is not None and http_tls is not None:
            doors["http"] = (self.http, lambda files: files.refresh(http_tls))

        def renew_broker(files: CertificateFiles) -> None:
            files.context()  # raises for a certificate and key that do not match
            if trust is not None:
                files.add_trust(trust)
            reload_broker()

        if self.broker is not None:
            doors["mqtt"] = (self.broker, renew_broker)
        return CertificateWatch(doors, met)


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a door that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- the wildcard addresses; nothing is bound here


def _refuse_plain_text(settings: Settings, doors: dict[str, CertificateFiles | None]) -> None:
    open_doors = [door for door, files in doors.items() if files is None]
    if open_doors and not settings.on_loopback:
        raise SetupError(
            f"{settings.host} can be reached by other machines, and {' and '.join(open_doors)} would go in plain text:"
            f" make certificates with panguard manager certs init --data-dir {settings.data_dir},"
            " listen on 127.0.0.1, or say --insecure"
        )
    if settings.broker != EMBEDDED:
        address = BrokerAddress.parse(settings.broker)
        if not address.tls and not is_loopback(address.host):
            raise SetupError(
                f"the broker {address} is on another machine, and the manager's password would go there in plain text:"
                " give the broker a certificate (panguard manager certs init makes one) and write mqtts://,"
                " or say --insecure"
            )


def _broker_trust(
    settings: Settings, directory: TlsDirectory, embedded: CertificateFiles | None
) -> ssl.SSLContext | None:
    if settings.broker == EMBEDDED:
        return None if embedded is None else pinned_context(embedded)
    if not BrokerAddress.parse(settings.broker).tls:
        return None
    return client_context(settings.broker_ca_file, directory.certificate(AUTHORITY))


def _own_authority(
    settings: Settings, directory: TlsDirectory, http: CertificateFiles | None, broker: CertificateFiles | None
) -> str | None:
    """Return the own authority's fingerprint if it issued a certificate that guards see."""
    authority = directory.authority()
    if authority is None:
        return None
    shown = [files.certificate for files in (http, broker) if files is not None]
    if settings.broker != EMBEDDED and BrokerAddress.parse(settings.broker).tls:
        shown.append(settings.broker_ca_file or directory.certificate(AUTHORITY))
    return authority.fingerprint if any(contains(path, authority) for path in shown) else None
