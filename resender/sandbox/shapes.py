"""How REST of each market writes an order.

Pure: values in, JSON data out. Events are written by `user_events.py`.
"""

from __future__ import annotations

from typing import Any

from resender.core.binance.markets import Market

from .decimals import eight, padded, plain
from .orders import Order
from .symbols import SymbolSpec


def spot_order_ack(order: Order, response: str) -> dict[str, Any]:
    """Return the answer to a placement: ACK, RESULT or FULL."""
    ack: dict[str, Any] = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "transactTime": order.update_ms,
    }
    if response == "ACK":
        return ack
    ack |= {
        "price": eight(order.price),
        "origQty": eight(order.qty),
        "executedQty": eight(order.executed),
        "origQuoteOrderQty": eight(order.quote_qty),
        "cummulativeQuoteQty": eight(order.quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        "workingTime": order.working_ms,
        **_spot_extras(order, with_stop=True),
        "selfTradePreventionMode": order.stp,
    }
    if response == "FULL":
        ack["fills"] = [
            {
                "price": eight(fill.price),
                "qty": eight(fill.qty),
                "commission": eight(fill.commission),
                "commissionAsset": fill.commission_asset,
                "tradeId": fill.trade_id,
            }
            for fill in order.fills
        ]
    return ack


def _spot_extras(order: Order, with_stop: bool = False) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if with_stop and order.stop_price:
        extras["stopPrice"] = eight(order.stop_price)
    if with_stop and order.iceberg_qty:
        extras["icebergQty"] = eight(order.iceberg_qty)
    if order.trailing_delta is not None:
        extras["trailingDelta"] = order.trailing_delta
    if order.strategy_id is not None:
        extras["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        extras["strategyType"] = order.strategy_type
    return extras


def spot_order_row(order: Order) -> dict[str, Any]:
    """Return an order as `GET order`, `openOrders` and `allOrders` show it."""
    row = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_id,
        "price": eight(order.price),
        "origQty": eight(order.qty),
        "executedQty": eight(order.executed),
        "cummulativeQuoteQty": eight(order.quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        "stopPrice": eight(order.stop_price),
        **_spot_extras(order),
        "icebergQty": eight(order.iceberg_qty),
        "time": order.time_ms,
        "updateTime": order.update_ms,
        "isWorking": order.working_ms != -1,
        "workingTime": order.working_ms,
        "origQuoteOrderQty": eight(order.quote_qty),
        "selfTradePreventionMode": order.stp,
    }
    if order.expiry_reason is not None:
        row["expiryReason"] = order.expiry_reason
    return row


def spot_cancel_row(order: Order) -> dict[str, Any]:
    """Return the answer to a cancellation."""
    return {
        "symbol": order.symbol,
        "origClientOrderId": order.client_id,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.cancel_id,
        "transactTime": order.update_ms,
        "price": eight(order.price),
        "origQty": eight(order.qty),
        "executedQty": eight(order.executed),
        "origQuoteOrderQty": eight(order.quote_qty),
        "cummulativeQuoteQty": eight(order.quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        **_spot_extras(order, with_stop=True),
        "selfTradePreventionMode": order.stp,
    }


def amended_order(order: Order, orig_client_id: str) -> dict[str, Any]:
    """Return the order in the answer to an amendment that keeps its priority."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "origClientOrderId": orig_client_id,
        "clientOrderId": order.client_id,
        "price": eight(order.price),
        "qty": eight(order.qty),
        "executedQty": eight(order.executed),
        "preventedQty": "0.00000000",
        "quoteOrderQty": eight(order.quote_qty),
        "cumulativeQuoteQty": eight(order.quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        "workingTime": order.working_ms,
        "selfTradePreventionMode": order.stp,
    }


def spot_trade_row(order: Order, number: int) -> dict[str, Any]:
    """Return a fill as `myTrades` shows it."""
    fill = order.fills[number]
    return {
        "symbol": order.symbol,
        "id": fill.trade_id,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "price": eight(fill.price),
        "qty": eight(fill.qty),
        "quoteQty": eight(fill.quote),
        "commission": eight(fill.commission),
        "commissionAsset": fill.commission_asset,
        "time": fill.time_ms,
        "isBuyer": order.is_buy,
        "isMaker": fill.is_maker,
        "isBestMatch": True,
    }


def futures_order_row(order: Order, spec: SymbolSpec | None, is_ack: bool, texts: str) -> dict[str, Any]:
    """Return a UM or CM order; acks lost avgPrice and cumQuote/cumBase in 2026-06.

    Shape: with `texts` "padded" numbers have the symbol's decimals, with "plain" none too many.
    """
    is_cm = order.market is Market.CM
    if texts == "plain" or spec is None:
        price = qty = total = plain
    else:
        ticks, lots = spec.price_decimals, spec.qty_decimals

        def price(value: Any) -> str:
            return padded(value, ticks)

        def qty(value: Any) -> str:
            return padded(value, lots)

        def total(value: Any) -> str:
            return padded(value, 8 if is_cm else 5)

    row: dict[str, Any] = {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_id,
        "price": price(order.price),
        "origQty": qty(order.qty),
        "executedQty": qty(order.executed),
        "timeInForce": order.time_in_force,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": price(order.stop_price),
        "workingType": order.working_type,
        "priceProtect": order.price_protect,
        "origType": order.orig_type,
        "priceMatch": order.price_match,
        "selfTradePreventionMode": order.stp,
        "updateTime": order.update_ms,
    }
    if is_cm:
        row["pair"] = spec.pair if spec else order.symbol.partition("_")[0]
    else:
        row["goodTillDate"] = order.good_till_ms
    if is_ack:
        row["cumQty"] = qty(order.executed)
    else:
        row["avgPrice"] = price(order.average(spec))
        row["cumBase" if is_cm else "cumQuote"] = total(order.quote)
        row["time"] = order.time_ms
    return row


def portfolio_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a futures row as portfolio margin writes it, which leaves some out."""
    left_out = ("stopPrice", "closePosition", "workingType", "priceProtect", "priceMatch")
    return {name: value for name, value in row.items() if name not in left_out}


def futures_trade_row(order: Order, number: int) -> dict[str, Any]:
    """Return a fill as `userTrades` shows it."""
    fill, is_cm = order.fills[number], order.market is Market.CM
    return {
        "symbol": order.symbol,
        "id": fill.trade_id,
        "orderId": order.order_id,
        "side": order.side,
        "price": plain(fill.price),
        "qty": plain(fill.qty),
        "realizedPnl": plain(fill.realized),
        ("baseQty" if is_cm else "quoteQty"): plain(fill.quote),
        "commission": plain(fill.commission),
        "commissionAsset": fill.commission_asset,
        "time": fill.time_ms,
        "positionSide": order.position_side,
        "buyer": order.is_buy,
        "maker": fill.is_maker,
    }
