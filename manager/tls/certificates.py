"""Reads certificate files: subject, names, expiry and fingerprint."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from manager.errors import SetupError
from schemas.certificates import fingerprint

DAY = 86_400.0


class CertificateError(SetupError):
    """A certificate or its key cannot be created, read or used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate.

    Attributes:
        subject: Its subject, in the form of RFC 4514.
        names: The names and addresses that it is valid for.
        expires_at: Seconds since 1970.
        fingerprint: SHA-256 of its DER in base64url, as in enrollment tokens.
        der: Its DER encoding.
    """

    subject: str
    names: tuple[str, ...]
    expires_at: float
    fingerprint: str
    der: bytes


def days_left(expires_at: float, now: float) -> int:
    """Return the whole days between two times in seconds since 1970; negative after expiry."""
    return int((expires_at - now) // DAY)


def read_chain(path: Path) -> list[Certificate]:
    """Return the certificates of a PEM file, in its order.

    Raises:
        CertificateError: the file cannot be read or contains no certificate.
    """
    content = _content(path)
    try:
        return [_read(found) for found in x509.load_pem_x509_certificates(content)]
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise CertificateError(f"{path} is not a file of PEM certificates: {error}") from error


def contains(path: Path, certificate: Certificate) -> bool:
    """Return whether a PEM file contains a certificate, without parsing others: system bundles contain malformed ones.

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
