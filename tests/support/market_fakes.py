"""A made-up exchange market for what is kept of one: REST answers, feeds of streams, a desk, a clock.

Nothing of it waits for the real clock; it belongs on a loop of `tests/support/fast_loop.py`. Answers are
functions of the time: minute candles whose number of trades is their age in seconds, at most 60.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from resender.aio import Clock, Tasks
from resender.core.binance.endpoints import BOOK_TICKERS, KLINES
from resender.core.binance.fetched import Fetched
from resender.core.binance.intervals import INTERVAL_MS
from resender.core.binance.markets import BY_MARKET, Market
from resender.core.market.requests import Miss
from resender.errors import AnswerError
from resender.market.exchange_facts import ExchangeFacts
from resender.market.kinds import KINDS
from resender.market.kinds.base import KindOptions, Shared, Tools
from resender.market.market_state import MarketState
from resender.market.reader import Reader
from resender.market.series import Kept
from resender.market.trade_watch import TradeWatch

MINUTE = 60_000
T0 = 1_790_000_040_000 // MINUTE * MINUTE
#: When the symbols of this exchange were listed: so many minutes before T0.
LISTED_MINUTES = 10_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "NKNUSDT")


def row(open_time: int, trades: int, *, interval_ms: int = MINUTE) -> list[Any]:
    price = f"1{trades:03d}.50"
    end = open_time + interval_ms - 1
    return [open_time, "1.0", price, "0.5", price, "7.0", end, "8.0", trades, "3.0", "4.0", "0"]


def trades_at(open_time: int, now_ms: int) -> int:
    """Return how many trades a candle has at a time: one for each second it lasts."""
    return max(0, min(60, (now_ms - open_time) // 1000))


def kline_event(
    open_time: int,
    at_ms: int,
    symbol: str = "BTCUSDT",
    *,
    interval: str = "1m",
    final: bool = False,
    **k: Any,
) -> dict[str, Any]:
    """Make a kline event; a final one has all its trades."""
    n = 60 if final else trades_at(open_time, at_ms)
    t, o, h, low, c, v, end, q, _, tv, tq, _ = row(open_time, n, interval_ms=INTERVAL_MS[interval])
    values = {"t": t, "T": end, "s": symbol, "i": interval, "o": o, "c": c, "h": h, "l": low, "v": v, "n": n,
              "x": final, "q": q, "V": tv, "Q": tq, "B": "0"}  # fmt: skip
    return {"e": "kline", "E": at_ms, "s": symbol, "k": values | k}


def ticker_event(
    update_id: int, symbol: str = "BTCUSDT", at_ms: int = T0, bid: str = "1.50"
) -> dict[str, Any]:
    """Make a bookTicker event of a futures market."""
    return {"e": "bookTicker", "u": update_id, "E": at_ms, "T": at_ms, "s": symbol, "b": bid, "B": "2",
            "a": "1.60", "A": "3", "ps": symbol}  # fmt: skip


def ticker_row(symbol: str, at_ms: int = T0, bid: str = "1.50") -> dict[str, Any]:
    return {
        "symbol": symbol,
        "bidPrice": bid,
        "bidQty": "2",
        "askPrice": "1.60",
        "askQty": "3",
        "time": at_ms,
    }


Answer = Callable[[str, dict[str, str]], Any]


class FakeDoor:
    """The door out: answers reads of one exchange and keeps which were made.

    Shape: `answers` maps a path to what answers it, a function of target and parameters that returns
        bytes, something to be written as JSON, a `Fetched` or an error; `refuse` is raised instead of
        a permit, and of an answer to who has none; `held` holds answers back until it is set.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.targets: list[str] = []
        self.admitted: list[tuple[str, bool]] = []
        self.given_back: list[Any] = []
        self.refuse: AnswerError | None = None
        self.held = asyncio.Event()
        self.held.set()
        self.symbols = list(SYMBOLS)
        self.lag_ms = 0
        self.answers: dict[str, Answer] = {}
        for market, path in KLINES.items():
            self.answers[path] = self._klines
            self.answers[BOOK_TICKERS[market]] = self._tickers
            self.answers[BY_MARKET[market].time_path] = lambda *_: {"serverTime": self._now_ms()}
            self.answers[path.replace("klines", "exchangeInfo")] = self._info

    def admit(self, market: Market, target: str, *, is_urgent: bool) -> Any:
        if self.refuse is not None:
            raise self.refuse
        self.admitted.append((target, is_urgent))
        return f"permit {len(self.admitted)}"

    def give_back(self, permit: Any) -> None:
        self.given_back.append(permit)

    async def fetch(self, market: Market, target: str, permit: Any = None) -> Fetched:
        if permit is None and self.refuse is not None:
            raise self.refuse
        self.targets.append(target)
        await asyncio.sleep(0)
        path, _, query = target.partition("?")
        answer = self.answers[path](target, dict(parse_qsl(query)))
        await self.held.wait()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Fetched):
            return answer
        return Fetched(200, {}, answer if isinstance(answer, bytes) else orjson.dumps(answer))

    def asked(self, path: str) -> list[str]:
        return [target for target in self.targets if target.partition("?")[0] == path]

    def _klines(self, target: str, params: dict[str, str]) -> Any:
        now, limit = self._now_ms() - self.lag_ms, int(params["limit"])
        step = INTERVAL_MS[params["interval"]]
        newest = min(now, int(params.get("endTime", now))) // step * step
        first = max(newest - (limit - 1) * step, T0 - LISTED_MINUTES * MINUTE // step * step)
        return [row(t, trades_at(t, now), interval_ms=step) for t in range(first, newest + 1, step)]

    def _tickers(self, target: str, params: dict[str, str]) -> Any:
        if "symbol" in params:
            if params["symbol"] not in self.symbols:
                return Fetched(400, {}, b'{"code":-1121,"msg":"Invalid symbol."}')
            return ticker_row(params["symbol"], self._now_ms())
        return [ticker_row(symbol, self._now_ms()) for symbol in self.symbols]

    def _info(self, target: str, params: dict[str, str]) -> Any:
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}]
        rows = [{"symbol": s, "status": "TRADING", "contractStatus": "TRADING"} for s in self.symbols]
        return {"serverTime": self._now_ms(), "rateLimits": limits, "symbols": rows}


