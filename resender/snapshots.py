"""What `Status` makes: frozen snapshots of the services, and the rows of some of them for programs and pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from resender.core.binance.markets import Market
from resender.core.market.close_log import CloseStats
from resender.core.reachability import text_of


@dataclass(frozen=True, slots=True)
class SeriesSnapshot:
    """One kept series or ticker.

    Shape: `age_ms` is None while nothing proves it; `proof` is event, rest, witness or "".
    Units: `age_ms` milliseconds, `last_open` epoch milliseconds, `idle_s` seconds since it was asked for.
    """

    market: Market
    symbol: str
    what: str
    state: str
    age_ms: int | None
    proof: str
    mutes: int
    rows: int
    depth: int
    last_open: int | None
    hits: int
    misses: dict[str, int]
    is_preload: bool
    idle_s: float


@dataclass(frozen=True, slots=True)
class MarketSnapshot:
    """One market of the cache: what is kept, counted, and its stream connections."""

    market: Market
    kept: int
    live: int
    # Of those that a rule keeps.
    wanted: int
    wanted_live: int
    mutes: int
    corrected: int
    witness_reads: int
    connections: tuple[Any, ...]

    @property
    def is_live(self) -> bool:
        """Whether the market has a live connection and half of what rules keep can answer."""
        return self.live_connections > 0 and 2 * self.wanted_live >= self.wanted

    @property
    def live_connections(self) -> int:
        return sum(link.is_live for link in self.connections)


@dataclass(frozen=True, slots=True)
class CloseSnapshot:
    """The last closes of one market and interval, newest first."""

    market: Market
    interval: str
    closes: tuple[CloseStats, ...]


@dataclass(frozen=True, slots=True)
class BackfillSnapshot:
    """How far the series of one weight pool are filled.

    Units: `minutes` until all is read at the pace the own reads have, `paused_s` seconds.
    """

    pool: str
    limit: int
    total: int
    queued: int
    rows_read: int
    rows_missing: int
    minutes: float
    paused_s: float


@dataclass(frozen=True, slots=True)
class UpstreamSnapshot:
    """How a market answered last, see `LastAnswer`. Units: `at_ms` epoch milliseconds of the machine."""

    market: Market
    kind: str
    status: int | None
    at_ms: int | None
    in_row: int = 0

    @property
    def text(self) -> str:
        return text_of(self.kind, self.status)


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """What the cache was asked for, since the start."""

    hits: int = 0
    misses: int = 0
    reasons: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be well before calls should come. Shape: `name` is store, upstreams or streams."""

    name: str
    is_ok: bool
    detail: str


def series_row(each: SeriesSnapshot) -> dict[str, Any]:
    return {
        "market": each.market.value,
        "symbol": each.symbol,
        "interval": each.what,
        "state": each.state,
        "last_open": each.last_open,
        "age_ms": each.age_ms,
        "proof": each.proof,
        "mutes": each.mutes,
        "rows": each.rows,
        "hits": each.hits,
        "misses": each.misses,
        "preload": each.is_preload,
    }


def close_rows(snapshots: Iterable[CloseSnapshot]) -> list[dict[str, Any]]:
    """Describe closes, see `CloseStats`.

    Shape: [{"market","interval","closes":[{"close_ms","expected","arrived","missing","by_event","by_read",
        "by_witness","corrected","first_ms","p50_ms","p99_ms","last_ms","slowest","event_p50_ms",
        "event_last_ms","trip_p50_ms"}]}], newest close first.
    """
    return [
        {
            "market": each.market.value,
            "interval": each.interval,
            "closes": [_close_row(close) for close in each.closes],
        }
        for each in snapshots
    ]


def _close_row(close: CloseStats) -> dict[str, Any]:
    return {
        "close_ms": close.close_ms,
        "expected": close.expected,
        "arrived": close.arrived,
        "missing": close.missing,
        "by_event": close.by_event,
        "by_read": close.by_read,
        "by_witness": close.by_witness,
        "corrected": close.corrected,
        "first_ms": close.first_ms,
        "p50_ms": close.p50_ms,
        "p99_ms": close.p99_ms,
        "last_ms": close.last_ms,
        "slowest": close.slowest,
        "event_p50_ms": close.event_p50_ms,
        "event_last_ms": close.event_last_ms,
        "trip_p50_ms": close.trip_p50_ms,
    }
