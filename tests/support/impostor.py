"""A TLS server on loopback with any certificate, which keeps the first words after a handshake, and hangs up."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from manager.tls.authority import Issued, issue, new_authority
from schemas.certificates import fingerprint

HERE = ("127.0.0.1",)


class Authority:
    """A certification authority of one test.

    Args:
        directory: where its files go.
        name: what they are called.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.issued = new_authority(datetime.now(UTC))
        self.file = directory / f"{name}.crt"
        self.file.write_bytes(self.issued.certificate_pem)
        self.fingerprint = fingerprint(ssl.PEM_cert_to_DER_cert(self.file.read_text()))
        self._directory = directory

    def server(
        self, name: str, hosts: Sequence[str] = HERE, days: int = 2, *, beside: Sequence["Authority"] = ()
    ) -> tuple[Path, Path]:
        """Return certificate and key of a server; negative days are in the past, `beside` stands in the chain too."""
        now = datetime.now(UTC)
        issued = issue(self.issued, hosts, now + timedelta(days=2 * days) if days < 0 else now, abs(days))
        return self._write(name, issued, [self.issued, *(each.issued for each in beside)])

    def _write(self, name: str, issued: Issued, chain: Sequence[Issued]) -> tuple[Path, Path]:
        certificate, key = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        certificate.write_bytes(b"".join([issued.certificate_pem, *(each.certificate_pem for each in chain)]))
        key.write_bytes(issued.key_pem)
        return certificate, key


class Impostor:
    """A context manager around one such server; it answers nothing.

    Args:
        certificate: what it shows, with its chain.
        key: the private key of that.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, name="impostor")
        self.port = int(self._listener.getsockname()[1])
        self.met = 0
        self.heard = b""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self.met += 1
            plain.settimeout(5)
            with plain, contextlib.suppress(OSError), self._context.wrap_socket(plain, server_side=True) as secured:
                self.heard += secured.recv(4096)
