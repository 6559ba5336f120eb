"""TLS verification for commands; refuses to send secrets to other machines in plain text."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from manager.cli.support.failures import CommandFailed, ExitCode
from schemas.loopback import is_loopback

if TYPE_CHECKING:
    import ssl

_TLS = ("https", "mqtts")
_PLAIN = ("http", "mqtt")


def tls_context_for(url: str, directory: Path, ca_file: Path | None, *, insecure: bool) -> "ssl.SSLContext | None":
    """Return the TLS context that verifies `url`; None for plain text.

    It trusts the authorities in the CA file, or by default the system's and the one in the data directory.

    Raises:
        CommandFailed: `url` is not a URL, a secret would be sent in plain text, or a file contains no certificates.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise CommandFailed(ExitCode.USAGE, f"{url} is no URL; write http://host:8443") from error
    if parts.scheme in _PLAIN and parts.hostname and not (insecure or is_loopback(parts.hostname)):
        raise CommandFailed(
            ExitCode.UNTRUSTED,
            f"{url} is another machine, and this command would send it a secret in plain text:"
            f" write {parts.scheme}s://, or add --insecure",
        )
    if parts.scheme not in _TLS:
        return None
    from manager.tls.certificates import CertificateError  # noqa: PLC0415 -- the same
    from manager.tls.client_context import client_context  # noqa: PLC0415 -- the same
    from manager.tls.directory import AUTHORITY, TlsDirectory  # noqa: PLC0415 -- certificates take a while to load

    try:
        return client_context(ca_file, TlsDirectory(directory).certificate(AUTHORITY))
    except CertificateError as error:
        raise CommandFailed(ExitCode.FAILURE, str(error)) from error


def certificate_failure(url: str, error: BaseException) -> CommandFailed | None:
    """Return the failure for an error of certificate verification; None for other errors."""
    import ssl  # noqa: PLC0415 -- only a failure needs it

    from schemas.certificates import refusal  # noqa: PLC0415 -- the same

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return CommandFailed(ExitCode.UNTRUSTED, refusal(url, seen.verify_code, seen.verify_message))
        seen = seen.__cause__ or seen.__context__
    return None


def handshake_failed(url: str, error: BaseException) -> bool:
    """Return whether an error of connecting to `url` comes from its TLS handshake, other than from the certificate."""
    import ssl  # noqa: PLC0415 -- only a failure needs it

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError | ConnectionResetError):
        seen = seen.__cause__ or seen.__context__
    return seen is not None and url.startswith(_TLS) and not isinstance(seen, ssl.SSLCertVerificationError)
