"""The simulated exchange itself, without sockets: stores, weights, orders, listen keys.

`Exchange` owns all state that is not a connection. REST and stream servers are two
doors to it, so they always agree. Used from the event loop only.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from resender.core.binance.markets import Market

from . import intervals as iv
from .config import SandboxConfig
from .faults import Faults
from .market import BookView, MarketStore
from .model import Call, Placement, Violation
from .opens import late_row_ms
from .orders import OrderDesk
from .price_klines import price_rows
from .symbols import SymbolSpec
from .weights import WeightPools

_LISTEN_KEY_MS = 3_600_000
STORED_MARKETS = (Market.SPOT, Market.UM, Market.CM)


class Exchange:
    """Everything behind the doors. Pure apart from the injected clock."""

    def __init__(self, config: SandboxConfig, faults: Faults | None = None) -> None:
        self.config = config
        self.faults = faults or Faults(config)
        now = config.clock_ms()
        self.stores = {market: MarketStore(market, config, now) for market in STORED_MARKETS}
        self.pools = WeightPools(config)
        self.desk = OrderDesk()
        self.calls: deque[Call] = deque(maxlen=config.history)
        self.violations: deque[Violation] = deque(maxlen=config.history)
        self.orders: list[Placement] = []
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.info_cache: dict[str, tuple[int, bytes]] = {}
        self._listen_keys: dict[tuple[str, str], tuple[str, int]] = {}
        self._order_times: dict[tuple[str, str], deque[int]] = {}
        self._listen_key_count = 0
        # Told of every order placed or cancelled: host, API key, the event of the account's stream.
        self.order_ears: list[Callable[[str, str, dict[str, Any]], None]] = []

    def now(self) -> int:
        """Return the exchange's time in epoch milliseconds."""
        return self.config.clock_ms()

    def futures_store(self, symbol: str, first: Market) -> MarketStore | None:
        """Find the store of a futures symbol; either host knows both kinds since 2026-06."""
        other = Market.CM if first is Market.UM else Market.UM
        for market in (first, other):
            if symbol in self.stores[market].series:
                return self.stores[market]
        return None

    def universe(self, market: Market) -> list[tuple[MarketStore, str]]:
        """List what an all-market stream carries: on the futures hosts both kinds of symbols since 2026-06."""
        markets = [market] if market is Market.SPOT else [Market.UM, Market.CM]
        stores = [self.stores[one] for one in markets]
        return [(store, symbol) for store in stores for symbol in store.series]

    def rest_klines(
        self,
        store: MarketStore,
        symbol: str,
        interval: str,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
        now_ms: int,
        offset_ms: int = 0,
        kind: str = "",
    ) -> bytes:
        """Return rows as REST shows them: behind the truth for `rest_lag_ms` after a close.

        Shape: `kind` is "mark", "index" or "premium" for candles of those prices.
        """
        faults = self.faults.stream(store.market)
        lag_ms = faults.rest_lag_ms
        if faults.late_row and store.market is Market.UM and not kind:
            start = iv.open_time(interval, now_ms, offset_ms)
            candle = store.candle(symbol, interval, start, iv.next_open(interval, start, offset_ms), now_ms)
            is_empty = candle is not None and not candle.trades
            if is_empty and now_ms < start + late_row_ms(self.config.seed, symbol, start):
                end_ms = start - 1 if end_ms is None else min(end_ms, start - 1)
        if now_ms - iv.open_time(interval, now_ms, offset_ms) < lag_ms:
            now_ms -= lag_ms
        rows = store.kline_bytes(symbol, interval, start_ms, end_ms, limit, now_ms, offset_ms)
        return price_rows(store, symbol, kind, rows, now_ms) if kind else rows

    def rest_book(self, store: MarketStore, symbol: str, limit: int, now_ms: int) -> BookView:
        """Return the book as REST shows it: `depth_lag_ms` behind the streams."""
        now_ms -= self.faults.stream(store.market).depth_lag_ms
        return store.book_at(symbol, store.update_id(symbol, now_ms), limit)

    def spec(self, market: Market, symbol: str) -> SymbolSpec | None:
        """Return a symbol of a market."""
        return self.stores[market].spec(symbol)

    def count_order(self, host: str, api_key: str, now_ms: int) -> tuple[int, int]:
        """Count an order; return how many in the last 10 s and in the longer window."""
        family = "spot" if host == "api" else "futures"
        times = self._order_times.setdefault((family, api_key), deque(maxlen=20_000))
        times.append(now_ms)
        longer = 86_400_000 if family == "spot" else 60_000
        return (
            sum(1 for t in times if t // 10_000 == now_ms // 10_000),
            sum(1 for t in times if t // longer == now_ms // longer),
        )

    def create_listen_key(self, host: str, api_key: str, now_ms: int) -> str:
        """Return the account's listen key, a new one when none is alive."""
        found = self._listen_keys.get((host, api_key))
        if found is None or found[1] <= now_ms:
            self._listen_key_count += 1
            text = f"{host}:{api_key}:{self._listen_key_count}:{self.config.seed}"
            key = hashlib.sha256(text.encode()).hexdigest()
        else:
            key = found[0]
        self._listen_keys[(host, api_key)] = (key, now_ms + _LISTEN_KEY_MS)
        return key

    def keep_listen_key(self, host: str, api_key: str, now_ms: int) -> str | None:
        """Extend the account's listen key; None when it has ended."""
        found = self._listen_keys.get((host, api_key))
        if found is None or found[1] <= now_ms:
            return None
        self._listen_keys[(host, api_key)] = (found[0], now_ms + _LISTEN_KEY_MS)
        return found[0]

    def close_listen_key(self, host: str, api_key: str) -> None:
        """End the account's listen key."""
        self._listen_keys.pop((host, api_key), None)

    def listen_keys_of(self, host: str, api_key: str, now_ms: int) -> list[str]:
        """Return the live listen keys of an account on a host."""
        return [
            text
            for (where, owner), (text, until) in self._listen_keys.items()
            if (where, owner) == (host, api_key) and until > now_ms
        ]

    def tell_order(self, host: str, api_key: str, row: dict[str, Any], now_ms: int) -> None:
        """Tell whoever listens to an account of an order, by its REST row."""
        status = str(row.get("status", "NEW"))
        order = {
            "s": row.get("symbol"), "c": row.get("clientOrderId"), "S": row.get("side"), "o": row.get("type"),
            "f": row.get("timeInForce"), "q": row.get("origQty"), "p": row.get("price"), "X": status,
            "x": "TRADE" if "FILLED" in status else status, "i": row.get("orderId"), "z": row.get("executedQty"),
            "T": now_ms,
        }  # fmt: skip
        if host == "api":
            event = {"e": "executionReport", "E": now_ms, **order}
        else:
            event = {"e": "ORDER_TRADE_UPDATE", "E": now_ms, "T": now_ms, "o": order}
        for ear in self.order_ears:
            ear(host, api_key, event)

    def owner_of_listen_key(self, key: str, now_ms: int) -> str | None:
        """Return the API key behind a live listen key."""
        for (_, api_key), (text, until) in self._listen_keys.items():
            if text == key and until > now_ms:
                return api_key
        return None
