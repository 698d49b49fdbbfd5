"""Measure the memory of one order book, of the newest trades and of rows beside candles.

`python bench/memory_kinds.py` needs no argument and takes a few seconds; bench/README-cache.md has the table.
Bodies and events are the sandbox's, what holds them the gateway's own classes, counted by tracemalloc.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cache_servers
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from resender.core.binance.markets import Market
from resender.core.market.book import Book
from resender.core.market.levels import Head
from resender.core.market.partial_book import PartialBook
from resender.core.market.streamed_rows import DAY_FIELDS, MARK_FIELDS, StreamedRow
from resender.core.market.timed_rows import TimedRows, read_timed
from resender.core.market.trades import FORMS, MAX_ROWS, TradeTail, read_rows
from resender.sandbox import SandboxConfig, marks, stream_payloads
from resender.sandbox.market import MarketStore
from resender.sandbox.tickers import day_row
from resender.sandbox.trades import aggregate_at, aggregate_rows, last_aggregate_id, trade_rows

TARGET_KB = 400
_SYMBOLS = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}
_COPIES = 10


class Venue:
    """A market of the sandbox at a fixed time. Shape: texts are made anew for each who takes them."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.symbol = _SYMBOLS[market]
        self.now_ms = int(time.time() * 1000)
        symbols = {f"{each.value}_symbols": [name] for each, name in _SYMBOLS.items()}
        self.store = MarketStore(market, SandboxConfig(**symbols), self.now_ms)  # type: ignore[arg-type]
        self.head = Head()

    def depth(self, limit: int) -> dict[str, Any]:
        update_id = self.store.update_id(self.symbol, self.now_ms)
        view = self.store.book_at(self.symbol, update_id, limit)
        body: dict[str, Any] = {"lastUpdateId": update_id}
        if self.market is not Market.SPOT:
            body |= {"E": self.now_ms, "T": view.time_ms}
        if self.market is Market.CM:
            body |= {"symbol": self.symbol, "pair": "BTCUSD"}
        body |= {"bids": view.bids, "asks": view.asks}
        found: dict[str, Any] = orjson.loads(orjson.dumps(body))
        self.head.learn(found)
        return found

    def book(self, limit: int) -> Book:
        """Return a book that was read, has followed an event and was asked for whole."""
        book = Book(self.market, self.head)
        body = self.depth(limit)
        book.snapshot(body, limit)
        before = body["lastUpdateId"]
        text = stream_payloads.depth_diff(self.store, self.symbol, before, before + 1, self.now_ms)
        book.apply(orjson.loads(text))
        book.body(limit)
        return book

    def partial(self) -> PartialBook:
        book = PartialBook(self.market, self.head)
        body = self.depth(20)
        view = self.store.book_at(self.symbol, body["lastUpdateId"], 20)
        text = stream_payloads.depth(self.store, self.symbol, view, view.update_id - 1, self.now_ms)
        book.apply(orjson.loads(text))
        book.body(20)
        return book

    def trades(self, what: str) -> TradeTail:
        """Return the newest trades, asked for whole; half of them came as events."""
        rows = aggregate_rows if what == "aggTrade" else trade_rows
        form, tail = FORMS[what](), TradeTail()
        read, price = read_rows(orjson.dumps(rows(self.store, self.symbol, MAX_ROWS, self.now_ms)), form)
        tail.read(read, price, self.now_ms, is_whole=False)
        if what == "aggTrade":
            last = last_aggregate_id(self.store, self.symbol, self.now_ms)
            for number in range(last + 1, last + 501):
                one = aggregate_at(self.store, self.symbol, number)
                if one is not None:
                    text = stream_payloads.aggregate(self.store, self.symbol, one, self.now_ms)
                    event = orjson.loads(text)
                    tail.apply(number, form.encode(event), event["p"])
        tail.body(MAX_ROWS)
        return tail

    def day(self) -> StreamedRow:
        row = StreamedRow(DAY_FIELDS[self.market])
        row.seed(orjson.loads(orjson.dumps(day_row(self.store, self.symbol, self.now_ms))), self.now_ms)
        text = stream_payloads.day_ticker(self.store, self.symbol, self.now_ms + 1000)
        row.apply(orjson.loads(text), self.now_ms + 1000)
        row.body()
        return row

    def mark(self) -> StreamedRow:
        row = StreamedRow(MARK_FIELDS[self.market])
        mark = marks.mark_at(self.store, self.symbol, self.now_ms)
        seed = {
            "symbol": self.symbol, "markPrice": mark.mark, "indexPrice": mark.index_price,
            "estimatedSettlePrice": mark.settle, "lastFundingRate": mark.funding_rate,
            "interestRate": mark.interest_rate, "nextFundingTime": mark.next_funding_ms, "time": mark.time_ms,
        }  # fmt: skip
        row.seed(orjson.loads(orjson.dumps(seed)), self.now_ms)
        text = stream_payloads.mark_price(self.store, self.symbol, self.now_ms + 1000)
        row.apply(orjson.loads(text), self.now_ms + 1000)
        row.body()
        return row

    def funding(self) -> TimedRows:
        rows = marks.funding_rows(self.store, [self.symbol], 1000, self.now_ms, None, None)
        held = TimedRows()
        held.take(read_timed(orjson.dumps(rows), "fundingTime"), is_whole=False)
        return held


CASES: tuple[tuple[str, Market, Callable[[Venue], object]], ...] = (
    ("depth, 1000 x 2", Market.SPOT, lambda venue: venue.book(1000)),
    ("depth, 1000 x 2", Market.UM, lambda venue: venue.book(1000)),
    ("depth, 5000 x 2", Market.SPOT, lambda venue: venue.book(5000)),
    ("depth20", Market.SPOT, Venue.partial),
    ("depth20", Market.UM, Venue.partial),
    ("aggTrade, 1000 rows", Market.SPOT, lambda venue: venue.trades("aggTrade")),
    ("aggTrade, 1000 rows", Market.UM, lambda venue: venue.trades("aggTrade")),
    ("trade, 1000 rows", Market.SPOT, lambda venue: venue.trades("trade")),
    ("ticker, a row", Market.SPOT, Venue.day),
    ("ticker, a row", Market.UM, Venue.day),
    ("markPrice, a row", Market.UM, Venue.mark),
    ("fundingRate, 1000 rows", Market.UM, Venue.funding),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures into a file")
    options = parser.parse_args()
    machine = cache_servers.machine()
    found = [(name, market, _measure(Venue(market), make)) for name, market, make in CASES]
    rows = [["kept of one symbol", "market", "bytes"]]
    rows += [[name, str(market), f"{size:,.0f}"] for name, market, size in found]
    print(
        f"{machine['text']}\nTarget: a book of 1000 x 2 below {TARGET_KB} kB.\n\n{cache_servers.table(rows)}"
    )
    figures = [{"name": name, "market": market.value, "bytes": size} for name, market, size in found]
    cache_servers.finish({"machine": machine, "bytes": figures}, options.json)
    return 0


def _measure(venue: Venue, make: Callable[[Venue], object]) -> float:
    """Return what one takes, the mean of some; what all share is there before."""
    kept = [make(venue)]
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept += [make(venue) for _ in range(_COPIES)]
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / _COPIES
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    sys.exit(cache_servers.run(main))
