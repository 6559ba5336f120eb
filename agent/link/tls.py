"""Whom a guard trusts for the certificate of its manager or broker."""

import ssl
from pathlib import Path

from agent.errors import ConfigurationError


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return how certificates are verified: by the system's certification authorities, or by those in a file.

    Raises:
        ConfigurationError: the file holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{ca_file} is no file of PEM certificates: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
