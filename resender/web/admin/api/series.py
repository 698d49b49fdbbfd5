"""What the market cache keeps: the table of series, a chart's candles, and how far filling is.

It reads the cache and asks Binance nothing. No state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from heapq import nsmallest
from typing import Any

import orjson

from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.klines import KlineSeries
from resender.core.market.words import ALL_WORDS, WORDS, interval_of
from resender.errors import RouteError
from resender.market import Kept, KeptKlines
from resender.snapshots import BackfillSnapshot, SeriesSnapshot
from resender.turns import next_turn
from resender.web.admin.fields import wrong
from resender.web.admin.long_answers import EventHandler, LiveHandler

STATES = ("live", "filling", "syncing", "mute", "connecting")
_ORDER = {word: index for index, word in enumerate(ALL_WORDS)}
_CANDLES = {
    market: tuple(word for word in words if interval_of(word) is not None) for market, words in WORDS.items()
}
_MARKETS = {market: index for index, market in enumerate(INTERVALS)}
PAGE = 100
PAGE_MAX = 1000
CHART_MAX = 20_000
# At most four times a second.
_LOOK_S = 0.25
_MOST_ROWS = 100
# Thousands of series take some milliseconds: calls get their turn in between.
_YIELD_EVERY = 100

# Market, symbol and word, in the order of lists.
Place = tuple[int, str, int, str]
Found = tuple[Place, Any, Kept]


def _place(market: Market, symbol: str, word: str) -> Place:
    """Return what the table is sorted by; words that rules do not have come last."""
    return _MARKETS[market], symbol, _ORDER.get(word.partition("@")[0], len(_ORDER)), word


class SeriesHandler(LiveHandler):
    """`GET /admin/api/series`."""

    async def get(self) -> None:
        self.cache()  # or there is nothing to list
        market = self.query_cached_market()
        symbol = self.query_text("symbol").upper()
        what = self.query_word("interval", ALL_WORDS)
        wanted_state = self.query_word("state", STATES)
        after = self._after(self.query_text("before"))
        limit = self.query_int("limit", PAGE, 1, PAGE_MAX) or PAGE
        states: Counter[str] = Counter()
        found: list[Found] = []
        status = self.services.status
        for index, (state, kept) in enumerate(status.kept(market, what), 1):
            if not index % _YIELD_EVERY:
                await next_turn()
            if symbol and symbol not in kept.symbol:
                continue
            is_in = kept.state
            states[is_in] += 1
            if wanted_state in (None, is_in):
                found.append((_place(*kept.key), state, kept))
        later = [each for each in found if after is None or each[0] > after]
        page = nsmallest(limit + 1, later, key=lambda each: each[0])
        following = page[limit - 1][2].key if len(page) > limit else None
        self.send(
            {
                "items": [_item(status.series(state, kept)) for _, state, kept in page[:limit]],
                "next": " ".join((following[0].value, *following[1:])) if following is not None else None,
                "total": len(found),
                "states": dict(states),
            }
        )

    def _after(self, text: str) -> Place | None:
        if not text:
            return None
        parts = text.split(" ")
        markets = {market.value: market for market in _MARKETS}
        if len(parts) != 3 or parts[0] not in markets:
            raise wrong("before", "'before' has to be the 'next' of another page.", reason="page_gone")
        return _place(markets[parts[0]], parts[1], parts[2])


def _item(each: SeriesSnapshot) -> dict[str, Any]:
    return {
        "market": each.market.value,
        "symbol": each.symbol,
        "interval": each.what,
        "state": each.state,
        "age_ms": each.age_ms,
        "proof": each.proof,
        "mutes": each.mutes,
        "rows": each.rows,
        "depth": each.depth,
        "last_open": each.last_open,
        "hits": each.hits,
        "misses": sum(each.misses.values()),
        "miss_reasons": each.misses,
        "preload": each.is_preload,
        "idle_s": round(each.idle_s, 1),
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


class SeriesBase(LiveHandler):
    """What shows one thing that is kept."""

    def named(self, words_of: Callable[[Market], Sequence[str]]) -> Kept:
        """Find what a query names; `words_of` a market are those that can be shown.

        Raises: BadRequest, or RouteError if it is not held.
        """
        self.cache()  # or nothing is held
        market = self.query_cached_market(is_needed=True)
        assert market is not None
        symbol, word = self.query_text("symbol").upper(), self.query_text("interval")
        if not symbol or not word:
            raise wrong("symbol" if not symbol else "interval", "Give `symbol` and `interval`.")
        words = words_of(market)
        if word.partition("@")[0] not in words:
            raise wrong("interval", f"'interval' has to be one of: {', '.join(words)}.")
        for _, kept in self.services.status.kept(market, word):
            if kept.symbol == symbol:
                return kept
        raise RouteError(f"{market} {symbol[:50]} {word[:50]} is not held.")


class _ChartBase(SeriesBase):
    def entry(self) -> KeptKlines:
        """Find the series a query names.

        Raises: BadRequest, or RouteError if it is not held.
        """
        kept = self.named(lambda market: _CANDLES[market])
        assert isinstance(kept, KeptKlines)
        return kept


class KlinesHandler(_ChartBase):
    """`GET /admin/api/klines`: the newest rows of a series, as they are held."""

    def get(self) -> None:
        entry = self.entry()
        limit = self.query_int("limit", 500, 1, CHART_MAX) or 500
        entry.used_mono = self.services.clock.mono()
        self.set_header("Content-Type", "application/json")
        self.finish(newest_rows(entry.series, limit))


class KlineEventsHandler(_ChartBase, EventHandler):
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
                entry.used_mono = self.services.clock.mono()
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
        self.send({"items": [_progress(each) for each in self.services.status.backfills()]})


def _progress(each: BackfillSnapshot) -> dict[str, Any]:
    return {
        "pool": each.pool,
        "total": each.total,
        "filled": each.total - each.queued,
        "queued": each.queued,
        "rows_read": each.rows_read,
        "rows_wanted": each.rows_read + each.rows_missing,
        "minutes": round(each.minutes, 1),
        "paused_s": round(each.paused_s, 1),
    }
