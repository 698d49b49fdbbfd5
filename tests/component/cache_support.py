"""What the tests of the market cache share: a gateway on a sandbox, calls, and the truth of an answer.

A hit is judged by what the sandbox's store says for the same moment. The store is a function of time, so
the truth can be asked for any moment of the window in which the answer may have been made:

- a candle that closed before the call must have its final numbers, and none may be missing;
- the newest row must be one that existed between (call - age - push interval - slack) and the end of the
  call, `age` being the answer's own `X-Resender-Age`;
- a book ticker must be one that stood in such a window, the push interval being 0.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from resender.aio import Clock
from resender.config import Config
from resender.core.binance.markets import Market
from resender.market import BookTickers, Klines
from resender.market.market_state import MarketState
from resender.market.series import KeptKlines, KeptTicker
from resender.sandbox import Call, Sandbox, SandboxConfig
from resender.sandbox import intervals as iv
from resender.sandbox.market import BookTicker, MarketStore
from tests.support.client import Reply, build, parse
from tests.support.running import Running, make_config, running

KLINES = {Market.SPOT: "/api/v3/klines", Market.UM: "/fapi/v1/klines", Market.CM: "/dapi/v1/klines"}
TICKERS = {
    Market.SPOT: "/api/v3/ticker/bookTicker",
    Market.UM: "/fapi/v1/ticker/bookTicker",
    Market.CM: "/dapi/v1/ticker/bookTicker",
}
PREFIX = {Market.SPOT: "/api", Market.UM: "/fapi", Market.CM: "/dapi"}
MARKETS = tuple(KLINES)
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}
# Pushes of open candles in these tests; Binance's own are 2000 and 250 ms.
PUSH_MS = {"spot": 250, "um": 250, "cm": 250, "spot_1s": 250}
# How often Binance pushes an open candle: so long a new one may be missing.
LACK_MS = {Market.SPOT: 2000, Market.UM: 250, Market.CM: 250}
# What a loaded machine may add between an event and its being visible. Sandbox, gateway and test share
# one event loop, which a restart or a large answer may hold up for a moment.
SLACK_MS = 600
# How long after its close a candle may still be shown as the open one: the way from the exchange.
BOUNDARY_MS = 60
LOCAL_SERVICES = ("api", "fapi", "dapi", "stream_spot", "stream_um", "stream_cm")


class ExchangeClock:
    """The sandbox's clock: the machine's, shifted. It never jumps while a test runs."""

    def __init__(self, shift_ms: int = 0) -> None:
        self.shift_ms = shift_ms

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.shift_ms

    @classmethod
    def before_close(cls, lead_s: float, interval: str = "1m") -> ExchangeClock:
        """Make a clock on which the next candle closes in `lead_s` seconds."""
        now = time.time_ns() // 1_000_000
        close = iv.next_open(interval, iv.open_time(interval, now))
        return cls(close - now - int(lead_s * 1000))


def series_of(state: MarketState) -> dict[tuple[str, str], KeptKlines]:
    """Return the kline series a market keeps, by symbol and interval."""
    return state.kind(Klines).kept


def tickers_of(state: MarketState) -> dict[str, KeptTicker]:
    """Return the book tickers a market keeps, by symbol."""
    return {symbol: kept for (symbol, _), kept in state.kind(BookTickers).kept.items()}


@dataclass
class Bench:
    """A gateway on a sandbox, and how to call it."""

    sandbox: Sandbox
    run: Running
    clock: Callable[[], int]
    _connections: list[Connection] = field(default_factory=list)

    @property
    def cache(self) -> Any:
        return self.run.gateway.cache

    def store(self, market: Market) -> MarketStore:
        return self.sandbox.market(market)

    async def get(self, target: str, *headers: tuple[str, str]) -> Timed:
        """Call on a connection that is kept for the next call."""
        connection = self._connections.pop() if self._connections else Connection(self.run.port)
        try:
            timed = await connection.get(target, headers, self.clock)
        except BaseException:
            await connection.close()
            raise
        self._connections.append(connection)
        return timed

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()
        self._connections.clear()

    async def klines(self, market: Market, symbol: str, interval: str, limit: int = 5) -> Timed:
        return await self.get(kline_target(market, symbol, interval, limit))

    async def book_ticker(self, market: Market, symbol: str) -> Timed:
        return await self.get(f"{TICKERS[market]}?symbol={quote(symbol)}")

    async def until_hit(self, target: str, timeout_s: float = 12.0, *, allow_errors: bool = False) -> Timed:
        """Call again and again until the answer comes from the cache."""
        deadline = time.monotonic() + timeout_s
        while True:
            timed = await self.get(target)
            if timed.is_hit:
                return timed
            assert allow_errors or timed.status == 200, timed.body
            assert time.monotonic() < deadline, f"no hit of {target}: {timed.cache}"
            await asyncio.sleep(0.02)

    async def until_hit_packed(self, target: str, timeout_s: float = 12.0) -> Timed:
        """As `until_hit`, compressed."""
        await self.until_hit(target, timeout_s)
        while not (timed := await self.get(target, ("Accept-Encoding", "gzip"))).is_hit:
            await asyncio.sleep(0.02)
        assert timed.header("content-encoding") == "gzip"
        return timed

    def calls(self, path: str = "", since: int = 0) -> list[Call]:
        """List REST calls that arrived at the exchange, by path."""
        return [one for one in list(self.sandbox.calls)[since:] if path in ("", one.path)]

    def own_calls(self, path: str = "", since: int = 0) -> list[Call]:
        """List the calls the gateway made by itself, known by its user agent."""
        return [
            c
            for c in self.calls(path, since)
            if (c.header("user-agent") or "").startswith("binance-resender")
        ]

    def mark(self) -> int:
        return len(self.sandbox.calls)

    def check(self, timed: Timed, market: Market, symbol: str, interval: str, limit: int = 5) -> None:
        """Assert that a kline hit is the truth of its moment."""
        push_ms = self.sandbox.config.push_ms(market.value, interval)
        problem = kline_problem(self.store(market), symbol, interval, limit, timed, push_ms)
        assert problem is None, problem

    def check_ticker(self, timed: Timed, market: Market, symbol: str) -> None:
        problem = ticker_problem(self.store(market), symbol, timed, self.sandbox.config.book_ticker_hz)
        assert problem is None, problem


@dataclass
class Timed:
    """An answer and the exchange's time before and after the call."""

    reply: Reply
    before_ms: int
    after_ms: int

    @property
    def status(self) -> int:
        return self.reply.status

    @property
    def body(self) -> bytes:
        return (
            gzip.decompress(self.reply.body) if self.header("content-encoding") == "gzip" else self.reply.body
        )

    @property
    def cache(self) -> str:
        return self.header("x-resender-cache") or ""

    @property
    def is_hit(self) -> bool:
        return self.cache == "hit"

    @property
    def age_ms(self) -> int:
        return int(self.header("x-resender-age") or 0)

    @property
    def rows(self) -> Any:
        return orjson.loads(self.body)

    def header(self, name: str) -> str | None:
        return self.reply.header(name)


