"""A fast stream server, and a reader beside it that sees when an event has become visible.

`cache_feed.py CA_FILE` speaks TLS, writes the authority its clients have to trust into the file,
prints its port as one line of JSON, takes one command a line on standard input and answers each
with one line. It sends events of the streams that were subscribed, made from templates of fixed
length, and ends with its standard input. Times are those of one clock, because the same process
sends the event and reads the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, cast

import orjson
from aiohttp import WSMsgType, web

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from resender.sandbox.authority import throwaway_authority

MINUTE_MS = 60_000
_BACKLOG_BYTES = 1 << 18
_CHUNK = 200
_DRAIN_S = 20.0
_TICK_S = 0.001
_READERS = 8
_FIRST_COUNT = 10**12  # so that every counter has the same number of digits
# A frame of changes tells of so many levels a side, of so many of the best; so many different ones are sent in turn.
LEVELS_A_SIDE = 20
_CHANGING = 500
_FRAMES = 32
# By the name of a stream behind its symbol.
_KINDS = {"bookTicker": "book", "depth@100ms": "diff", "depth20@100ms": "partial", "aggTrade": "aggTrade"}
_NUMBERS = b'"o":"90000.01000000","c":"90001.02000000","h":"90002.03000000","l":"89999.04000000"'


def frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """Return an unmasked WebSocket frame."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, size) + payload
    return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload


class Stream:
    """One subscribed stream: makes its events.

    Shape: the counter of an event stands in its bid quantity or its volume.
    """

    def __init__(self, name: str, path: str) -> None:
        symbol, _, what = name.partition("@")
        self.symbol = symbol.upper()
        self.kind = "kline" if what.startswith("kline") else _KINDS.get(what, "")
        self.is_kline = self.kind == "kline"
        self.path = path
        self.open_ms = 0
        s = self.symbol.encode()
        if self.is_kline:
            data = (
                b'{"e":"kline","E":%%d,"s":"%s","k":{"t":%%d,"T":%%d,"s":"%s","i":"1m","f":100,"L":200,%s,'
                b'"v":"%%d.00000000","n":%%d,"x":%%s,"q":"148976114.27815000","V":"1756.87402397",'
                b'"Q":"28463.40850000","B":"0"}}' % (s, s, _NUMBERS)
            )
        elif path:
            data = (
                b'{"e":"bookTicker","u":%%d,"E":%%d,"T":%%d,"s":"%s","b":"25.3519","B":"%%d.21",'
                b'"a":"25.3652","A":"40.66","ps":"%s","st":1}' % (s, s)
            )
        else:
            data = (
                b'{"u":%%d,"s":"%s","b":"25.35190000","B":"%%d.21000000","a":"25.36520000",'
                b'"A":"40.66000000"}' % s
            )
        payload = b'{"stream":"%s","data":' % name.encode() + data + b"}"
        self._forms = {True: self._form(payload, b"true"), False: self._form(payload, b"false")}

    def _form(self, payload: bytes, final: bytes) -> bytes:
        """Put the frame's head before the payload; its length is that of any event."""
        now_ms = int(time.time() * 1000)
        values = self._values(_FIRST_COUNT, now_ms, now_ms, final)
        head = frame(payload % values)[: 2 if len(payload % values) < 126 else 4]
        return head.replace(b"%", b"%%") + payload

    def _values(self, count: int, now_ms: int, open_ms: int, final: bytes) -> tuple[Any, ...]:
        if self.is_kline:
            return (now_ms, open_ms, open_ms + MINUTE_MS - 1, count, count, final)
        return (count, now_ms, now_ms, count) if self.path else (count, count)

    def event(self, count: int, now_ms: int) -> bytes:
        """Return the frames of the next event, before it a candle's last one if it is over."""
        if not self.is_kline:
            return self._forms[False] % self._values(count, now_ms, 0, b"")
        open_ms = now_ms - now_ms % MINUTE_MS
        before = b""
        if open_ms != self.open_ms:
            if self.open_ms:
                before = self._forms[True] % self._values(count, now_ms, self.open_ms, b"true")
            self.open_ms = open_ms
        return before + self._forms[False] % self._values(count, now_ms, open_ms, b"false")

    @property
    def target(self) -> str:
        root = "/fapi/v1" if self.path else "/api/v3"
        if self.is_kline:
            return f"{root}/klines?symbol={self.symbol}&interval=1m&limit=500"
        return f"{root}/ticker/bookTicker?symbol={self.symbol}"

    def seen(self, body: bytes) -> int:
        """Return the counter of the newest event that an answer shows, 0 if it is none of ours."""
        pattern = rb'.*"(\d{13})\.\d+",\d{13},' if self.is_kline else rb'.*"bidQty":"(\d{13})\.'
        found = re.match(pattern, body[-400:] if self.is_kline else body, re.DOTALL)
        return int(found[1]) if found else 0


