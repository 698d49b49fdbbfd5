"""A made-up exchange that trades: one history told by a stream, by REST some time later, and by a witness.

It belongs to a `World` of `market_fakes.py`. Nothing trades by itself; `Counter.trade` does it, and what
becomes of the event is the test's to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from resender.core.binance.endpoints import AGG_TRADES, PRICES, TRADES
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import MINI_TICKERS
from resender.core.market.requests import Miss, SymbolsRequest, TradesRequest
from resender.market.kinds.base import Hit
from resender.market.kinds.trades import AggTrades, Trades, TradeTails
from resender.market.series import Kept, KeptTrades
from tests.support.market_fakes import T0, World

ARRAY_MS = 1000


class Trade(NamedTuple):
    """One trade, or one aggregate. Units: epoch milliseconds."""

    id: int
    at_ms: int
    price: str
    qty: str


def agg_row(market: Market, one: Trade) -> dict[str, Any]:
    row: dict[str, Any] = {"a": one.id, "p": one.price, "q": one.qty}
    if market is Market.UM:
        row["nq"] = one.qty
    row |= {"f": 2 * one.id, "l": 2 * one.id + 1, "T": one.at_ms, "m": one.id % 3 == 0}
    return {**row, "M": True} if market is Market.SPOT else row


def trade_row(one: Trade) -> dict[str, Any]:
    """Make a row of spot; its product is cut off."""
    product = int(one.price.replace(".", "")) * int(one.qty.replace(".", "")) // 10**8
    text = str(product).rjust(9, "0")
    return {"id": one.id, "price": one.price, "qty": one.qty, "quoteQty": f"{text[:-8]}.{text[-8:]}",
            "time": one.at_ms, "isBuyerMaker": one.id % 3 == 0, "isBestMatch": True}  # fmt: skip


class History:
    """What was traded of one symbol. Units: `lag_ms` milliseconds by which REST trails behind."""

    def __init__(self, world: World, kind: type[TradeTails], symbol: str, first_id: int = 5001) -> None:
        self.world = world
        self.kind = kind
        self.symbol = symbol
        self.trades: list[Trade] = []
        self.next_id = first_id
        self.lag_ms = 0
        # Whether products have more decimals than are shown.
        self.is_odd = False

    def trade(self, *, skip: int = 0, price: str | None = None) -> dict[str, Any]:
        """Trade now and return the event; `skip` so many ids that nobody will ever see."""
        number = self.next_id + skip
        self.next_id = number + 1
        text = price or f"{100 + number % 7}.{number % 10**8:08d}"
        part = number * 37 % 100 if self.is_odd else 0
        one = Trade(number, self.world.now_ms, text, f"{1 + number % 3}.{part:02d}000000")
        self.trades.append(one)
        return self.event(one)

    def begin_with(self, count: int) -> None:
        """Let so many trades have been made, one a minute."""
        end = self.world.now_ms
        first = self.next_id - count
        for number in range(count):
            at_ms = end - (count - number) * 60_000
            self.trades.append(Trade(first + number, at_ms, "100.00000000", "2.00000000"))

    def event(self, one: Trade) -> dict[str, Any]:
        head = {"e": self.kind.stream, "E": one.at_ms, "s": self.symbol}
        if self.kind is AggTrades:
            return {**head, **agg_row(self.world.market, one)}
        return {**head, "t": one.id, "p": one.price, "q": one.qty, "T": one.at_ms,
                "m": one.id % 3 == 0, "M": True}  # fmt: skip

    def row(self, one: Trade) -> dict[str, Any]:
        return agg_row(self.world.market, one) if self.kind is AggTrades else trade_row(one)

    def count(self, at_ms: int) -> int:
        """Return how many trades had been made at a time."""
        until = len(self.trades)
        while until and self.trades[until - 1].at_ms > at_ms:
            until -= 1
        return until

    def first(self, count: int, limit: int) -> bytes:
        """Return the newest rows of the first so many trades, as REST writes them."""
        return orjson.dumps([self.row(one) for one in self.trades[max(0, count - limit) : count]])

    def rows(self, limit: int, at_ms: int) -> bytes:
        """Return the newest rows of what had been traded at a time, as REST writes them."""
        return self.first(self.count(at_ms), limit)


class Counter:
    """A kind of trades that keeps some symbols of a world, and the exchange they are traded on."""

    def __init__(
        self,
        world: World,
        kind: type[TradeTails],
        *symbols: str,
        is_preload: bool = False,
        mute: Callable[[Kept], None] | None = None,
        **options: Any,
    ) -> None:
        self.world = world
        tools = world.tools(kind.stream, **options)
        self.watch = tools.watch
        self.facts = tools.facts
        self.kind = kind(replace(tools, mute=mute or world.moved.append))
        self.feed = world.feeds.feed(world.market, kind.stream)
        self.witness_feed = world.feeds.feed(world.market, "miniTicker", "witness")
        self.path = (AGG_TRADES if kind is AggTrades else TRADES)[world.market]
        world.door.answers[self.path] = self._answer
        if world.market in PRICES:
            world.door.answers[PRICES[world.market]] = self._answer_prices
        self.histories: dict[str, History] = {}
        self.all: dict[str, KeptTrades] = {}
        # What was traded since the last array.
        self._named: dict[str, str] = {}
        for symbol in symbols or ("BTCUSDT",):
            self.histories[symbol] = History(world, kind, symbol)
            kept = self.kind.make(symbol, kind.stream, world.clock.mono(), is_preload=is_preload)
            self.all[kept.stream] = self.kind.kept[symbol, kind.stream] = kept
            self.kind.begin(kept)
            self.feed.subscribe([kept.stream], self)

    @property
    def one(self) -> KeptTrades:
        return next(iter(self.all.values()))

    @property
    def history(self) -> History:
        return next(iter(self.histories.values()))

    @property
    def reads(self) -> list[str]:
        return self.world.door.asked(self.path)

    def _answer(self, target: str, params: dict[str, str]) -> bytes:
        history = self.histories[params["symbol"]]
        return history.rows(int(params["limit"]), self.world.now_ms - history.lag_ms)

    def _answer_prices(self, target: str, params: dict[str, str]) -> Any:
        """Return what REST shows as last prices; nobody's trades have none but a zero."""
        names = [params["symbol"]] if "symbol" in params else json.loads(params.get("symbols", "null"))
        rows = []
        for symbol in names or self.histories:
            history = self.histories[symbol]
            count = history.count(self.world.now_ms - history.lag_ms)
            rows.append(
                {"symbol": symbol, "price": history.trades[count - 1].price if count else "0.00000000"}
            )
        return rows[0] if "symbol" in params else rows

    @property
    def price_reads(self) -> list[str]:
        return self.world.door.asked(PRICES[self.world.market])

    # -- streams ------------------------------------------------------------------------------------

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.all[name], data)

    def live(self) -> None:
        for kept in self.all.values():
            if not kept.is_live:
                kept.is_live = True
                kept.is_mute = False
                self.kind.live(kept)
        self.kind.settled_live()

    def lose(self, kept: KeptTrades) -> None:
        kept.is_live = False
        self.kind.lose(kept)

    def trade(
        self, symbol: str = "", *, is_told: bool = True, skip: int = 0, price: str | None = None
    ) -> Any:
        """Trade now; the stream tells unless it is lost."""
        symbol = symbol or self.history.symbol
        event = self.histories[symbol].trade(skip=skip, price=price)
        self._named[symbol] = event["p"]
        if is_told:
            self.tell(event)
        return event

    def tell(self, event: dict[str, Any]) -> None:
        self.feed.send(f"{event['s'].lower()}@{self.kind.stream}", event)

    def array(self) -> None:
        """The witness tells who traded since the last time."""
        named = {"OTHERUSDT": "7", **self._named}
        self._named.clear()
        items = [{"s": symbol, "E": self.world.now_ms, "c": price} for symbol, price in named.items()]
        self.witness_feed.send(MINI_TICKERS, items)

    async def watched_until(self, after_ms: int) -> None:
        """Let the time pass until so long after T0, with an array each second."""
        while (due := (self.world.now_ms - T0) // ARRAY_MS * ARRAY_MS + ARRAY_MS) <= after_ms:
            await self.world.until(due)
            self.array()
        await self.world.until(after_ms)

    # -- calls --------------------------------------------------------------------------------------

    async def ask(self, limit: int = 500, symbol: str = "") -> Hit | Miss:
        request = TradesRequest(self.world.market, symbol or self.history.symbol, limit)
        found = self.kind.answer(request, packed=False)
        return found if isinstance(found, Hit | Miss) else await found

    async def ask_price(self, *symbols: str, is_list: bool = False, form: str = "") -> Hit | Miss:
        assert isinstance(self.kind, Trades)
        request = SymbolsRequest(self.world.market, symbols, is_list, form)
        found = self.kind.answer(request, packed=False)
        return found if isinstance(found, Hit | Miss) else await found
