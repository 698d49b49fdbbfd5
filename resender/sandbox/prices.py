"""Where the simulated prices come from: day shapes, laid end to end for every symbol.

A day shape is a walk of 1,440 minutes in abstract units. A symbol's day is a shape
mapped by `ticks = start + step * units`, which keeps order, so highs and lows of any
range follow from the shape and every interval agrees with every other. All numbers
are integers and sums are exact. Pure functions of the seed and the time; the caches
hold nothing that could not be computed again.
"""

from __future__ import annotations

import random
import zlib
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate, pairwise

from .aggregates import aggregate_of, aggregates_after, trades_of
from .intervals import DAY_MS
from .symbols import SymbolSpec

MINUTES = 1440
QUARTERS = 240  # the store advances in steps of 250 ms
STEP_MS = 250
PERIOD_DAYS = 32
_SHAPES_PER_KIND = 8
# kind: (minute deviation in units, share of minutes that trade)
_KINDS: dict[str, tuple[float, float]] = {"fine": (130.0, 1.0), "coarse": (4.0, 1.0), "quiet": (4.0, 0.12)}
_MASK = (1 << 64) - 1


def mix(*values: int) -> int:
    """Hash integers to 64 bits, the same on every machine (splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state ^ (value & _MASK)) * 0xBF58476D1CE4E5B9 & _MASK
        state ^= state >> 29
        state = state * 0x94D049BB133111EB & _MASK
        state ^= state >> 32
    return state


class MinutePath:
    """The inside of one minute: where the price stands after each quarter second.

    The price steps in the last quarter of each second, so that the last quarter before a
    close still changes it.
    Shape: `y[i]` is the price at second i (61 values), `high[i]` and `low[i]` its extremes
        so far, `cumulative[q]` the sum of the trade prices of the first q quarter seconds.
    """

    __slots__ = ("cumulative", "high", "low", "y")

    def __init__(self, y: list[int]) -> None:
        self.y = y
        self.high = list(accumulate(y, max))
        self.low = list(accumulate(y, min))
        trades = [y[(q + 1) // 4] for q in range(QUARTERS)]
        self.cumulative = [0, *accumulate(trades)]


def _walk_minute(open_: int, high: int, low: int, close: int, noise: int) -> list[int]:
    # Straight lines through the open, the two extremes at their seconds, and the close.
    first, second = 4 + noise % 24, 32 + (noise >> 8) % 24
    top_first = bool(noise >> 16 & 1)
    points = (
        (0, open_),
        (first, high if top_first else low),
        (second, low if top_first else high),
        (60, close),
    )
    y = [open_]
    for (start, a), (end, b) in pairwise(points):
        span, rise = end - start, b - a
        y += [a + rise * i // span for i in range(1, span + 1)]
    return y


class DayShape:
    """One walk of a day in units; index 0 of the running sums is the day's open."""

    __slots__ = (
        "_blocks", "_paths_key", "close", "cum_a", "cum_n", "cum_tv", "cum_tvx", "cum_v", "cum_vx",
        "high", "low", "sign", "trade_units",
    )  # fmt: skip

    def __init__(self, key: tuple[int, str, int], sign: int, minutes: list[tuple[int, ...]]) -> None:
        self._paths_key = key
        self.sign = sign
        self.close = [0, *(m[2] * sign for m in minutes)]
        if sign > 0:
            self.high = [m[0] for m in minutes]
            self.low = [m[1] for m in minutes]
        else:
            self.high = [-m[1] for m in minutes]
            self.low = [-m[0] for m in minutes]
        # v = 240 k, taker v = 240 j; x sums are k (or j) times the sum of quarter prices.
        self.trade_units = [(m[3], m[4], m[5]) for m in minutes]
        self.cum_v = [0, *accumulate(QUARTERS * m[3] for m in minutes)]
        self.cum_tv = [0, *accumulate(QUARTERS * m[4] for m in minutes)]
        # Trades, and the aggregates they come in.
        self.cum_n = [0, *accumulate(trades_of(m[5]) for m in minutes)]
        self.cum_a = [0, *accumulate(m[5] for m in minutes)]
        self.cum_vx = [0, *accumulate(sign * m[3] * m[6] for m in minutes)]
        self.cum_tvx = [0, *accumulate(sign * m[4] * m[6] for m in minutes)]
        self._blocks: dict[int, tuple[list[int], list[int]]] = {}

    def blocks(self, step: int) -> tuple[list[int], list[int]]:
        """Return highs and lows of the day cut into blocks of `step` minutes."""
        found = self._blocks.get(step)
        if found is None:
            starts = range(0, MINUTES, step)
            found = (
                [max(self.high[a : a + step]) for a in starts],
                [min(self.low[a : a + step]) for a in starts],
            )
            self._blocks[step] = found
        return found

    def path(self, minute: int) -> MinutePath:
        """Return the inside of one minute."""
        return _minute_path(*self._paths_key, self.sign, minute)


