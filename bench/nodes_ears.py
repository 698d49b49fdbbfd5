"""Two clients that hear the same streams in different places: how much later does a frame come to the second?

`nodes_ears.py` takes one command a line on standard input, in JSON, and answers each with one line; it ends with its
standard input. What comes is kept with the time it came and read afterwards, so that reading one frame makes no other
one late. Frames are told apart by the time of sending each of them carries, see fanout_feed.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from fanout_clients import MARKS, masked
from fanout_feed import names_of, stamp

_OPEN_S = 10.0
_TRIES = 60
# Told unasked, so that the server's pings need not be read in time.
_PONG_EVERY_S = 10.0
_DIGITS = 13
_OFTEN = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}


class Ear(asyncio.Protocol):
    """One connection. Shape: `heard` is when each event came, by the time it was sent. Units: microseconds."""

    def __init__(self, handshake: bytes, mark: bytes) -> None:
        self._handshake = handshake
        self._mark = mark
        self._head = b""
        self._rest = b""
        self._chunks: list[tuple[int, bytes]] = []
        self._is_open = False
        self.heard: dict[int, int] = {}
        self.twice = 0
        self.problem = ""
        self.is_leaving = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            self._chunks.append((stamp(), data))
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end and not self.opened.done():
            if head.startswith(b"HTTP/1.1 101"):
                self._is_open = True
                self._chunks.append((stamp(), rest))
                self.opened.set_result(None)
            else:
                self.opened.set_exception(OSError(f"handshake: {(head + rest)[:300]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_leaving:
            self.problem = f"connection lost: {exc}"
        if not self.opened.done():
            self.opened.set_exception(OSError("the connection was closed"))

    def read(self) -> None:
        """Read what has come so far."""
        chunks, self._chunks = self._chunks, []
        for came, data in chunks:
            data = self._rest + data
            at, size = 0, len(data)
            while size - at >= 2:
                length, start = data[at + 1], at + 2
                if length >= 126:
                    if size - at < 10:
                        break
                    width = 2 if length == 126 else 8
                    length = int.from_bytes(data[start : start + width], "big")
                    start += width
                end = start + length
                if end > size:
                    break
                if data[at] == 0x81:
                    self._event(came, data[start:end])
                elif data[at] == 0x88:
                    self.problem = f"closed: {data[start:end]!r}"
                at = end
            self._rest = data[at:]

    def _event(self, came: int, payload: bytes) -> None:
        found = payload.find(self._mark)
        if found < 0:
            return
        found += len(self._mark)
        sent = int(payload[found : found + _DIGITS])
        self.twice += sent in self.heard
        self.heard[sent] = came

    def forget(self) -> None:
        self.read()
        self.heard.clear()
        self.twice = 0


class Ears:
    """All connections of the process, in the order they were opened."""

    def __init__(self) -> None:
        self.ears: list[Ear] = []

    async def open(self, port: int, streams: int, kind: str = "bookTicker", pid: int = 0) -> int:
        """Open one connection to so many streams in the combined form; return how many are open.

        Shape: with `pid` it has to be answered by that one of the processes that share the port; which one
            gets a connection is the kernel's choice, so others are given up.
        """
        target = "/stream?streams=" + "/".join(names_of(streams, kind))
        handshake = (
            f"GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        for _ in range(_TRIES):
            ear = Ear(handshake, MARKS[kind])
            async with asyncio.timeout(_OPEN_S):
                transport, _ = await loop.create_connection(lambda ear=ear: ear, "127.0.0.1", port)
                await ear.opened
            own_port = transport.get_extra_info("sockname")[1]
            if not pid or _has_connection(pid, port, own_port):
                self.ears.append(ear)
                return len(self.ears)
            ear.is_leaving = True
            transport.abort()
        raise OSError(f"process {pid} got none of {_TRIES} connections")

    async def begin(self) -> int:
        for ear in self.ears:
            ear.forget()
        gc.collect()
        return 0

    async def total(self) -> list[int]:
        """Tell how many events have come to each since `begin`."""
        for ear in self.ears:
            ear.read()
        return [len(ear.heard) + ear.twice for ear in self.ears]

    async def found(self, first: int, last: int) -> dict[str, Any]:
        """Tell how late the events sent between two times came, and how much later to the second than to the first."""
        near, far = self.ears
        both = [sent for sent in near.heard if first <= sent < last and sent in far.heard]
        return {
            "frames": len(both),
            "near": _shares([near.heard[sent] - sent for sent in both]),
            "far": _shares([far.heard[sent] - sent for sent in both]),
            "added": _shares([far.heard[sent] - near.heard[sent] for sent in both]),
            "missing": len(near.heard.keys() ^ far.heard.keys()),
            "twice": near.twice + far.twice,
            "problems": [ear.problem for ear in self.ears if ear.problem],
        }

    async def stay(self) -> None:
        """Be known as alive."""
        pong = masked(0xA, b"")
        while True:
            await asyncio.sleep(_PONG_EVERY_S)
            for ear in self.ears:
                ear.transport.write(pong)


def _shares(delays: list[int]) -> dict[str, float]:
    """Return the median and so on of delays, in milliseconds."""
    delays.sort()
    last = len(delays) - 1
    return {
        name: delays[min(last, int(len(delays) * part))] / 1e3 if delays else 0.0
        for name, part in _OFTEN.items()
    }


def _has_connection(pid: int, port: int, client_port: int) -> bool:
    """Tell whether a process owns the server's end of a connection."""
    local, remote = f":{port:04X}", f":{client_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(local) and fields[2].endswith(remote):
            wanted = f"socket:[{fields[9]}]"
            return any(_link_of(file) == wanted for file in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _link_of(file: Path) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(file)
    return ""


async def main() -> None:
    gc.disable()
    ears = Ears()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    staying = asyncio.ensure_future(ears.stay())
    print(0, flush=True)
    while line := await reader.readline():
        command = json.loads(line)
        print(json.dumps(await getattr(ears, command.pop("do"))(**command)), flush=True)
    staying.cancel()


if __name__ == "__main__":
    run: Callable[[Any], None] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main())
