"""What keeping a preload rule costs: weight once, connections and memory for good. An estimate.

Pure arithmetic on numbers handed in; it starts nothing and knows no series. No state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil

from resender.core.binance.markets import STREAM_PATHS
from resender.core.market import words
from resender.core.market.costs import backfill_weight, first_read_weight
from resender.core.market.preload import PreloadRule

# Measured with rows of 161 bytes, all structures around them included: bench/README-cache.md.
CANDLE_BYTES = 210
# A ticker, or what a series takes before its first candle.
ENTRY_BYTES = 2500
# What takes more than an entry, asked for once. Measured: bench/README-cache.md. A rule's book has
# 1,000 levels a side; whoever asks for deeper ones makes it larger.
_BYTES = {
    words.PARTIAL_BOOK: 11_000,
    words.BOOK: 370_000,
    words.AGG_TRADES: 380_000,
    words.TRADES: 440_000,
    words.DAY_TICKER: 6_000,
    words.MARK_PRICE: 2_500,
    words.FUNDING: 190_000,
}
# Which stream of `STREAM_PATHS` brings what a word stands for; candles have their own.
STREAM_OF = {
    words.BOOK_TICKER: "bookTicker",
    words.PARTIAL_BOOK: "depth",
    words.BOOK: "depth",
    words.AGG_TRADES: "aggTrade",
    words.TRADES: "trade",
    words.DAY_TICKER: "ticker",
    words.MARK_PRICE: "markPrice",
    words.FUNDING: "markPrice",
}
# Own reads that nobody waits for leave a tenth of their share.
_CALM = 0.9


@dataclass(frozen=True, slots=True)
class Cost:
    """What a rule costs.

    Shape: `series` counts series and tickers, `held` those of them that are kept already. `weight`
        and `minutes` are for reading what is not held, once; `memory_bytes` and `connections` are
        for all the rule keeps, for as long as it does.
    """

    symbols: int
    series: int
    held: int
    weight: int
    minutes: float
    memory_bytes: int
    connections: int


def estimate(
    rule: PreloadRule,
    symbols: Sequence[str],
    *,
    held: Collection[tuple[str, str]],
    depth: int,
    weight_limit: int,
    weight_share: float,
    streams_per_connection: int,
) -> Cost:
    """Estimate what a rule costs that means these symbols.

    Shape: `held` are the (symbol, word) of the market that are kept now.
    Units: `depth` candles a series, `weight_limit` weight a minute, `weight_share` the fraction of
        it that own reads may use.
    """
    wanted = [(symbol, stream) for symbol in symbols for stream in rule.streams]
    known = sum(each in held for each in wanted)
    new = Counter(stream for symbol, stream in wanted if (symbol, stream) not in held)
    weight = sum(
        count * backfill_weight(rule.market, depth)
        if words.interval_of(word)
        else first_read_weight(rule.market, word, count)
        for word, count in new.items()
    )
    per_minute = max(1.0, weight_limit * weight_share * _CALM)
    candles = len(symbols) * sum(words.interval_of(word) is not None for word in rule.streams) * depth
    others = len(symbols) * sum(_BYTES.get(word, 0) for word in rule.streams)
    return Cost(
        symbols=len(symbols),
        series=len(wanted),
        held=known,
        weight=weight,
        minutes=round(weight / per_minute, 1),
        memory_bytes=candles * CANDLE_BYTES + others + len(wanted) * ENTRY_BYTES,
        connections=_connections(rule, len(symbols), streams_per_connection),
    )


def _connections(rule: PreloadRule, symbols: int, per_connection: int) -> int:
    """Count the connections it takes; where klines and tickers have paths of their own they share none."""
    paths = STREAM_PATHS[rule.market]
    streams: Counter[str] = Counter()
    for word in rule.streams:
        streams[paths[STREAM_OF.get(word, "kline")]] += symbols
    return sum(ceil(count / per_connection) for count in streams.values())
