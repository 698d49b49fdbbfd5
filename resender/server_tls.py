"""TLS for clients: the certificate of `TLS_CERT`, read again when its file changes.

Connections under way keep the certificate they began with. It binds nothing; whoever serves takes the new context.
"""

from __future__ import annotations

import logging
import os
import ssl
from datetime import datetime
from pathlib import Path

from resender.errors import StartError

logger = logging.getLogger("resender.tls")

# As OpenSSL says that a key is another certificate's; the last one where it is even of another kind.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
Stamp = tuple[tuple[int, int, int], ...]


class ServerTls:
    """The context of servers, another one after each change, and the files it is made from.

    Shape: `key` is empty where the private key is in the file of the certificate.
    """

    def __init__(self, cert: Path, key: Path | None) -> None:
        """Read the files. Raises: StartError in one line."""
        self._cert, self._key = cert, key
        self._seen = self._stamp()
        self._failed: Stamp = ()
        self._looks = 0
        try:
            self.context = _make_context(cert, key)
            # When the certificate in force ends, None if that cannot be told.
            self.ends_at = _end_of(cert)
        except (OSError, ValueError) as error:
            raise StartError(f"TLS cannot be served: {_why(error, cert, key)}") from None

    def refresh(self) -> bool:
        """Read the files again if they have changed; return whether there is a new `context`.

        What does not fit leaves the old one in force: certificate and key are often written one after the other.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        try:
            # A new one each time: the old one would keep a certificate of another kind of key, or half a pair.
            context = _make_context(self._cert, self._key)
        except (OSError, ValueError) as error:
            # Said at the second look: by the first one only half of it may have been written.
            self._looks = self._looks + 1 if stamp == self._failed else 1
            self._failed = stamp
            if self._looks == 2:
                why = _why(error, self._cert, self._key)
                logger.error("the new certificate is not used, the old one stays: %s", why)
            return False
        self._seen, self.context, self.ends_at = stamp, context, _end_of(self._cert)
        logger.info("the new certificate of %s is in force", self._cert)
        return True

    def _stamp(self) -> Stamp:
        found = []
        for path in (self._cert, self._key):
            try:
                status = os.stat(path) if path is not None else None
            except OSError:
                status = None
            found.append((status.st_ino, status.st_size, status.st_mtime_ns) if status else (0, 0, 0))
        return tuple(found)


def _make_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # What a client asks to negotiate anew costs a handshake each time.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Without a function OpenSSL asks for the password of a sealed key on the terminal, and waits.
    context.load_cert_chain(cert, key, password=_no_password)
    return context


def _end_of(cert: Path) -> datetime | None:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def _no_password() -> str:
    raise ValueError(
        "the private key is sealed with a password; store it without one, readable for its user only"
    )


def _why(error: Exception, cert: Path, key: Path | None) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason in _MISMATCHES:
            return f"the private key does not belong to the certificate of {cert}"
        both = f"{cert} and {key}" if key is not None else f"{cert} (with the key in it, as TLS_KEY is empty)"
        return f"{both} hold no certificate and private key in PEM ({error.reason or error})"
    if isinstance(error, OSError):
        for path in (cert, key):
            try:
                if path is not None:
                    path.open("rb").close()
            except OSError as problem:
                return f"{path}: {problem.strerror}"
        return f"{cert}: {error.strerror or error}"
    return str(error)
