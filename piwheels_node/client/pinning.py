# SPDX-License-Identifier: BSD-3-Clause
"""A master is known by its certificate: join tokens carry its fingerprint, so that nobody needs an authority.

    token = SECRET.FINGERPRINT      the fingerprint is the SHA-256 of the certificate (DER), 64 hex digits
    token = SECRET                  the certificate is one that the system trusts

Who joins asks the server for its certificate, compares the fingerprint, and from then on believes exactly
that one (`trusting`): a man in the middle would have to show it, and cannot. This imports nothing of ours
but `core.errors`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from urllib.parse import urlsplit

from piwheels_node.core.errors import MasterError, MasterUnreachableError, UsageError

HTTPS_PORT = 443
_TIMEOUT_S = 15.0
_SECRET = re.compile(r"[A-Za-z0-9_-]{16,100}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def fingerprint(certificate: str) -> str:
    """The SHA-256 of a certificate (PEM in, its DER hashed), as 64 hex digits; raises UsageError."""
    return hashlib.sha256(_der(certificate)).hexdigest()


def join_token(secret: str, of: str | None) -> str:
    """A token as people copy it; `of` is the fingerprint, None where the system judges the certificate."""
    return f"{secret}.{of}" if of else secret


def split_token(token: str) -> tuple[str, str | None]:
    """The secret and the fingerprint of a token; raises UsageError where it is none.

    >>> split_token("f4Dk2bVw0aTjXe9mQhYs1g")
    ('f4Dk2bVw0aTjXe9mQhYs1g', None)
    """
    secret, dot, of = token.strip().partition(".")
    if not _SECRET.fullmatch(secret) or (dot and not _FINGERPRINT.fullmatch(of.lower())):
        raise UsageError(
            "this is not a join token, or not the whole of one",
            hint="copy the line that `piwheels-node master token new` prints",
        )
    return secret, of.lower() or None


def fetch_certificate(url: str, of: str) -> str:
    """The certificate (PEM) that the server at an https URL shows, where its fingerprint is `of`.

    Nothing is sent but the beginning of a TLS handshake. Raises MasterUnreachableError where no server
    answers, MasterError where it shows another certificate, UsageError for a URL without TLS.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise UsageError("this token is for a master that is asked by https", where=url)
    try:
        shown = ssl.get_server_certificate((parts.hostname, parts.port or HTTPS_PORT), timeout=_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise MasterUnreachableError(
            f"the master does not answer: {error}", where=url, hint="is it running, and is the URL right?"
        ) from error
    if not hmac.compare_digest(fingerprint(shown), of):
        raise MasterError(
            "this is another server than the one that the token is for: nothing was sent to it",
            where=f"{url} has the fingerprint {fingerprint(shown)}",
            hint="check the URL; if the master has a new certificate, make a new token on it",
        )
    return shown


def trusting(certificate: str) -> ssl.SSLContext:
    """A context that believes the server that shows this certificate (PEM), and no other.

    It is the only anchor (and need not be an authority's: partial chain), so what it has not signed does not
    pass; and what an authority in its place has signed fails where it is compared byte for byte. Its names
    do not count: it is known by itself, whatever the machine is called. Raises UsageError where it is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    expected = _der(certificate)
    try:
        context.load_verify_locations(cadata=certificate)
    except ssl.SSLError as error:
        raise _no_certificate() from error
    context.sslsocket_class = _exactly(expected)
    return context


def _exactly(expected: bytes) -> type[ssl.SSLSocket]:
    class Exactly(ssl.SSLSocket):
        """A socket whose handshake fails unless the server shows the expected certificate (DER)."""

        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            if self.getpeercert(binary_form=True) != expected:
                raise ssl.SSLCertVerificationError("it is not the certificate that the join token names")

    return Exactly


def _der(certificate: str) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(certificate)
    except ValueError as error:
        raise _no_certificate() from error


def _no_certificate() -> UsageError:
    return UsageError("this is not a certificate", hint="a PEM file, `-----BEGIN CERTIFICATE-----`")
