"""Read your own writes: after the answer to a change no answer is older, however late or lost the events are.

Every kind of change, by REST and over the WebSocket API; nothing else changes the orders meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from resender.api_keys import digest_of, hint_of
from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, READ_KEY, READ_SECRET, Fault, SandboxConfig
from resender.store import Repository
from tests.support.account_judge import Trader
from tests.support.account_lab import ORDER, AccountLab, account_lab, is_hit
from tests.support.client import Reply
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
SYMBOL = {SPOT: "BTCUSDT", UM: "BTCUSDT", CM: "BTCUSD_PERP"}
QUANTITY = {SPOT: "0.04", UM: "0.04", CM: "4"}
LESS = {SPOT: "0.02", UM: "0.02", CM: "2"}
MODE = {SPOT: "secret", UM: "key", CM: "key"}
ALGO_EVERY = "/fapi/v1/openAlgoOrders"
LIMITS = {"spot": 60_000, "futures": 60_000}
GENEROUS = {"weight_limit_spot": 60_000, "weight_limit_futures": 60_000}
MARKETS = pytest.mark.parametrize("market", [SPOT, UM, CM], ids=str)


class Desk:
    """A client that writes, and what is looked at after each write."""

    def __init__(self, lab: AccountLab, market: Market) -> None:
        self.lab, self.market, self.symbol = lab, market, SYMBOL[market]
        self.hits = self.asked = 0
        self.reader = (lab.key, lab.secret)
        self.mine: list[int] = []

    @property
    def account(self) -> Any:
        return self.lab.gateway.accounts.all[0]

    @property
    def faults(self) -> Any:
        return self.lab.sandbox.faults.accounts[self.market]

    def price(self) -> str:
        return Trader(self.lab, self.market, len(self.mine)).price(self.symbol)

    def limit(self, **more: Any) -> dict[str, Any]:
        return {"symbol": self.symbol, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
                "quantity": QUANTITY[self.market], "price": self.price(), **more}  # fmt: skip

    async def send(self, method: str, path: str, **params: Any) -> Reply:
        return await self.lab.signed(method, path, **params)

    async def do(self, method: str, path: str, **params: Any) -> Any:
        reply = await self.send(method, path, **params)
        assert reply.status == 200, (path, reply.raw)
        return reply.json()

    async def place(self) -> int:
        order_id: int = (await self.do("POST", ORDER[self.market], **self.limit()))["orderId"]
        self.mine.append(order_id)
        return order_id

    async def ask(self, path: str = "", **params: Any) -> bool:
        """Ask once; a hit must be what the exchange would say now."""
        key, secret = self.reader
        where = path or ORDER[self.market].replace("order", "openOrders")
        reply = await self.lab.signed("GET", where, key=key, secret=secret, **params)
        assert reply.status == 200, reply.raw
        symbol = params.get("symbol")
        if where == ALGO_EVERY:
            truth = self.lab.sandbox.exchange.open_algo_bytes(UM, self.lab.key, symbol)
        else:
            truth = self.lab.truth(self.market, symbol)
        self.asked += 1
        self.hits += is_hit(reply)
        assert not is_hit(reply) or reply.body == truth, (where, params, reply.body, truth)
        return is_hit(reply)

    async def look(self, seconds: float) -> None:
        """Ask again and again, of all and of the symbol; conditional orders too."""
        end = time.monotonic() + seconds
        while True:
            await self.ask()
            await self.ask(symbol=self.symbol)
            if self.market is UM:
                await self.ask(ALGO_EVERY)
            if time.monotonic() >= end:
                return
            await asyncio.sleep(0.05)

    async def until_hit(self, path: str = "") -> None:
        end = time.monotonic() + 20.0
        while not await self.ask(path):
            assert time.monotonic() < end, self.account.state()
            await asyncio.sleep(0.2)


@asynccontextmanager
async def desk(folder: Path, market: Market) -> AsyncIterator[Desk]:
    """Run an account that is live, with one order that rests."""
    config = SandboxConfig(
        spot_symbols=4, um_symbols=4, cm_symbols=4, weight_limits=LIMITS, partial_fills=False
    )
    async with account_lab(folder, sandbox=config, **GENEROUS) as lab:
        await lab.add(market.value, MODE[market])
        one = Desk(lab, market)
        await one.place()
        await one.until_hit()
        if market is UM:
            await one.until_hit(ALGO_EVERY)
        yield one


# --- every kind of change --------------------------------------------------------------------------


async def _place(one: Desk) -> None:
    await one.place()


async def _cancel(one: Desk) -> None:
    await one.do("DELETE", ORDER[one.market], symbol=one.symbol, orderId=one.mine.pop())


async def _amend(one: Desk) -> None:
    order_id = one.mine[-1]
    if one.market is SPOT:
        path = "/api/v3/order/amend/keepPriority"
        await one.do("PUT", path, symbol=one.symbol, orderId=order_id, newQty=LESS[SPOT])
    else:
        await one.do(
            "PUT", ORDER[one.market], symbol=one.symbol, orderId=order_id, side="BUY",
            quantity=LESS[one.market], price=one.price(),
        )  # fmt: skip


async def _cancel_replace(one: Desk) -> None:
    told = await one.do(
        "POST", "/api/v3/order/cancelReplace", **one.limit(), cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrderId=one.mine.pop(),
    )  # fmt: skip
    one.mine.append(told["newOrderResponse"]["orderId"])


async def _order_list(one: Desk) -> None:
    price = float(one.price())
    await one.do(
        "POST", "/api/v3/orderList/oco", symbol=one.symbol, side="SELL", quantity="0.02", aboveType="LIMIT_MAKER",
        abovePrice=f"{price * 2:.2f}", belowType="STOP_LOSS_LIMIT", belowStopPrice=f"{price * 0.5:.2f}",
        belowPrice=f"{price * 0.49:.2f}", belowTimeInForce="GTC",
    )  # fmt: skip


async def _cancel_list(one: Desk) -> None:
    rows = orjson.loads(one.lab.truth(SPOT))
    number = next(row["orderListId"] for row in rows if row["orderListId"] != -1)
    await one.do("DELETE", "/api/v3/orderList", symbol=one.symbol, orderListId=number)


async def _cancel_all(one: Desk) -> None:
    path = "/api/v3/openOrders" if one.market is SPOT else _of(one, "allOpenOrders")
    await one.do("DELETE", path, symbol=one.symbol)
    assert one.lab.truth(one.market) == b"[]"
    one.mine.clear()


def _of(one: Desk, name: str) -> str:
    return ORDER[one.market].replace("order", name)


async def _batch(one: Desk) -> None:
    rows = [one.limit(), one.limit(), one.limit(quantity="0")]
    told = await one.do("POST", _of(one, "batchOrders"), batchOrders=quote(json.dumps(rows)))
    one.mine += [row["orderId"] for row in told if "orderId" in row]


async def _cancel_batch(one: Desk) -> None:
    gone = [one.mine.pop(), one.mine.pop(), 1]
    await one.do("DELETE", _of(one, "batchOrders"), symbol=one.symbol, orderIdList=quote(json.dumps(gone)))


async def _countdown(one: Desk) -> None:
    await one.do("POST", _of(one, "countdownCancelAll"), symbol=one.symbol, countdownTime=60_000)


async def _place_algo(one: Desk) -> None:
    trigger = f"{float(one.price()) * 2:.1f}"
    await one.do(
        "POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", symbol=one.symbol, side="BUY", type="STOP_MARKET",
        quantity="0.01", triggerPrice=trigger,
    )  # fmt: skip


async def _cancel_algo(one: Desk) -> None:
    rows = orjson.loads(one.lab.sandbox.exchange.open_algo_bytes(UM, API_KEY, None))
    await one.do("DELETE", "/fapi/v1/algoOrder", algoId=rows[0]["algoId"])


async def _cancel_all_algo(one: Desk) -> None:
    await one.do("DELETE", "/fapi/v1/algoOpenOrders", symbol=one.symbol)


Write = Callable[[Desk], Awaitable[None]]
WRITES: dict[Market, list[Write]] = {
    SPOT: [_place, _amend, _cancel_replace, _order_list, _cancel_list, _cancel, _place, _order_list, _cancel_all],
    UM: [_place, _amend, _batch, _cancel_batch, _countdown, _place_algo, _place_algo, _cancel_algo, _cancel,
         _cancel_all_algo, _place, _cancel_all],
    CM: [_place, _amend, _batch, _cancel_batch, _countdown, _cancel, _place, _cancel_all],
}  # fmt: skip


@MARKETS
@pytest.mark.parametrize("delay_ms", [250, 1000])
async def test_no_list_is_older_than_the_answer_to_a_change(
    tmp_path: Path, market: Market, delay_ms: int
) -> None:
    async with desk(tmp_path, market) as one:
        one.faults.delay_ms = delay_ms
        for write in WRITES[market]:
            hits = one.hits
            await write(one)
            await one.look(delay_ms / 1000 + 0.4)
            assert one.hits > hits, f"{write.__name__}: {one.account.misses}"
        assert one.account.difference_count == 0, one.account.differences
        if delay_ms < 300:
            assert one.hits > 0.7 * one.asked, one.account.misses


@MARKETS
async def test_what_one_key_changes_another_of_the_same_account_never_reads_older(
    tmp_path: Path, market: Market
) -> None:
    async with desk(tmp_path, market) as one:
        if MODE[market] == "key":
            number = one.account.spec.id

            def link(repository: Repository) -> None:
                repository.account_link(number, digest_of(READ_KEY), hint_of(READ_KEY))

            await one.lab.gateway.store.account_change(link)
        one.reader = (READ_KEY, READ_SECRET)
        await one.until_hit()
        one.faults.delay_ms = 250
        for write in WRITES[market][:6]:
            await write(one)
            await one.look(0.6)
        assert one.hits > 0.6 * one.asked, one.account.misses


@pytest.mark.parametrize(
    ("market", "write", "event"),
    [
        (SPOT, _place, "executionReport"), (SPOT, _cancel, "executionReport"), (SPOT, _amend, "executionReport"),
        (SPOT, _order_list, "executionReport"), (UM, _place, "ORDER_TRADE_UPDATE"), (UM, _amend, "ORDER_TRADE_UPDATE"),
        (UM, _cancel_all, "ORDER_TRADE_UPDATE"), (UM, _place_algo, "ALGO_UPDATE"), (CM, _cancel, "ORDER_TRADE_UPDATE"),
    ],
)  # fmt: skip
async def test_event_that_is_lost_has_the_stream_replaced(
    tmp_path: Path, market: Market, write: Write, event: str
) -> None:
    async with desk(tmp_path, market) as one:
        await one.place()
        await one.look(0.3)
        listening = streams(one)
        one.faults.lose_next[event] = 10
        await write(one)
        hits = one.hits
        path = ALGO_EVERY if write is _place_algo else ""
        assert not await one.ask(path)
        await one.look(2.0)
        await wait_until(lambda: streams(one) > listening, 5)
        one.faults.lose_next.clear()
        assert one.account.difference_count >= 1
        await one.until_hit(path)
        assert one.hits > hits
        await one.look(0.3)


def streams(one: Desk) -> int:
    """Count the streams that were opened."""
    if one.market is SPOT:
        return one.lab.sandbox.ws_apis[SPOT].accepted
    return one.lab.sandbox.count("POST", _of(one, "listenKey"))


# --- outcomes nobody knows -------------------------------------------------------------------------

UNKNOWN = {
    "500": Fault("status", status=500, body=b'{"code":-1000,"msg":"x"}', after=True),
    "502": Fault("status", status=502, body=b"<html>Bad Gateway</html>", after=True),
    "503": Fault("status", status=503, body=b"", after=True),
    "-1007": Fault("status", status=504, body=b'{"code":-1007,"msg":"x"}', after=True),
    "-1006": Fault("status", status=400, body=b'{"code":-1006,"msg":"x"}', after=True),
    "reset": Fault("reset_before", after=True),
    "half": Fault("reset_mid_body"),
}


@MARKETS
@pytest.mark.parametrize("how", UNKNOWN)
async def test_outcome_that_is_unknown_ends_answers_until_new_snapshots(
    tmp_path: Path, market: Market, how: str
) -> None:
    async with desk(tmp_path, market) as one:
        fault = UNKNOWN[how]
        fault = Fault(
            fault.kind, match=ORDER[market] + "$", method="POST", after=fault.after, status=fault.status,
            body=fault.body,
        )  # fmt: skip
        one.lab.sandbox.faults.add(fault)
        before = one.lab.truth(market)
        one.faults.delay_ms = 250  # the events come late besides
        begun = time.monotonic()
        reply = await one.send("POST", ORDER[market], **one.limit())
        assert reply.status != 200 or not reply.complete
        assert fault.hits == 1
        assert one.lab.truth(market) != before, "it was carried out all the same"
        assert not await one.ask()
        await one.look(2.0)
        await one.until_hit()
        assert time.monotonic() - begun > 4.9, "the second snapshot comes so much later"


async def test_refusal_that_is_certain_ends_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path, UM) as one:
        for params in (one.limit(quantity="0"), one.limit(symbol="NOPE")):
            assert (await one.send("POST", ORDER[UM], **params)).status == 400
            assert await one.ask()
        path = ORDER[UM]
        assert (await one.send("DELETE", path, symbol=one.symbol, orderId=1)).status == 400
        assert await one.ask()


# --- money -----------------------------------------------------------------------------------------


async def test_balances_after_a_transfer_are_not_older_than_its_answer(tmp_path: Path) -> None:
    async with desk(tmp_path, SPOT) as one:
        path = "/api/v3/account"

        async def ask() -> Reply:
            return await one.lab.signed("GET", path, omitZeroBalances="true")

        end = time.monotonic() + 15.0
        while not is_hit(await ask()):
            assert time.monotonic() < end, one.account.misses
            await asyncio.sleep(0.2)
        # The exchange moves the money; its event is late.
        one.faults.delay_ms = 1000
        done = Fault("status", match="/sapi/v1/asset/transfer", status=200, body=b'{"tranId":1}')
        one.lab.sandbox.faults.add(done)
        one.lab.sandbox.exchange.deposit(API_KEY, "USDT", "-100")
        assert (await one.send("POST", "/sapi/v1/asset/transfer", type="MAIN_UMFUTURE")).status == 200
        assert done.hits == 1
        assert not is_hit(await ask())