class ToldStream:
    """A stream that goes on from what REST has shown of its symbol: changes of a book, its best levels, trades.

    Shape: the counter of an event is its update id, or the quantity of its trade.
    """

    is_kline = False

    def __init__(self, name: str, path: str) -> None:
        symbol, _, what = name.partition("@")
        self.name = name
        self.symbol = symbol.upper()
        self.kind = _KINDS[what]
        self.path = path
        self._forms: list[bytes] = []
        self._number = 0
        # The newest update, or trade.
        self._last = 0

    def know(self, bids: list[list[str]], asks: list[list[str]], trade_id: int) -> None:
        """Take what REST shows."""
        self._last = trade_id if self.kind == "aggTrade" else 0
        source = random.Random(self.symbol)
        if self.kind == "aggTrade":
            datas = [self._trade(bids[0][0])]
        elif self.kind == "diff":
            datas = [
                self._book(_changes(source, bids), _changes(source, asks), "b", "a") for _ in range(_FRAMES)
            ]
        else:
            names = ("b", "a") if self.path else ("bids", "asks")
            datas = [self._book(_best(source, bids), _best(source, asks), *names) for _ in range(_FRAMES)]
        self._forms = [b'{"stream":"%s","data":%s}' % (self.name.encode(), data) for data in datas]

    def _trade(self, price: str) -> bytes:
        s, p = self.symbol.encode(), price.encode()
        if self.path:
            return (
                b'{"e":"aggTrade","E":%%d,"s":"%s","a":%%d,"p":"%s","q":"%%d.0","nq":"1.0","f":%%d,"l":%%d,'
                b'"T":%%d,"m":true,"st":1}' % (s, p)
            )
        return (
            b'{"e":"aggTrade","E":%%d,"s":"%s","a":%%d,"p":"%s","q":"%%d.00000000","f":%%d,"l":%%d,'
            b'"T":%%d,"m":true,"M":true}' % (s, p)
        )

    def _book(self, bids: list[list[str]], asks: list[list[str]], bids_name: str, asks_name: str) -> bytes:
        s = self.symbol.encode()
        levels = orjson.dumps({bids_name: bids, asks_name: asks})[1:-1]
        if self.path:
            head = b'"e":"depthUpdate","E":%%d,"T":%%d,"s":"%s","U":%%d,"u":%%d,"pu":%%d,' % s
            return b'{%s%s,"ps":"%s","st":1}' % (head, levels, s)
        if self.kind == "partial":
            return b'{"lastUpdateId":%%d,%s}' % levels
        return b'{"e":"depthUpdate","E":%%d,"s":"%s","U":%%d,"u":%%d,%s}' % (s, levels)

    def event(self, count: int, now_ms: int) -> bytes:
        """Return the frame of the next event."""
        form = self._forms[self._number % len(self._forms)]
        self._number += 1
        values: tuple[int, ...]
        if self.kind == "aggTrade":
            self._last += 1
            values = (now_ms, self._last, count, self._last, self._last, now_ms)
        else:
            # The first one tells of everything up to now.
            before, self._last = self._last, count
            if self.path:
                values = (now_ms, now_ms, before + 1, count, before)
            else:
                values = (count,) if self.kind == "partial" else (now_ms, before + 1, count)
        return frame(form % values)

    @property
    def target(self) -> str:
        root = "/fapi/v1" if self.path else "/api/v3"
        if self.kind == "aggTrade":
            return f"{root}/aggTrades?symbol={self.symbol}&limit=1000"
        return f"{root}/depth?symbol={self.symbol}&limit={20 if self.kind == 'partial' else 500}"

    def seen(self, body: bytes) -> int:
        return 0


