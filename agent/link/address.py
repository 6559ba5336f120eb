"""Parses the manager's address."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from agent.errors import ConfigurationError

_PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 8443, "https": 8443}
_GRAMMAR = "mqtt://host:port or mqtts://host:port, or http://host:port or https://host:port"


@dataclass(frozen=True, slots=True)
class ManagerAddress:
    """The address of the manager: of its broker over MQTT, or of its HTTP server.

    Attributes:
        scheme: ``mqtt``, ``mqtts``, ``http`` or ``https``.
        host: The host's name or address.
        port: The port.
    """

    scheme: str
    host: str
    port: int

    @property
    def tls(self) -> bool:
        """Whether the connection uses TLS."""
        return self.scheme in ("mqtts", "https")

    @property
    def over_http(self) -> bool:
        """Whether the address is the manager's HTTP server."""
        return self.scheme.startswith("http")

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse a URL with a scheme, a host and an optional port.

        Raises:
            ConfigurationError: the text is not the address of a manager.
        """
        shown = repr(url.rpartition("@")[2])  # the part before it may hold a password
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"{shown} is no address: write {_GRAMMAR}") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigurationError(f"{shown} is no manager's address: write {_GRAMMAR}")
        if parts.username or parts.password:
            raise ConfigurationError("an address holds no password: a guard registers with its enrollment token")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ConfigurationError(f"{shown} has more than a host and a port: write {_GRAMMAR}")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])

    def __str__(self) -> str:
        """Return the address as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"
