"""Answers out of memory beside the exchange's own: the same bytes after every kind of order and change."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest

from resender.core.binance.markets import MARKETS, Market
from resender.sandbox import API_KEY, API_SECRET, SandboxConfig, sign
from resender.sandbox.orders import Order
from tests.support.account_lab import OPEN_ORDERS, ORDER, AccountLab, account_lab, is_hit
from tests.support.authority import client_context
from tests.support.client import Reply, call

pytestmark = [pytest.mark.component, pytest.mark.waits]

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
SYMBOL = {SPOT: "BTCUSDT", UM: "BTCUSDT", CM: "BTCUSD_PERP"}
QUANTITY = {SPOT: "0.04", UM: "0.04", CM: "4"}
PART = {SPOT: "0.01", UM: "0.01", CM: "1"}
LIMITS = {"spot": 60_000, "futures": 60_000}
MODES = [(SPOT, "secret"), (UM, "key"), (CM, "key"), (UM, "secret")]
TEXTS = pytest.mark.parametrize("texts", ["padded", "plain"])


class Desk:
    """One market of a lab, and how often its answers came out of memory."""

    def __init__(self, lab: AccountLab, market: Market) -> None:
        self.lab, self.market, self.symbol = lab, market, SYMBOL[market]
        self.hits = self.asked = 0
        self.forwarded: list[str] = []

    def price(self, share: float) -> str:
        """Return a price, as a share of what a buy gets now."""
        spec = self.lab.sandbox.exchange.spec(self.market, self.symbol)
        assert spec is not None
        ticker = self.lab.sandbox.market(self.market).book_ticker(
            self.symbol, self.lab.sandbox.exchange.now()
        )
        return f"{float(ticker.bid) * share:.{spec.price_decimals}f}"

    async def do(self, method: str, path: str, **params: Any) -> Any:
        reply = await self.lab.signed(method, path, **params)
        assert reply.status == 200, reply.raw
        return reply.json()

    async def place(self, share: float = 0.8, **params: Any) -> Order:
        given = {"quantity": QUANTITY[self.market], "price": self.price(share), **params}
        placed = await self.lab.place(self.market, self.symbol, **given)
        return self.order(placed["orderId"])

    def order(self, order_id: int) -> Order:
        return self.lab.sandbox.exchange.order(self.market, API_KEY, self.symbol, order_id)

    async def direct(self, path: str, **params: Any) -> Reply:
        """Ask the exchange itself."""
        setting = next(facts.rest_setting for facts in MARKETS if facts.market is self.market)
        port = int(self.lab.sandbox.urls[setting].rpartition(":")[2])
        stamp = {"recvWindow": 5000, "timestamp": int(time.time() * 1000)}
        query = "&".join(f"{name}={value}" for name, value in {**params, **stamp}.items())
        target = f"{path}?{query}&signature={sign(API_SECRET, query.encode())}"
        return await call(port, "GET", target, headers=[("X-MBX-APIKEY", API_KEY)], context=client_context())

    async def compare(self, path: str, *, must_hit: bool = True, **params: Any) -> Reply:
        """Ask both; they answer the same bytes, and the gateway out of memory, once it has learned how."""
        for _ in range(3):
            reply = await self.lab.signed("GET", path, **params)
            truth = await self.direct(path, **params)
            assert (reply.status, reply.body) == (truth.status, truth.body), reply.header("X-Resender-Cache")
            self.asked += 1
            self.hits += is_hit(reply)
            if is_hit(reply):
                return reply
            self.forwarded.append(f"{path.rpartition('/')[2]}: {reply.header('X-Resender-Cache')}")
        assert not must_hit, (path, params, self.forwarded[-3:])
        return reply

    async def open_orders(self) -> None:
        """Compare the open orders, those of the symbol and all."""
        await self.compare(OPEN_ORDERS[self.market], symbol=self.symbol)
        await self.compare(OPEN_ORDERS[self.market])


@asynccontextmanager
async def desk(
    folder: Path, market: Market, mode: str, texts: Literal["padded", "plain"] = "padded"
) -> AsyncIterator[Desk]:
    """Run an account that is live, with one order that rests."""
    # Nothing is filled that the test does not fill.
    config = SandboxConfig(
        spot_symbols=4, um_symbols=4, cm_symbols=4, weight_limits=LIMITS, futures_texts=texts
    )
    async with account_lab(
        folder, sandbox=config, weight_limit_spot=60_000, weight_limit_futures=60_000
    ) as lab:
        await lab.add(market.value, mode)
        one = Desk(lab, market)
        await one.place(0.7)
        await lab.until_hit(market)
        yield one


@pytest.mark.parametrize(("market", "mode"), MODES, ids=lambda value: str(value))
@TEXTS
async def test_one_order_through_its_life_open_and_ended(
    tmp_path: Path, market: Market, mode: str, texts: Literal["padded", "plain"]
) -> None:
    async with desk(tmp_path, market, mode, texts) as one:
        exchange, path = one.lab.sandbox.exchange, ORDER[market]
        open_order = path.replace("order", "openOrder")
        ends = []
        for number, end in enumerate(("filled", "cancelled", "expired", "filled", "cancelled")):
            order = await one.place(0.8 - number / 100, newClientOrderId=f"mine-{number}")
            await one.open_orders()
            by_name = {"symbol": one.symbol, "origClientOrderId": f"mine-{number}"}
            by_number = {"symbol": one.symbol, "orderId": order.order_id}
            await one.compare(path, **by_number)
            await one.compare(path, **by_name)
            if market is not SPOT:
                await one.compare(open_order, **by_number)
            exchange.fill(order, PART[market])
            await asyncio.sleep(0.05)
            await one.compare(path, **by_number)
            await one.open_orders()
            if end == "filled":
                exchange.fill(order)
            elif end == "expired":
                exchange.expire(order)
            else:
                await one.do("DELETE", path, **by_number)
            await asyncio.sleep(0.05)
            ends.append(await one.compare(path, **by_number))
            await one.open_orders()
            if market is not SPOT:
                gone = await one.compare(open_order, must_hit=False, **by_number)
                assert gone.status == 400
        print(market, mode, texts, f"{one.hits} of {one.asked} hits", one.forwarded)
        assert len({reply.body for reply in ends}) == 5
        assert one.lab.gateway.accounts.all[0].difference_count == 0


@pytest.mark.parametrize(("market", "mode"), MODES[1:], ids=lambda value: str(value))
@TEXTS
async def test_orders_of_futures_changed_one_by_one_and_together(
    tmp_path: Path, market: Market, mode: str, texts: Literal["padded", "plain"]
) -> None:
    async with desk(tmp_path, market, mode, texts) as one:
        path, symbol = ORDER[market], one.symbol
        batch, every = path.replace("order", "batchOrders"), path.replace("order", "allOpenOrders")
        order = await one.place()
        changed = {"symbol": symbol, "orderId": order.order_id, "side": "BUY", "quantity": PART[market]}
        await one.do("PUT", path, **changed, price=one.price(0.75))
        await one.open_orders()
        rows = [
            {"symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
             "quantity": QUANTITY[market], "price": one.price(0.7 + number / 100)}
            for number in range(4)
        ]  # fmt: skip
        rows.append({**rows[0], "quantity": "0"})
        placed = await one.do("POST", batch, batchOrders=quote(json.dumps(rows)))
        assert [("orderId" in row) for row in placed] == [True] * 4 + [False]
        await one.open_orders()
        numbers = [row["orderId"] for row in placed[:2]]
        await one.do("DELETE", batch, symbol=symbol, orderIdList=quote(json.dumps([*numbers, 1])))
        await one.open_orders()
        await one.place(0.7, reduceOnly="false", timeInForce="GTX")
        await one.open_orders()
        await one.do("DELETE", every, symbol=symbol)
        await one.open_orders()
        assert one.lab.truth(market) == b"[]"
        await one.place()
        await one.open_orders()
        countdown = path.replace("order", "countdownCancelAll")
        await one.do("POST", countdown, symbol=symbol, countdownTime=700)
        await one.open_orders()
        await asyncio.sleep(1.2)
        await one.open_orders()
        assert one.lab.truth(market) == b"[]"
        print(market, mode, texts, f"{one.hits} of {one.asked} hits", one.forwarded)
        assert one.lab.gateway.accounts.all[0].difference_count == 0


@pytest.mark.parametrize("mode", ["key", "secret"])
@TEXTS
async def test_conditional_orders_wait_trigger_and_end(
    tmp_path: Path, mode: str, texts: Literal["padded", "plain"]
) -> None:
    async with desk(tmp_path, UM, mode, texts) as one:
        exchange, algo, every = one.lab.sandbox.exchange, "/fapi/v1/algoOrder", "/fapi/v1/openAlgoOrders"
        given = {"algoType": "CONDITIONAL", "symbol": one.symbol, "side": "BUY", "quantity": "0.01"}

        async def place(kind: str, **more: Any) -> int:
            params = {**given, "type": kind, "triggerPrice": one.price(1.5), **more}
            placed = await one.do("POST", algo, **params)
            return int(placed["algoId"])

        first = await place("STOP", price=one.price(0.8), timeInForce="GTC")
        second = await place("STOP_MARKET", clientAlgoId="mine")
        end = time.monotonic() + 15.0
        while not is_hit(await one.compare(every, must_hit=False)):
            assert time.monotonic() < end, one.forwarded[-1]
            await asyncio.sleep(0.3)
        third = await place("STOP", price=one.price(0.7), timeInForce="GTC")
        await one.compare(every)
        await one.compare(every, symbol=one.symbol)
        await one.compare(algo, algoId=third)
        await one.compare(algo, clientAlgoId="mine")
        exchange.trigger(first)  # becomes an order that rests
        await asyncio.sleep(0.2)
        await one.compare(every)
        await one.open_orders()
        await one.compare(algo, algoId=first, must_hit=False)
        exchange.trigger(second)  # one that is filled at once
        await asyncio.sleep(0.3)
        await one.compare(every)
        await one.open_orders()
        await one.do("DELETE", algo, algoId=third)
        await one.compare(every)
        await one.compare(algo, algoId=third, must_hit=False)
        await place("TAKE_PROFIT_MARKET", triggerPrice=one.price(0.5))
        await one.compare(every)
        await one.do("DELETE", "/fapi/v1/algoOpenOrders", symbol=one.symbol)
        await one.compare(every)
        await one.open_orders()
        assert exchange.open_algo_bytes(UM, API_KEY) == b"[]"
        print(mode, texts, f"{one.hits} of {one.asked} hits", one.forwarded)
        assert one.lab.gateway.accounts.all[0].difference_count == 0


@pytest.mark.parametrize("market", [SPOT, CM], ids=str)
async def test_stop_orders_wait_and_are_triggered(tmp_path: Path, market: Market) -> None:
    mode = "secret" if market is SPOT else "key"
    async with desk(tmp_path, market, mode) as one:
        exchange = one.lab.sandbox.exchange
        kind = "STOP_LOSS_LIMIT" if market is SPOT else "STOP"
        for end in ("filled", "cancelled"):
            stop = await one.place(1.45, type=kind, stopPrice=one.price(1.4))
            await one.open_orders()
            await one.compare(ORDER[market], symbol=one.symbol, orderId=stop.order_id)
            if end == "filled":
                exchange.fill(stop, PART[market])  # it is triggered first
                await asyncio.sleep(0.05)
                await one.open_orders()
                exchange.fill(stop)
            else:
                await one.do("DELETE", ORDER[market], symbol=one.symbol, orderId=stop.order_id)
            await asyncio.sleep(0.05)
            await one.compare(ORDER[market], symbol=one.symbol, orderId=stop.order_id)
            await one.open_orders()
        print(market, f"{one.hits} of {one.asked} hits", one.forwarded)
        assert one.lab.gateway.accounts.all[0].difference_count == 0


async def test_order_lists_amendments_and_replacements_of_spot(tmp_path: Path) -> None:
    async with desk(tmp_path, SPOT, "secret") as one:
        exchange, symbol = one.lab.sandbox.exchange, one.symbol
        oco = {
            "symbol": symbol, "side": "SELL", "quantity": "0.02", "aboveType": "LIMIT_MAKER",
            "abovePrice": one.price(1.3), "belowType": "STOP_LOSS_LIMIT", "belowStopPrice": one.price(0.7),
            "belowPrice": one.price(0.69), "belowTimeInForce": "GTC",
        }  # fmt: skip
        working = {
            "symbol": symbol, "workingType": "LIMIT", "workingSide": "BUY", "workingPrice": one.price(0.8),
            "workingQuantity": "0.02", "workingTimeInForce": "GTC", "pendingSide": "SELL",
            "pendingQuantity": "0.02",
        }  # fmt: skip
        pending = {
            "pendingType": "LIMIT", "pendingPrice": one.price(1.3), "pendingTimeInForce": "GTC",
        }  # fmt: skip
        pair = {
            f"pending{name[0].upper()}{name[1:]}": value
            for name, value in oco.items()
            if "ow" in name or "bove" in name
        }

        async def orders_of(path: str, **params: Any) -> list[Order]:
            placed = await one.do("POST", f"/api/v3/orderList/{path}", **params)
            await one.open_orders()
            return [one.order(row["orderId"]) for row in placed["orders"]]

        # An OCO whose limit is filled, one that is cancelled, one that is amended.
        legs = await orders_of("oco", **oco)
        exchange.fill(next(leg for leg in legs if leg.type == "LIMIT_MAKER"))
        await asyncio.sleep(0.05)
        await one.open_orders()
        legs = await orders_of("oco", **oco)
        await one.do("DELETE", "/api/v3/orderList", symbol=symbol, orderListId=legs[0].list_id)
        await one.open_orders()
        legs = await orders_of("oco", **oco)
        await one.do(
            "PUT", "/api/v3/order/amend/keepPriority", symbol=symbol, orderId=legs[0].order_id, newQty="0.01"
        )
        await one.open_orders()
        await one.do("DELETE", "/api/v3/order", symbol=symbol, orderId=legs[1].order_id)
        await one.open_orders()
        # What waits for another order, until that is filled.
        legs = await orders_of("oto", **working, **pending)
        exchange.fill(legs[0])
        await asyncio.sleep(0.05)
        await one.open_orders()
        legs = await orders_of("otoco", **working, **pair)
        exchange.fill(legs[0], "0.01")
        await asyncio.sleep(0.05)
        await one.open_orders()
        exchange.fill(legs[0])
        await asyncio.sleep(0.05)
        await one.open_orders()
        await one.do("DELETE", "/api/v3/openOrders", symbol=symbol)
        await one.open_orders()
        assert one.lab.truth(SPOT) == b"[]"
        # Single orders that are amended and replaced.
        order = await one.place(newClientOrderId="first")
        for number in range(3):
            await one.do(
                "PUT", "/api/v3/order/amend/keepPriority", symbol=symbol, orderId=order.order_id,
                newQty=f"0.0{3 - number}", newClientOrderId=f"amended{number}",
            )  # fmt: skip
            await one.open_orders()
            await one.compare("/api/v3/order", symbol=symbol, origClientOrderId=f"amended{number}")
        new = {
            "symbol": symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.02",
            "price": one.price(0.75), "cancelReplaceMode": "STOP_ON_FAILURE",
        }  # fmt: skip
        replaced = await one.do("POST", "/api/v3/order/cancelReplace", **new, cancelOrderId=order.order_id)
        await one.open_orders()
        await one.compare("/api/v3/order", symbol=symbol, orderId=order.order_id)
        new |= {"cancelReplaceMode": "ALLOW_FAILURE", "cancelOrderId": order.order_id}
        partly = await one.lab.signed("POST", "/api/v3/order/cancelReplace", **new)
        assert partly.status == 409
        await one.open_orders()
        failed = await one.lab.signed(
            "POST", "/api/v3/order/cancelReplace", **{**new, "cancelReplaceMode": "STOP_ON_FAILURE"}
        )
        assert failed.status == 400
        await one.open_orders()
        assert replaced["newOrderResponse"]["orderId"]
        print(f"{one.hits} of {one.asked} hits", one.forwarded)
        assert one.lab.gateway.accounts.all[0].difference_count == 0


async def test_balances_of_spot_through_fills_and_deposits(tmp_path: Path) -> None:
    async with desk(tmp_path, SPOT, "secret") as one:
        exchange, path = one.lab.sandbox.exchange, "/api/v3/account"
        end = time.monotonic() + 15.0
        while not is_hit(await one.lab.signed("GET", path)):
            assert time.monotonic() < end, one.lab.gateway.accounts.all[0].misses
            await asyncio.sleep(0.2)

        async def both() -> None:
            await asyncio.sleep(0.05)
            for zeros in ("true", "false"):
                await one.compare(path, omitZeroBalances=zeros)
            await one.compare(path)

        for number in range(4):
            order = await one.place(0.8)
            await both()
            exchange.fill(order, "0.01")
            await both()
            if number % 2:
                exchange.fill(order)
            else:
                await one.do("DELETE", "/api/v3/order", symbol=one.symbol, orderId=order.order_id)
            await both()
            exchange.deposit(API_KEY, "USDT", "100.5")
            await both()
            exchange.lock_outside(API_KEY, "USDT", "10")
            await both()
        exchange.deposit(API_KEY, "ETH", "-10000")  # nothing of it is left
        await both()
        exchange.deposit(API_KEY, "ETH", "3")
        await both()
        exchange.deposit(API_KEY, "DOGE", "3")  # where a new one is listed only REST knows
        await asyncio.sleep(0.05)
        await one.compare(path)
        await both()
        print(f"{one.hits} of {one.asked} hits", one.forwarded)
        assert one.hits > 0.9 * one.asked
