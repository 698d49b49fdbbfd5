"""How the gateway has been doing: rates of the last seconds, points of the last hour and day.

Pure: it is fed with readings of running totals and with times, it measures nothing itself. A
`Tally` is what the hot path adds to; a `Timeline` belongs to whoever feeds it once a second.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Upper bounds of the latency buckets: a quarter of an octave each, from 0.05 ms to about 75 s, so
# that a percentile is off by a tenth at the most.
BOUNDS_MS: tuple[float, ...] = tuple(0.05 * 2 ** (i / 4) for i in range(83))
RATE_WINDOW_S = 10.0
LATENCY_WINDOW_S = 60.0
ERROR_STATUS = 400
# The length of a point and how many are kept, by the name of the range.
RANGES: dict[str, tuple[int, int]] = {"hour": (5_000, 720), "day": (60_000, 1440)}


@dataclass(slots=True)
class Tally:
    """Running totals of the calls answered, since the start.

    Shape: `latency` counts calls by bucket of `BOUNDS_MS`, the last one for whatever is slower.
    """

    calls: int = 0
    errors: int = 0
    sent_bytes: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))

    def note(self, status: int, duration_ms: float, sent_bytes: int) -> None:
        """Count one call that was answered; cheap enough for every call."""
        self.calls += 1
        self.sent_bytes += sent_bytes
        self.latency[bisect_left(BOUNDS_MS, duration_ms)] += 1
        if status >= ERROR_STATUS:
            self.errors += 1

    def note_refused(self) -> None:
        """Count a call refused at once; how quickly says nothing about anybody's latency."""
        self.calls += 1
        self.errors += 1


@dataclass(frozen=True, slots=True)
class Reading:
    """Running totals and gauges at one moment.

    Shape: `weights` by "<egress>/<pool>".
    """

    calls: int = 0
    errors: int = 0
    sent_bytes: int = 0
    latency: tuple[int, ...] = ()
    hits: int = 0
    misses: int = 0
    in_flight: int = 0
    memory_bytes: int | None = None
    weights: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """Figures of the last seconds; None where nothing happened."""

    calls_per_s: float = 0.0
    errors_per_s: float = 0.0
    bytes_per_s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    hit_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """What happened in one step.

    Shape: counts of the step; `in_flight` and `weights` the highest seen, `memory_bytes` the last.
    """

    calls: int
    errors: int
    sent_bytes: int
    p50_ms: float | None
    p99_ms: float | None
    hits: int
    misses: int
    in_flight: int
    memory_bytes: int | None
    weights: Mapping[str, int]


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Estimate the value below which `share` of the calls lie, None if there are none.

    Shape: `counts` by bucket of `BOUNDS_MS`.
    Units: milliseconds.
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank = share * total
    below = 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            if index >= len(BOUNDS_MS):
                break
            high = BOUNDS_MS[index]
            low = BOUNDS_MS[index - 1] if index else high / 2
            # Between the bounds by the rank, in steps of equal ratio as the buckets are.
            return round(float(low * (high / low) ** ((rank - below) / count)), 3)
        below += count
    return round(BOUNDS_MS[-1], 3)


def _minus(newer: Sequence[int], older: Sequence[int]) -> list[int]:
    if not older:
        return list(newer)
    return [a - b for a, b in zip(newer, older, strict=True)]


