"""Address of a broker, parsed from its URL."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from manager.errors import SetupError

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_GRAMMAR = "write the broker's URL as mqtt://host:port or mqtts://host:port"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Host, port and whether the broker uses TLS; `username` if the URL has one."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse ``mqtt://[user@]host[:port]`` or ``mqtts://…``.

        Raises:
            SetupError: the URL has another form, or contains a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise SetupError(_GRAMMAR) from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise SetupError(_GRAMMAR)
        if parts.password is not None:
            raise SetupError("a broker's URL must not contain a password: set PANGUARD_BROKER_PASSWORD")
        username = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts", username)

    def __str__(self) -> str:
        """Return the URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"
