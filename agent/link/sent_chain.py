"""Asks a server for its certificates and believes none of them: where a guard looks for one that it knows by name.

Before Python 3.13 the chain as it was sent is only to be had from the private object inside an `SSLSocket`.
"""

import socket
import ssl
from typing import Any


def sent_chain(host: str, port: int, patience: float) -> list[bytes]:
    """Return the certificates that a server sends, as DER, its own first. Nothing is said to it but a hello.

    Args:
        host: Its name or address.
        port: Its port.
        patience: Seconds for each step.

    Raises:
        OSError: it cannot be reached, or does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), patience) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return _chain(secured)


def _chain(secured: Any) -> list[bytes]:
    if hasattr(secured, "get_unverified_chain"):
        return list(secured.get_unverified_chain())
    sent = secured._sslobj.get_unverified_chain() or ()  # noqa: SLF001 -- see above
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in sent]
