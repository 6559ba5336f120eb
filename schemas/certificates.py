"""Certificate fingerprints, and error messages for untrusted certificates."""

import hashlib

from schemas import message_codes

_OTHER_HOST = (62, 64)
_EXPIRED = 10
_NOT_YET_VALID = 9
_UNKNOWN_SIGNER = (7, 18, 19, 20, 21)
"""The value of an OpenSSL code X509_V_ERR_…, as in `ssl.SSLCertVerificationError.verify_code`."""


def fingerprint(certificate: bytes) -> str:
    """Return the SHA-256 of a certificate's DER in base64url, the form of a CA fingerprint in a token (wire.md)."""
    return message_codes.to_base64url(hashlib.sha256(certificate).digest())


def refusal(peer: str, verify_code: int, message: str, give: str = "the manager's ca.crt as --ca-file") -> str:
    """Return the error message for the untrusted certificate of `peer`, with the remedy.

    Args:
        peer: The host that presented it, as the operator named it.
        verify_code: OpenSSL's error code.
        message: OpenSSL's text, for codes without a message here.
        give: The option, with its value, that sets the trusted signer.
    """
    head = f"the certificate of {peer} is not believed: "
    if verify_code in _UNKNOWN_SIGNER:
        return f"{head}nobody that is trusted here has signed it; give {give}, and if you did, see who stands between"
    if verify_code == _EXPIRED:
        return head + "it has expired; on the manager, run panguard manager certs renew"
    if verify_code == _NOT_YET_VALID:
        return head + "it is not valid yet; see that the clocks of both hosts are right"
    if verify_code in _OTHER_HOST:
        return head + (
            "it is for other names than this; use one that it has,"
            " or on the manager run panguard manager certs renew --host with this one"
        )
    return f"{head}{message}"
