"""Own reads of an account that has a key of its own: snapshots at the start, comparisons later.

They are made with the gateway's own share of the weight. One `OwnReads` belongs to one account.
"""

from __future__ import annotations

import logging
from urllib.parse import quote

from resender.account.key_check import quoted
from resender.account.ports import AccountOptions, Door
from resender.account.watched import WatchedAccount
from resender.aio import Backoff, Clock
from resender.core.account.calls import SignedRead, read_signed
from resender.core.account.spec import AccountMarket
from resender.core.binance.exchange_clock import ExchangeClock
from resender.errors import AnswerError

logger = logging.getLogger("resender.account")

_WINDOW_MS = 10_000
# What each market is asked, besides open orders, whose answers come first.
_PATHS: dict[AccountMarket, tuple[str, ...]] = {
    AccountMarket.SPOT: ("/api/v3/openOrders",),
    AccountMarket.MARGIN: ("/sapi/v1/margin/openOrders",),
    AccountMarket.UM: ("/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"),
    AccountMarket.CM: ("/dapi/v1/openOrders",),
    AccountMarket.PM: ("/papi/v1/um/openOrders", "/papi/v1/cm/openOrders"),
}
_MONEY: dict[AccountMarket, tuple[str, ...]] = {
    AccountMarket.SPOT: ("/api/v3/account",),
    AccountMarket.UM: ("/fapi/v3/balance", "/fapi/v3/positionRisk"),
    AccountMarket.CM: ("/dapi/v1/balance", "/dapi/v1/positionRisk"),
}
_FIRST_MONEY_S = 5.1
_ROW_EVERY_S = 1.0
_DOUBT_EVERY_S = 5.0


class _NoAnswer(Exception):
    """Binance has answered something else than was asked for."""


class OwnReads:
    """When one account is read, and the reading."""

    def __init__(
        self,
        account: WatchedAccount,
        options: AccountOptions,
        door: Door,
        clock: Clock,
        exchange_clock: ExchangeClock,
    ) -> None:
        self._account = account
        self._options = options
        self._door = door
        self._clock = clock
        self._exchange_clock = exchange_clock
        self._backoff = Backoff(first_s=2.0, cap_s=300.0)
        self._not_before = 0.0
        self._compared_mono = 0.0
        self._doubt_mono = 0.0
        self._money_since = -1.0
        self._money_mono = 0.0
        # Rows that are not whole are read one a second at most; what was found whole is not looked at again.
        self._row_not_before = 0.0
        self._looked: dict[str, tuple[int, int]] = {}
        self.is_running = False

    def is_due(self) -> bool:
        """Tell whether there is something to read now."""
        account, mono = self._account, self._clock.mono()
        if not account.is_own or not account.proof.is_open or mono < self._not_before:
            return False
        return self._wants_orders(mono) or self._wants_money(mono) or self._lacking(mono) is not None

    def _wants_orders(self, mono: float) -> bool:
        account = self._account
        if account.proof.wants_snapshot(mono):
            return True
        if account.algo is not None and account.algo_proof.wants_snapshot(mono):
            return True
        if account.has_old_doubt() and mono >= self._doubt_mono + _DOUBT_EVERY_S:
            return True
        return mono >= self._compared_mono + self._options.reconcile_s

    def _wants_money(self, mono: float) -> bool:
        account = self._account
        if account.market not in _MONEY or mono < account.proof.since_mono + _FIRST_MONEY_S:
            return False
        if account.market is AccountMarket.SPOT and not account.spot.has_answer:
            return True
        is_new = self._money_since != account.proof.since_mono
        return is_new or mono >= self._money_mono + self._options.reconcile_s * 0.9

    def _lacking(self, mono: float) -> tuple[str, str] | None:
        """Return a path and symbol to read because an order's row is not known whole."""
        account = self._account
        if mono < self._row_not_before or account.proof.lack(None, mono) is not None:
            return None
        pairs = [(account.orders, _PATHS[account.market][0])]
        if account.algo is not None:
            pairs.append((account.algo, _PATHS[account.market][1]))
        for orders, path in pairs if account.coin_orders is None else ():
            seen = (orders.version, orders.lore.version)
            if self._looked.get(path) == seen:
                continue
            symbol = orders.unwhole(path)
            if symbol is not None:
                return path, symbol
            self._looked[path] = seen
        return None

    async def run(self) -> None:
        """Read what is due."""
        self.is_running = True
        try:
            mono = self._clock.mono()
            since = self._account.proof.since_mono
            if self._wants_orders(mono):
                if self._account.has_old_doubt():
                    self._doubt_mono = mono
                for path in _PATHS[self._account.market]:
                    await self._read(path)
                self._compared_mono = mono
            if self._wants_money(self._clock.mono()):
                for path in _MONEY[self._account.market]:
                    await self._read(path)
                self._money_mono, self._money_since = self._clock.mono(), since
            if (lacking := self._lacking(self._clock.mono())) is not None:
                self._row_not_before = self._clock.mono() + _ROW_EVERY_S
                await self._read(*lacking)
            self._backoff.reset()
        except (AnswerError, _NoAnswer) as error:
            self._not_before = self._clock.mono() + self._backoff.next_s()
            logger.warning("account %s: an own read failed: %s", self._account.label, error)
        finally:
            self.is_running = False

    async def _read(self, path: str, symbol: str = "") -> None:
        account = self._account
        key, signer = account.api_key, account.signer
        if key is None or signer is None:
            return
        mono = self._clock.mono()
        asked_ms = self._exchange_clock.now_ms(mono)
        query = f"recvWindow={_WINDOW_MS}&timestamp={asked_ms}"
        if symbol:
            query = f"symbol={quote(symbol)}&{query}"
        signature = signer.sign(query.encode())
        host = account.market.host
        target = f"{path}?{query}&signature={quoted(signature)}"
        fetched, _ = await self._door.call_with_key(host, "GET", target, key)
        if fetched.status != 200:
            raise _NoAnswer(f"answered {fetched.status}")
        read = read_signed(host, path, f"{query}&signature={quoted(signature)}")
        if isinstance(read, SignedRead):
            account.take(read, fetched.body, mono, asked_ms)
