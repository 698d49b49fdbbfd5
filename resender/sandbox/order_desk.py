"""The order desk: places, matches, amends and cancels the orders of all accounts and markets.

`OrderDesk` owns every order. Prices are the sandbox's own: a buy fills when the best ask is not
above its price, a sell when the best bid is not below. Whatever changes is noted in the account's
journal (what REST shows) and told (what user streams bring), in this order. It is driven by
`match`; it reads no clock. Order lists and conditional orders listen through `after`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from itertools import count

import orjson

from resender.core.binance.markets import Market

from . import shapes
from .accounts import SHORT, Account, Accounts
from .config import SandboxConfig
from .crossing import crosses, is_stop, is_triggered, matched_price, taken
from .journal import Journal, Row
from .market import BookTicker, MarketStore
from .model import ApiError, Params
from .orders import ZERO, Fill, Order, lot_of, read_order
from .prices import mix
from .signing import mandatory
from .symbols import SymbolSpec
from .user_events import (
    Event,
    account_position,
    account_update,
    execution_report,
    order_trade_update,
    trade_lite,
)

_EIGHT = Decimal("0.00000001")
_TAKER = {Market.SPOT: Decimal("0.001"), Market.UM: Decimal("0.0004"), Market.CM: Decimal("0.0005")}
_MAKER = {Market.SPOT: Decimal("0.001"), Market.UM: Decimal("0.0002"), Market.CM: Decimal("0.0001")}
_FIRST_ID = 1_000_001
Tell = Callable[[Market, str, Event], None]
# What listeners are told of: FILLING before a fill, TRADE after it, TRIGGERED (a stop), ENDED without a fill.
After = Callable[[Order, str, int], None]


class OrderDesk:
    """All orders, by account and market."""

    def __init__(
        self, config: SandboxConfig, stores: dict[Market, MarketStore], accounts: Accounts, tell: Tell
    ) -> None:
        self.after: list[After] = []
        self._config = config
        self._stores = stores
        self._accounts = accounts
        self._tell = tell
        self._orders: dict[tuple[Market, str], dict[tuple[str, int], Order]] = {}
        self._open: dict[tuple[Market, str], dict[tuple[str, int], Order]] = {}
        self._by_symbol: dict[tuple[Market, str], dict[tuple[str, int], Order]] = {}
        self._journals: dict[tuple[Market, str], Journal] = {}
        self._specs: dict[tuple[Market, str], SymbolSpec] = {}
        self._ids: dict[tuple[Market, str], int] = {}
        self._trade_ids: dict[tuple[Market, str], int] = {}
        self._executions = count(1)
        self._client_ids = count(1)

    # -- looking -------------------------------------------------------------------------

    def book(self, market: Market, account: str) -> dict[tuple[str, int], Order]:
        """Return all orders of an account in one market, the oldest first."""
        return self._orders.setdefault((market, account), {})

    def journal(self, market: Market, account: str) -> Journal:
        """Return what openOrders shows of an account, now and before."""
        return self._journals.setdefault((market, account), Journal())

    def open_orders(self, market: Market, account: str, symbol: str | None = None) -> list[Order]:
        """List open orders, of one symbol or of all, by the time they were made."""
        found = self._open.get((market, account), {}).values()
        orders = [order for order in found if symbol in (None, order.symbol)]
        return sorted(orders, key=lambda order: (order.time_ms, order.order_id))

    @property
    def is_busy(self) -> bool:
        """Tell whether any order is open."""
        return any(self._by_symbol.values())

    def find(self, market: Market, account: str, symbol: str, params: Params) -> Order | None:
        """Find an order by `orderId` or `origClientOrderId`; ApiError -1102 when neither was sent."""
        order_id, client_id = params.get("orderId", ""), params.get("origClientOrderId", "")
        if not order_id and not client_id:
            if market is Market.SPOT:
                raise ApiError(
                    -1102,
                    "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!",
                )
            raise mandatory("orderId")
        orders = self.book(market, account)
        if order_id:
            is_number = order_id.isascii() and order_id.isdigit()
            return orders.get((symbol, int(order_id))) if is_number else None
        for order in reversed(orders.values()):
            if order.client_id == client_id and order.symbol == symbol:
                return order
        return None

    def new_client_id(self) -> str:
        """Return a client order id for whoever sent none."""
        return f"sandbox{next(self._client_ids)}"

    def _spec(self, order: Order) -> SymbolSpec:
        # The orders of a delisted symbol can still be cancelled.
        spec = self._stores[order.market].spec(order.symbol) or self._specs[order.market, order.symbol]
        self._specs[order.market, order.symbol] = spec
        return spec

    # -- placing -------------------------------------------------------------------------

    def place(self, spec: SymbolSpec, params: Params, account: str, now_ms: int) -> Order:
        """Book an order and let it meet the prices of now.

        Raises: as `read_order` and `admit`.
        """
        order = read_order(spec, params)
        self.admit(order, account, now_ms)
        self.begin(order, now_ms)
        return order

    def admit(self, order: Order, account: str, now_ms: int, with_lock: bool = True) -> None:
        """Take an order in without opening it: its id is given, its balance locked.

        Raises: ApiError -2010 (spot), -4116, -5022, -2022, -2021 or for a closed market.
        """
        spec, is_spot = self._spec(order), order.market is Market.SPOT
        if spec.status != "TRADING":
            raise ApiError(-1013 if is_spot else -4108, "Market is closed.")
        order.account = account
        if order.client_id and any(
            other.client_id == order.client_id and other.symbol == order.symbol
            for other in self._open.get((order.market, account), {}).values()
        ):
            if is_spot:
                raise ApiError(-2010, "Duplicate order sent.")
            raise ApiError(-4116, "ClientOrderId is duplicated.")
        ticker = self._stores[order.market].book_ticker(order.symbol, now_ms)
        order.is_waiting = is_stop(order)
        if order.price_match != "NONE":
            order.price = matched_price(order, ticker)
        if order.is_waiting and is_triggered(order, ticker):
            if is_spot:
                raise ApiError(-2010, "Stop price would trigger immediately.")
            raise ApiError(-2021, "Order would immediately trigger.")
        if not order.is_waiting and crosses(order, ticker):
            if order.type == "LIMIT_MAKER":
                raise ApiError(-2010, "Order would immediately match and take.")
            if order.time_in_force == "GTX":
                raise ApiError(
                    -5022,
                    "Due to the order could not be executed as maker, the Post Only order will be rejected.",
                )
        if order.reduce_only and not is_spot and not self._reducible(order):
            raise ApiError(-2022, "ReduceOnly Order is rejected.")
        if is_spot:
            self._measure(order, spec, ticker)
            if with_lock:
                self._lock(order, ticker)
        self._number(order, now_ms)

    def _number(self, order: Order, now_ms: int) -> None:
        place = order.market, order.symbol
        order.order_id = self._ids[place] = self._ids.get(place, _FIRST_ID - 1) + 1
        order.time_ms = order.update_ms = now_ms
        order.client_id = order.client_id or self.new_client_id()

    @staticmethod
    def _measure(order: Order, spec: SymbolSpec, ticker: BookTicker) -> None:
        # A MARKET order may say what it is to cost instead of how much it is of.
        if order.type == "MARKET" and not order.qty and order.quote_qty:
            price, lot = taken(order, ticker), lot_of(spec)
            order.qty = order.quote_qty / price // lot * lot
            if not order.qty:
                raise ApiError(-1013, "Filter failure: LOT_SIZE")

    def _lock(self, order: Order, ticker: BookTicker) -> None:
        account, spec = self._accounts.get(order.account), self._spec(order)
        if order.type == "MARKET":
            asset = spec.quote if order.is_buy else spec.base
            needed = order.qty * taken(order, ticker) if order.is_buy else order.qty
            if needed > account.balance(asset).free:
                raise ApiError(-2010, SHORT)
            return
        asset, amount = self.need(order)
        account.lock(asset, amount)
        order.locked = amount

    def need(self, order: Order) -> tuple[str, Decimal]:
        """Return the asset an order locks on spot, and how much of it for what is left."""
        spec = self._spec(order)
        if not order.is_buy:
            return spec.base, order.left
        price = order.price or order.stop_price
        return spec.quote, (order.left * price).quantize(_EIGHT, ROUND_UP)

    def _reducible(self, order: Order) -> Decimal:
        held = self.held(order.market, order.account, order.symbol, order.position_side)
        return max(ZERO, -held if order.is_buy else held)

    def held(self, market: Market, account: str, symbol: str, side: str) -> Decimal:
        """Return the amount of a position."""
        return self._accounts.get(account).position(market, symbol, side).amount

    def begin(self, order: Order, now_ms: int, is_pending: bool = False) -> None:
        """Open an admitted order: it is told as NEW and meets the prices; a pending one only waits."""
        for index in (self._orders, self._open):
            index.setdefault((order.market, order.account), {})[order.key] = order
        self._by_symbol.setdefault((order.market, order.symbol), {})[order.key] = order
        if is_pending:
            order.status = "PENDING_NEW"
        elif not order.is_waiting:
            order.working_ms = now_ms
        self._changed(order, "NEW", now_ms)
        self.tell_balances(order, now_ms, order.locked > 0)
        if order.is_open and not is_pending and not order.is_waiting:
            self._take(order, now_ms)

    def give_up(self, order: Order) -> None:
        """Undo an admission: what was locked is free again."""
        if order.locked:
            self._accounts.get(order.account).unlock(self.need(order)[0], order.locked)
            order.locked = ZERO

    def release(self, order: Order, now_ms: int, with_lock: bool = True) -> None:
        """Let a pending order begin to work, now that what it waited for has happened."""
        if order.status != "PENDING_NEW":
            return
        ticker = self._stores[order.market].book_ticker(order.symbol, now_ms)
        order.update_ms = now_ms
        try:
            if with_lock:
                self._lock(order, ticker)
        except ApiError:
            order.status = "REJECTED"
            self._close(order)
            self._changed(order, "REJECTED", now_ms, reason="INSUFFICIENT_BALANCE")
            self._hear(order, "ENDED", now_ms)
            return
        order.status = "NEW"
        if not order.is_waiting:
            order.working_ms = now_ms
        self._changed(order, "NEW", now_ms)
        self.tell_balances(order, now_ms, order.locked > 0)
        if not order.is_waiting:
            self._take(order, now_ms)

    def _take(self, order: Order, now_ms: int) -> None:
        # The moment an order comes onto the book: what it can take of it, it takes at once.
        ticker = self._stores[order.market].book_ticker(order.symbol, now_ms)
        price, shown = taken(order, ticker), Decimal(ticker.ask_qty if order.is_buy else ticker.bid_qty)
        is_market = order.type in ("MARKET", "STOP_LOSS") or (
            order.market is Market.SPOT and order.type == "TAKE_PROFIT"
        )
        if is_market:
            self._fill(order, order.left, price, now_ms, is_maker=False)
        elif order.time_in_force in ("IOC", "FOK"):
            is_whole = order.left <= shown
            if crosses(order, ticker) and (is_whole or order.time_in_force == "IOC"):
                self._fill(order, min(order.left, shown), price, now_ms, is_maker=False)
            if order.is_open:
                self.end(order, "EXPIRED", now_ms)
        elif crosses(order, ticker) and order.type != "LIMIT_MAKER":
            self._fill(order, order.left, price, now_ms, is_maker=False)

    # -- matching ------------------------------------------------------------------------

    def match(self, now_ms: int) -> None:
        """Let all open orders meet the prices of a moment."""
        for (market, symbol), orders in list(self._by_symbol.items()):
            spec = self._stores[market].spec(symbol)
            if not orders or spec is None or spec.status != "TRADING":
                continue
            ticker = self._stores[market].book_ticker(symbol, now_ms)
            for order in list(orders.values()):
                if order.is_open and order.status != "PENDING_NEW":
                    self._meet(order, spec, ticker, now_ms)

    def _meet(self, order: Order, spec: SymbolSpec, ticker: BookTicker, now_ms: int) -> None:
        if order.time_in_force == "GTD" and 0 < order.good_till_ms <= now_ms:
            self.end(order, "EXPIRED", now_ms)
        elif order.is_waiting:
            if is_triggered(order, ticker):
                self.trigger(order, now_ms)
        elif order.steps:
            if now_ms >= order.next_fill_ms:
                self._fill_step(order, spec, now_ms)
        elif crosses(order, ticker):
            whose = zlib.crc32(f"{order.market}{order.symbol}".encode())
            order.steps = 1 + mix(self._config.seed, order.order_id, whose) % 3
            if not self._config.partial_fills:
                order.steps = 1
            self._fill_step(order, spec, now_ms)

    def _fill_step(self, order: Order, spec: SymbolSpec, now_ms: int) -> None:
        lot = lot_of(spec)
        part = max(lot, order.left / order.steps // lot * lot)
        order.steps -= 1
        order.next_fill_ms = now_ms + self._config.partial_fill_ms
        self._fill(order, part if order.steps else order.left, order.price, now_ms, is_maker=True)

    def trigger(self, order: Order, now_ms: int) -> None:
        """Let a waiting stop go onto the book."""
        if not order.is_open or not order.is_waiting:
            return
        order.is_waiting = False
        order.update_ms = order.working_ms = now_ms
        if order.market is not Market.SPOT:
            if self._config.stop_expires_first:
                order.status = "EXPIRED"
                self._changed(order, "EXPIRED", now_ms)
                order.status = "NEW"
            order.type = "MARKET" if order.type.endswith("_MARKET") else "LIMIT"
            if order.close_position:
                order.qty = self._reducible(order)
            if (order.close_position or order.reduce_only) and not self._reducible(order):
                self.end(order, "EXPIRED", now_ms)
                return
        self._changed(order, "NEW", now_ms)
        self._hear(order, "TRIGGERED", now_ms)
        if order.is_open:
            self._take(order, now_ms)

    def fill(self, order: Order, qty: Decimal | None, price: Decimal | None, now_ms: int) -> None:
        """Fill an open order by force, at its own price unless another is given."""
        if order.status == "PENDING_NEW":
            self.release(order, now_ms)
        self.trigger(order, now_ms)
        if order.is_open:
            ticker = self._stores[order.market].book_ticker(order.symbol, now_ms)
            at = price or order.price or taken(order, ticker)
            self._fill(order, min(order.left, qty or order.left), at, now_ms, is_maker=True)

    def _fill(self, order: Order, qty: Decimal, price: Decimal, now_ms: int, is_maker: bool) -> None:
        spec, place = self._spec(order), (order.market, order.symbol)
        if qty <= 0:
            return
        self._hear(order, "FILLING", now_ms)
        self._trade_ids[place] = trade_id = self._trade_ids.get(place, 0) + 1
        quote = qty * spec.contract_size / price if spec.contract_size else qty * price
        quote = quote.quantize(_EIGHT, ROUND_DOWN)
        rate = (_MAKER if is_maker else _TAKER)[order.market]
        account = self._accounts.get(order.account)
        if order.market is Market.SPOT:
            asset = spec.base if order.is_buy else spec.quote
            fee = ((qty if order.is_buy else quote) * rate).quantize(_EIGHT, ROUND_DOWN)
            fill = Fill(trade_id, price, qty, quote, fee, asset, now_ms, is_maker)
            self._settle(account, order, spec, fill)
        else:
            asset = spec.base if spec.contract_size else spec.quote
            held = account.position(order.market, order.symbol, order.position_side)
            held.update_ms = now_ms
            profit = held.add(qty if order.is_buy else -qty, price, spec.contract_size)
            fee = (quote * rate).quantize(_EIGHT)
            wallet = account.wallets.setdefault(order.market, {})
            wallet[asset] = wallet.get(asset, ZERO) + profit - fee
            fill = Fill(trade_id, price, qty, quote, fee, asset, now_ms, is_maker, profit)
        order.executed += qty
        order.quote += quote
        order.fills.append(fill)
        order.update_ms = now_ms
        order.status = "FILLED" if order.executed == order.qty else "PARTIALLY_FILLED"
        if not order.is_open:
            self._close(order)
        if order.market is Market.UM:
            self._tell(order.market, order.account, trade_lite(order, fill, now_ms))
        if order.market is not Market.SPOT:
            held_row = (order.symbol, order.position_side, held)
            event = account_update(account, order.market, "ORDER", now_ms, {asset: ZERO}, [held_row])
            self._tell(order.market, order.account, event)
        self._changed(order, "TRADE", now_ms, fill)
        self.tell_balances(order, now_ms)
        self._hear(order, "TRADE", now_ms)

    @staticmethod
    def _settle(account: Account, order: Order, spec: SymbolSpec, fill: Fill) -> None:
        # What was locked for this part is used up or given back, what was bought comes in.
        base, quote = account.balance(spec.base), account.balance(spec.quote)
        source, paid = (quote, fill.quote) if order.is_buy else (base, fill.qty)
        share = fill.qty * (order.price or order.stop_price) if order.is_buy else fill.qty
        share = min(order.locked, share.quantize(_EIGHT, ROUND_UP))
        order.locked -= share
        source.locked -= share
        source.free += share - paid
        if order.is_buy:
            base.free += fill.qty - fill.commission
        else:
            quote.free += fill.quote - fill.commission

    # -- ending and changing -----------------------------------------------------------------

    def cancel(self, order: Order | None, now_ms: int, cancel_id: str = "") -> Order:
        """Cancel an open order.

        Raises: ApiError -2011 when there is none.
        """
        if order is None or not order.is_open:
            raise ApiError(-2011, "Unknown order sent.")
        order.cancel_id = cancel_id or self.new_client_id()
        self.end(order, "CANCELED", now_ms)
        return order

    def end(self, order: Order, status: str, now_ms: int) -> None:
        """End an open order without a fill: CANCELED or EXPIRED."""
        if not order.is_open:
            return
        order.status, order.update_ms = status, now_ms
        had_locked = order.locked > 0
        self._close(order)
        self._changed(order, status, now_ms)
        self.tell_balances(order, now_ms, had_locked)
        self._hear(order, "ENDED", now_ms)

    def _close(self, order: Order) -> None:
        self._open[order.market, order.account].pop(order.key, None)
        self._by_symbol[order.market, order.symbol].pop(order.key, None)
        self.give_up(order)

    def reduce(self, order: Order, qty: Decimal, client_id: str, now_ms: int) -> int:
        """Lower the quantity of a spot order, its priority kept; return the execution's id."""
        before, order.client_id = order.client_id, client_id
        order.qty, order.update_ms = qty, now_ms
        order.amendments += 1
        needed = self.need(order)[1]
        had_more = order.locked > needed
        if had_more:
            self._accounts.get(order.account).unlock(self.need(order)[0], order.locked - needed)
            order.locked = needed
        execution = self._changed(order, "REPLACED", now_ms, orig_client_id=before)
        self.tell_balances(order, now_ms, had_more)
        return execution

    def modify(self, order: Order, price: Decimal, qty: Decimal, now_ms: int) -> None:
        """Change price and quantity of a futures order; at its new price it may fill at once.

        Raises: ApiError -5027 when nothing changes.
        """
        if (price, qty) == (order.price, order.qty):
            raise ApiError(-5027, "No need to modify the order.")
        if qty <= order.executed:
            self.cancel(order, now_ms)
            return
        order.price, order.qty, order.update_ms, order.steps = price, qty, now_ms, 0
        self._changed(order, "AMENDMENT", now_ms)
        if not order.is_waiting:
            self._take(order, now_ms)

    # -- telling -----------------------------------------------------------------------------

    def _changed(
        self, order: Order, what: str, now_ms: int, fill: Fill | None = None, reason: str = "NONE",
        orig_client_id: str = "",
    ) -> int:  # fmt: skip
        self.note(order, now_ms)
        execution = next(self._executions)
        if order.market is Market.SPOT:
            event = execution_report(order, what, now_ms, execution, fill, reason, orig_client_id)
        else:
            event = order_trade_update(order, self._spec(order), what, now_ms, fill)
        self._tell(order.market, order.account, event)
        return execution

    def note(self, order: Order, now_ms: int) -> None:
        """Note how an order stands, for REST."""
        row = Row(order.time_ms, order.order_id, order.symbol, self.row(order)) if order.is_open else None
        self.journal(order.market, order.account).note(now_ms, order.key, row)

    def row(self, order: Order) -> bytes:
        """Return an order as `openOrders` shows it."""
        if order.market is Market.SPOT:
            return orjson.dumps(shapes.spot_order_row(order))
        texts = self._config.futures_texts
        return orjson.dumps(shapes.futures_order_row(order, self._spec(order), False, texts))

    def tell_balances(self, order: Order, now_ms: int, has_changed: bool = True) -> None:
        """Tell a spot account of the two balances an order moves."""
        if order.market is not Market.SPOT or not has_changed:
            return
        spec = self._spec(order)
        self.tell_assets(self._accounts.get(order.account), (spec.base, spec.quote), now_ms)

    def tell_assets(self, account: Account, assets: Iterable[str], now_ms: int) -> None:
        """Tell a spot account of some of its balances."""
        account.update_ms = now_ms
        changed = {asset: account.balance(asset) for asset in assets}
        self._tell(Market.SPOT, account.name, account_position(changed, now_ms))

    def _hear(self, order: Order, what: str, now_ms: int) -> None:
        for listener in list(self.after):
            listener(order, what, now_ms)
