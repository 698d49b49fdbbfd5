"""Weight pools of the simulated exchange: counting, 429, then 418.

`WeightPools` owns the counters, keyed by address and pool, in fixed windows of the
given clock. The weight functions are a table in code; nothing here does I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .config import SandboxConfig
from .model import Params

POOL_OF_HOST = {"api": "spot", "fapi": "futures", "dapi": "futures", "eapi": "options", "papi": "pm"}


@dataclass(slots=True)
class _Counter:
    window: int = -1
    used: int = 0
    peak: int = 0
    refused: int = 0
    is_closed: bool = False
    banned_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call may pass.

    Shape: `status` 0, 429 or 418; `was_closed` tells that the pool had been closed before.
    """

    status: int
    used: int
    was_closed: bool = False
    retry_after_s: int = 0
    banned_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class WindowUse:
    """What one address used of one pool in one window.

    Shape: `used` at the end of the window, `peak` before weight was given back; `window` counts
        windows since the epoch.
    """

    window: int
    used: int
    peak: int


class WeightPools:
    """Used weight of every address in every pool."""

    def __init__(self, config: SandboxConfig) -> None:
        self._config = config
        self._counters: dict[tuple[str, str], _Counter] = {}
        self._past: dict[tuple[str, str], deque[WindowUse]] = {}

    def _counter(self, peer: str, pool: str, now_ms: int) -> _Counter:
        counter = self._counters.setdefault((peer, pool), _Counter())
        window = now_ms // self._window_ms
        if counter.window != window:
            if counter.used or counter.peak:
                past = self._past.setdefault((peer, pool), deque(maxlen=1000))
                past.append(WindowUse(counter.window, counter.used, counter.peak))
            counter.window, counter.used, counter.refused, counter.is_closed = window, 0, 0, False
            counter.peak = 0
        return counter

    @property
    def _window_ms(self) -> int:
        return max(1, int(self._config.weight_window_s * 1000))

    def used(self, peer: str, pool: str, now_ms: int) -> int:
        """Return the weight used in the current window."""
        return self._counter(peer, pool, now_ms).used

    def past(self, peer: str, pool: str, now_ms: int) -> list[WindowUse]:
        """Return the windows that are over in which anything was used, the oldest first."""
        self._counter(peer, pool, now_ms)
        return list(self._past.get((peer, pool), ()))

    def spend(self, peer: str, pool: str, weight: int, now_ms: int) -> Verdict:
        """Count a call and tell whether it may pass.

        Source: error bodies and the order 429 then 418 as in rest-api.md of 2026-07-21; how
        many calls make a ban is not documented and set by `ban_after`.
        """
        counter = self._counter(peer, pool, now_ms)
        if counter.banned_until_ms > now_ms:
            return self._banned(counter, now_ms, True)
        counter.used += weight
        counter.peak = max(counter.peak, counter.used)
        was_closed = counter.is_closed
        if counter.used <= self._config.limit_of(pool) and not was_closed:
            return Verdict(0, counter.used)
        counter.is_closed = True
        if counter.refused >= self._config.ban_after:
            counter.banned_until_ms = now_ms + int(self._config.ban_s * 1000)
            return self._banned(counter, now_ms, was_closed)
        counter.refused += 1
        left_ms = self._window_ms - now_ms % self._window_ms
        return Verdict(429, counter.used, was_closed, max(1, -(-left_ms // 1000)))

    def refund(self, peer: str, pool: str, weight: int, now_ms: int) -> int:
        """Give weight back (a placed spot order is free) and return what is used."""
        counter = self._counter(peer, pool, now_ms)
        counter.used = max(0, counter.used - weight)
        return counter.used

    def ban(self, peer: str, pool: str, until_ms: int) -> None:
        """Ban an address from a pool until a moment; 0 lifts the ban."""
        self._counters.setdefault((peer, pool), _Counter()).banned_until_ms = until_ms

    @staticmethod
    def _banned(counter: _Counter, now_ms: int, was_closed: bool) -> Verdict:
        left_s = max(1, -(-(counter.banned_until_ms - now_ms) // 1000))
        return Verdict(418, counter.used, was_closed, left_s, counter.banned_until_ms)


def limit_text(host: str, peer: str, verdict: Verdict, limit: int) -> str:
    """Return the msg of -1003 as each market words it."""
    if host == "api":
        if verdict.status == 418:
            return (
                f"Way too much request weight used; IP banned until {verdict.banned_until_ms}. "
                "Please use WebSocket Streams for live updates to avoid bans."
            )
        return (
            f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
    if verdict.status == 418:
        return (
            f"Way too many requests; IP({peer}) banned until {verdict.banned_until_ms}. "
            "Please use the websocket for live updates to avoid bans."
        )
    return (
        f"Too many requests; current limit of IP({peer}) is {limit} requests per minute. "
        "Please use the websocket for live updates to avoid polling the API."
    )


def _limit(params: Params, default: int) -> int:
    text = params.get("limit", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else default


def kline_weight(params: Params) -> int:
    """Futures klines, documented bands: [1,100) 1, [100,500) 2, [500,1000] 5, above 10."""
    limit = _limit(params, 500)
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


def spot_depth_weight(params: Params) -> int:
    """Spot depth by limit."""
    limit = _limit(params, 100)
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250


def futures_depth_weight(params: Params) -> int:
    """Futures depth by limit."""
    limit = _limit(params, 500)
    return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20


def options_depth_weight(params: Params) -> int:
    """Options depth by limit."""
    limit = _limit(params, 100)
    return 1 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20


def by_symbol(one: int, many: int) -> Callable[[Params], int]:
    """Build a weight that depends on whether `symbol` was sent."""
    return lambda params: one if params.get("symbol") else many


def spot_24hr_weight(params: Params) -> int:
    """Spot ticker/24hr by the number of symbols."""
    if params.get("symbol"):
        return 2
    count = params.get("symbols", "").count('"') // 2 or 101
    return 2 if count <= 20 else 40 if count <= 100 else 80
