"""One accepted stream connection: frames out, names held, pings, rate of messages in.

Owned by a stream hub. It writes ready frames straight to the transport, so that one
event is encoded once however many connections want it.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque

from .account_faults import AccountFaults
from .faults import StreamFaults, matches
from .http_faults import reset
from .stream_names import Stream, StreamUrl

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_TOO_SLOW_BYTES = 64 * 1024 * 1024
_CLOSE_GRACE_S = 2.0


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one unmasked, unfragmented WebSocket frame."""
    size = len(payload)
    first = 0x80 | opcode
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


class StreamConnection:
    """State of one client of a stream service."""

    def __init__(
        self,
        transport: asyncio.Transport,
        url: StreamUrl,
        faults: StreamFaults,
        opened: float,
        ping_s: float,
    ) -> None:
        self.transport = transport
        self._faults = faults
        self.access = url.access
        self.is_combined = url.is_combined
        self.is_micro = url.is_micro
        self.events = url.events
        # Set once the connection brings the events of an account.
        self.user_faults: AccountFaults | None = None
        self.names: dict[str, Stream | None] = {}
        # Names held here that bring nothing, and the patterns that made them so.
        self.muted: set[str] = set()
        self._mutes = list(faults.muted)
        self.opened = opened
        self.next_ping = opened + ping_s
        self.unanswered: dict[bytes, float] = {}
        self.is_closing = False
        self.gone_by = 0.0
        self._messages: deque[float] = deque()

    def hold(self, name: str, stream: Stream | None) -> None:
        """Take a name into the list of subscriptions."""
        self.names[name] = stream
        if any(matches(pattern, name) for pattern in self._mutes):
            self.muted.add(name)

    def release(self, name: str) -> None:
        """Take a name off the list of subscriptions."""
        self.names.pop(name, None)
        self.muted.discard(name)

    def mute(self, pattern: str) -> None:
        """Deliver matching streams no more, those subscribed later neither."""
        self._mutes.append(pattern)
        self.muted |= {name for name in self.names if matches(pattern, name)}

    def unmute(self) -> None:
        """Deliver everything again."""
        self._mutes.clear()
        self.muted.clear()

    def write(self, data: bytes) -> None:
        """Send ready frames; a client that does not read is cut off."""
        if self.is_closing or self._faults.silent or self.transport.is_closing():
            return
        if self.user_faults is not None and self.user_faults.mute:
            return
        if self.transport.get_write_buffer_size() > _TOO_SLOW_BYTES:
            self.transport.abort()
            return
        self.transport.write(data)

    def backlog_bytes(self) -> int:
        """Return how much waits to be sent."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    def ping(self, payload: bytes, now: float, ping_s: float) -> None:
        """Send a ping and remember what its pong has to say."""
        self.next_ping = now + ping_s
        self.unanswered.setdefault(payload, now)
        self.write(frame(payload, PING))

    def pong(self, payload: bytes) -> None:
        """Take a pong; one that echoes an open ping settles it and all before it."""
        if payload in self.unanswered:
            self.unanswered.clear()

    def is_overdue(self, now: float, timeout_s: float) -> bool:
        """Tell whether the oldest ping has waited too long."""
        return any(now - sent > timeout_s for sent in self.unanswered.values())

    def count_message(self, now: float, limit: int) -> bool:
        """Count a message from the client; False when it is one too many this second."""
        while self._messages and now - self._messages[0] >= 1.0:
            self._messages.popleft()
        self._messages.append(now)
        return len(self._messages) <= limit

    def close(self, code: int, reason: str, now: float) -> None:
        """Start the closing handshake; `gone_by` is when the hub cuts the connection."""
        if self.is_closing:
            return
        self.write(frame(struct.pack("!H", code) + reason.encode()[:120], CLOSE))
        self.is_closing = True
        self.gone_by = now + _CLOSE_GRACE_S

    def cut(self) -> None:
        """End the connection with a TCP RST."""
        reset(self.transport)
