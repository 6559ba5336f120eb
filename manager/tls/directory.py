"""`<data directory>/tls`: the manager's certificate authority and certificates, created once and renewed in place."""

import os
import shutil
import socket
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from manager.tls.authority import SERVER_DAYS, Issued, is_host, issue, new_authority
from manager.tls.certificates import Certificate, CertificateError, read_chain

AUTHORITY = "ca"
SERVERS = ("http", "broker")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Loopback names in every server's certificate."""


class TlsDirectory:
    """The certificates and keys below a manager's data directory.

    Args:
        data_directory: the manager's data directory.
    """

    def __init__(self, data_directory: Path) -> None:
        self.path = data_directory / "tls"

    def certificate(self, name: str) -> Path:
        """Return a certificate's path; a server's file holds its own certificate first, then its authority's."""
        return self.path / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the path of a certificate's private key."""
        return self.path / f"{name}.key"

    def authority(self) -> Certificate | None:
        """Return the authority's certificate; None if there is none.

        Raises:
            CertificateError: the file cannot be read.
        """
        path = self.certificate(AUTHORITY)
        return read_chain(path)[0] if file_exists(path) else None

    def init(self, hosts: Sequence[str], now: datetime, days: int = SERVER_DAYS) -> None:
        """Create an authority and the certificates of both doors; all files appear together or none.

        Args:
            hosts: further names and addresses of this machine, besides its own name and loopback.
            now: the start of their validity.
            days: validity of the servers' certificates.

        Raises:
            CertificateError: certificates exist already, or the files cannot be written.
        """
        if file_exists(self.path):
            raise CertificateError(
                f"{self.path} exists already: panguard manager certs renew makes new certificates of the same"
                " authority; for a new authority, which no guard trusts yet, move the directory away"
            )
        authority = new_authority(now)
        files = {f"{AUTHORITY}.crt": authority.certificate_pem, f"{AUTHORITY}.key": authority.key_pem}
        files |= _server_files(authority, _all_names(hosts), now, days)
        draft = self.path.with_name(".tls.new")
        try:
            draft.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            for name, content in files.items():
                _write(draft / name, content)
            draft.rename(self.path)
        except OSError as error:
            raise CertificateError(f"{self.path} cannot be written: {error.strerror}") from error

    def renew(self, hosts: Sequence[str], now: datetime, days: int = SERVER_DAYS) -> None:
        """Create new certificates of both doors under the same authority, which guards already trust.

        Args:
            hosts: as for `init`; none keeps the names that the certificates have.
            now: the start of their validity.
            days: their validity.

        Raises:
            CertificateError: there is no authority, it has expired, or the files cannot be written.
        """
        authority = self._issuer()
        if authority.certificate.not_valid_after_utc <= now:
            raise CertificateError(
                f"the authority in {self.path} has expired: move the directory away, run panguard manager certs init,"
                " and give every guard a new token or the new ca.crt"
            )
        for server in SERVERS:
            names = _all_names(hosts or self._names(server))
            for name, content in sorted(_one_server(authority, server, names, now, days).items(), reverse=True):
                self._replace(self.path / name, content)

    def certificates(self) -> list[tuple[str, Path, Certificate]]:
        """Return name, path and content of each certificate that exists.

        Raises:
            CertificateError: a file cannot be read.
        """
        files = [(name, self.certificate(name)) for name in (AUTHORITY, *SERVERS)]
        return [(name, path, read_chain(path)[0]) for name, path in files if file_exists(path)]

    def _names(self, server: str) -> tuple[str, ...]:
        path = self.certificate(server)
        return read_chain(path)[0].names if file_exists(path) else ()

    def _issuer(self) -> Issued:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate(AUTHORITY).read_bytes())
            key = load_pem_private_key(self.key(AUTHORITY).read_bytes(), None)
            public = certificate.public_key()
        except FileNotFoundError as error:
            raise CertificateError(
                f"{error.filename} does not exist: panguard manager certs init makes an authority;"
                " a key that is kept elsewhere has to be put back to renew"
            ) from error
        except OSError as error:
            raise CertificateError(f"{error.filename} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificateError(f"the authority in {self.path} is damaged; restore ca.crt and ca.key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != public:
            raise CertificateError(f"{self.key(AUTHORITY)} is not the key of ca.crt; restore the right one")
        return Issued(certificate, key)

    def _replace(self, path: Path, content: bytes) -> None:
        draft = path.with_name(f".{path.name}.new")
        try:
            draft.unlink(missing_ok=True)
            _write(draft, content)
            draft.replace(path)
        except OSError as error:
            raise CertificateError(f"{path} cannot be written: {error.strerror}") from error


def file_exists(path: Path) -> bool:
    """Return whether a file exists.

    Raises:
        CertificateError: its directory is not readable.
    """
    try:
        return path.exists()
    except OSError as error:
        raise CertificateError(
            f"{path} is not accessible ({error.strerror}): run this as the owner of the data directory"
        ) from error


def _all_names(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the given hosts, this host's own name if it is valid in a certificate, and loopback; each once."""
    own = socket.gethostname()
    return tuple(dict.fromkeys([*hosts, *([own] if is_host(own) else []), *LOOPBACK_NAMES]))


def _server_files(authority: Issued, names: Sequence[str], now: datetime, days: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for server in SERVERS:
        files |= _one_server(authority, server, names, now, days)
    return files


def _one_server(authority: Issued, server: str, names: Sequence[str], now: datetime, days: int) -> dict[str, bytes]:
    """Return a server's two files; the chain includes the authority, so that a client can check its fingerprint."""
    issued = issue(authority, names, now, days)
    return {f"{server}.crt": issued.certificate_pem + authority.certificate_pem, f"{server}.key": issued.key_pem}


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
