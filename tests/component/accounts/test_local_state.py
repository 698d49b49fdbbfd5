"""What `/local` tells of accounts whose answers have no path of Binance's, and what a comparison with REST finds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, SandboxConfig
from tests.support.account_judge import SYMBOLS, Trader
from tests.support.account_lab import AccountLab, account_lab
from tests.support.client import call
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

PM, SPOT, UM, CM = Market.PM, Market.SPOT, Market.UM, Market.CM
NUMBERS = ("executedQty", "origQty", "price")


@asynccontextmanager
async def lab_of(folder: Path) -> AsyncIterator[AccountLab]:
    config = SandboxConfig(
        spot_symbols=4, um_symbols=4, cm_symbols=4, weight_limits={"spot": 60_000, "futures": 60_000}
    )
    async with account_lab(folder, sandbox=config, weight_limit_spot=60_000) as lab:
        yield lab


async def local(lab: AccountLab, what: str = "openOrders") -> dict[str, Any]:
    reply = await call(lab.run.port, "GET", f"/local/pm/{what}", headers=[("X-MBX-APIKEY", API_KEY)])
    assert reply.status == 200, reply.raw
    return reply.json()


async def place(lab: AccountLab, market: Market) -> dict[str, Any]:
    """Place an order that rests, by portfolio margin's path."""
    symbol = SYMBOLS[market][0]
    reply = await lab.signed(
        "POST", f"/papi/v1/{market}/order", symbol=symbol, side="BUY", type="LIMIT", timeInForce="GTC",
        quantity="1" if market is CM else "0.02", price=Trader(lab, market).price(symbol),
    )  # fmt: skip
    assert reply.status == 200, reply.raw
    return reply.json()


def told(state: dict[str, Any]) -> list[tuple[Any, ...]]:
    return sorted(
        (row["symbol"], row["orderId"], row["status"], *(Decimal(row[name]) for name in NUMBERS))
        for row in state["orders"]
    )


def true(lab: AccountLab) -> list[tuple[Any, ...]]:
    account = lab.sandbox.accounts.of(API_KEY).name
    return sorted(
        (one.symbol, one.order_id, one.status, one.executed, one.qty, one.price)
        for market in (UM, CM)
        for one in lab.sandbox.exchange.desk.open_orders(market, account)
    )


async def read_both(lab: AccountLab) -> None:
    for market in (UM, CM):
        reply = await lab.signed("GET", f"/papi/v1/{market}/openOrders")
        assert reply.status == 200, reply.raw


async def until_live(lab: AccountLab, *, reads: bool) -> dict[str, Any]:
    end = time.monotonic() + 20.0
    while (state := await local(lab))["state"] != "live":
        assert time.monotonic() < end, state
        if reads:
            await read_both(lab)
        await asyncio.sleep(0.5)
    return state


@pytest.mark.parametrize("mode", ["key", "secret"])
async def test_portfolio_margin_tells_the_orders_of_both_its_markets(tmp_path: Path, mode: str) -> None:
    async with lab_of(tmp_path) as lab:
        await lab.add("pm", mode)
        first = {market: await place(lab, market) for market in (UM, CM)}
        await read_both(lab)
        state = await until_live(lab, reads=mode == "key")
        assert told(state) == true(lab)
        assert len(true(lab)) == 2
        exchange = lab.sandbox.exchange
        for _ in range(2):
            for market in (UM, CM):
                made = await place(lab, market)
                await asyncio.sleep(0.1)
                assert told(await local(lab)) == true(lab)
                order = exchange.order(market, API_KEY, made["symbol"], made["orderId"])
                exchange.fill(order, "1" if market is CM else "0.01")
                await asyncio.sleep(0.1)
                assert told(await local(lab)) == true(lab)
            for fault in (lab.sandbox.faults.accounts[UM], lab.sandbox.faults.accounts[CM]):
                fault.drop()
            await wait_until(lambda: lab.gateway.accounts.all[0].phase != "live")
            exchange.expire(exchange.order(UM, API_KEY, first[UM]["symbol"], first[UM]["orderId"]))
            first[UM] = made if market is UM else await place(lab, UM)
            assert told(await until_live(lab, reads=mode == "key")) == true(lab)


async def test_portfolio_margin_is_not_live_before_both_markets_have_been_read(tmp_path: Path) -> None:
    async with lab_of(tmp_path) as lab:
        await lab.add("pm", "key")
        await place(lab, CM)
        end = time.monotonic() + 8.0
        while time.monotonic() < end:
            assert (await lab.signed("GET", "/papi/v1/um/openOrders")).status == 200
            await asyncio.sleep(0.5)
        assert (await local(lab))["state"] != "live"
        await until_live(lab, reads=True)


@pytest.mark.parametrize(("market", "mode"), [(SPOT, "secret"), (UM, "key")], ids=str)
async def test_fill_that_was_never_told_is_found_by_comparing(
    tmp_path: Path, market: Market, mode: str
) -> None:
    async with lab_of(tmp_path) as lab:
        lab.gateway.accounts.options = replace(lab.gateway.accounts.options, reconcile_s=3.0)
        trader = Trader(lab, market)
        symbol = SYMBOLS[market][0]
        first = await lab.place(market, symbol, quantity="0.02", price=trader.price(symbol))
        account = await lab.add(market.value, mode)
        await lab.place(market, symbol, quantity="0.02", price=trader.price(symbol))
        await lab.until_hit(market)
        lab.sandbox.faults.accounts[market].lose_next["TRADE FILLED"] = 1
        lab.sandbox.exchange.fill(lab.sandbox.exchange.order(market, API_KEY, symbol, first["orderId"]))
        end = time.monotonic() + 20.0
        while not account.difference_count:
            await lab.open_orders(market)
            assert time.monotonic() < end
            await asyncio.sleep(0.2)
        assert account.differences[-1][1] == "the end of an order of which no event told"
        assert (await lab.until_hit(market)).body == lab.truth(market)


async def test_young_order_that_rest_does_not_show_is_doubted(tmp_path: Path) -> None:
    async with lab_of(tmp_path) as lab:
        lab.gateway.accounts.options = replace(lab.gateway.accounts.options, reconcile_s=3.0)
        account = await lab.add("spot", "secret")
        await lab.until_hit(SPOT)
        placed = await lab.place(SPOT, "BTCUSDT", quantity="0.02", price=Trader(lab, SPOT).price("BTCUSDT"))
        await lab.until_hit(SPOT)
        lab.sandbox.faults.accounts[SPOT].lose_next["TRADE FILLED"] = 1
        lab.sandbox.exchange.fill(lab.sandbox.exchange.order(SPOT, API_KEY, "BTCUSDT", placed["orderId"]))
        # It may be REST that lags; before a minute is over nobody can tell.
        await wait_until(lambda: account.orders.is_doubted(None), 15)
        assert (account.state()["state"], account.state()["why"]) == ("syncing", "differs from REST")
        reads = lab.sandbox.count("GET", "/api/v3/openOrders")
        for _ in range(30):
            reply = await lab.open_orders(SPOT)
            assert reply.header("X-Resender-Cache") == "miss; differs from REST"
            assert reply.body == lab.truth(SPOT) == b"[]"
        assert lab.sandbox.count("GET", "/api/v3/openOrders") <= reads + 30 + 6