class FakeFeed:
    """One pool of streams: a stream is live as soon as `live` says so."""

    def __init__(self, mono: Callable[[], float]) -> None:
        self._mono = mono
        self.listeners: dict[str, Any] = {}
        self.proven: set[str] = set()
        self.dead: set[str] = set()
        self.shifted: list[str] = []
        self.is_started = False
        self.connections: list[Any] = []

    async def start(self) -> None:
        self.is_started = True

    def subscribe(self, names: list[str], listener: Any) -> None:
        self.listeners |= dict.fromkeys(names, listener)

    def unsubscribe(self, names: list[str], listener: Any) -> None:
        for name in names:
            del self.listeners[name]

    def shift(self, name: str, mute_s: float) -> None:
        self.shifted.append(name)

    def proof_mono(self, name: str) -> float | None:
        return None if name in self.dead or name not in self.listeners else self._mono()

    def is_proven(self, name: str) -> bool:
        return name in self.proven

    # -- what a test does with it ---------------------------------------------------------------

    def live(self, *names: str) -> None:
        """Tell that streams are subscribed, all that are wanted if none is named."""
        for name in names or tuple(self.listeners):
            if hasattr(self.listeners[name], "on_live"):
                self.listeners[name].on_live([name])

    def lose(self, *names: str) -> None:
        for name in names:
            self.listeners[name].on_lost([name])

    def carrier(self, name: str) -> object:
        return self

    def send(self, name: str, data: Any) -> Any:
        self.proven.add(name)
        return self.listeners[name].on_frame(name, data, orjson.dumps({"stream": name, "data": data}))


