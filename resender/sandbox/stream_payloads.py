"""The JSON of every stream event, made from the same store REST reads.

Pure: store and time in, text out. Key order follows Binance's documentation.
"""

from __future__ import annotations

import orjson

from resender.core.binance.markets import Market

from .market import BookTicker, BookView, MarketStore
from .marks import mark_at
from .price_klines import price_columns, seconds_of
from .prices import STEP_MS
from .series import Candle
from .stream_names import Stream
from .symbols import SymbolSpec
from .tickers import AVERAGE_MINUTES, average_price, day_row
from .trades import Aggregate, Trade, aggregate_row, written


def _family(store: MarketStore, spec: SymbolSpec, with_pair: bool = True) -> str:
    # `st` and `ps` came with the CM-UM integration of 2026-06; klines have neither.
    if store.market is Market.SPOT:
        return ""
    pair = f',"ps":"{spec.pair}"' if with_pair else ""
    return f'{pair},"st":{2 if store.market is Market.CM else 1}'


def kline(
    store: MarketStore,
    stream: Stream,
    symbol: str,
    start: int,
    end: int,
    candle: Candle,
    closed: bool,
    now: int,
) -> str:
    """Return a kline or continuous_kline event.

    Shape: f and L are trade ids, update ids of a continuous one, -1 when the candle holds no
        trade; t lies off the grid where REST's open time does.
    """
    series = store.series[symbol]
    shown = series.shown_open(start, end)
    if stream.kind in ("indexPriceKline", "markPriceKline"):
        return _price_kline(stream, series.spec, shown, end, candle, closed, now)
    o, h, l, c, v, q, tv, tq = store.columns(series.spec, candle)  # noqa: E741
    first = last = -1
    if candle.trades:
        last = series.path.trade_id_at(end if closed else min(now // STEP_MS * STEP_MS, end))
        first = last - candle.trades + 1
        if stream.kind == "continuousKline":
            last = store.update_id(symbol, now)
            first = last - 7 * candle.trades
    numbers = (
        f'"i":"{stream.interval}","f":{first},"L":{last},"o":"{o}","c":"{c}","h":"{h}","l":"{l}",'
        f'"v":"{v}","n":{candle.trades},"x":{"true" if closed else "false"},"q":"{q}","V":"{tv}",'
        f'"Q":"{tq}","B":"0"'
    )
    if stream.kind == "continuousKline":
        return (
            f'{{"e":"continuous_kline","E":{now},"ps":"{series.spec.pair}","ct":"{stream.contract_type}",'
            f'"k":{{"t":{shown},"T":{end - 1},{numbers}}}}}'
        )
    return (
        f'{{"e":"kline","E":{now},"s":"{symbol}","k":{{"t":{shown},"T":{end - 1},"s":"{symbol}",{numbers}}}}}'
    )


def _price_kline(
    stream: Stream, spec: SymbolSpec, start: int, end: int, candle: Candle, closed: bool, now: int
) -> str:
    # f and L hold times, s is no symbol for an index.
    kind = "index" if stream.kind == "indexPriceKline" else "mark"
    o, h, l, c = price_columns(spec, kind, candle)  # noqa: E741
    name, last = "0" if kind == "index" else spec.symbol, min(now // 1000 * 1000, end - 1)
    return (
        f'{{"e":"{kind}Price_kline","E":{now},"ps":"{spec.pair}","k":{{"t":{start},"T":{end - 1},"s":"{name}",'
        f'"i":"{stream.interval}","f":{start},"L":{last},"o":"{o}","c":"{c}","h":"{h}","l":"{l}","v":"0",'
        f'"n":{seconds_of(start, end, now)},"x":{"true" if closed else "false"},"q":"0","V":"0","Q":"0",'
        f'"B":"0"}}}}'
    )


def book_ticker(store: MarketStore, symbol: str, ticker: BookTicker, now: int) -> str:
    """Return a bookTicker event; spot's carries neither type nor time."""
    body = (
        f'"s":"{symbol}","b":"{ticker.bid}","B":"{ticker.bid_qty}","a":"{ticker.ask}","A":"{ticker.ask_qty}"'
    )
    if store.market is Market.SPOT:
        return f'{{"u":{ticker.update_id},{body}}}'
    spec = store.series[symbol].spec
    return (
        f'{{"e":"bookTicker","u":{ticker.update_id},"E":{now},"T":{ticker.time_ms},'
        f"{body}{_family(store, spec)}}}"
    )


def mini_ticker(store: MarketStore, symbol: str, now: int) -> str:
    """Return a 24hrMiniTicker event."""
    row = day_row(store, symbol, now)
    spec = store.series[symbol].spec
    quote = row.get("quoteVolume") or row.get("baseVolume")
    return (
        f'{{"e":"24hrMiniTicker","E":{now},"s":"{symbol}","c":"{row["lastPrice"]}","o":"{row["openPrice"]}",'
        f'"h":"{row["highPrice"]}","l":"{row["lowPrice"]}","v":"{row["volume"]}","q":"{quote}"'
        f"{_family(store, spec)}}}"
    )


def day_ticker(store: MarketStore, symbol: str, now: int) -> str:
    """Return a 24hrTicker event; spot's knows the best bid and ask too."""
    row = day_row(store, symbol, now)
    spec = store.series[symbol].spec
    quote = row.get("quoteVolume") or row.get("baseVolume")
    before = best = ""
    if store.market is Market.SPOT:
        before = f'"x":"{row["prevClosePrice"]}",'
        best = f'"b":"{row["bidPrice"]}","B":"{row["bidQty"]}","a":"{row["askPrice"]}","A":"{row["askQty"]}",'
    return (
        f'{{"e":"24hrTicker","E":{now},"s":"{symbol}","p":"{row["priceChange"]}",'
        f'"P":"{row["priceChangePercent"]}","w":"{row["weightedAvgPrice"]}",{before}"c":"{row["lastPrice"]}",'
        f'"Q":"{row["lastQty"]}",{best}"o":"{row["openPrice"]}","h":"{row["highPrice"]}",'
        f'"l":"{row["lowPrice"]}","v":"{row["volume"]}","q":"{quote}","O":{row["openTime"]},'
        f'"C":{row["closeTime"]},"F":{row["firstId"]},"L":{row["lastId"]},"n":{row["count"]}'
        f"{_family(store, spec)}}}"
    )


def average(store: MarketStore, symbol: str, now: int) -> str:
    """Return an avgPrice event."""
    price, traded_ms = average_price(store, symbol, now)
    return (
        f'{{"e":"avgPrice","E":{now},"s":"{symbol}","i":"{AVERAGE_MINUTES}m","w":"{price}","T":{traded_ms}}}'
    )


def mark_price(store: MarketStore, symbol: str, now: int) -> str:
    """Return a markPriceUpdate event; dated contracts have no funding."""
    spec, mark = store.series[symbol].spec, mark_at(store, symbol, now)
    return (
        f'{{"e":"markPriceUpdate","E":{now},"s":"{symbol}","p":"{mark.mark}","ap":"{mark.average}",'
        f'"i":"{mark.index_price}","P":"{mark.settle}","r":"{mark.funding_rate}","T":{mark.next_funding_ms}'
        f"{_family(store, spec, with_pair=False)}}}"
    )


def index_price(pair: str, store: MarketStore, symbol: str, now: int) -> str:
    """Return an indexPriceUpdate event of a pair."""
    return (
        f'{{"e":"indexPriceUpdate","E":{now},"i":"{pair}","p":"{mark_at(store, symbol, now).index_price}"'
        f"{_family(store, store.series[symbol].spec, with_pair=False)}}}"
    )


def depth(store: MarketStore, symbol: str, book: BookView, before: int, now: int) -> str:
    """Return a partial depth snapshot; `before` is the update of the frame before it."""
    if store.market is Market.SPOT:
        snapshot = {"lastUpdateId": book.update_id, "bids": book.bids, "asks": book.asks}
        return orjson.dumps(snapshot).decode()
    return _depth_update(store, symbol, book, before, now)


def depth_diff(store: MarketStore, symbol: str, before: int, newest: int, now: int) -> str:
    """Return a diff depth event with the updates after `before` up to `newest`."""
    return _depth_update(store, symbol, store.book_changes(symbol, before, newest), before, now)


def _depth_update(store: MarketStore, symbol: str, book: BookView, before: int, now: int) -> str:
    levels = orjson.dumps({"b": book.bids, "a": book.asks}).decode()[1:-1]
    first = min(before + 1, book.update_id)
    if store.market is Market.SPOT:
        return f'{{"e":"depthUpdate","E":{now},"s":"{symbol}","U":{first},"u":{book.update_id},{levels}}}'
    return (
        f'{{"e":"depthUpdate","E":{now},"T":{book.time_ms},"s":"{symbol}","U":{first},"u":{book.update_id},'
        f'"pu":{before},{levels}{_family(store, store.series[symbol].spec)}}}'
    )


def trade(store: MarketStore, symbol: str, one: Trade, now: int) -> str:
    """Return a trade event."""
    price, qty = written(store, store.series[symbol].spec, one.price, one.qty)
    maker = "true" if one.is_buyer_maker else "false"
    if store.market is not Market.SPOT:
        return (
            f'{{"e":"trade","E":{now},"T":{one.time_ms},"s":"{symbol}","t":{one.id},"p":"{price}",'
            f'"q":"{qty}","X":"MARKET","m":{maker}}}'
        )
    return (
        f'{{"e":"trade","E":{now},"s":"{symbol}","t":{one.id},"p":"{price}",'
        f'"q":"{qty}","T":{one.time_ms},"m":{maker},"M":true}}'
    )


def aggregate(store: MarketStore, symbol: str, one: Aggregate, now: int) -> str:
    """Return an aggTrade event."""
    body = orjson.dumps(aggregate_row(store, symbol, one)).decode()[1:-1]
    family = _family(store, store.series[symbol].spec, with_pair=False)
    return f'{{"e":"aggTrade","E":{now},"s":"{symbol}",{body}{family}}}'


def contract_info(store: MarketStore, spec: SymbolSpec, now: int) -> str:
    """Return a contractInfo event."""
    return (
        f'{{"e":"contractInfo","E":{now},"s":"{spec.symbol}","ps":"{spec.pair}","ct":"{spec.contract_type}",'
        f'"dt":{spec.delivery_ms},"ot":{spec.listed_ms},"cs":"{spec.status}"'
        f"{_family(store, spec, with_pair=False)}}}"
    )
