"""TLS trust: verifies the manager's or broker's certificate by a CA file, a pinned fingerprint, or the system store."""

import socket
import ssl
from pathlib import Path
from typing import Any

from agent.errors import ConfigurationError, GuardError
from agent.link.address import ManagerAddress
from agent.storage.files import write_private
from schemas.certificates import fingerprint, refusal
from schemas.protocol_mismatch import no_tls

PINNED = "ca.crt"
"""File name of the pinned CA certificate in the data directory."""

_PATIENCE = 10.0
_NO_TLS = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING")
"""OpenSSL's reasons where a server answers a TLS hello in another protocol, or hangs up on it."""


class DistrustError(GuardError):
    """The server's chain lacks the CA certificate that the enrollment token names."""

    def __init__(self, address: ManagerAddress) -> None:
        super().__init__(
            f"{address} does not show the authority that the enrollment token names: the token is another manager's,"
            " or somebody stands between; take a new token from this manager"
        )


class Trust:
    """Certificate verification for every connection of one guard.

    Args:
        address: The server.
        context: The TLS context; with a `wanted` CA it trusts no certificate until that CA is found.
        wanted: The fingerprint of the only CA to trust; the server sends its certificate.
        keep: The file for the pinned CA certificate, for starts without a token.
    """

    def __init__(
        self, address: ManagerAddress, context: ssl.SSLContext, wanted: str | None = None, keep: Path | None = None
    ) -> None:
        self.context = context
        self._address = address
        self._wanted = wanted
        self._keep = keep

    def fetch_wanted_ca(self) -> None:
        """Find the wanted CA in the server's chain, trust and pin it; do nothing if it was found before.

        The handshake of each connection then verifies that this CA signed the server's certificate.

        Raises:
            DistrustError: the chain does not contain the CA.
            StorageError: the CA certificate cannot be stored.
            OSError: the server cannot be reached.
        """
        if self._wanted is None:
            return
        address = self._address
        for certificate in fetch_chain(address.host, address.port, _PATIENCE):
            if fingerprint(certificate) == self._wanted:
                if self._keep is not None:
                    write_private(self._keep, ssl.DER_cert_to_PEM_cert(certificate).encode(), durable=True)
                self.context.load_verify_locations(cadata=certificate)
                self._wanted = None
                return
        raise DistrustError(address)

    def reason(self, error: BaseException, *, connecting: bool = True) -> str:
        """Return an error message for a failed connection.

        Args:
            error: The error.
            connecting: It was raised before the TLS handshake was complete.
        """
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, ssl.SSLCertVerificationError):
                return refusal(str(self._address), seen.verify_code, seen.verify_message)
            is_no_tls = isinstance(seen, ssl.SSLError) and seen.reason in _NO_TLS
            if connecting and (is_no_tls or isinstance(seen, ConnectionResetError)):
                return no_tls(str(self._address))
            seen = seen.__cause__ or seen.__context__
        return str(error) or type(error).__name__


def trust_for(
    address: ManagerAddress, directory: Path, ca_file: Path | None = None, wanted: str | None = None
) -> Trust | None:
    """Return the trust for an address: a CA file, else the CA that the token names, else the system's store.

    Args:
        address: The server.
        directory: The guard's data directory, with a CA pinned at an earlier start.
        ca_file: The operator's CA file.
        wanted: The CA fingerprint in the token.

    Returns:
        None for an address without TLS.

    Raises:
        ConfigurationError: a file holds no certificates.
    """
    if not address.tls:
        return None
    pinned = directory / PINNED
    if ca_file is not None:
        return Trust(address, _trusting(ca_file))
    if pinned.exists() and (wanted is None or _fingerprint_of(pinned) == wanted):
        return Trust(address, _trusting(pinned))
    if wanted is None:
        return Trust(address, _trusting(None))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return Trust(address, context, wanted, pinned)


def _fingerprint_of(path: Path) -> str | None:
    try:
        return fingerprint(ssl.PEM_cert_to_DER_cert(path.read_text("ascii")))
    except (OSError, ValueError):
        return None  # damaged: the server sends it again


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise ConfigurationError(
            f"{ca_file} is no file of PEM certificates ({error}): name one by --ca-file,"
            " or give the guard an enrollment token of its manager"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def fetch_chain(host: str, port: int, timeout: float) -> list[bytes]:
    """Return the certificate chain that a server sends, as DER, its own certificate first; verify nothing.

    Only a TLS hello is sent. Before Python 3.13 the chain as sent is available only from the private object inside an
    `SSLSocket`.

    Args:
        host: The server's name or address.
        port: Its port.
        timeout: Seconds for each step.

    Raises:
        OSError: the server cannot be reached, or does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return _chain(secured)


def _chain(secured: Any) -> list[bytes]:
    if hasattr(secured, "get_unverified_chain"):
        return list(secured.get_unverified_chain())
    sent = secured._sslobj.get_unverified_chain() or ()  # noqa: SLF001 -- see fetch_chain
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in sent]