class FakeFeeds:
    """The feeds of all markets, made when they are asked for."""

    def __init__(self, mono: Callable[[], float]) -> None:
        self._mono = mono
        self.made: dict[tuple[Market, str, str], FakeFeed] = {}

    def feed(self, market: Market, what: str, role: str = "") -> FakeFeed:
        return self.made.setdefault((market, what, role), FakeFeed(self._mono))


@dataclass
class FakeDesk:
    """What the cache does for the kinds, written down."""

    hits: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    begun: list[tuple[Market, str, str]] = field(default_factory=list)
    fills: int = 0

    def count_hit(self, kept: Kept) -> None:
        self.hits += 1
        kept.hits += 1

    def miss(self, kept: Kept | None, reason: str) -> Miss:
        self.reasons[reason] += 1
        if kept is not None:
            kept.misses[reason] += 1
        return Miss(reason)

    def begin(self, market: Market, symbol: str, what: str) -> str:
        self.begun.append((market, symbol, what))
        return "not held yet"

    def fill(self, market: Market) -> None:
        self.fills += 1


class World:
    """One made-up exchange, the clock on which the exchange and the program agree, and the fakes.

    Made on a running loop. `end()` ends the tasks.
    """

    def __init__(self, market: Market = Market.UM) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self.market = market
        self.clock = Clock(now_ms=lambda: T0 + round((loop.time() - begun) * 1000), mono=loop.time)
        self.tasks = Tasks()
        self.door = FakeDoor(lambda: self.now_ms)
        self.feeds = FakeFeeds(loop.time)
        self.desk = FakeDesk()
        self.reader = Reader(self.door, market)
        self.moved: list[Kept] = []

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    async def until(self, after_ms: int) -> None:
        """Let the time pass until so long after T0."""
        while (left_ms := T0 + after_ms - self.now_ms) > 0:
            await asyncio.sleep(left_ms / 1000)

    async def settle(self) -> None:
        """Let tasks run that have something to do, without any time passing."""
        for _ in range(20):
            await asyncio.sleep(0)

    def facts(self, **options: Any) -> ExchangeFacts:
        values: dict[str, Any] = {"refresh_s": 60.0, "on_symbols": lambda: None, **options}
        return ExchangeFacts(self.reader, clock=self.clock, tasks=self.tasks, **values)

    def watch(self, facts: ExchangeFacts) -> TradeWatch:
        """Return a witness of the market's trades that has heard nothing yet."""
        return TradeWatch(
            self.market,
            self.feeds.feed(self.market, "miniTicker", "witness"),
            quiet_s=10.0,
            latest_ms=facts.latest_ms,
            clock=self.clock,
            tasks=self.tasks,
        )

    def tools(self, what: str, **options: Any) -> Tools:
        """Return what a kind works with; its clock is set, its symbols are known."""
        facts = self.facts()
        facts.server.set(self.now_ms, self.clock.mono(), self.clock.mono())
        return Tools(
            market=self.market,
            facts=facts,
            feed=self.feeds.feed(self.market, what),
            watch=self.watch(facts),
            reader=self.reader,
            desk=self.desk,
            mute=self.moved.append,
            restream=lambda moves: [setattr(kept, "stream", name) for kept, name in moves],
            clock=self.clock,
            tasks=self.tasks,
            options=KindOptions(**{"depth": 60, **options}),
            shared=Shared(self.tasks),
        )

    def state(
        self, on_symbols: Callable[[MarketState], None] = lambda state: None, **options: Any
    ) -> MarketState:
        """Make the state of the market, with all kinds; nothing is followed yet."""
        return MarketState(
            self.reader,
            KINDS,
            KindOptions(depth=60, **options),
            feeds=self.feeds,
            desk=self.desk,
            shared=Shared(self.tasks),
            clock=self.clock,
            tasks=self.tasks,
            refresh_s=60.0,
            on_symbols=on_symbols,
        )

    async def end(self) -> None:
        await self.tasks.cancel()