class Connection:
    """One kept connection of a client; answers have a Content-Length or are chunked."""

    def __init__(self, port: int, agent: str = "client/1") -> None:
        self._port = port
        self._agent = agent
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, target: str, headers: tuple[tuple[str, str], ...], clock: Callable[[], int]) -> Timed:
        before = clock()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(build("GET", target, (("User-Agent", self._agent), *headers), close=False))
        # No wait_for here: before Python 3.12 it may swallow the cancellation of a poller.
        reply = await self._read(reader)
        return Timed(reply, before, clock())

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Reply:
        raw = await reader.readuntil(b"\r\n\r\n")
        reply = parse(raw)
        if reply.header("transfer-encoding") == "chunked":
            body = b""
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            body = await reader.readexactly(int(reply.header("content-length") or 0))
        return Reply(raw + body, reply.status, reply.headers, body, True)

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


def subscribed(one: Bench, market: Market = Market.UM) -> list[list[str]]:
    """List the stream names of each connection, the witness' own connection left out."""
    return [names for names in one.sandbox.subscriptions(market) if names != ["!miniTicker@arr"]]


def kline_target(market: Market, symbol: str, interval: str, limit: int = 5) -> str:
    return f"{KLINES[market]}?symbol={quote(symbol)}&interval={interval}&limit={limit}"


