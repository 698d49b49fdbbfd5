"""What a stream brings: which of its frames may be left out, how its events are told apart.

Pure. Names that are not in this table never go upstream: Binance acknowledges them and stays silent,
and so does the gateway.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from functools import lru_cache

from resender.core.binance.markets import SPOT_INTERVALS, Market


class Flow(enum.Enum):
    """What leaving a frame out would mean.

    STATE: each frame is the whole state, the newest is all there is to know. CANDLE: the same until
    the candle closes. EVENT: each frame tells of something else; after a loss the next ones are as good.
    SEQUENCE: each frame counts, a hole makes what is built from them wrong.
    """

    STATE = "state"
    CANDLE = "candle"
    EVENT = "event"
    SEQUENCE = "sequence"


class Order(enum.Enum):
    """By which number the events of a stream follow each other."""

    UPDATE_ID = rb'"u":(\d+)'
    LAST_UPDATE_ID = rb'"lastUpdateId":(\d+)'
    TRADE_ID = rb'"t":(\d+)'
    AGGREGATE_ID = rb'"a":(\d+)'
    EVENT_TIME = rb'"E":(\d+)'
    DEPTH = rb'"U":(\d+),"u":(\d+)(?:,"pu":(\d+))?'
    NONE = b""


@dataclass(frozen=True, slots=True)
class StreamKind:
    """One kind of stream.

    Shape: `paths` are the upstream's URL paths that deliver it, see `STREAM_PATHS`.
    """

    flow: Flow
    order: Order
    paths: tuple[str, ...] = ("",)


_I = "|".join(SPOT_INTERVALS)
_FUTURES_I = "|".join(SPOT_INTERVALS[1:])
_PUBLIC, _MARKET, _BOTH = ("/public",), ("/market",), ("/public", "/market")

# Shape: pattern behind `<symbol>@`, or of the whole name where it begins with `!`; flow; order.
# Source: spot web-socket-streams.md of 2026-07-21.
_SPOT: tuple[tuple[str, Flow, Order], ...] = (
    (rf"kline_(?:{_I})(?:@\+08:00)?", Flow.CANDLE, Order.EVENT_TIME),
    ("bookTicker", Flow.STATE, Order.UPDATE_ID),
    ("miniTicker|ticker|ticker_(?:1h|4h|1d)|avgPrice|referencePrice", Flow.STATE, Order.EVENT_TIME),
    (r"depth(?:5|10|20)(?:@100ms|@1000ms)?", Flow.STATE, Order.LAST_UPDATE_ID),
    (r"depth(?:@100ms|@1000ms)?", Flow.SEQUENCE, Order.DEPTH),
    ("trade", Flow.SEQUENCE, Order.TRADE_ID),
    ("aggTrade", Flow.SEQUENCE, Order.AGGREGATE_ID),
    ("blockTrade", Flow.SEQUENCE, Order.NONE),
    (r"!miniTicker@arr|!ticker_(?:1h|4h|1d)@arr|!ticker@arr", Flow.EVENT, Order.NONE),
)
# Which path delivers what is Binance's notice of 2026-03-06; options share the host.
# Source: derivatives SDKs of 2026-08-21. Of `trade`, which is undocumented on USD-M, sources disagree.
_UM: tuple[tuple[str, Flow, Order, tuple[str, ...]], ...] = (
    (rf"kline_(?:{_FUTURES_I})", Flow.CANDLE, Order.EVENT_TIME, _MARKET),
    (rf"continuousKline_(?:{_I})", Flow.CANDLE, Order.EVENT_TIME, _MARKET),
    ("bookTicker", Flow.STATE, Order.UPDATE_ID, _PUBLIC),
    (r"depth(?:5|10|20)(?:@100ms|@250ms|@500ms)?", Flow.STATE, Order.UPDATE_ID, _PUBLIC),
    (r"depth(?:@100ms|@250ms|@500ms)?", Flow.SEQUENCE, Order.DEPTH, _PUBLIC),
    (r"rpiDepth(?:@500ms)?", Flow.SEQUENCE, Order.DEPTH, _PUBLIC),
    ("miniTicker|ticker|compositeIndex|assetIndex", Flow.STATE, Order.EVENT_TIME, _MARKET),
    (r"markPrice(?:@1s)?", Flow.STATE, Order.EVENT_TIME, _MARKET),
    ("aggTrade", Flow.SEQUENCE, Order.AGGREGATE_ID, _MARKET),
    ("trade", Flow.SEQUENCE, Order.TRADE_ID, _BOTH),
    ("forceOrder", Flow.SEQUENCE, Order.NONE, _MARKET),
    ("!bookTicker", Flow.EVENT, Order.NONE, _PUBLIC),
    (r"!markPrice@arr(?:@1s)?|!miniTicker@arr|!ticker@arr|!assetIndex@arr", Flow.EVENT, Order.NONE, _MARKET),
    (r"!forceOrder@arr|!contractInfo|tradingSession", Flow.SEQUENCE, Order.NONE, _MARKET),
    # Options.
    (r"optionTicker(?:@[\w.:+-]+)?", Flow.STATE, Order.EVENT_TIME, _PUBLIC),
    ("optionTrade", Flow.SEQUENCE, Order.NONE, _PUBLIC),
    (r"optionMarkPrice|openInterest@\w+", Flow.EVENT, Order.NONE, _MARKET),
    ("!index@arr|!optionSymbol", Flow.EVENT, Order.NONE, _MARKET),
)
_CM: tuple[tuple[str, Flow, Order], ...] = (
    (rf"kline_(?:{_FUTURES_I})", Flow.CANDLE, Order.EVENT_TIME),
    (rf"(?:continuousKline|indexPriceKline|markPriceKline)_(?:{_FUTURES_I})", Flow.CANDLE, Order.EVENT_TIME),
    ("bookTicker", Flow.STATE, Order.UPDATE_ID),
    (r"depth(?:5|10|20)(?:@100ms|@250ms|@500ms)?", Flow.STATE, Order.UPDATE_ID),
    (r"depth(?:@100ms|@250ms|@500ms)?", Flow.SEQUENCE, Order.DEPTH),
    ("miniTicker|ticker", Flow.STATE, Order.EVENT_TIME),
    # By pair: several contracts in turn.
    (r"markPrice(?:@1s)?|indexPrice(?:@1s)?", Flow.EVENT, Order.NONE),
    ("aggTrade", Flow.SEQUENCE, Order.AGGREGATE_ID),
    ("trade", Flow.SEQUENCE, Order.TRADE_ID),
    ("forceOrder", Flow.SEQUENCE, Order.NONE),
    (r"!bookTicker|!miniTicker@arr|!ticker@arr", Flow.EVENT, Order.NONE),
    (r"!forceOrder@arr|!contractInfo", Flow.SEQUENCE, Order.NONE),
)
_Table = tuple[tuple[re.Pattern[str], StreamKind], ...]
_TABLES: dict[Market, _Table] = {
    Market.SPOT: tuple((re.compile(p), StreamKind(f, o)) for p, f, o in _SPOT),
    Market.UM: tuple((re.compile(p), StreamKind(f, o, paths)) for p, f, o, paths in _UM),
    Market.CM: tuple((re.compile(p), StreamKind(f, o)) for p, f, o in _CM),
}
# Without a symbol and without "!".
_BARE = frozenset({"tradingSession"})
# As in `stream_names`: no class holds a quote, a backslash, a blank, "/", "?", "&", "%" or "#".
_SYMBOL = re.compile(r"[\w.\-]{1,64}")


@lru_cache(maxsize=8192)
def stream_kind(market: Market, name: str) -> StreamKind | None:
    """Tell what a stream name means on a market's stream host, None for what is no stream there.

    Shape: names as Binance writes them, the symbol in lower case; options stand on the USD-M host.
    """
    what = name
    if not name.startswith("!") and name not in _BARE:
        symbol, _, what = name.partition("@")
        if what.startswith("!") or what in _BARE:
            return None
        if not what or not _SYMBOL.fullmatch(symbol) or symbol != symbol.lower():
            return None
    elif len(name) > 64:
        return None
    for pattern, kind in _TABLES.get(market, ()):
        if pattern.fullmatch(what):
            return kind
    return None
