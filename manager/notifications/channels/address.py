"""Addresses of channels: parsed and checked, and shown without secrets."""

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from manager.errors import SetupError

_PRINTABLE = re.compile(r"[!-~]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}(?=:)")


class ReceiverAddress(NamedTuple):
    """The parts of a receiver's URL.

    Attributes:
        scheme: In lower case.
        host: Name or address, without brackets.
        port: The port in the URL, or the scheme's default.
        target: Path and query; they may hold a token.
        user_info: User and password in the form ``user:password``; empty without.
    """

    scheme: str
    host: str
    port: int
    target: str
    user_info: str

    @classmethod
    def parse(cls, url: str, default_ports: Mapping[str, int]) -> "ReceiverAddress":
        """Parse a URL.

        Args:
            url: The URL.
            default_ports: The allowed schemes, each with its default port.

        Raises:
            SetupError: it is none, or has another scheme; the message does not repeat it, as it may hold a secret.
        """
        schemes = " or ".join(f"{scheme}://host[:port]" for scheme in default_ports)
        wanted = f"the address of the channel is not understood: write {schemes}"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")  # a label may be too long
        except ValueError:
            raise SetupError(wanted) from None
        if parts.scheme not in default_ports or not host or not _PRINTABLE.fullmatch(url):
            raise SetupError(wanted)
        user_info = unquote(parts.netloc.rpartition("@")[0])
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host, port or default_ports[parts.scheme], target, user_info)

    @property
    def shown(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def scheme_of(url: str) -> str:
    """Return the scheme of any URL; empty if it has none."""
    found = _SCHEME.match(url)
    return "" if found is None else found[0].lower()
