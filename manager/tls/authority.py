"""Creates certificates (ECDSA P-256) of a certificate authority and of the servers that it signs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from manager.tls.certificates import CertificateError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
"""The longest validity that browsers accept (CA/Browser Forum, baseline requirements)."""

# Backdated, so that a host whose clock is slightly behind accepts a new certificate.
_BACKDATED = timedelta(hours=1)
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(\*\.)?{_LABEL}(\.{_LABEL})*")
_LONGEST_NAME = 64

PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM, not encrypted: the file's mode protects it."""
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def new_authority(now: datetime, days: int = AUTHORITY_DAYS) -> Issued:
    """Return a new certificate authority that may sign only servers' certificates."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # A unique name distinguishes authorities in error messages.
    name = _x509_name(f"Panguard CA {serial % 16**8:08x}")
    builder = (
        _builder(name, key, name, key, serial=serial)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return Issued(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Issued, hosts: Sequence[str], now: datetime, days: int = SERVER_DAYS) -> Issued:
    """Return a server's certificate for these names and addresses; the first one is the subject.

    The certificate expires no later than the authority.

    Raises:
        CertificateError: a host is neither a valid name nor an address.
    """
    names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    builder = (
        _builder(_x509_name(hosts[0][:_LONGEST_NAME]), key, issuer.subject, authority.key)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(min(now + timedelta(days=days), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
    )
    return Issued(builder.sign(authority.key, hashes.SHA256()), key)


def is_host(text: str) -> bool:
    """Return whether a name or address is valid in a certificate."""
    try:
        _alternative(text)
    except CertificateError:
        return False
    return True


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass  # not an address: a name
    if _HOST.fullmatch(host) is None:
        raise CertificateError(
            f"{host!r} is not valid in a certificate: write a name such as manager.example, or an address"
        )
    return x509.DNSName(host)


def _x509_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