def small_exchange(clock: Callable[[], int] | None = None, **options: Any) -> SandboxConfig:
    """Build the config of an exchange with few symbols and quick pushes."""
    values: dict[str, Any] = {
        "spot_symbols": ["BTCUSDT", "ETHUSDT", "BNBUSDT", "NKNUSDT"],
        "um_symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT", "NKNUSDT", "币安人生USDT"],
        "cm_symbols": ["BTCUSD_PERP", "ETHUSD_PERP"],
        "kline_push_ms": dict(PUSH_MS),
        "spot_message_rate": 20,
        "book_ticker_hz": 10.0,
    }
    if clock is not None:
        values["clock_ms"] = clock
    return SandboxConfig(**{**values, **options})


def gateway_config(data_dir: Path, sandbox: Sandbox, **settings: Any) -> Config:
    values: dict[str, Any] = {"kline_depth": 60, "stream_silence_s": 2.0, "shutdown_s": 2.0}
    values |= {name.lower(): url for name, url in sandbox.urls.items()}
    return make_config(data_dir, **{**values, **settings})


@asynccontextmanager
async def bench(
    data_dir: Path,
    exchange: SandboxConfig | None = None,
    *,
    machine_ms: int = 0,
    **settings: Any,
) -> AsyncIterator[Bench]:
    """Run a gateway on a sandbox of its own; `machine_ms` puts the machine's clock wrong by so much."""
    config = exchange or small_exchange()
    async with Sandbox(config) as sandbox:
        async with gateway_on(data_dir, sandbox, machine_ms=machine_ms, **settings) as one:
            yield one


