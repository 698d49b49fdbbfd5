"""The simulated exchange itself, without sockets: stores, weights, accounts, orders, listen keys.

`Exchange` owns all state that is not a connection. REST and stream servers are two
doors to it, so they always agree. Used from the event loop only.
"""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal

from resender.core.binance.markets import Market

from . import intervals as iv
from .accounts import Accounts
from .algo_orders import AlgoDesk
from .config import SandboxConfig
from .faults import Faults
from .listen_keys import ListenKeys
from .market import BookView, MarketStore
from .model import Call, Placement, Violation
from .opens import late_row_ms
from .order_desk import OrderDesk
from .order_lists import OrderLists
from .orders import Order
from .price_klines import price_rows
from .symbols import SymbolSpec
from .user_events import account_update, balance_update, external_lock
from .user_feed import UserFeed
from .weights import WeightPools

STORED_MARKETS = (Market.SPOT, Market.UM, Market.CM)


class Exchange:
    """Everything behind the doors. Pure apart from the injected clock."""

    def __init__(self, config: SandboxConfig, faults: Faults | None = None) -> None:
        self.config = config
        self.faults = faults or Faults(config)
        now = config.clock_ms()
        self.stores = {market: MarketStore(market, config, now) for market in STORED_MARKETS}
        self.pools = WeightPools(config)
        self.accounts = Accounts(config)
        self.feed = UserFeed(self.faults.accounts, config.event_delay_ms)
        self.desk = OrderDesk(config, self.stores, self.accounts, self.feed.tell)
        self.lists = OrderLists(self.desk, self.feed.tell)
        self.algo = AlgoDesk(self.desk, self.stores, self.feed.tell, config.futures_texts)
        self.listen_keys = ListenKeys(config.seed, config.listen_key_ms)
        # When all open orders of a market, account and symbol are to be cancelled.
        self.countdowns: dict[tuple[Market, str, str], int] = {}
        self.calls: deque[Call] = deque(maxlen=config.history)
        self.violations: deque[Violation] = deque(maxlen=config.history)
        self.orders: list[Placement] = []
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.info_cache: dict[str, tuple[int, bytes]] = {}
        self._order_times: dict[tuple[str, str], deque[int]] = {}

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

    # -- accounts --------------------------------------------------------------------------

    def match(self, now_ms: int | None = None) -> None:
        """Let everything that waits for a price or a time meet that moment (default: now)."""
        now = self.now() if now_ms is None else now_ms
        self.desk.match(now)
        self.algo.match(now)
        for (market, account, symbol), due in list(self.countdowns.items()):
            if due <= now:
                del self.countdowns[market, account, symbol]
                for order in self.desk.open_orders(market, account, symbol):
                    self.desk.cancel(order, now)

    @property
    def is_busy(self) -> bool:
        """Tell whether `match` has anything to look at."""
        return self.desk.is_busy or self.algo.is_busy or bool(self.countdowns)

    def order(self, market: Market, api_key: str, symbol: str, order_id: int) -> Order:
        """Return an order by its id; KeyError when there is none."""
        return self.desk.book(market, self.accounts.of(api_key).name)[symbol, order_id]

    def fill(
        self, order: Order, qty: Decimal | str | None = None, price: Decimal | str | None = None
    ) -> None:
        """Fill an open order at once, wholly or in part, at its own price or another.

        Shape: a stop is triggered and a waiting leg released first.
        """
        wanted = None if qty is None else Decimal(qty)
        self.desk.fill(order, wanted, None if price is None else Decimal(price), self.now())

    def expire(self, order: Order) -> None:
        """End an open order as the exchange does in its maintenance."""
        order.expiry_reason = "EXCHANGE_CANCELED" if order.market is Market.SPOT else None
        self.desk.end(order, "EXPIRED", self.now())

    def trigger(self, algo_id: int) -> None:
        """Trigger a conditional order of a futures market at once."""
        self.algo.trigger(self.algo.get(algo_id), self.now())

    def open_orders_bytes(self, market: Market, api_key: str, symbol: str | None = None) -> bytes:
        """Return the bytes GET openOrders would answer now: the truth."""
        return self.desk.journal(market, self.accounts.of(api_key).name).now(symbol)

    def open_orders_history(
        self, market: Market, api_key: str, symbol: str | None = None
    ) -> list[tuple[int, bytes]]:
        """List every answer openOrders would have given, with the time from which on it was true.

        Shape: ascending; of several changes in one millisecond each is there; bounded, see `journal.KEPT`.
        """
        return self.desk.journal(market, self.accounts.of(api_key).name).history(symbol)

    def open_algo_bytes(self, market: Market, api_key: str, symbol: str | None = None) -> bytes:
        """Return the bytes GET openAlgoOrders would answer now."""
        return self.algo.journal(market, self.accounts.of(api_key).name).now(symbol)

    def open_algo_history(
        self, market: Market, api_key: str, symbol: str | None = None
    ) -> list[tuple[int, bytes]]:
        """List every answer openAlgoOrders would have given; see `open_orders_history`."""
        return self.algo.journal(market, self.accounts.of(api_key).name).history(symbol)

    def deposit(self, api_key: str, asset: str, amount: Decimal | str, market: Market = Market.SPOT) -> None:
        """Change a balance from outside: balanceUpdate and its position, or ACCOUNT_UPDATE DEPOSIT."""
        account, change, now = self.accounts.of(api_key), Decimal(amount), self.now()
        if market is Market.SPOT:
            account.balance(asset).free += change
            self.feed.tell(market, account.name, balance_update(asset, change, now))
            self.desk.tell_assets(account, (asset,), now)
            return
        wallet = account.wallets.setdefault(market, {})
        wallet[asset] = wallet.get(asset, Decimal(0)) + change
        reason = "DEPOSIT" if change > 0 else "WITHDRAW"
        event = account_update(account, market, reason, now, {asset: change})
        self.feed.tell(market, account.name, event)

    def lock_outside(self, api_key: str, asset: str, amount: Decimal | str) -> None:
        """Lock a spot balance from outside (negative: set it free): externalLockUpdate."""
        account, change, now = self.accounts.of(api_key), Decimal(amount), self.now()
        account.lock(asset, change)
        self.feed.tell(Market.SPOT, account.name, external_lock(asset, change, now))
        self.desk.tell_assets(account, (asset,), now)
