"""One upstream stream and its listeners: each event's frames are built once.

A `Topic` belongs to a `Source`; it knows clients only as something frames are put into.
"""

from __future__ import annotations

from dataclasses import dataclass

from resender.core.binance.stream_kinds import Flow, StreamKind
from resender.core.fanout.frames import deflated_frame, text_frame, wrapped
from resender.core.fanout.order import CLOSED, Sequence
from resender.fanout.client import StreamClient


@dataclass(slots=True, eq=False)
class Reply:
    """A reply that waits until so many of its streams are live."""

    client: StreamClient
    text: bytes
    names: list[str]
    missing: int = 0


class Topic:
    """One stream.

    Shape: `listeners` are the clients by the form they want, see `StreamClient.variant`. `last` is the newest
        event of a stream that carries a whole state, while it is live.
    Units: `idle_since` and `lost_since` monotonic seconds, None while somebody listens or it is live.
    """

    __slots__ = (
        "frames",
        "idle_since",
        "kind",
        "last",
        "listeners",
        "lost_since",
        "name",
        "replies",
        "sequence",
    )

    def __init__(self, name: str, kind: StreamKind, now: float) -> None:
        self.name = name
        self.kind = kind
        self.listeners: tuple[dict[StreamClient, None], ...] = ({}, {}, {}, {})
        self.sequence = Sequence(kind)
        self.last = b""
        self.idle_since: float | None = None
        self.lost_since: float | None = now
        self.frames = 0
        # Replies to SUBSCRIBE that wait until the stream is live; the hub's.
        self.replies: list[Reply] = []

    @property
    def clients(self) -> list[StreamClient]:
        return [client for group in self.listeners for client in group]

    def frame(self, payload: bytes, variant: int) -> bytes:
        """Build an event in one of its forms."""
        message = wrapped(self.name, payload) if variant & 1 else payload
        return deflated_frame(message) if variant & 2 else text_frame(message)

    def publish(self, payload: bytes, woken: list[StreamClient], overfull: list[StreamClient]) -> int:
        """Put an event before every listener; return how many there are.

        Shape: clients that had nothing waiting are added to `woken`, those that cannot take it to `overfull`.
        """
        name: str | None = self.name
        flow = self.kind.flow
        if flow is Flow.STATE:
            self.last = payload
        elif flow is Flow.CANDLE:
            self.last = payload
            if CLOSED in payload:
                name, self.last = None, b""  # who comes later has not waited for it
        else:
            name = None
        self.frames += 1
        count = 0
        for variant, group in enumerate(self.listeners):
            if not group:
                continue
            frame = self.frame(payload, variant)
            count += len(group)
            for client in group:
                if client.is_blocked:
                    if not client.queue(frame, name):
                        overfull.append(client)
                    continue
                pending = client.pending
                if not pending:
                    woken.append(client)
                pending.append(frame)
        return count

    def lost(self, now: float) -> None:
        self.lost_since = now
        self.last = b""
        self.sequence.lost()
