"""What the clients of streams and the streams they share look like, for status, metrics and pages.

It reads a `Fanout` and changes nothing. No state.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from resender.core.binance.stream_urls import is_listen_key
from resender.core.redact import redact
from resender.fanout.client import StreamClient
from resender.fanout.hub import Fanout

# So many names of a client are shown, and so much of one that is none of Binance's.
_NAMES_SHOWN = 5
_NAME_CHARS = 100


@dataclass(frozen=True, slots=True)
class StreamClientRow:
    """One client.

    Shape: `kind` is market, closes, relay (user data, WebSocket API) or tunnel (CONNECT); `names` are the
        first of its streams, listenKeys left out, and `streams` how many there are.
    Units: `queue` bytes, `since_ms` epoch milliseconds.
    """

    number: int
    address: str
    kind: str
    market: str
    path: str
    streams: int
    names: tuple[str, ...]
    frames: int
    bytes: int
    queue: int
    dropped: int
    since_ms: int

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.number, "address": self.address, "kind": self.kind, "market": self.market,
            "path": self.path, "streams": self.streams, "names": list(self.names), "frames": self.frames,
            "bytes": self.bytes, "queue": self.queue, "dropped": self.dropped, "since": self.since_ms,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class FanoutSnapshot:
    """All clients, the newest first, and what has been counted since the start."""

    clients: tuple[StreamClientRow, ...]
    streams: int
    counts: dict[str, int]

    def shown(self) -> dict[str, Any]:
        """Describe it for `/local/status` and the pages."""
        return {
            "clients": [client.shown() for client in self.clients],
            "upstream_streams": self.streams,
            **self.counts,
        }


def _names(client: StreamClient) -> tuple[str, ...]:
    # What looks like no stream at all is listed too, and may have a key in it.
    shown = (redact(name)[:_NAME_CHARS] for name in client.names if not is_listen_key(name))
    return tuple(islice(shown, _NAMES_SHOWN))


def fanout_snapshot(fanout: Fanout) -> FanoutSnapshot:
    """Take a picture of the fan-out."""
    rows = [
        StreamClientRow(
            number, client.address, "closes" if client.path.startswith("/local/") else "market",
            client.market.value, client.path, len(client.names),
            _names(client),
            client.frames_out, client.bytes_out, client.backlog.size, client.dropped, client.since_ms,
        )
        for number, client in fanout.clients.items()
    ]  # fmt: skip
    rows += [
        StreamClientRow(
            number, guest.address, guest.kind, guest.market, guest.path, 1, (), guest.frames_out,
            guest.bytes_out, 0, 0, guest.since_ms,
        )
        for number, guest in fanout.guests.items()
    ]  # fmt: skip
    rows.sort(key=lambda row: -row.number)
    stats = fanout.stats
    bytes_out = stats.bytes_out + sum(client.bytes_out for client in fanout.clients.values())
    dropped = stats.dropped + sum(client.dropped for client in fanout.clients.values())
    counts = {
        "events_in": stats.events_in, "frames_out": stats.frames_out, "bytes_out": bytes_out,
        "dropped": dropped, "duplicates": stats.duplicates, "gaps": stats.gaps, "opened": stats.opened,
        "refused": stats.refused, "closed_slow": stats.closed_slow, "closed_lost": stats.closed_lost,
    }  # fmt: skip
    return FanoutSnapshot(tuple(rows), fanout.topic_count, counts)