class Track:
    """The points of one range, oldest first.

    Units: `step_ms` the length of a point.
    """

    __slots__ = ("_base", "_in_flight", "_points", "_slot", "_weights", "count", "step_ms")

    def __init__(self, step_ms: int, count: int) -> None:
        self.step_ms = step_ms
        self.count = count
        self._points: deque[tuple[int, Point]] = deque(maxlen=count)
        self._slot: int | None = None
        self._base = Reading()
        self._in_flight = 0
        self._weights: dict[str, int] = {}

    def add(self, now_ms: int, reading: Reading) -> None:
        """Take a reading."""
        slot = now_ms // self.step_ms
        if self._slot is None or slot < self._slot:
            # The machine's clock was set back: what lies ahead of it never happened.
            while self._points and self._points[-1][0] >= slot:
                self._points.pop()
            self._begin(slot, reading)
        elif slot > self._slot:
            self._mark(reading)
            self._points.append((self._slot, self._point(reading)))
            self._begin(slot, reading)
        else:
            self._mark(reading)

    def _begin(self, slot: int, reading: Reading) -> None:
        self._slot, self._base = slot, reading
        self._in_flight, self._weights = 0, {}

    def _mark(self, reading: Reading) -> None:
        self._in_flight = max(self._in_flight, reading.in_flight)
        for name, used in reading.weights.items():
            self._weights[name] = max(self._weights.get(name, 0), used)

    def _point(self, reading: Reading) -> Point:
        base = self._base
        latency = _minus(reading.latency, base.latency)
        return Point(
            calls=reading.calls - base.calls,
            errors=reading.errors - base.errors,
            sent_bytes=reading.sent_bytes - base.sent_bytes,
            p50_ms=percentile(latency, 0.5),
            p99_ms=percentile(latency, 0.99),
            hits=reading.hits - base.hits,
            misses=reading.misses - base.misses,
            in_flight=self._in_flight,
            memory_bytes=reading.memory_bytes,
            weights=self._weights,
        )

    def columns(self, now_ms: int, since_ms: int = 0) -> dict[str, Any]:
        """Return the range up to now, column by column, None where there is no point.

        Shape: {"step_s","from","points":{"time":[..],"calls":[..],..,"weights":{name:[..]}}}; every
            column has `count` values, or fewer when only those since a time are asked for.
        Units: `from` and `time` epoch milliseconds of the steps' beginnings.
        """
        last = now_ms // self.step_ms
        slots = range(min(last, max(last - self.count, -(-since_ms // self.step_ms))), last)
        known = dict(self._points)
        points = [known.get(slot) for slot in slots]
        names = sorted({name for point in points if point is not None for name in point.weights})
        columns: dict[str, Any] = {"time": [slot * self.step_ms for slot in slots]}
        for column, attribute in _COLUMNS.items():
            columns[column] = [getattr(p, attribute) if p is not None else None for p in points]
        columns["weights"] = {
            name: [p.weights.get(name) if p is not None else None for p in points] for name in names
        }
        return {"step_s": self.step_ms // 1000, "from": slots.start * self.step_ms, "points": columns}


_COLUMNS = {
    "calls": "calls",
    "errors": "errors",
    "p50_ms": "p50_ms",
    "p99_ms": "p99_ms",
    "hits": "hits",
    "misses": "misses",
    "bytes": "sent_bytes",
    "in_flight": "in_flight",
    "memory_bytes": "memory_bytes",
}


class Timeline:
    """Readings of the last minute, and the points of each range."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, Reading]] = deque()
        self.tracks = {name: Track(*shape) for name, shape in RANGES.items()}

    def add(self, now_ms: int, mono: float, reading: Reading) -> None:
        """Take a reading, about once a second.

        Units: `now_ms` epoch milliseconds, `mono` monotonic seconds.
        """
        recent = self._recent
        # One reading older than the window stays: it is the window's beginning.
        while len(recent) > 1 and recent[1][0] <= mono - LATENCY_WINDOW_S:
            recent.popleft()
        recent.append((mono, reading))
        for track in self.tracks.values():
            track.add(now_ms, reading)

    @property
    def latest(self) -> Reading | None:
        return self._recent[-1][1] if self._recent else None

    def window(self) -> Window:
        """Return the figures of the last seconds."""
        if len(self._recent) < 2:
            return Window()
        mono, now = self._recent[-1]
        then_mono, then = self._since(mono - RATE_WINDOW_S)
        _, first = self._since(mono - LATENCY_WINDOW_S)
        seconds = max(0.001, mono - then_mono)
        latency = _minus(now.latency, first.latency)
        hits, misses = now.hits - first.hits, now.misses - first.misses
        return Window(
            calls_per_s=round((now.calls - then.calls) / seconds, 2),
            errors_per_s=round((now.errors - then.errors) / seconds, 2),
            bytes_per_s=round((now.sent_bytes - then.sent_bytes) / seconds, 1),
            p50_ms=percentile(latency, 0.5),
            p99_ms=percentile(latency, 0.99),
            hit_rate=round(hits / (hits + misses), 4) if hits + misses else None,
        )

    def _since(self, mono: float) -> tuple[float, Reading]:
        """Return the newest reading at or before a time, the oldest one if there is none."""
        found = self._recent[0]
        for each in self._recent:
            if each[0] > mono:
                break
            found = each
        return found