def _changes(source: random.Random, levels: list[list[str]]) -> list[list[str]]:
    """Change some levels, the best ones more often; a quarter of them go away until they are changed again."""
    found: dict[int, list[str]] = {}
    while len(found) < LEVELS_A_SIDE:
        at = 1 + int(source.expovariate(8 / _CHANGING))
        if at < min(_CHANGING, len(levels)):
            price, quantity = levels[at][0], source.choice(levels)[1]
            is_gone = source.random() < 0.25
            found[at] = [price, re.sub("[1-9]", "0", quantity) if is_gone else quantity]
    return [found[at] for at in sorted(found)]


def _best(source: random.Random, levels: list[list[str]]) -> list[list[str]]:
    return [[price, source.choice(levels)[1]] for price, _ in levels[:20]]


def make_stream(name: str, path: str) -> Stream | ToldStream:
    kind = _KINDS.get(name.partition("@")[2], "book")
    return Stream(name, path) if kind == "book" else ToldStream(name, path)


class Feed:
    """All connections and what they have subscribed."""

    def __init__(self) -> None:
        self.streams: dict[tuple[str, str], Stream | ToldStream] = {}
        self.transports: dict[tuple[str, str], asyncio.Transport] = {}
        self.pongs: dict[bytes, asyncio.Future[None]] = {}
        self.count = _FIRST_COUNT

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path.removesuffix("/stream")
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        transport = cast(asyncio.Transport, request.transport)
        transport.set_write_buffer_limits(high=1 << 30)  # paced by `_has_room`
        async for message in socket:
            if message.type is WSMsgType.PING:
                transport.write(frame(bytes(message.data), 0xA))
            elif message.type is WSMsgType.PONG:
                waiter = self.pongs.pop(bytes(message.data), None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            elif message.type is WSMsgType.TEXT:
                said = orjson.loads(message.data)
                for name in said["params"]:
                    self.streams[path, name] = make_stream(name, path)
                    self.transports[path, name] = transport
                transport.write(frame(orjson.dumps({"result": None, "id": said["id"]})))
        return socket

    def of_kind(self, market: str, kind: str) -> list[tuple[Stream | ToldStream, asyncio.Transport]]:
        return [
            (stream, self.transports[key])
            for key, stream in self.streams.items()
            if stream.kind == kind and bool(stream.path) == (market == "um")
        ]

    async def know(self, market: str, symbols: dict[str, Any]) -> int:
        """Take what REST shows of symbols; return how many streams go on from it."""
        told = 0
        for stream in self.streams.values():
            shown = symbols.get(stream.symbol)
            if isinstance(stream, ToldStream) and shown and bool(stream.path) == (market == "um"):
                stream.know(**shown)
                told += 1
        return told

    async def drained(self, transports: set[asyncio.Transport]) -> None:
        """Wait until the other side has read everything: its pong comes behind it."""
        waiters = []
        for number, transport in enumerate(transports):
            payload = b"drain%d-%d" % (self.count, number)
            self.pongs[payload] = asyncio.get_running_loop().create_future()
            waiters.append(self.pongs[payload])
            transport.write(frame(payload, 0x9))
        await asyncio.wait_for(asyncio.gather(*waiters), _DRAIN_S)

    async def saturate(self, market: str, kind: str, seconds: float) -> dict[str, Any]:
        """Send as fast as the other side reads.

        Shape: `sent` events in `duration_s`, until the last of them was read; `probes` are targets
            with the counter their answer must show.
        """
        chosen = self.of_kind(market, kind)
        if not chosen:
            raise RuntimeError(f"nobody subscribed a {kind} stream of {market}")
        (transport,) = {transport for _, transport in chosen}
        streams = [stream for stream, _ in chosen]
        began = time.perf_counter()
        sent, number = 0, 0
        last: dict[str, int] = {}
        while time.perf_counter() - began < seconds:
            if transport.get_write_buffer_size() > _BACKLOG_BYTES:
                await asyncio.sleep(_TICK_S)
                continue
            now_ms = int(time.time() * 1000)
            parts = []
            for _ in range(_CHUNK):
                stream = streams[number % len(streams)]
                self.count += 1
                number += 1
                parts.append(stream.event(self.count, now_ms))
                last[stream.target] = self.count
            transport.write(b"".join(parts))
            sent += _CHUNK
            await asyncio.sleep(0)
        await self.drained({transport})
        return {"sent": sent, "duration_s": time.perf_counter() - began, "probes": last}

    async def latency(self, gateway: str, rate: int, reads: int, seconds: float) -> dict[str, Any]:
        """Send `rate` events a second, nine book tickers to one candle, and read beside it.

        Each read begins right after the event it waits for was written, and is repeated until its
        answer shows it.
        """
        books, klines = self.of_kind("spot", "book"), self.of_kind("spot", "kline")
        readers = [Reader(gateway) for _ in range(_READERS)]
        for reader in readers:
            await reader.open()
        idle = deque(readers)
        probes: list[asyncio.Task[Probe]] = []
        began, sent, asked, skipped = time.perf_counter(), 0, 0, 0
        try:
            while (elapsed := time.perf_counter() - began) < seconds:
                due, due_reads = int(elapsed * rate), int(elapsed * reads)
                now_ms = int(time.time() * 1000)
                parts: dict[asyncio.Transport, list[bytes]] = {}
                fresh: tuple[Stream | ToldStream, int] | None = None
                for number in range(sent, due):
                    is_kline = number % 10 == 9
                    stream, transport = (klines if is_kline else books)[number // 10 % len(books)]
                    self.count += 1
                    parts.setdefault(transport, []).append(stream.event(self.count, now_ms))
                    # Every fourth probe looks at a candle.
                    if fresh is None or (is_kline and asked % 4 == 3):
                        fresh = stream, self.count
                sent = max(sent, due)
                written = time.perf_counter()
                for transport, events in parts.items():
                    transport.write(b"".join(events))
                if fresh is not None and asked < due_reads:
                    asked += 1
                    if idle:
                        work = probe(idle, *fresh, written)
                        probes.append(asyncio.get_running_loop().create_task(work))
                    else:
                        skipped += 1
                await asyncio.sleep(_TICK_S)
            found = await asyncio.wait_for(asyncio.gather(*probes), _DRAIN_S)
        finally:
            for reader in readers:
                reader.close()
        return {
            "sent": sent,
            "duration_s": time.perf_counter() - began,
            "skipped": skipped,
            "probes": [list(each) for each in found],
        }


# A probe: is it a candle, seconds until its event was visible, seconds of its first read, reads.
Probe = tuple[bool, float, float, int]


async def probe(idle: deque[Reader], stream: Stream | ToldStream, count: int, written: float) -> Probe:
    reader = idle.popleft()
    try:
        tries, first_s = 0, 0.0
        while True:
            tries += 1
            body = await reader.get(stream.target)
            now = time.perf_counter()
            first_s = first_s or now - written
            if stream.seen(body) >= count:
                return stream.is_kline, now - written, first_s, tries
            if now - written > 2.0:
                raise RuntimeError(f"{stream.target} does not show event {count}: {body[-300:]!r}")
    finally:
        idle.append(reader)


class Reader(asyncio.Protocol):
    """One kept connection, one call at a time."""

    def __init__(self, gateway: str) -> None:
        self._host, _, self._port = gateway.partition(":")
        self._data = bytearray()
        self._waiter: asyncio.Future[bytes] | None = None
        self._size = -1

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self._host, int(self._port))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def get(self, target: str) -> bytes:
        self._data.clear()
        self._size = -1
        self._waiter = asyncio.get_running_loop().create_future()
        request = f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n\r\n"
        self._transport.write(request.encode())
        return await self._waiter

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._size < 0:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._data[:end])
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if not head.startswith(b"HTTP/1.1 200 ") or length is None:
                self._fail(RuntimeError(head.decode("latin-1")[:200]))
                return
            if b"\r\nX-Resender-Cache: hit" not in head:
                self._fail(RuntimeError(f"no hit: {head.decode('latin-1')}"))
                return
            del self._data[: end + 4]
            self._size = int(length[1])
        if len(self._data) >= self._size and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(bytes(self._data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(RuntimeError("the gateway closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def close(self) -> None:
        self._transport.abort()


async def main(feed: Feed) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    context = throwaway_authority().server_context()
    throwaway_authority().write_ca(sys.argv[1])
    server = await loop.create_server(web.Server(feed.handle), "127.0.0.1", 0, ssl=context)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    while line := await reader.readline():
        command = orjson.loads(line)
        name = command.pop("do")
        if name == "subscribed":
            print(len(feed.streams), flush=True)
        else:
            print(json.dumps(await getattr(feed, name)(**command)), flush=True)
    server.close()


if __name__ == "__main__":
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(main(Feed()))
