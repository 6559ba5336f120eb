"""TLS contexts with which the manager and its commands verify servers."""

import ssl
from pathlib import Path

from manager.tls.certificates import CertificateError
from manager.tls.server_certificate import CertificateFiles


def pinned_context(files: CertificateFiles) -> ssl.SSLContext:
    """Return a context that accepts exactly the given certificate, with any names.

    Raises:
        CertificateError: the file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    files.add_trust(context)
    return context


def client_context(ca_file: Path | None, own: Path | None = None) -> ssl.SSLContext:
    """Return a context that verifies servers by the authorities in a file, or else by the system's.

    Args:
        ca_file: PEM; replaces the system's authorities.
        own: a manager's own authority, trusted beside the system's; ignored if the file does not exist.

    Raises:
        CertificateError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        if ca_file is None and own is not None and own.exists():
            context.load_verify_locations(str(own))
    except OSError as error:
        wrong = ca_file or own
        raise CertificateError(f"{wrong} is not a readable file of PEM certificates: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
