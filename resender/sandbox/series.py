"""One symbol's candles: any window of its price path summed up, gaps and outages left out.

Integer arithmetic only, no clock and no text. The store owns the instances and makes
rows of what they return.
"""

from __future__ import annotations

from typing import NamedTuple

from .config import Outage
from .intervals import DAY_MS, MINUTE_MS
from .prices import MINUTES, STEP_MS, PricePath, trades_after
from .symbols import SymbolSpec


class Candle(NamedTuple):
    """What happened in a window.

    Units: prices in ticks, volumes in lot steps, quote volumes in ticks times lot steps.
    """

    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    trades: int
    taker: int
    taker_quote: int


def join(first: Candle | None, second: Candle | None) -> Candle | None:
    """Put two neighbouring windows together."""
    if first is None or second is None:
        return first or second
    return Candle(
        first.open,
        max(first.high, second.high),
        min(first.low, second.low),
        second.close,
        first.volume + second.volume,
        first.quote + second.quote,
        first.trades + second.trades,
        first.taker + second.taker,
        first.taker_quote + second.taker_quote,
    )


class Series:
    """The candles of one symbol; `gaps` are ranges without any, half open."""

    __slots__ = ("_memo", "gaps", "outages", "path", "spec")

    def __init__(self, seed: int, spec: SymbolSpec) -> None:
        self.spec = spec
        self.path = PricePath(seed, spec)
        self.gaps: list[list[int]] = []
        self.outages: list[Outage] = []
        self._memo: dict[tuple[int, int], Candle | None] = {}

    def add_gap(self, start_ms: int, end_ms: int) -> None:
        """Take a range out of history; `end_ms` may be moved later by `close_gap`."""
        self.gaps.append([start_ms // STEP_MS * STEP_MS, end_ms // STEP_MS * STEP_MS])
        self.gaps.sort()
        self._memo.clear()

    def add_outage(self, outage: Outage) -> None:
        """Take a range out of history that moves the edges of the candles around it."""
        self.outages.append(outage)
        self.outages.sort(key=lambda other: other.start_ms)
        self.add_gap(outage.start_ms, outage.end_ms)

    def shown_open(self, start_ms: int, end_ms: int) -> int:
        """Return the open time a candle is shown with: off the grid when an outage took its first part."""
        shown = start_ms
        for outage in self.outages:
            if not outage.off_grid or not start_ms < outage.end_ms < end_ms:
                continue
            if outage.start_ms <= start_ms or self._without_gaps(start_ms, outage.start_ms) is None:
                shown = outage.end_ms
        return shown

    def shown_end(self, start_ms: int, end_ms: int) -> int:
        """Return where a finished row is shown to end: early when an outage took all of its last part."""
        for outage in self.outages:
            if outage.early_close and start_ms < outage.start_ms < end_ms <= outage.end_ms:
                return outage.start_ms
        return end_ms

    def close_gap(self, at_ms: int) -> None:
        """End a gap that reaches beyond `at_ms`."""
        for gap in self.gaps:
            if gap[0] <= at_ms < gap[1]:
                gap[1] = at_ms // STEP_MS * STEP_MS
        self._memo.clear()

    def is_whole(self, start_ms: int, end_ms: int) -> bool:
        """Tell whether a window holds neither a gap nor time before the listing."""
        if start_ms < self.spec.listed_ms:
            return False
        return all(gap[1] <= start_ms or gap[0] >= end_ms for gap in self.gaps)

    def candle(self, start_ms: int, end_ms: int, now_ms: int) -> Candle | None:
        """Sum up a candle as it stands at `now_ms`; None when it does not exist.

        Units: milliseconds; `now_ms` takes effect in steps of 250.
        """
        if now_ms < end_ms:
            if now_ms < start_ms:
                return None
            end_ms = now_ms // STEP_MS * STEP_MS
            minute = end_ms // MINUTE_MS * MINUTE_MS
            if minute > start_ms:
                # The finished minutes of an open candle are asked for again and again.
                key = (start_ms, minute)
                if key not in self._memo:
                    if len(self._memo) > 64:
                        self._memo.clear()
                    self._memo[key] = self._without_gaps(start_ms, minute)
                tail = self._without_gaps(minute, end_ms) if end_ms > minute else None
                return join(self._memo[key], tail)
            if end_ms == start_ms:
                return self._newborn(start_ms)
        return self._without_gaps(start_ms, end_ms)

    def has_traded(self, since_ms: int, now_ms: int) -> bool:
        """Tell whether a trade became visible after `since_ms` and up to `now_ms`."""
        start, end = since_ms // STEP_MS * STEP_MS, now_ms // STEP_MS * STEP_MS
        candle = self._without_gaps(start, end) if start < end else None
        return candle is not None and candle.trades > 0

    def _newborn(self, at_ms: int) -> Candle | None:
        if not self.is_whole(at_ms, at_ms + 1):
            return None
        price = self.path.price_at(at_ms)
        return Candle(price, price, price, price, 0, 0, 0, 0, 0)

    def _without_gaps(self, start_ms: int, end_ms: int) -> Candle | None:
        start_ms = max(start_ms, self.spec.listed_ms // STEP_MS * STEP_MS)
        result: Candle | None = None
        for gap_start, gap_end in self.gaps:
            if gap_end <= start_ms:
                continue
            if gap_start >= end_ms:
                break
            if gap_start > start_ms:
                result = join(result, self._window(start_ms, gap_start))
            start_ms = gap_end
        if start_ms < end_ms:
            result = join(result, self._window(start_ms, end_ms))
        return result

    def _window(self, start_ms: int, end_ms: int) -> Candle | None:
        result: Candle | None = None
        while start_ms < end_ms:
            day, rest = divmod(start_ms, DAY_MS)
            minute, inside = divmod(rest, MINUTE_MS)
            if inside or end_ms - start_ms < MINUTE_MS:
                stop = min(end_ms, start_ms - inside + MINUTE_MS)
                quarters = (stop - (start_ms - inside)) // STEP_MS
                result = join(result, self._quarters(day, minute, inside // STEP_MS, quarters))
            else:
                last = min(MINUTES, minute + (end_ms - start_ms) // MINUTE_MS)
                stop = start_ms + (last - minute) * MINUTE_MS
                result = join(result, self._minutes(day, minute, last))
            start_ms = stop
        return result

    def _minutes(self, day: int, first: int, last: int) -> Candle:
        shape, start, scale, _ = self.path.day(day)
        step = self.path.step
        size = last - first
        if size == MINUTES:
            highs, lows = shape.blocks(MINUTES)
            high, low = highs[0], lows[0]
        else:
            high, low = max(shape.high[first:last]), min(shape.low[first:last])
        volume = shape.cum_v[last] - shape.cum_v[first]
        taker = shape.cum_tv[last] - shape.cum_tv[first]
        return Candle(
            start + step * shape.close[first],
            start + step * high,
            start + step * low,
            start + step * shape.close[last],
            scale * volume,
            scale * (start * volume + step * (shape.cum_vx[last] - shape.cum_vx[first])),
            shape.cum_n[last] - shape.cum_n[first],
            scale * taker,
            scale * (start * taker + step * (shape.cum_tvx[last] - shape.cum_tvx[first])),
        )

    def _quarters(self, day: int, minute: int, first: int, last: int) -> Candle:
        shape, start, scale, _ = self.path.day(day)
        step = self.path.step
        path = shape.path(minute)
        units, taker, trades = shape.trade_units[minute]
        a, b = first // 4, last // 4
        if first == 0:
            high, low = path.high[b], path.low[b]
        else:
            high, low = max(path.y[a : b + 1]), min(path.y[a : b + 1])
        span = last - first
        prices = path.cumulative[last] - path.cumulative[first]
        return Candle(
            start + step * path.y[a],
            start + step * high,
            start + step * low,
            start + step * path.y[b],
            scale * units * span,
            scale * units * (start * span + step * prices),
            trades_after(trades, last) - trades_after(trades, first),
            scale * taker * span,
            scale * taker * (start * span + step * prices),
        )

    def block_rows(self, day: int, block: int) -> list[Candle]:
        """Return a whole day cut into blocks of `block` minutes, the fast way."""
        shape, start, scale, _ = self.path.day(day)
        step = self.path.step
        highs, lows = shape.blocks(block)
        close, cum_v, cum_vx = shape.close, shape.cum_v, shape.cum_vx
        cum_n, cum_tv, cum_tvx = shape.cum_n, shape.cum_tv, shape.cum_tvx
        rows = []
        for index, a in enumerate(range(0, MINUTES, block)):
            b = a + block
            volume, taker = cum_v[b] - cum_v[a], cum_tv[b] - cum_tv[a]
            rows.append(
                Candle(
                    start + step * close[a],
                    start + step * highs[index],
                    start + step * lows[index],
                    start + step * close[b],
                    scale * volume,
                    scale * (start * volume + step * (cum_vx[b] - cum_vx[a])),
                    cum_n[b] - cum_n[a],
                    scale * taker,
                    scale * (start * taker + step * (cum_tvx[b] - cum_tvx[a])),
                )
            )
        return rows
