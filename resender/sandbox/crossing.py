"""When an order meets the prices: whether it could fill, whether its stop has been reached. Pure."""

from __future__ import annotations

from decimal import Decimal

from resender.core.binance.markets import Market

from .market import BookTicker
from .orders import SPOT_STOPS, Order


def is_stop(order: Order) -> bool:
    """Tell whether an order waits for a price before it goes onto the book."""
    if order.market is Market.SPOT:
        return order.type in SPOT_STOPS
    return order.type not in ("LIMIT", "MARKET")


def taken(order: Order, ticker: BookTicker) -> Decimal:
    """Return the price an order would take now."""
    return Decimal(ticker.ask if order.is_buy else ticker.bid)


def crosses(order: Order, ticker: BookTicker) -> bool:
    """Tell whether an order with a price could fill now."""
    price = taken(order, ticker)
    return bool(order.price) and (price <= order.price if order.is_buy else price >= order.price)


def is_triggered(order: Order, ticker: BookTicker) -> bool:
    """Tell whether the price a stop waits for has been reached.

    Shape: a STOP buys above and sells below, a TAKE_PROFIT the other way round. Trailing ones
        wait for their stop price too and do not trail.
    """
    return reached(order.type, order.is_buy, order.stop_price, ticker)


def reached(kind: str, is_buy: bool, stop_price: Decimal, ticker: BookTicker) -> bool:
    """Tell whether a conditional order's price has been reached."""
    if not stop_price:
        return False
    price = Decimal(ticker.ask if is_buy else ticker.bid)
    waits_above = is_buy is not kind.startswith("TAKE_PROFIT")
    return price >= stop_price if waits_above else price <= stop_price


def matched_price(order: Order, ticker: BookTicker) -> Decimal:
    """Return the price a priceMatch stands for: the own side of the book or the other one."""
    is_own = order.price_match.startswith("QUEUE")
    return Decimal(ticker.bid if order.is_buy is is_own else ticker.ask)
