"""How each market writes an order.

Pure: values in, JSON data out.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from resender.core.binance.markets import Market

from .orders import Order
from .symbols import SymbolSpec


def eight(text: str) -> str:
    """Write a number with eight decimals, as spot does."""
    return f"{Decimal(text):.8f}"


def spot_order_ack(order: Order, response: str) -> dict[str, Any]:
    """Return the answer to a placement: ACK, RESULT or FULL."""
    ack: dict[str, Any] = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_id,
        "transactTime": order.time_ms,
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
        "workingTime": order.time_ms,
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }
    if response == "FULL":
        fills = [
            {
                "price": eight(order.avg_price),
                "qty": eight(order.executed),
                "commission": "0.00000000",
                "commissionAsset": "BNB",
                "tradeId": order.trade_id,
            }
        ]
        ack["fills"] = fills if order.status == "FILLED" else []
    return ack


def spot_order_row(order: Order) -> dict[str, Any]:
    """Return an order as `GET order`, `openOrders` and `allOrders` show it."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
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
        "icebergQty": "0.00000000",
        "time": order.time_ms,
        "updateTime": order.update_ms,
        "isWorking": True,
        "workingTime": order.time_ms,
        "origQuoteOrderQty": eight(order.quote_qty),
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }


def spot_cancel_row(order: Order, now_ms: int) -> dict[str, Any]:
    """Return the answer to a cancellation."""
    row = spot_order_row(order)
    for name in ("stopPrice", "icebergQty", "time", "updateTime", "isWorking", "workingTime"):
        del row[name]
    return {
        "symbol": row.pop("symbol"),
        "origClientOrderId": row.pop("clientOrderId"),
        "orderId": row.pop("orderId"),
        "orderListId": row.pop("orderListId"),
        "clientOrderId": f"cancel{order.order_id}",
        "transactTime": now_ms,
        **row,
    }


def futures_order_row(order: Order, spec: SymbolSpec | None, is_ack: bool) -> dict[str, Any]:
    """Return a UM or CM order; acks lost avgPrice and cumQuote/cumBase in 2026-06."""
    is_cm = order.market is Market.CM
    row: dict[str, Any] = {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_id,
        "price": order.price,
        "origQty": order.qty,
        "executedQty": order.executed,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": order.stop_price,
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": order.type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "updateTime": order.update_ms,
    }
    if is_cm:
        row["pair"] = spec.pair if spec else order.symbol.partition("_")[0]
    else:
        row["goodTillDate"] = 0
    if is_ack:
        row["cumQty"] = order.executed
    else:
        row["avgPrice"] = order.avg_price
        row["cumBase" if is_cm else "cumQuote"] = order.quote
        row["time"] = order.time_ms
    return row
