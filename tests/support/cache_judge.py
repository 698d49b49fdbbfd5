"""The truth of a cached answer: what the sandbox says for the moment in which it was made.

A hit is judged by what the sandbox's store says for the same moment. The store is a function of time, so
the truth can be asked for any moment of the window in which the answer may have been made:

- a candle that closed before the call must have its final numbers, and none may be missing;
- the newest row must be one that existed between (call - age - push interval - slack) and the end of the
  call, `age` being the answer's own `X-Resender-Age`;
- a book ticker must be one that stood in such a window, the push interval being 0.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import Any

import orjson

from resender.core.binance.markets import Market
from resender.sandbox import intervals as iv
from resender.sandbox.market import BookTicker, MarketStore
from tests.support.client import Reply

# How often Binance pushes an open candle: so long a new one may be missing.
LACK_MS = {Market.SPOT: 2000, Market.UM: 250, Market.CM: 250}
# What a loaded machine may add between an event and its being visible. Sandbox, gateway and test share
# one event loop, which a restart or a large answer may hold up for a moment.
SLACK_MS = 600
# How long after its close a candle may still be shown as the open one: the way from the exchange.
BOUNDARY_MS = 60


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