@asynccontextmanager
async def gateway_on(
    data_dir: Path, sandbox: Sandbox, *, machine_ms: int = 0, **settings: Any
) -> AsyncIterator[Bench]:
    """Run a gateway on a sandbox that lives longer."""
    clock = Clock(now_ms=lambda: time.time_ns() // 1_000_000 + machine_ms)
    async with running(gateway_config(data_dir, sandbox, **settings), clock=clock) as run:
        one = Bench(sandbox, run, sandbox.config.clock_ms)
        try:
            yield one
        finally:
            await one.close()


class Distance:
    """A way to one port of the exchange on which every byte takes a while, in both directions."""

    def __init__(self, url: str, delay_s: float) -> None:
        self._scheme, _, rest = url.partition("://")
        self._host, _, port = rest.partition(":")
        self._port = int(port)
        self.delay_s = delay_s
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Distance:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"{self._scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            if far_writer is not None:
                far_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                moment, data = await due.get()
                await asyncio.sleep(max(0.0, moment - loop.time()))
                if not data:
                    writer.close()
                    return
                writer.write(data)

        delivery = asyncio.create_task(deliver())
        try:
            while data := await reader.read(65536):
                due.put_nowait((loop.time() + self.delay_s, data))
            due.put_nowait((loop.time() + self.delay_s, b""))
            await delivery
        finally:
            delivery.cancel()


async def side_by_side(*parts: Coroutine[Any, Any, None]) -> None:
    """Run parts of a test at once, as most of their time is waiting; all end before the first error is raised."""
    done = await asyncio.gather(*parts, return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each


# -- the truth ------------------------------------------------------------------------------------


def kline_problem(
    store: MarketStore,
    symbol: str,
    interval: str,
    limit: int,
    timed: Timed,
    push_ms: int,
    slack_ms: int = SLACK_MS,
) -> str | None:
    """Tell what is wrong with a kline answer, None if nothing is."""
    rows = split_rows(timed.body)
    proven_ms = timed.before_ms - timed.age_ms - slack_ms
    oldest_ms = proven_ms - push_ms
    # A new candle may be missing for as long as Binance's stream may take to push it.
    lack_ms = proven_ms - (1000 if interval == "1s" else LACK_MS[store.market])

    def problem(text: str) -> str:
        now = store.kline_bytes(symbol, interval, limit=3, now_ms=timed.after_ms).decode()
        shown = b",".join(rows[-3:]).decode()
        window = f"{timed.before_ms}..{timed.after_ms} age {timed.age_ms}"
        return f"{text}: {symbol} {interval} {window}\n shown {shown}\n truth {now}"

    if not rows:
        return (
            None
            if store.kline_bytes(symbol, interval, limit=1, now_ms=lack_ms) == b"[]"
            else problem("empty")
        )
    newest = open_of(rows[-1])
    if newest > timed.after_ms:
        return problem("a candle of the future")
    if newest < iv.open_time(interval, lack_ms):
        current = store.kline_bytes(symbol, interval, limit=1, now_ms=lack_ms)
        if not current.startswith(b"[[%d," % newest):
            return problem("the newest candle is missing")
    # Every candle up to the newest shown, as they are when the call ends.
    # Not by `end_ms`, which on COIN-M reaches back no more than 200 days.
    truth = split_rows(store.kline_bytes(symbol, interval, limit=limit + 4, now_ms=timed.after_ms))
    truth = [row for row in truth if open_of(row) <= newest][-limit:]
    if [open_of(row) for row in rows] != [open_of(row) for row in truth]:
        return problem("rows are missing or too many")
    for index, (row, true) in enumerate(zip(rows, truth, strict=True)):
        if row == true:
            continue
        close = close_of(row)
        if index < len(rows) - 1:
            return problem("a closed candle without its final numbers")
        if close < timed.before_ms - BOUNDARY_MS:
            return problem("a candle that is over without its final numbers")
        if not _stood(store, symbol, interval, row, oldest_ms, min(timed.after_ms, close)):
            return problem("the newest candle never looked so, or too long ago")
    return None


def _stood(store: MarketStore, symbol: str, interval: str, row: bytes, first_ms: int, last_ms: int) -> bool:
    moment = open_of(row)
    # The store's candles change in steps of 250 ms.
    times = [last_ms, *range(last_ms // 250 * 250, max(first_ms, moment) - 1, -250), max(first_ms, moment)]
    wanted = b"[" + row + b"]"
    return any(store.kline_bytes(symbol, interval, end_ms=moment, limit=1, now_ms=t) == wanted for t in times)


def split_rows(body: bytes) -> list[bytes]:
    """Split a kline body into its rows, each exactly as it is on the wire."""
    assert body[:1] == b"["
    assert body[-1:] == b"]"
    if body == b"[]":
        return []
    return [part + b"]" for part in body[1:-2].split(b"],")]


def open_of(row: bytes) -> int:
    return int(row[1 : row.index(b",")])


def close_of(row: bytes) -> int:
    return int(row.split(b",", 7)[6])


def ticker_json(store: MarketStore, symbol: str, ticker: BookTicker) -> bytes:
    """Write a book ticker as REST does, an object on every market."""
    prices = (
        f'"bidPrice":"{ticker.bid}","bidQty":"{ticker.bid_qty}",'
        f'"askPrice":"{ticker.ask}","askQty":"{ticker.ask_qty}"'
    )
    if store.market is Market.SPOT:
        return f'{{"symbol":"{symbol}",{prices}}}'.encode()
    if store.market is Market.UM:
        return f'{{"symbol":"{symbol}",{prices},"time":{ticker.time_ms}}}'.encode()
    pair = store.series[symbol].spec.pair
    return (
        f'{{"lastUpdateId":{ticker.update_id},"symbol":"{symbol}","pair":"{pair}",{prices},'
        f'"time":{ticker.time_ms}}}'
    ).encode()


def ticker_body(store: MarketStore, symbol: str, now_ms: int | None = None) -> bytes:
    """Return what REST answers for one symbol."""
    one = ticker_json(store, symbol, store.book_ticker(symbol, now_ms))
    return b"[" + one + b"]" if store.market is Market.CM else one


def ticker_problem(
    store: MarketStore, symbol: str, timed: Timed, hz: float, slack_ms: int = SLACK_MS
) -> str | None:
    """Tell what is wrong with the answer for one symbol's book ticker, None if nothing is."""
    first = timed.before_ms - timed.age_ms - slack_ms
    step = max(1, int(400 / hz))
    for moment in range(timed.after_ms, first - step, -step):
        if ticker_body(store, symbol, moment) == timed.body:
            return None
    truth = ticker_body(store, symbol, timed.after_ms).decode()
    return f"a wrong or old book ticker, age {timed.age_ms}\n shown {timed.body.decode()}\n truth {truth}"


# -- watching -------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Polls targets without a pause and judges every hit at once."""

    one: Bench
    slack_ms: int = SLACK_MS
    hits: int = 0
    misses: dict[str, int] = field(default_factory=dict)
    errors: int = 0
    problems: list[str] = field(default_factory=list)
    last_hit: dict[str, float] = field(default_factory=dict)
    # When the loop all share was held up, and for how long: nothing could be pushed or read then.
    _held_up: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=1000))
    _jobs: list[tuple[str, Callable[[Timed], str | None]]] = field(default_factory=list)

    def klines(self, market: Market, symbol: str, interval: str, limit: int = 5) -> str:
        store, push_ms = self.one.store(market), self.one.sandbox.config.push_ms(market.value, interval)

        def judge(timed: Timed) -> str | None:
            return kline_problem(store, symbol, interval, limit, timed, push_ms, self._slack())

        target = kline_target(market, symbol, interval, limit)
        self._jobs.append((target, judge))
        return target

    def ticker(self, market: Market, symbol: str) -> str:
        store, hz = self.one.store(market), self.one.sandbox.config.book_ticker_hz

        def judge(timed: Timed) -> str | None:
            return ticker_problem(store, symbol, timed, hz, self._slack())

        target = f"{TICKERS[market]}?symbol={quote(symbol)}"
        self._jobs.append((target, judge))
        return target

    def _slack(self) -> int:
        limit = time.monotonic() - 3.0
        return self.slack_ms + max((lag for when, lag in self._held_up if when > limit), default=0)

    async def _feel_the_loop(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            now = time.monotonic()
            if (lag_ms := int((now - begun - 0.01) * 1000)) > 20:
                self._held_up.append((now, lag_ms))

    async def ready(self) -> None:
        for target, _ in self._jobs:
            await self.one.until_hit(target)

    async def _poll(self, target: str, judge: Callable[[Timed], str | None], pause_s: float) -> None:
        while True:
            timed = await self.one.get(target)
            if timed.is_hit:
                self.hits += 1
                self.last_hit[target] = time.monotonic()
                if (problem := judge(timed)) is not None:
                    self.problems.append(problem)
            else:
                self.misses[timed.cache] = self.misses.get(timed.cache, 0) + 1
                self.errors += timed.status != 200
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def polling(self, pause_s: float = 0.015) -> AsyncIterator[Watch]:
        """Poll while the block runs; afterwards no hit may have been wrong."""
        tasks = [asyncio.create_task(self._poll(target, judge, pause_s)) for target, judge in self._jobs]
        tasks.append(asyncio.create_task(self._feel_the_loop()))
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [each for each in done if isinstance(each, Exception)]
        assert not failed, failed
        assert not self.problems, f"{len(self.problems)} of {self.hits} hits are wrong\n{self.problems[0]}"

    @property
    def targets(self) -> list[str]:
        return [target for target, _ in self._jobs]

    async def until_all_hit(self, timeout_s: float = 12.0, targets: list[str] | None = None) -> float:
        """Wait until every target (of some) has been hit after now; return the seconds it took."""
        begun = time.monotonic()
        wanted = self.targets if targets is None else targets
        while not all(self.last_hit.get(target, 0.0) > begun for target in wanted):
            assert time.monotonic() < begun + timeout_s, f"not all hit again: {self.misses}"
            await asyncio.sleep(0.02)
        return time.monotonic() - begun
