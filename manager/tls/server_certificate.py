"""Certificate and key of one door, and the TLS context that serves them and reloads newer files."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from manager.tls.certificates import Certificate, CertificateError, read_chain
from manager.tls.directory import TlsDirectory, file_exists


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Two PEM files: a certificate followed by its chain, and its private key."""

    certificate: Path
    key: Path

    def chain(self) -> list[Certificate]:
        """Return the certificates, the server's own first.

        Raises:
            CertificateError: the file cannot be read.
        """
        return read_chain(self.certificate)

    def context(self) -> ssl.SSLContext:
        """Return a server's TLS context, for TLS 1.2 or newer.

        Raises:
            CertificateError: the files cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context)
        return context

    def refresh(self, context: ssl.SSLContext) -> None:
        """Reload the certificate files into a TLS context that is in use; open connections are not affected.

        Raises:
            CertificateError: the files cannot be used; the context is unchanged.
        """
        self.context()  # check the pair first: a pair that does not match would break the context in use
        self._load(context)

    def add_trust(self, context: ssl.SSLContext) -> None:
        """Make a client's context accept exactly this certificate, with any issuer.

        Raises:
            CertificateError: the file cannot be read.
        """
        context.load_verify_locations(cadata=self.chain()[0].der)

    def state(self) -> tuple[tuple[int, int], ...]:
        """Return inodes and modification times, which change when a file is replaced; empty if a file is missing."""
        try:
            return tuple((stat.st_ino, stat.st_mtime_ns) for stat in (self.certificate.stat(), self.key.stat()))
        except OSError:
            return ()

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except OSError as error:
            mismatch = "the key does not belong to the certificate, is encrypted, or one of them is no PEM"
            reason = mismatch if isinstance(error, ssl.SSLError) else error.strerror
            raise CertificateError(f"{self.certificate} and {self.key} cannot be used: {reason}") from error


def find_files(
    certificate: Path | None, key: Path | None, directory: TlsDirectory, name: str
) -> CertificateFiles | None:
    """Return a door's certificate files: those that the operator named, else the data directory's, else None.

    Raises:
        CertificateError: only one of two files was named, or the data directory is not readable.
    """
    if certificate is not None and key is not None:
        return CertificateFiles(certificate, key)
    if certificate is not None or key is not None:
        raise CertificateError(f"a certificate needs its key: name both files of the {name} door, or none")
    own = CertificateFiles(directory.certificate(name), directory.key(name))
    return own if file_exists(own.certificate) else None
