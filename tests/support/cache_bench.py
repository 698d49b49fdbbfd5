"""A gateway with its market cache on a sandbox of its own, and how to call it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resender.aio import Clock
from resender.config import Config
from resender.core.binance.markets import Market
from resender.market import BookTickers, Klines
from resender.market.market_state import MarketState
from resender.market.series import KeptKlines, KeptTicker
from resender.sandbox import Call, Sandbox, SandboxConfig
from resender.sandbox import intervals as iv
from resender.sandbox.market import MarketStore
from tests.support.cache_judge import Timed, kline_problem, ticker_problem
from tests.support.client import build, read_answer
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
        reply = await read_answer(reader)
        return Timed(reply, before, clock())

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
    # A minute that ends where no test waits for it: what is asked right then is forwarded.
    values["clock_ms"] = clock or ExchangeClock.before_close(45)
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


async def side_by_side(*parts: Coroutine[Any, Any, None]) -> None:
    """Run parts of a test at once, as most of their time is waiting; all end before the first error is raised."""
    done = await asyncio.gather(*parts, return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each
