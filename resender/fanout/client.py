"""One client's market streams: what it listens to and what waits for it.

It builds no frame and knows no socket: ready frames go to a `Sink`. A `StreamClient` belongs to the event
loop's thread; `hub.py` adds to it and empties it.
"""

from __future__ import annotations

from typing import Protocol

from resender.core.binance.markets import Market
from resender.core.fanout.backlog import Backlog

# So much of the backlog is handed over at once; the rest can still be thinned out.
_CHUNK_BYTES = 65_536


class Sink(Protocol):
    """Where a client's bytes go.

    Shape: `write` always takes them; False means that they wait and that `StreamClient.drained` will be
        called. `close` says why and ends the connection.
    """

    def write(self, data: bytes) -> bool: ...
    def close(self, code: int, reason: str) -> None: ...


class StreamClient:
    """One connection that listens to market streams.

    Shape: `role` as for `Feeds.at`; `names` are its subscriptions as it wrote them, in order.
    Units: `since_ms` epoch milliseconds; `last_sign` monotonic seconds.
    """

    __slots__ = (
        "address", "backlog", "bytes_out", "frames_out", "is_blocked", "is_closed", "is_combined",
        "is_deflated", "last_sign", "market", "max_streams", "names", "next_ping", "number", "path", "pending",
        "role", "since_ms", "sink",
    )  # fmt: skip

    def __init__(
        self,
        sink: Sink,
        market: Market,
        *,
        address: str,
        path: str,
        is_combined: bool,
        is_deflated: bool,
        role: str,
        max_streams: int,
        queue_bytes: int,
    ) -> None:
        self.sink = sink
        self.market = market
        self.address = address
        self.path = path
        self.is_combined = is_combined
        self.is_deflated = is_deflated
        self.role = role
        self.max_streams = max_streams
        self.number = 0
        self.since_ms = 0
        self.last_sign = self.next_ping = 0.0
        self.names: dict[str, None] = {}
        # Frames of this turn of the loop; they leave in one write.
        self.pending: list[bytes] = []
        self.backlog = Backlog(queue_bytes)
        self.is_blocked = False
        self.is_closed = False
        self.frames_out = 0
        self.bytes_out = 0

    @property
    def variant(self) -> int:
        """Which form of an event it gets: an index into `Topic.listeners`."""
        return self.is_combined + 2 * self.is_deflated

    @property
    def dropped(self) -> int:
        """How many frames were left out for it."""
        return self.backlog.dropped

    def flush(self) -> None:
        """Write what this turn of the loop brought."""
        pending = self.pending
        if self.is_closed or not pending:
            pending.clear()
            return
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        self.frames_out += len(pending)
        self.bytes_out += len(data)
        pending.clear()
        self.is_blocked = not self.sink.write(data)

    def queue(self, frame: bytes, state_of: str | None) -> bool:
        """Keep a frame while the client does not read, see `Backlog.add`."""
        return self.backlog.add(frame, state_of)

    def drained(self) -> None:
        """The client has read what was handed over."""
        while not self.is_closed and len(self.backlog):
            waiting = len(self.backlog)
            data = self.backlog.take(_CHUNK_BYTES)
            self.frames_out += waiting - len(self.backlog)
            self.bytes_out += len(data)
            if not self.sink.write(data):
                return
        self.is_blocked = False


class Guest(Protocol):
    """A connection that is no `StreamClient` but counts as a client.

    Shape: `kind` is relay (user data, WebSocket API) or tunnel (CONNECT), `market` its word or empty.
    """

    kind: str
    address: str
    market: str
    path: str
    since_ms: int
    frames_in: int
    frames_out: int
    bytes_out: int

    def close(self, code: int, reason: str) -> None: ...
