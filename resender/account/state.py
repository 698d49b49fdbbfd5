"""What is held of one account, and how it is told to people: orders, balances, whether it is proven.

It decides nothing; `watched.py` takes events into it and answers out of it. One belongs to one account.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from resender.account.ports import AccountOptions, Signs
from resender.account.unheard import Unheard
from resender.account.user_stream import fresh_s
from resender.aio import Clock
from resender.core.account.balances import FuturesBalances, SpotBalances
from resender.core.account.dialects import ALGO, CM, SPOT, UM, Dialect, Row
from resender.core.account.lore import Lore
from resender.core.account.orders import Orders
from resender.core.account.proof import Proof
from resender.core.account.spec import AccountMarket, AccountSpec, Mode
from resender.core.account.writes import Writes
from resender.core.binance.exchange_clock import ExchangeClock

_DIALECTS: Mapping[AccountMarket, Dialect] = {
    AccountMarket.SPOT: SPOT,
    AccountMarket.MARGIN: SPOT,
    AccountMarket.UM: UM,
    AccountMarket.CM: CM,
    AccountMarket.PM: UM,
}
# Why nothing is answered although the stream and the snapshots are there.
DIFFERS = "differs from REST"
WAITING, OPENING, SYNCING, LIVE = "waiting", "opening", "syncing", "live"
Listener = Callable[[dict[str, Any]], None]
_MAX_DIFFERENCES = 50
# One comparison is under way for so long at the most.
COMPARING_S = 30.0


class AccountState:
    """The state of one account."""

    def __init__(
        self,
        spec: AccountSpec,
        options: AccountOptions,
        lore: Callable[[Dialect], Lore],
        *,
        clock: Clock,
        exchange_clock: ExchangeClock,
    ) -> None:
        self.spec = spec
        self.market = spec.market
        self.mode = spec.mode
        # In memory only: of a call that passed through, or unsealed.
        self.api_key: str | None = None
        self.signer: Signs | None = None
        self.orders = self._orders(_DIALECTS[spec.market], lore, options)
        self.algo = self._orders(ALGO, lore, options) if spec.market is AccountMarket.UM else None
        # Portfolio margin has orders of both futures markets.
        self.coin_orders = self._orders(CM, lore, options) if spec.market is AccountMarket.PM else None
        self.spot = SpotBalances()
        self.futures = FuturesBalances()
        self._moved_mono = 0.0
        self.proof = Proof(fresh_s(options))
        # Conditional orders, and on portfolio margin those of COIN-M, have snapshots of their own.
        self.algo_proof = Proof(fresh_s(options))
        self.writes = Writes(self.orders, self.algo, options.wait_ms / 1000)
        self.unheard = Unheard()
        self.phase = WAITING
        self.phase_since_ms = clock.now_ms()
        self.on_restart: Callable[[], None] = lambda: None
        self.listeners: set[Listener] = set()
        self.differences: deque[tuple[int, str]] = deque(maxlen=_MAX_DIFFERENCES)
        self.difference_count = 0
        self.hits = 0
        self.misses: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.unknown_events: Counter[str] = Counter()
        self._options = options
        self._clock = clock
        self._exchange_clock = exchange_clock
        self._changed = asyncio.Event()
        # When the last call was sent on to be compared.
        self._comparing_mono = -COMPARING_S

    @staticmethod
    def _orders(dialect: Dialect, lore: Callable[[Dialect], Lore], options: AccountOptions) -> Orders:
        return Orders(dialect, lore(dialect), keep_ms=options.history_ms)

    @property
    def label(self) -> str:
        return f"{self.spec.name} ({self.market})"

    @property
    def is_own(self) -> bool:
        """Whether the gateway can sign reads of its own."""
        return self.mode is Mode.SECRET and self.signer is not None

    def _all_orders(self) -> list[Orders]:
        return [orders for orders in (self.orders, self.algo, self.coin_orders) if orders is not None]

    def _lack(self) -> str | None:
        """Return what the account as a whole lacks."""
        mono = self._clock.mono()
        lack = self.proof.lack(None, mono)
        if lack is None and self.coin_orders is not None:
            lack = self.algo_proof.lack(None, mono)
        if lack is None and any(orders.is_doubted(None) for orders in self._all_orders()):
            lack = DIFFERS
        return lack

    def _enter(self, phase: str) -> None:
        if phase != self.phase:
            self.phase, self.phase_since_ms = phase, self._clock.now_ms()
            self._tell({"e": "state", **self.state()})

    @property
    def age_ms(self) -> int:
        """How long ago the stream gave a sign of life; 0 if there is none. Units: milliseconds."""
        if not self.proof.is_open:
            return 0
        return max(0, int((self._clock.mono() - self.proof.heard_mono) * 1000))

    def state(self) -> dict[str, Any]:
        """Return the state in words."""
        lack = self._lack()
        state = self.phase if lack is None or self.phase != LIVE else SYNCING
        return {
            "state": state,
            "why": lack or "",
            "since": self.phase_since_ms,
            "openOrders": sum(len(orders.open) for orders in self._all_orders()),
        }

    def open_orders(self, symbol: str | None = None) -> list[Row]:
        """Return the open orders as far as they are known, newest changes last."""
        rows: list[Row] = []
        for orders in self._all_orders():
            for row in orders.known(symbol):
                rows.append({**row, "kind": orders.dialect.name})
        return rows

    def ended_orders(self, symbol: str | None = None) -> list[Row]:
        """Return orders that ended lately, the last first."""
        rows: list[Row] = []
        least_ms = self._clock.now_ms() - self._options.history_ms
        for orders in self._all_orders():
            for row in orders.known(symbol, is_ended=True):
                if int(row.get("updateTime", 0)) >= least_ms:
                    rows.append({**row, "kind": orders.dialect.name})
        rows.sort(key=lambda row: -int(row.get("updateTime", 0)))
        return rows

    def _money(self) -> dict[str, Any]:
        if self.market in (AccountMarket.SPOT, AccountMarket.MARGIN):
            return {"balances": self.spot.known(), "positions": []}
        return {"balances": self.futures.known(), "positions": self.futures.known_positions()}

    def balances(self) -> list[Row]:
        found: list[Row] = self._money()["balances"]
        return found

    def positions(self) -> list[Row]:
        found: list[Row] = self._money()["positions"]
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return everything that is known, as the first message of a listener."""
        return {
            "e": "snapshot",
            "market": self.market.value,
            **self.state(),
            "orders": self.open_orders(),
            **self._money(),
        }

    def _tell(self, message: dict[str, Any]) -> None:
        for listener in list(self.listeners):
            listener(message)
