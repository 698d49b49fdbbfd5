"""Open orders out of memory, end to end over TLS: exact bytes, no weight, as new as the client's own writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from tests.support.account_lab import AccountLab, account_lab, is_hit
from tests.support.client import Reply

pytestmark = [pytest.mark.component, pytest.mark.waits]

MODES = {Market.SPOT: "secret", Market.UM: "key", Market.CM: "key"}
SYMBOLS = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


async def far_price(lab: AccountLab, market: Market, symbol: str) -> str:
    """Return a price at which a buy rests."""
    spec = lab.sandbox.exchange.spec(market, symbol)
    assert spec is not None
    ticker = lab.sandbox.market(market).book_ticker(symbol, lab.sandbox.exchange.now())
    return f"{float(ticker.bid) * 0.8:.{spec.price_decimals}f}"


@pytest.mark.parametrize("market", MODES, ids=str)
async def test_orders_placed_and_cancelled_are_seen_at_once_and_exactly(
    tmp_path: Path, market: Market
) -> None:
    symbol = SYMBOLS[market]
    async with account_lab(tmp_path) as lab:
        await lab.add(market.value, MODES[market])
        price = await far_price(lab, market, symbol)
        quantity = "1" if market is Market.CM else "0.01"
        await lab.place(market, symbol, quantity=quantity, price=price)
        await lab.until_hit(market)
        hits = 0
        made: list[int] = []
        for number in range(12):
            if number % 3 == 2:
                gone = made.pop(0)
                reply = await lab.signed(
                    "DELETE", {"spot": "/api/v3/order", "um": "/fapi/v1/order", "cm": "/dapi/v1/order"}[market.value],
                    symbol=symbol, orderId=gone,
                )  # fmt: skip
                assert reply.status == 200, reply.raw
            else:
                made.append((await lab.place(market, symbol, quantity=quantity, price=price))["orderId"])
            reply: Reply = await lab.open_orders(market)
            assert reply.body == lab.truth(market)
            hits += is_hit(reply)
        print(lab.gateway.accounts.all[0].misses)
        assert hits >= 11
        await asyncio.sleep(0)
