"""What a file of certificates says: for whom the first one is, until when, and its fingerprint."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from manager.tls.errors import CertificateError
from schemas.certificates import fingerprint

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate.

    Attributes:
        subject: For whom it is, as RFC 4514 writes a name.
        names: The names and addresses that it is good for.
        expires_at: Seconds since 1970.
        fingerprint: SHA-256 of its DER, base64url, as enrollment tokens carry it.
        der: All of it.
    """

    subject: str
    names: tuple[str, ...]
    expires_at: float
    fingerprint: str
    der: bytes


def days_left(expires_at: float, now: float) -> int:
    """Return the whole days between two times in seconds since 1970; negative once the first one is over."""
    return int((expires_at - now) // DAY)


def read_chain(path: Path) -> list[Certificate]:
    """Return the certificates of a PEM file, in its order.

    Raises:
        CertificateError: it cannot be read, or holds none.
    """
    content = _content(path)
    try:
        return [_read(found) for found in x509.load_pem_x509_certificates(content)]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError(f"{path} is no file of PEM certificates: {error}") from error


def holds(path: Path, certificate: Certificate) -> bool:
    """Return whether a PEM file holds a certificate. No other one in it is read: some of a system's bundle are odd.

    Raises:
        CertificateError: the file cannot be read.
    """
    return b64encode(certificate.der) in b"".join(_content(path).split())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"the certificate {path} cannot be read: {error.strerror}") from error


def _read(found: x509.Certificate) -> Certificate:
    der = found.public_bytes(Encoding.DER)
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = tuple(str(name.value) for name in extension.value)
    except x509.ExtensionNotFound:
        names = ()
    expires_at = found.not_valid_after_utc.timestamp()
    return Certificate(found.subject.rfc4514_string(), names, expires_at, fingerprint(der), der)
