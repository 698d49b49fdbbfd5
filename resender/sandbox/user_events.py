"""The events of user streams, in exactly the field names of the exchange.

Pure: orders, balances and times in, JSON data out. Numbers are written as events write them:
eight decimals on spot, no zeros at the end on the futures hosts.
Source: user-data-stream.md of 2026-07-21; derivatives SDKs of 2026-08-21.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from resender.core.binance.markets import Market

from .accounts import Account, Balance, Position
from .decimals import eight, plain
from .orders import ZERO, Fill, Order
from .symbols import SymbolSpec

Event = dict[str, Any]
ALIAS = "SgsR"


def execution_report(
    order: Order,
    what: str,
    now_ms: int,
    execution_id: int,
    fill: Fill | None = None,
    reason: str = "NONE",
    orig_client_id: str = "",
) -> Event:
    """Return what a spot account is told of an order; `what` is the execution type."""
    client_id = order.client_id
    if what == "CANCELED":
        client_id, orig_client_id = order.cancel_id, order.client_id
    is_working = order.is_open and not order.is_waiting and order.status != "PENDING_NEW"
    event: Event = {
        "e": "executionReport", "E": now_ms, "s": order.symbol, "c": client_id, "S": order.side,
        "o": order.type, "f": order.time_in_force, "q": eight(order.qty), "p": eight(order.price),
        "P": eight(order.stop_price), "F": eight(order.iceberg_qty), "g": order.list_id,
        "C": orig_client_id, "x": what, "X": order.status, "r": reason, "i": order.order_id,
        "l": eight(fill.qty if fill else ZERO), "z": eight(order.executed),
        "L": eight(fill.price if fill else ZERO), "n": eight(fill.commission) if fill else "0",
        "N": fill.commission_asset if fill else None, "T": order.update_ms,
        "t": fill.trade_id if fill else -1, "I": execution_id, "w": is_working,
        "m": fill.is_maker if fill else False, "M": bool(fill), "O": order.time_ms,
        "Z": eight(order.quote), "Y": eight(fill.quote if fill else ZERO), "Q": eight(order.quote_qty),
        "V": order.stp,
    }  # fmt: skip
    if order.working_ms != -1:
        event["W"] = order.working_ms
    if order.trailing_delta is not None:
        event["d"] = order.trailing_delta
    if order.strategy_id is not None:
        event["j"] = order.strategy_id
    if order.strategy_type is not None:
        event["J"] = order.strategy_type
    if order.expiry_reason is not None:
        event["eR"] = order.expiry_reason
    return event


def account_position(changed: Mapping[str, Balance], now_ms: int) -> Event:
    """Return the balances of a spot account that changed."""
    rows = [{"a": asset, "f": eight(b.free), "l": eight(b.locked)} for asset, b in changed.items()]
    return {"e": "outboundAccountPosition", "E": now_ms, "u": now_ms, "B": rows}


def balance_update(asset: str, change: Decimal, now_ms: int) -> Event:
    """Return a deposit, a withdrawal or a transfer."""
    return {"e": "balanceUpdate", "E": now_ms, "a": asset, "d": eight(change), "T": now_ms}


def external_lock(asset: str, change: Decimal, now_ms: int) -> Event:
    """Return what an outer system locked of a balance, or set free."""
    return {"e": "externalLockUpdate", "E": now_ms, "a": asset, "d": eight(change), "T": now_ms}


def list_status(
    symbol: str, list_id: int, kind: str, status: str, order_status: str, client_id: str,
    orders: Iterable[Order], now_ms: int,
) -> Event:  # fmt: skip
    """Return the state of an order list."""
    return {
        "e": "listStatus", "E": now_ms, "s": symbol, "g": list_id, "c": kind, "l": status,
        "L": order_status, "r": "NONE", "C": client_id, "T": now_ms,
        "O": [{"s": order.symbol, "i": order.order_id, "c": order.client_id} for order in orders],
    }  # fmt: skip


def order_trade_update(
    order: Order, spec: SymbolSpec, what: str, now_ms: int, fill: Fill | None = None, reason: int = 0
) -> Event:
    """Return what a futures account is told of an order; `what` is the execution type."""
    is_cm = order.market is Market.CM
    told: Event = {
        "s": order.symbol, "c": order.client_id, "S": order.side, "o": order.type, "f": order.time_in_force,
        "q": plain(order.qty), "p": plain(order.price), "ap": plain(order.average(spec)),
        "sp": plain(order.stop_price), "x": what, "X": order.status, "i": order.order_id,
        "l": plain(fill.qty if fill else ZERO), "z": plain(order.executed),
        "L": plain(fill.price if fill else ZERO),
    }  # fmt: skip
    if fill is not None:
        told |= {"n": plain(fill.commission), "N": fill.commission_asset}
    told |= {
        "T": order.update_ms, "t": fill.trade_id if fill else 0, "b": "0", "a": "0",
        "m": fill.is_maker if fill else False, "R": order.reduce_only, "wt": order.working_type,
        "ot": order.orig_type, "ps": order.position_side, "cp": order.close_position,
    }  # fmt: skip
    if is_cm:
        told["ma"] = spec.base
    told |= {
        "rp": plain(fill.realized if fill else ZERO), "pP": order.price_protect, "si": 0, "ss": 0,
        "V": order.stp, "pm": order.price_match, "gtd": order.good_till_ms, "er": str(reason),
    }  # fmt: skip
    return futures_event("ORDER_TRADE_UPDATE", order.market, now_ms, order.update_ms, o=told)


def futures_event(name: str, market: Market, now_ms: int, time_ms: int, **content: Any) -> Event:
    """Return the envelope of a futures event; COIN-M names the account in it."""
    event: Event = {"e": name, "E": now_ms, "T": time_ms}
    if market is Market.CM:
        event["i"] = ALIAS
    return event | content


def trade_lite(order: Order, fill: Fill, now_ms: int) -> Event:
    """Return the short notice of a fill, USD-M only."""
    return {
        "e": "TRADE_LITE", "E": now_ms, "T": fill.time_ms, "s": order.symbol, "q": plain(order.qty),
        "p": plain(order.price), "m": fill.is_maker, "c": order.client_id, "S": order.side,
        "L": plain(fill.price), "l": plain(fill.qty), "t": fill.trade_id, "i": order.order_id,
    }  # fmt: skip


def account_update(
    account: Account,
    market: Market,
    reason: str,
    now_ms: int,
    assets: Mapping[str, Decimal],
    positions: Iterable[tuple[str, str, Position]] = (),
) -> Event:
    """Return changed balances (`assets`: with the change that was no trade) and positions."""
    wallet = account.wallets.setdefault(market, {})
    balances = [
        {"a": asset, "wb": plain(wallet.get(asset, ZERO)), "cw": plain(wallet.get(asset, ZERO)),
         "bc": plain(change)}
        for asset, change in assets.items()
    ]  # fmt: skip
    rows = [
        {"s": symbol, "pa": plain(held.amount), "ep": plain(held.entry), "bep": plain(held.entry),
         "cr": plain(held.realized), "up": "0",
         "mt": "isolated" if (market, symbol) in account.isolated else "cross", "iw": "0", "ps": side}
        for symbol, side, held in positions
    ]  # fmt: skip
    return futures_event("ACCOUNT_UPDATE", market, now_ms, now_ms, a={"m": reason, "B": balances, "P": rows})


def config_update(market: Market, symbol: str, leverage: int, now_ms: int) -> Event:
    """Return a change of leverage."""
    return futures_event("ACCOUNT_CONFIG_UPDATE", market, now_ms, now_ms, ac={"s": symbol, "l": leverage})


def trigger_reject(symbol: str, order_id: int, reason: str, now_ms: int) -> Event:
    """Return that a conditional order was triggered and then refused."""
    told = {"s": symbol, "i": order_id, "r": reason}
    return {"e": "CONDITIONAL_ORDER_TRIGGER_REJECT", "E": now_ms, "T": now_ms, "or": told}
