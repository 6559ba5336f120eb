"""The manager's address as the operator writes it."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from agent.errors import ConfigurationError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the manager's broker listens.

    Attributes:
        host: Its name or address.
        port: Its port.
        tls: Whether the connection is encrypted and the broker's certificate checked.
    """

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``mqtt://host[:port]`` or ``mqtts://host[:port]``.

        Raises:
            ConfigurationError: it is neither.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"{url!r} is no address: write mqtt://host:port or mqtts://host:port") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigurationError(f"{url!r} is no broker's address: write mqtt://host:port or mqtts://host:port")
        if parts.username or parts.password:
            raise ConfigurationError("an address holds no password: a guard registers with its enrollment token")
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise ConfigurationError(f"{url!r} has more than a host and a port: write mqtt://host:port")
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts")

    def __str__(self) -> str:
        """Return it as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"
