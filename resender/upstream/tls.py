"""TLS for upstream connections, with session resumption.

asyncio never offers a TLS session it has seen before, so every new connection pays a full
handshake. The context here remembers the last finished connection of each host and offers its
session again. It keeps one TLS object for each host and nothing else; it makes no connection.

Nothing here may make a handshake fail: a connection is remembered only when its handshake is
done, a session that cannot be had is not offered, and one that was offered in a handshake that
failed is forgotten.
"""

from __future__ import annotations

import ssl
import time
from typing import Any


class ResumingObject(ssl.SSLObject):
    """One TLS connection of a `ResumingContext`."""

    def do_handshake(self) -> None:
        context = self.context
        assert isinstance(context, ResumingContext)
        host = self.server_hostname or ""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            context.forget(host)
            raise
        context.remember(host, self)


# A handshake that has not ended after so long has failed without a word of TLS.
_HANDSHAKE_S = 5.0


class ResumingContext(ssl.SSLContext):
    """An SSLContext for clients that resumes the host's last TLS session.

    A server that does not know the session any more makes a full handshake of it; nothing fails.
    """

    sslobject_class = ResumingObject
    _established: dict[str, ssl.SSLObject]
    # When a session was offered to a host in a handshake that has not ended yet.
    _offered: dict[str, float]

    def remember(self, host: str, connection: ssl.SSLObject) -> None:
        """Take a connection whose handshake is done as the host's latest."""
        self._established[host] = connection
        self._offered.pop(host, None)

    def forget(self, host: str) -> None:
        """Offer the host no session in the next handshake."""
        self._established.pop(host, None)
        self._offered.pop(host, None)

    def session_of(self, host: str) -> ssl.SSLSession | None:
        """Return the session to offer to a host, None if there is none.

        TLS 1.3 hands out its tickets after the handshake, so it is asked for only now.
        """
        # A reset or silence in a handshake is told to nobody here: the next ones go without a session.
        if time.monotonic() - self._offered.get(host, float("inf")) > _HANDSHAKE_S:
            self.forget(host)
        connection = self._established.get(host)
        if connection is None:
            return None
        try:
            session = connection.session
        except (ValueError, ssl.SSLError):
            session = None
        if session is not None and not session.has_ticket and connection.version() == "TLSv1.3":
            return None  # the server gave none (yet): offering it would only cost a longer handshake
        if session is None:
            self.forget(host)
        else:
            self._offered.setdefault(host, time.monotonic())
        return session

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        host = server_hostname if isinstance(server_hostname, str) else ""
        session = session or self.session_of(host)
        try:
            return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        except (ValueError, ssl.SSLError):
            if session is None:
                raise
            self.forget(host)
            return super().wrap_bio(incoming, outgoing, server_side, server_hostname, None)


def make_context(cafile: str | None = None, *, cadata: str | None = None) -> ssl.SSLContext:
    """Make a verifying client context (system certificate authorities, TLS 1.2 or newer).

    Shape: `cafile` (a path) or `cadata` (PEM text) are the only authorities trusted, if given.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context._established = {}
    context._offered = {}
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if cafile or cadata:
        context.load_verify_locations(cafile, cadata=cadata)
    else:
        context.load_default_certs()
    return context


def resumed(context: ssl.SSLContext, host: str) -> Any:
    """Tell whether the last connection to a host resumed a session (for tests)."""
    connection = getattr(context, "_established", {}).get(host)
    return connection.session_reused if connection is not None else None
