"""What the market cache keeps: the table of series, a chart's candles, and how far filling is.

It reads the cache and asks Binance nothing. No state.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from heapq import nsmallest
from typing import Any

import orjson

from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.costs import POOLS, cheapest_piece, kline_weight
from resender.core.market.klines import KlineSeries
from resender.errors import RouteError
from resender.market.cache import MarketCache
from resender.market.market_state import MarketState
from resender.market.series import BOOK_TICKER, KeptKlines, KeptTicker
from resender.web.admin.fields import wrong
from resender.web.admin.long_answers import EventHandler, LiveHandler

STATES = ("live", "filling", "syncing", "mute", "connecting")
_WHAT = (*INTERVALS[Market.SPOT], BOOK_TICKER)
_ORDER = {word: index for index, word in enumerate(_WHAT)}
_MARKETS = {market: index for index, market in enumerate(INTERVALS)}
PAGE = 100
PAGE_MAX = 1000
CHART_MAX = 20_000
# At most four times a second.
_LOOK_S = 0.25
_MOST_ROWS = 100
# Thousands of series take some milliseconds: calls get their turn in between.
_YIELD_EVERY = 500

Found = tuple[tuple[int, str, int], KeptKlines | KeptTicker, MarketState]


class SeriesHandler(LiveHandler):
    """`GET /admin/api/series`."""

    async def get(self) -> None:
        cache = self.cache()
        market = self.query_cached_market()
        symbol = self.query_text("symbol").upper()
        what = self.query_word("interval", _WHAT)
        wanted_state = self.query_word("state", STATES)
        after = self._after(self.query_text("before"))
        limit = self.query_int("limit", PAGE, 1, PAGE_MAX) or PAGE
        states: Counter[str] = Counter()
        found: list[Found] = []
        for state in cache.states.values():
            if market not in (None, state.market):
                continue
            for index, entry in enumerate(_entries(state, what), 1):
                if not index % _YIELD_EVERY:
                    await asyncio.sleep(0)
                if symbol and symbol not in entry.symbol:
                    continue
                is_in = entry.state
                states[is_in] += 1
                if wanted_state in (None, is_in):
                    key = (_MARKETS[state.market], entry.symbol, _ORDER[entry.key[2]])
                    found.append((key, entry, state))
        later = [each for each in found if after is None or each[0] > after]
        page = nsmallest(limit + 1, later, key=lambda each: each[0])
        following = page[limit - 1][1].key if len(page) > limit else None
        self.send(
            {
                "items": [_item(entry, state) for _, entry, state in page[:limit]],
                "next": " ".join((following[0].value, *following[1:])) if following is not None else None,
                "total": len(found),
                "states": dict(states),
            }
        )

    def _after(self, text: str) -> tuple[int, str, int] | None:
        if not text:
            return None
        parts = text.split(" ")
        markets = {market.value: index for market, index in _MARKETS.items()}
        if len(parts) != 3 or parts[0] not in markets or parts[2] not in _ORDER:
            raise wrong("before", "'before' has to be the 'next' of another page.", reason="page_gone")
        return markets[parts[0]], parts[1], _ORDER[parts[2]]


def _entries(state: MarketState, what: str | None) -> list[KeptKlines | KeptTicker]:
    klines = state.klines.values() if what != BOOK_TICKER else ()
    tickers = state.tickers.values() if what in (None, BOOK_TICKER) else ()
    return [*(entry for entry in klines if what in (None, entry.interval)), *tickers]


def _item(entry: KeptKlines | KeptTicker, state: MarketState) -> dict[str, Any]:
    mono = state.mono()
    age_ms, proof = state.proof(entry)
    series = entry.series if isinstance(entry, KeptKlines) else None
    return {
        "market": entry.market.value,
        "symbol": entry.symbol,
        "interval": entry.key[2],
        "state": entry.state,
        "age_ms": age_ms,
        "proof": proof,
        "mutes": entry.mutes,
        "rows": len(series) if series is not None else int(entry.state == "live"),
        "depth": series.depth if series is not None else 1,
        "last_open": series.last_open if series is not None else None,
        "hits": entry.hits,
        "misses": entry.misses.total(),
        "miss_reasons": dict(entry.misses),
        "preload": entry.is_preload,
        "idle_s": round(max(0.0, mono - entry.used_mono), 1),
    }


# --- charts ----------------------------------------------------------------------------------


def rows_from(series: KlineSeries, start_ms: int, most: int) -> list[tuple[int, bytes]]:
    """List the rows held from a time on with their open times, at most `most`, oldest first."""
    first = series.first_open
    if first is None:
        return []
    span = series.first_from(max(start_ms, first), None, most)
    if span is None:
        return []
    opens, closed = series.closed.opens, series.closed
    rows = [(opens[i], closed.part(i, i + 1)[:-1]) for i in range(span.first, span.last)]
    return rows + [(int(row[1 : row.index(b",")]), row) for row in span.tail]


def newest_rows(series: KlineSeries, limit: int) -> bytes:
    """Build the JSON array of the newest rows held, proven or not."""
    span = series.latest(min(limit, len(series))) if len(series) else None
    return series.body(span) if span is not None else b"[]"


class _SeriesBase(LiveHandler):
    def entry(self) -> KeptKlines:
        """Find the series a query names.

        Raises: BadRequest, or RouteError if it is not held.
        """
        cache = self.cache()
        market = self.query_cached_market(is_needed=True)
        assert market is not None
        symbol = self.query_text("symbol").upper()
        interval = self.query_word("interval", INTERVALS[market])
        if not symbol or interval is None:
            raise wrong("symbol" if not symbol else "interval", "Give `symbol` and `interval`.")
        entry = cache.states[market].klines.get((symbol, interval))
        if entry is None:
            raise RouteError(f"{market} {symbol[:50]} {interval} is not held.")
        return entry


class KlinesHandler(_SeriesBase):
    """`GET /admin/api/klines`: the newest rows of a series, as they are held."""

    def get(self) -> None:
        entry = self.entry()
        limit = self.query_int("limit", 500, 1, CHART_MAX) or 500
        entry.used_mono = self.gateway.clock.mono()
        self.set_header("Content-Type", "application/json")
        self.finish(newest_rows(entry.series, limit))


class KlineEventsHandler(_SeriesBase, EventHandler):
    """`GET /admin/api/klines/events`: a series as it moves."""

    async def get(self) -> None:
        entry = self.entry()
        with self.live.stream():
            if not await self.begin():
                return
            state, version, series = "", -1, entry.series
            # The last few rows sent, by open time: a candle may get its last numbers late.
            sent: dict[int, bytes] = {}
            start = entry.series.last_open or 0
            while True:
                entry.used_mono = self.gateway.clock.mono()
                if entry.state != state:
                    state = entry.state
                    if not await self.event("state", orjson.dumps({"state": state})):
                        return
                if entry.series is not series or entry.series.version != version:
                    series, version = entry.series, entry.series.version
                    rows = rows_from(series, min(sent, default=start), _MOST_ROWS)
                    if len(rows) == _MOST_ROWS:
                        version = -1  # the rest follows
                    for moment, row in rows:
                        if sent.get(moment) == row:
                            continue
                        if not await self.event("kline", row):
                            return
                        sent[moment] = row
                    for old in sorted(sent)[:-3]:
                        del sent[old]
                if entry.is_dropped:
                    await self.end("dropped")
                    return
                if not await self.goes_on(_LOOK_S):
                    return


# --- filling ---------------------------------------------------------------------------------


class BackfillHandler(LiveHandler):
    """`GET /admin/api/backfill`."""

    def get(self) -> None:
        cache = self.gateway.cache
        self.send(
            {"items": [_progress(cache, pool) for pool in cache.backfills] if cache is not None else []}
        )


def _progress(cache: MarketCache, pool: str) -> dict[str, Any]:
    """Tell how far the series of one weight pool are filled."""
    share, rows_read = cache.shares[pool], cache.backfills[pool].rows_read
    total = queued = missing = weight = 0
    for state in cache.states.values():
        if POOLS[state.market] != pool:
            continue
        total += len(state.klines)
        piece = cheapest_piece(state.market, 1 << 30)
        price = kline_weight(state.market, piece)
        for entry in state.klines.values():
            if entry.series.is_synced and entry.is_filled:
                continue
            queued += 1
            lacks = 0 if entry.is_filled else max(0, entry.series.depth - len(entry.series))
            missing += lacks
            weight += max(1, -(-lacks // piece)) * price
    per_minute = max(1.0, share.limit * share.share * 0.9)
    return {
        "pool": pool,
        "total": total,
        "filled": total - queued,
        "queued": queued,
        "rows_read": rows_read,
        "rows_wanted": rows_read + missing,
        "minutes": round(weight / per_minute, 1),
        "paused_s": round(max(0.0, share.closed_until_mono - cache.states[_first(cache, pool)].mono()), 1),
    }


def _first(cache: MarketCache, pool: str) -> Market:
    return next(market for market in cache.states if POOLS[market] == pool)
