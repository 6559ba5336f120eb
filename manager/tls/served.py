"""What one door serves: a certificate with its chain, the key, and the TLS context, which takes up newer files."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from manager.tls.certificates import Certificate, read_chain
from manager.tls.directory import TlsDirectory, is_there
from manager.tls.errors import CertificateError


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Two PEM files: a certificate, with its chain behind it, and its private key."""

    certificate: Path
    key: Path

    def chain(self) -> list[Certificate]:
        """Return the certificates, the server's own first.

        Raises:
            CertificateError: the file cannot be read.
        """
        return read_chain(self.certificate)

    def context(self) -> ssl.SSLContext:
        """Return what a server speaks TLS with: 1.2 or newer.

        Raises:
            CertificateError: the files cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(context)
        return context

    def refresh(self, context: ssl.SSLContext) -> None:
        """Have a context that serves already serve what is in the files now; open connections stay as they are.

        Raises:
            CertificateError: the files cannot be used; the context serves what it did.
        """
        self.context()  # a pair that does not fit would leave the other one without its key
        self._load(context)

    def anchor(self, context: ssl.SSLContext) -> None:
        """Have a context of a client believe this very certificate, whatever it says and whoever signed it.

        Raises:
            CertificateError: the file cannot be read.
        """
        context.load_verify_locations(cadata=self.chain()[0].der)

    def state(self) -> tuple[tuple[int, int], ...]:
        """Return what changes whenever one of the files is replaced; empty while one is missing."""
        try:
            return tuple((found.st_ino, found.st_mtime_ns) for found in (self.certificate.stat(), self.key.stat()))
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
    """Return what a door is to serve: the files that the operator named, else the data directory's own, else None.

    Raises:
        CertificateError: only one of two files was named, or the data directory is closed to this user.
    """
    if certificate is not None and key is not None:
        return CertificateFiles(certificate, key)
    if certificate is not None or key is not None:
        raise CertificateError(f"a certificate is served with its key: name both files of the {name} door, or none")
    own = CertificateFiles(directory.certificate(name), directory.key(name))
    return own if is_there(own.certificate) else None


def trusting_only(files: CertificateFiles) -> ssl.SSLContext:
    """Return what a client verifies a server with that was given these files by the client itself: nothing else passes.

    Names play no part in it: the certificate is known as a whole.

    Raises:
        CertificateError: the file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    files.anchor(context)
    return context


def trusting(ca_file: Path | None, own: Path | None = None) -> ssl.SSLContext:
    """Return what a client verifies servers with: by the authorities in a file, or else those of the system.

    Args:
        ca_file: PEM; then nobody else is trusted.
        own: a manager's own authority, trusted beside the system's; where there is no such file, it is left out.

    Raises:
        CertificateError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        if ca_file is None and own is not None and own.exists():
            context.load_verify_locations(str(own))
    except OSError as error:
        wrong = ca_file or own
        raise CertificateError(f"{wrong} is no file of PEM certificates that can be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
