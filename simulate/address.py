"""Addresses that a simulation connects to: the agents' door and the manager's HTTP API."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from schemas.loopback import is_loopback
from simulate.errors import PlanError

_PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 8443, "https": 8443}
_GRAMMAR = "write mqtt://host:port, mqtts://host:port, http://host:port or https://host:port"


@dataclass(frozen=True, slots=True)
class Address:
    """Scheme, host and port of a broker or a manager."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL; the port defaults to the scheme's.

        Raises:
            PlanError: the text is not the address of a broker or a manager, or it contains a password.
        """
        shown = repr(url.rpartition("@")[2])  # the part before it may contain a password
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise PlanError(f"{shown} is no address: {_GRAMMAR}") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise PlanError(f"{shown} is no address of a broker or a manager: {_GRAMMAR}")
        if parts.username or parts.password:
            raise PlanError("an address holds no password: the tokens come from the environment or from files")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise PlanError(f"{shown} has more than a host and a port: {_GRAMMAR}")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])

    @property
    def is_http(self) -> bool:
        """Whether the address is the manager's HTTP door."""
        return self.scheme.startswith("http")

    @property
    def is_tls(self) -> bool:
        """Whether connections to the address are encrypted."""
        return self.scheme in {"mqtts", "https"}

    def check_plain_text(self, *, insecure: bool) -> None:
        """Refuse plain-text connections to other machines.

        Raises:
            PlanError: the address is another machine's, without TLS, and `insecure` is not set.
        """
        if not (self.is_tls or insecure or is_loopback(self.host)):
            raise PlanError(
                f"{self} is another machine, and secrets would go there in plain text:"
                f" write {self.scheme}s://, or say --insecure"
            )

    def tls(self, ca_file: Path | None) -> ssl.SSLContext | None:
        """Return a context that verifies certificates; None without TLS.

        Raises:
            PlanError: `ca_file` contains no certificates.
        """
        if not self.is_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except OSError as error:
            raise PlanError(
                f"{ca_file} is no file of PEM certificates: name the manager's ca.crt by --ca-file"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def __str__(self) -> str:
        """Return the address as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"
