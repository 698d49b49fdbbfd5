"""TLS for upstream connections, with session resumption.

asyncio never offers a TLS session it has seen before, so every new connection pays a full
handshake. The context here remembers the last session of each host and offers it again.
It keeps one TLS object and one session for each host and nothing else.
"""

from __future__ import annotations

import ssl
from typing import Any


class ResumingContext(ssl.SSLContext):
    """An SSLContext for clients that resumes the host's last TLS session.

    A server that does not know the session any more makes a full handshake of it; nothing fails.
    """

    _last: dict[str, ssl.SSLObject]
    _sessions: dict[str, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        host = server_hostname if isinstance(server_hostname, str) else ""
        # TLS 1.3 hands out its tickets after the handshake: ask the last connection only now.
        last = self._last.get(host)
        if last is not None and last.session is not None:
            self._sessions[host] = last.session
        session = session or self._sessions.get(host)
        wrapped = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        self._last[host] = wrapped
        return wrapped


def make_context(cafile: str | None = None) -> ssl.SSLContext:
    """Make a verifying client context (system certificate authorities, TLS 1.2 or newer)."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context._last = {}
    context._sessions = {}
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if cafile:
        context.load_verify_locations(cafile)
    else:
        context.load_default_certs()
    return context


def resumed(context: ssl.SSLContext, host: str) -> Any:
    """Tell whether the last connection to a host resumed a session (for tests)."""
    last = getattr(context, "_last", {}).get(host)
    return last.session_reused if last is not None else None
