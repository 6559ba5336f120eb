"""What can go wrong with certificates; every text is one sentence that says what to do."""

from manager.errors import SetupError


class CertificateError(SetupError):
    """A certificate or its key cannot be made, read or used."""
