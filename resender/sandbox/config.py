"""What can be set on the simulated exchange, and the key it accepts by default.

Values only. It starts nothing; `sandbox.py` owns what is built from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

API_KEY = "SandboxApiKey" + "0" * 51
API_SECRET = "SandboxApiSecret" + "0" * 48
# A second key of the same account that may only read.
READ_KEY = "SandboxReadOnlyKey" + "0" * 46
READ_SECRET = "SandboxReadOnlySecret" + "0" * 43

READ_ONLY: dict[str, bool] = {"enableReading": True}
TRADING: dict[str, bool] = {**READ_ONLY, "enableSpotAndMarginTrading": True, "enableFutures": True}
START_BALANCES: dict[str, dict[str, str]] = {
    "spot": {"BTC": "1", "ETH": "10000", "BNB": "20000", "USDT": "100000000"},
    "um": {"USDT": "100000", "USDC": "5000", "BNB": "10"},
    "cm": {"BTC": "2", "ETH": "30"},
}

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


@dataclass(frozen=True, slots=True)
class Outage:
    """A gap that leaves odd candles at its edges, as the old suspensions of the exchange did.

    Shape: `market`, `symbol` and the times as in `Gap`. With `off_grid` the first candle after
        it opens at `end_ms`, on REST and streams, in every interval in which that candle has
        no part before the outage. With `early_close` the row in which it begins ends at
        `start_ms - 1` once it is finished, on REST only, unless it trades again before its
        regular end.
    """

    market: str
    symbol: str | None
    start_ms: int
    end_ms: int
    off_grid: bool = True
    early_close: bool = False


@dataclass(slots=True)
class SandboxConfig:
    """Settings of one simulated exchange.

    Shape: `tls` is https and wss, as every exchange; `*_symbols` is a count (None: the default few
        dozen) or a list of names; `listings` gives a symbol's listing time; `accounts` maps API
        key to secret, `ed25519` one to the PEM of its public key; a key in `same_account` is another one of
        that key's account; `permissions` are what apiRestrictions says of a key (default: it may trade);
        `balances` is what each account starts with (keys "spot", "um", "cm"). User events leave
        `event_delay_ms` after what they tell of. With `partial_fills` some resting orders fill in two or
        three steps, `partial_fill_ms` apart. `futures_texts` is how REST of the futures hosts writes
        numbers: with the symbol's decimals or as events do; with `stop_expires_first` a triggered COIN-M
        stop tells of an EXPIRED before it is NEW again. `gaps` and `outages` take time out of the history;
        with `holes_1s` a second without a trade has no 1s candle. Books have `book_levels` levels a side at
        least (keys "spot", "um", "cm"; default 6,000 and 1,500), `book_stride` ticks apart (0: as lively as
        the price; small ones leave a snapshot's range sooner); those of `still_symbols` never change. With
        `aggregate_holes` one in sixteen aggregates of futures trades does not exist, on REST and streams;
        with `rounds_quote_qty` a trade's quoteQty is rounded, else cut off; with `ui_klines_modified`
        uiKlines count no trades, else they are the rows of klines. `rest_lag_ms`, `final_delay` and
        `partial_on_change` are where the switches of the same name in `StreamFaults` start; with `measured`
        closes go as they were measured on the live exchange: finals, silent and empty candles, late rows.
    Units: `_s` seconds, `_ms` milliseconds, `book_ticker_hz` updates a second.
    """

    seed: int = 1
    host: str = "127.0.0.1"
    tls: bool = True
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
    still_symbols: Sequence[str] = ()
    book_levels: dict[str, int] = field(default_factory=dict)
    book_stride: int = 0
    partial_on_change: bool = False
    aggregate_holes: bool = False
    rounds_quote_qty: bool = False
    ui_klines_modified: bool = True
    gaps: Sequence[Gap] = ()
    outages: Sequence[Outage] = ()
    holes_1s: bool = False
    rest_lag_ms: int = 0
    final_delay: str | float | None = None
    measured: bool = False
    listings: dict[str, int] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=lambda: {API_KEY: API_SECRET, READ_KEY: READ_SECRET})
    same_account: dict[str, str] = field(default_factory=lambda: {READ_KEY: API_KEY})
    permissions: dict[str, dict[str, bool]] = field(default_factory=lambda: {READ_KEY: READ_ONLY})
    ed25519: dict[str, str] = field(default_factory=dict)
    balances: dict[str, dict[str, str]] = field(default_factory=lambda: START_BALANCES)
    listen_key_ms: int = 3_600_000
    event_delay_ms: float = 3.0
    partial_fills: bool = True
    partial_fill_ms: int = 120
    futures_texts: Literal["padded", "plain"] = "padded"
    stop_expires_first: bool = False
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
