"""The exchange of the fan-out's benchmark: sends events at a steady rate, each with the time it was sent.

`fanout_feed.py CA_FILE` is `cache_feed.py` with one more command. The time stands where that one has its counter:
microseconds of the monotonic clock, which all processes of a machine share, above a first number that
keeps every frame equally long.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Any

from cache_feed import _FIRST_COUNT, Feed, main

_TICK_S = 0.001
KINDS = ("bookTicker", "kline_1m")


def names_of(count: int, kind: str = "bookTicker") -> list[str]:
    """Return the names of so many streams; every program of the benchmark knows the same."""
    return [f"s{number:04d}usdt@{kind}" for number in range(count)]


def stamp() -> int:
    """Return the time as it stands in an event."""
    return _FIRST_COUNT + time.monotonic_ns() // 1000


class SteadyFeed(Feed):
    """All connections and what they have subscribed."""

    async def steady(self, rate: int, seconds: float, kind: str, streams: int) -> dict[str, Any]:
        """Send `rate` events a second, streams in turn, those of one moment in one write to each connection.

        Shape: the first `streams` names are sent, the others stay silent; `sent` events; `late_ms` is how late
            events were at the 99th percentile of the moments.
        """
        keys = [("", name) for name in names_of(streams, kind)]
        random.Random(1).shuffle(keys)
        chosen = [(self.streams[key], self.transports[key]) for key in keys]
        began, sent, finals = time.perf_counter(), 0, 0
        late: list[float] = []
        while (elapsed := time.perf_counter() - began) < seconds:
            due = int(elapsed * rate)
            if due > sent:
                late.append(elapsed - sent / rate)
            now_ms = int(time.time() * 1000)
            parts: dict[asyncio.Transport, list[bytes]] = {}
            for number in range(sent, due):
                stream, transport = chosen[number % len(chosen)]
                self.count = max(self.count + 1, stamp())
                before = stream.open_ms
                parts.setdefault(transport, []).append(stream.event(self.count, now_ms))
                # A candle that is over has a last event of its own.
                finals += bool(before) and stream.open_ms != before
            for transport, events in parts.items():
                transport.write(b"".join(events))
            sent = max(sent, due)
            await asyncio.sleep(_TICK_S)
        late.sort()
        return {
            "sent": sent + finals,
            "late_ms": round(late[len(late) * 99 // 100] * 1e3, 2) if late else 0.0,
        }


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main(SteadyFeed()))
