"""Many light clients of streams in one process: they read heads of frames and the time in each.

`fanout_clients.py` takes one command a line on standard input, in JSON, and answers each with one line; it ends with
its standard input. Nothing is unmasked, decoded or kept: what is measured is the server. Pings are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
import zlib
from array import array
from typing import Any, cast

from cache_feed import _FIRST_COUNT
from fanout_feed import names_of

# What stands before the time in an event of each kind.
MARKS = {"bookTicker": b'"B":"', "kline_1m": b'"v":"'}
_AT_ONCE = 50
_OPEN_S = 20.0
# Of compressed frames one in so many is inflated, to read its time.
_INFLATED = 16
_URL_BYTES = 60_000


class Counts:
    """What all connections of the process have seen."""

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0
        self.reads = 0
        self.closed: list[str] = []
        self.delays = array("q")


class Ear(asyncio.Protocol):
    """One connection."""

    def __init__(self, counts: Counts, handshake: bytes, mark: bytes, names: list[str]) -> None:
        self._counts = counts
        self._handshake = handshake
        self._mark = mark
        self._names = names
        self._rest = b""
        self._is_open = False
        self.is_leaving = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._handshake)

    def _accepted(self, data: bytes) -> bytes:
        head, end, rest = (self._rest + data).partition(b"\r\n\r\n")
        if not end:
            self._rest = head
            return b""
        self._rest = b""
        if not head.startswith(b"HTTP/1.1 101"):
            self._failed(f"handshake: {(head + rest)[:300]!r}")
            return b""
        self._is_open = True
        for at in range(0, len(self._names), 100):
            said = {"method": "SUBSCRIBE", "params": self._names[at : at + 100], "id": at + 1}
            self.transport.write(masked(0x1, json.dumps(said).encode()))
        if not self.opened.done():
            self.opened.set_result(None)
        return rest

    def data_received(self, data: bytes) -> None:
        now = _FIRST_COUNT + time.monotonic_ns() // 1000
        if not self._is_open:
            data = self._accepted(data)
        counts, mark = self._counts, self._mark
        counts.reads += 1
        counts.bytes += len(data)
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 2:
            first, length, start = data[at], data[at + 1], at + 2
            if length >= 126:
                if size - at < 10:
                    break
                width = 2 if length == 126 else 8
                length = int.from_bytes(data[start : start + width], "big")
                start += width
            end = start + length
            if end > size:
                break
            if first == 0x81:
                found = data.find(mark, start, end)
                if found >= 0:
                    counts.frames += 1
                    found += len(mark)
                    counts.delays.append(now - int(data[found : found + 13]))
            elif first == 0xC1:
                counts.frames += 1
                if counts.frames % _INFLATED == 0:
                    text = zlib.decompressobj(-15).decompress(data[start:end] + b"\0\0\xff\xff")
                    found = text.find(mark) + len(mark)
                    counts.delays.append(now - int(text[found : found + 13]))
            elif first == 0x89:
                self.transport.write(masked(0xA, data[start:end]))
            elif first == 0x88:
                self._failed(f"closed: {data[start:end]!r}")
            at = end
        self._rest = data[at:] if at < size else b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed(f"lost: {exc}")

    def _failed(self, reason: str) -> None:
        if not self.is_leaving:
            self._counts.closed.append(reason)
        if not self.opened.done():
            self.opened.set_exception(RuntimeError(reason))


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a frame as a client sends it; the mask changes nothing."""
    size = len(payload)
    if size < 126:
        return bytes([0x80 | opcode, 0x80 | size]) + bytes(4) + payload
    return bytes([0x80 | opcode, 0xFE]) + size.to_bytes(2, "big") + bytes(4) + payload


class Crowd:
    """All clients of the process."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.ears: list[Ear] = []
        self.began = (0, 0, 0, 0.0)

    async def open(
        self,
        port: int,
        clients: int,
        streams: int,
        each: int,
        kind: str = "bookTicker",
        form: str = "ws",
        deflate: bool = False,
        ca_file: str = "",
        first: int = 0,
        offset: int = 0,
    ) -> int:
        """Open `clients` connections to so many streams; return how many are open in all.

        Shape: client i listens to `each` streams from `offset` + i * `each` on, in a circle; `form` is `ws` (raw)
            or `stream` (combined); with `ca_file` over TLS, and the streams are subscribed by message.
        """
        names = names_of(streams, kind)
        context = ssl.create_default_context(cafile=ca_file) if ca_file else None
        loop = asyncio.get_running_loop()
        fresh = []
        for number in range(first, first + clients):
            mine = [names[(offset + number * each + i) % streams] for i in range(each)]
            target = f"/{form}" if ca_file else "/ws/" if form == "ws" else "/stream?streams="
            if not ca_file:
                target += "/".join(mine)
            said = "permessage-deflate; client_max_window_bits" if deflate else ""
            handshake = (
                f"GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                "Sec-WebSocket-Version: 13\r\nUser-Agent: Python/3.11 websockets/15.0\r\n"
                f"{f'Sec-WebSocket-Extensions: {said}' if said else 'Accept: */*'}\r\n\r\n"
            ).encode()
            assert len(handshake) < _URL_BYTES
            fresh.append(Ear(self.counts, handshake, MARKS[kind], mine if ca_file else []))
        for at in range(0, len(fresh), _AT_ONCE):
            part = fresh[at : at + _AT_ONCE]
            name = "localhost" if context is not None else None
            async with asyncio.timeout(_OPEN_S):
                for ear in part:
                    await loop.create_connection(
                        lambda ear=ear: ear, "127.0.0.1", port, ssl=context, server_hostname=name
                    )
                await asyncio.gather(*(ear.opened for ear in part))
        self.ears += fresh
        return len(self.ears)

    async def begin(self) -> int:
        counts = self.counts
        counts.delays = array("q")
        self.began = (counts.frames, counts.bytes, counts.reads, time.process_time())
        return 0

    async def end(self) -> dict[str, Any]:
        """Tell what has come since `begin`."""
        counts = self.counts
        frames, size, reads, cpu_s = self.began
        delays = sorted(counts.delays)
        found = {
            "frames": counts.frames - frames,
            "bytes": counts.bytes - size,
            "reads": counts.reads - reads,
            "cpu_s": time.process_time() - cpu_s,
            "closed": counts.closed[:5],
        }
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0)):
            at = min(len(delays) - 1, int(len(delays) * share))
            found[name] = delays[at] / 1e3 if delays else 0.0
        return found

    async def total(self) -> int:
        return self.counts.frames

    async def count(self) -> int:
        return len(self.ears)

    async def close(self) -> int:
        for ear in self.ears:
            ear.is_leaving = True
            ear.transport.abort()
        self.ears.clear()
        return 0


async def main() -> None:
    crowd = Crowd()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    print(0, flush=True)
    while line := await reader.readline():
        command = json.loads(line)
        print(json.dumps(await getattr(crowd, command.pop("do"))(**command)), flush=True)


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main())
