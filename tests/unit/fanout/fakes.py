"""What the tests of the fan-out share: a sink that may block, feeds nobody opens, a clock moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.fanout.frames import text_frame, wrapped
from resender.fanout.client import StreamClient
from resender.fanout.hub import Fanout, FanoutOptions

NOW_MS = 1_790_000_000_000


class FakeSink:
    """Keeps what is written; while `is_full` each write waits until `drained` of its client is called."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed: list[tuple[int, str]] = []
        self.is_full = False
        self.error: Exception | None = None

    def write(self, data: bytes) -> bool:
        if self.error is not None:
            raise self.error
        assert not self.closed, "nothing is written behind the end"
        self.written.append(data)
        return not self.is_full

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    @property
    def data(self) -> bytes:
        return b"".join(self.written)

    def texts(self) -> list[bytes]:
        """Take what was written, as the payloads of frames; pings are left out."""
        data, found = self.data, []
        self.written.clear()
        while data:
            kind, size, at = data[0], data[1], 2
            if size == 126:
                size, at = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, at = int.from_bytes(data[2:10], "big"), 10
            if kind == 0x81:
                found.append(data[at : at + size])
            data = data[at + size :]
        return found


class FakeFeed:
    """The streams of one path: remembers who wants what."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []
        self.starts = 0

    async def start(self) -> None:
        self.starts += 1

    def subscribe(self, names: Iterable[str], listener: Any) -> None:
        for name in names:
            assert name not in self.names, "an upstream stream is opened once"
            self.names[name] = listener
            self.subscribed.append(name)

    def unsubscribe(self, names: Iterable[str], listener: Any) -> None:
        for name in names:
            assert self.names.pop(name) is listener
            self.unsubscribed.append(name)

    def push(self, name: str, payload: bytes) -> None:
        """Let an event come, if somebody still wants it."""
        if name in self.names:
            assert self.names[name].on_frame(name, None, wrapped(name, payload)) is None

    def live(self, *names: str) -> None:
        self.names[names[0]].on_live(list(names))

    def lose(self, *names: str) -> None:
        self.names[names[0]].on_lost(list(names))


class FakeFeeds:
    """Every feed, by market, path and role."""

    def __init__(self) -> None:
        self.made: dict[tuple[Market, str, str], FakeFeed] = {}

    def at(self, market: Market, path: str, role: str = "") -> FakeFeed:
        return self.made.setdefault((market, path, role), FakeFeed())


class World:
    """A fan-out on feeds made by hand."""

    def __init__(self, **options: Any) -> None:
        self.mono = 100.0
        self.tasks = Tasks()
        self.feeds = FakeFeeds()
        self.fanout = Fanout(
            self.feeds,
            FanoutOptions(**options),
            clock=Clock(now_ms=lambda: NOW_MS, mono=lambda: self.mono),
            tasks=self.tasks,
        )

    @property
    def spot(self) -> FakeFeed:
        return self.feeds.at(Market.SPOT, "")

    def client(
        self, *names: str, market: Market = Market.SPOT, combined: bool = False, deflated: bool = False, **more: Any
    ) -> StreamClient:  # fmt: skip
        """Let a client in that listens to these streams."""
        client = make_client(market, combined=combined, deflated=deflated, **more)
        self.fanout.add(client, names)
        return client

    def wait(self, seconds: float) -> None:
        """Let time pass and have the clients looked after."""
        self.mono += seconds
        self.fanout._sweep(self.mono)

    async def settle(self) -> None:
        """Let what was put before clients be written."""
        for _ in range(40):
            await asyncio.sleep(0)

    async def texts(self, client: StreamClient) -> list[bytes]:
        await self.settle()
        return sink(client).texts()


def make_client(
    market: Market = Market.SPOT,
    *,
    combined: bool = False,
    deflated: bool = False,
    role: str = "",
    max_streams: int = 1024,
    queue_bytes: int = 1000,
) -> StreamClient:
    return StreamClient(
        FakeSink(), market, address="10.0.0.1", path="/ws", is_combined=combined, is_deflated=deflated, role=role,
        max_streams=max_streams, queue_bytes=queue_bytes,
    )  # fmt: skip


def sink(client: StreamClient) -> FakeSink:
    assert isinstance(client.sink, FakeSink)
    return client.sink


def frames(*payloads: bytes) -> bytes:
    return b"".join(map(text_frame, payloads))