@lru_cache(maxsize=1024)
def _minute_path(seed: int, kind: str, index: int, sign: int, minute: int) -> MinutePath:
    shape = day_shapes(seed, kind)[2 * index]
    y = _walk_minute(
        shape.close[minute],
        shape.high[minute],
        shape.low[minute],
        shape.close[minute + 1],
        mix(seed, zlib.crc32(kind.encode()), index, minute),
    )
    return MinutePath(y if sign > 0 else [-value for value in y])


@lru_cache(maxsize=24)
def day_shapes(seed: int, kind: str) -> tuple[DayShape, ...]:
    """Return the shapes of a kind; each is followed by its mirror image."""
    sigma, share = _KINDS[kind]
    kind_code = zlib.crc32(kind.encode())
    shapes: list[DayShape] = []
    for index in range(_SHAPES_PER_KIND // 2):
        rng = random.Random(f"{seed}:{kind}:{index}")
        gauss, uniform = rng.gauss, rng.random
        position = 0
        minutes: list[tuple[int, ...]] = []
        for minute in range(MINUTES):
            if share < 1.0 and uniform() >= share:
                minutes.append((position, position, position, 0, 0, 0, QUARTERS * position))
                continue
            close = position + round(gauss(0.0, sigma))
            high = max(position, close) + int(abs(gauss(0.0, sigma * 0.6)))
            low = min(position, close) - int(abs(gauss(0.0, sigma * 0.6)))
            y = _walk_minute(position, high, low, close, mix(seed, kind_code, index, minute))
            total = 4 * sum(y) - position - 3 * close
            units = 1 + int(rng.expovariate(0.2))
            taker = int(uniform() * (units + 1))
            minutes.append((high, low, close, units, taker, 60 + int(uniform() * 40 * units), total))
            position = close
        key = (seed, kind, index)
        shapes += [DayShape(key, 1, minutes), DayShape(key, -1, minutes)]
    return tuple(shapes)


class Period:
    """Thirty-two days of one symbol: which shape, which start and how much volume each day."""

    __slots__ = ("aggregates_before", "scale", "shape_of", "start", "trades_before")

    def __init__(
        self,
        shape_of: list[DayShape],
        start: list[int],
        scale: list[int],
        trades_before: list[int],
        aggregates_before: list[int],
    ) -> None:
        self.shape_of = shape_of
        self.start = start
        self.scale = scale
        self.trades_before = trades_before
        self.aggregates_before = aggregates_before


class PricePath:
    """The price of one symbol at every moment. Owned by the market store."""

    __slots__ = (
        "_base", "_code", "_period_aggregates", "_period_trades", "_periods", "_shapes", "_volume", "step",
    )  # fmt: skip

    def __init__(self, seed: int, spec: SymbolSpec) -> None:
        self._code = zlib.crc32(f"{seed}:{spec.market.value}:{spec.symbol}".encode())
        kind = "quiet" if spec.quiet else "fine" if spec.price_ticks >= 500_000 else "coarse"
        self._shapes = day_shapes(seed, kind)
        self._base = spec.price_ticks
        # A day moves by about two per cent.
        self.step = max(1, spec.price_ticks // 50 // round(_KINDS[kind][0] * 38))
        price = spec.price_ticks / 10**spec.price_decimals
        notional = 60_000 * (20 if spec.base in ("BTC", "ETH") else 1)
        per_unit = spec.contract_size or price / 10**spec.qty_decimals
        self._volume = max(1, round(notional / 1_200 / per_unit / 4))
        self._periods: dict[int, Period] = {}
        repeats = PERIOD_DAYS // _SHAPES_PER_KIND
        self._period_trades = repeats * sum(shape.cum_n[-1] for shape in self._shapes)
        self._period_aggregates = repeats * sum(shape.cum_a[-1] for shape in self._shapes)

    def period(self, number: int) -> Period:
        """Return the plan of one period; the last few are kept."""
        found = self._periods.get(number)
        if found is not None:
            return found
        order = list(range(_SHAPES_PER_KIND)) * (PERIOD_DAYS // _SHAPES_PER_KIND)
        random.Random(mix(self._code, number)).shuffle(order)
        shape_of = [self._shapes[i] for i in order]
        # The long-run level swings by a fifth over some years.
        phase = (number + self._code % 40) % 40
        swing = (phase if phase < 20 else 40 - phase) * 20 - 200
        start = self._base + self._base * swing // 1000
        starts, trades, aggregates, scale = [], [], [], []
        count, joined = number * self._period_trades, number * self._period_aggregates
        for day, shape in enumerate(shape_of):
            starts.append(start)
            trades.append(count)
            aggregates.append(joined)
            scale.append(self._volume * (2 + mix(self._code, number, day) % 4))
            start += self.step * shape.close[-1]
            count += shape.cum_n[-1]
            joined += shape.cum_a[-1]
        found = Period(shape_of, starts, scale, trades, aggregates)
        if len(self._periods) >= 160:
            self._periods.clear()
        self._periods[number] = found
        return found

    def day(self, day: int) -> tuple[DayShape, int, int, int]:
        """Return shape, start in ticks, volume scale and trades before of an epoch day."""
        number, index = divmod(day, PERIOD_DAYS)
        period = self.period(number)
        return period.shape_of[index], period.start[index], period.scale[index], period.trades_before[index]

    def price_at(self, at_ms: int) -> int:
        """Return the last traded price in ticks."""
        day, rest = divmod(at_ms, DAY_MS)
        shape, start, _, _ = self.day(day)
        minute, inside = divmod(rest, 60_000)
        return start + self.step * shape.path(minute).y[inside // 1000]

    def trade_id_at(self, at_ms: int) -> int:
        """Return the id of the last trade up to a moment."""
        day, rest = divmod(at_ms, DAY_MS)
        shape, _, _, before = self.day(day)
        minute, inside = divmod(rest, 60_000)
        trades = shape.trade_units[minute][2]
        return before + shape.cum_n[minute] + trades_after(trades, inside // STEP_MS)

    def aggregate_id_at(self, at_ms: int) -> int:
        """Return the id of the last aggregate up to a moment."""
        day, rest = divmod(at_ms, DAY_MS)
        number, index = divmod(day, PERIOD_DAYS)
        period = self.period(number)
        shape = period.shape_of[index]
        minute, inside = divmod(rest, 60_000)
        done = aggregates_after(shape.trade_units[minute][2], inside // STEP_MS, QUARTERS)
        return period.aggregates_before[index] + shape.cum_a[minute] + done

    def aggregate_id_of(self, trade_id: int) -> int:
        """Return the id of the aggregate a trade belongs to."""
        number = (trade_id - 1) // self._period_trades
        period = self.period(number)
        index = max(0, bisect_right(period.trades_before, trade_id - 1) - 1)
        shape = period.shape_of[index]
        inside_day = trade_id - period.trades_before[index]
        minute = min(MINUTES - 1, max(0, bisect_right(shape.cum_n, inside_day - 1) - 1))
        inside = aggregate_of(inside_day - shape.cum_n[minute])
        return period.aggregates_before[index] + shape.cum_a[minute] + inside

    def _place(self, aggregate_id: int) -> tuple[int, int, DayShape, int, int]:
        # Epoch day, trades before it, its shape, the minute and which one of the minute it is.
        number = (aggregate_id - 1) // self._period_aggregates
        period = self.period(number)
        index = max(0, bisect_right(period.aggregates_before, aggregate_id - 1) - 1)
        shape = period.shape_of[index]
        inside_day = aggregate_id - period.aggregates_before[index]
        minute = min(MINUTES - 1, max(0, bisect_right(shape.cum_a, inside_day - 1) - 1))
        day = number * PERIOD_DAYS + index
        return day, period.trades_before[index], shape, minute, inside_day - shape.cum_a[minute]

    def trades_of_aggregate(self, aggregate_id: int) -> tuple[int, int]:
        """Return the ids of the first and the last trade of an aggregate."""
        _, before, shape, minute, nth = self._place(aggregate_id)
        before += shape.cum_n[minute]
        return before + trades_of(nth - 1) + 1, before + trades_of(nth)

    def time_of_aggregate(self, aggregate_id: int) -> int:
        """Return the moment an aggregate happened, the inverse of `aggregate_id_at`."""
        day, _, shape, minute, nth = self._place(aggregate_id)
        count = max(1, shape.trade_units[minute][2])
        quarter = 1 if count == 1 else max(1, -(-(nth - 1) * QUARTERS // (count - 1)))
        return day * DAY_MS + minute * 60_000 + quarter * STEP_MS

    def time_of_trade(self, trade_id: int) -> int:
        """Return the moment a trade happened, the inverse of `trade_id_at`."""
        return self.time_of_aggregate(self.aggregate_id_of(trade_id))


def trades_after(aggregates: int, quarters: int) -> int:
    """Return how many trades a minute of so many aggregates had in its first quarter seconds."""
    return trades_of(aggregates_after(aggregates, quarters, QUARTERS))
