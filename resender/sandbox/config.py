"""What can be set on the simulated exchange, and the key it accepts by default.

Values only. It starts nothing; `sandbox.py` owns what is built from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

API_KEY = "SandboxApiKey" + "0" * 51
API_SECRET = "SandboxApiSecret" + "0" * 48

REST_SERVICES: tuple[str, ...] = ("api", "fapi", "dapi", "eapi", "papi")
STREAM_SERVICES: tuple[str, ...] = ("stream_spot", "stream_um", "stream_cm")
SERVICES: tuple[str, ...] = (*REST_SERVICES, *STREAM_SERVICES, "ws_api")

DEFAULT_WEIGHT_LIMITS: dict[str, int] = {
    "spot": 6000,
    "futures": 2400,
    "options": 2400,
    "pm": 6000,
    "sapi": 12000,
}


def system_clock_ms() -> int:
    """Return the system's epoch milliseconds."""
    return int(time.time() * 1000)


@dataclass(frozen=True, slots=True)
class Gap:
    """A range in which a symbol has no candles at all, as after an exchange halt.

    Shape: `market` is "spot", "um" or "cm"; `symbol` None means every symbol.
    Units: milliseconds, start inclusive, end exclusive, rounded to 250 ms.
    """

    market: str
    symbol: str | None
    start_ms: int
    end_ms: int


@dataclass(slots=True)
class SandboxConfig:
    """Settings of one simulated exchange.

    Shape: `*_symbols` is a count (None: the default few dozen) or a list of names;
        `listings` gives a symbol's listing time; `accounts` maps API key to secret.
    Units: `_s` seconds, `_ms` milliseconds, `book_ticker_hz` updates a second.
    """

    seed: int = 1
    host: str = "127.0.0.1"
    ports: dict[str, int] = field(default_factory=dict)
    clock_ms: Callable[[], int] = system_clock_ms
    weight_limits: dict[str, int] = field(default_factory=dict)
    weight_window_s: float = 60.0
    ban_after: int = 10
    ban_s: float = 120.0
    gzip: bool = True
    spot_ping_s: float = 20.0
    futures_ping_s: float = 180.0
    pong_timeout_s: float = 60.0
    max_age_s: float = 86_400.0
    kline_push_ms: dict[str, int] = field(default_factory=dict)
    book_ticker_hz: float = 4.0
    spot_message_rate: int = 5
    futures_message_rate: int = 10
    max_streams: int = 1024
    connection_limit: int = 300
    connection_window_s: float = 300.0
    spot_symbols: int | Sequence[str] | None = None
    um_symbols: int | Sequence[str] | None = None
    cm_symbols: int | Sequence[str] | None = None
    quiet_symbols: Sequence[str] = ()
    gaps: Sequence[Gap] = ()
    listings: dict[str, int] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=lambda: {API_KEY: API_SECRET})
    history: int = 100_000

    def limit_of(self, pool: str) -> int:
        """Return the weight one address may use per window in `pool`."""
        return self.weight_limits.get(pool, DEFAULT_WEIGHT_LIMITS[pool])

    def push_ms(self, market: str, interval: str) -> int:
        """Return how often an open candle is pushed.

        Shape: `kline_push_ms` keys are "spot", "um", "cm" and "spot_1s".
        Source: web-socket-streams.md of 2026-07-21; derivatives SDKs of 2026-08-21.
        """
        if market == "spot" and interval == "1s":
            return self.kline_push_ms.get("spot_1s", min(1000, self.kline_push_ms.get("spot", 1000)))
        return self.kline_push_ms.get(market, 2000 if market == "spot" else 250)
