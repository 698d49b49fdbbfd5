"""Orders over the WebSocket API, and listenKeys: what clients do there as accounts learn of it, and who is believed.

A session belongs to who logged on; a listenKey belongs to every program of the account.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from resender.api_keys import Signer, digest_of
from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, Fault, sign
from tests.component.accounts.test_own_writes import SYMBOL, desk
from tests.component.accounts.test_security import ed25519
from tests.support.account_lab import OPEN_ORDERS, AccountLab, is_hit
from tests.support.client import call
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

SPOT, UM = Market.SPOT, Market.UM
WS_API = {SPOT: "/ws-api/v3", UM: "/ws-fapi/v1"}
KEY_PATH = {UM: "/fapi/v1/listenKey", Market.CM: "/dapi/v1/listenKey"}


class Session:
    """A client's connection to the WebSocket API."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.number = 0

    async def send(self, method: str, params: dict[str, Any], number: Any = None) -> Any:
        self.number += 1
        number = self.number if number is None else number
        request = {"id": number, "method": method, "params": params}
        await self.socket.send_str(orjson.dumps(request).decode())
        return number

    async def answer(self, number: Any) -> dict[str, Any]:
        while True:
            told = orjson.loads((await self.socket.receive(timeout=5)).data)
            if "status" in told and told["id"] == number:
                return dict(told)

    async def ask(self, method: str, params: dict[str, Any], status: int = 200) -> dict[str, Any]:
        told = await self.answer(await self.send(method, params))
        assert told["status"] == status, told
        return told


@asynccontextmanager
async def session(lab: AccountLab, market: Market) -> AsyncIterator[Session]:
    async with aiohttp.ClientSession() as client:
        async with client.ws_connect(lab.run.url + WS_API[market]) as socket:
            yield Session(socket)


def signed(key: str = API_KEY, secret: str = API_SECRET, **params: Any) -> dict[str, Any]:
    given = {"apiKey": key, "timestamp": int(time.time() * 1000), **params}
    text = "&".join(f"{name}={given[name]}" for name in sorted(given))
    signature = Signer.parse(secret).sign(text.encode()) if "-----" in secret else sign(secret, text.encode())
    return {**given, "signature": signature}


# --- read your own writes --------------------------------------------------------------------------


@pytest.mark.parametrize("market", [SPOT, UM], ids=str)
@pytest.mark.parametrize("delay_ms", [250, 1000])
async def test_no_list_is_older_than_the_answer_to_an_order_of_the_websocket_api(
    tmp_path: Path, market: Market, delay_ms: int
) -> None:
    async with desk(tmp_path, market) as one, session(one.lab, market) as api:
        one.faults.delay_ms = delay_ms

        async def do(method: str, **params: Any) -> Any:
            told = await api.ask(method, signed(symbol=one.symbol, **params))
            await one.look(delay_ms / 1000 + 0.4)
            return told["result"]

        def limit() -> dict[str, Any]:
            return {name: value for name, value in one.limit().items() if name != "symbol"}

        first = (await do("order.place", **limit()))["orderId"]
        if market is SPOT:
            await do("order.amend.keepPriority", orderId=first, newQty="0.02")
            told = await do(
                "order.cancelReplace", **limit(), cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=first
            )
            first = told["newOrderResponse"]["orderId"]
        else:
            await do("order.modify", orderId=first, side="BUY", quantity="0.02", price=one.price())
            trigger = f"{float(one.price()) * 2:.1f}"
            told = await do(
                "algoOrder.place", algoType="CONDITIONAL", side="BUY", type="STOP_MARKET", quantity="0.01",
                triggerPrice=trigger,
            )  # fmt: skip
            await do("algoOrder.cancel", algoId=told["algoId"])
        await do("order.cancel", orderId=first)
        if market is SPOT:
            await do("openOrders.cancelAll")
            assert one.lab.truth(SPOT) == b"[]"
        # Many at once, of one number: each has its answer before its list is asked for.
        for _ in range(3):
            await api.send("order.place", signed(symbol=one.symbol, **limit()), number="same")
        for _ in range(3):
            assert (await api.answer("same"))["status"] == 200
            await one.ask()
        await one.look(delay_ms / 1000 + 0.4)
        assert one.hits > 10, one.account.misses
        assert one.account.difference_count == 0, one.account.differences


@pytest.mark.parametrize("market", [SPOT, UM], ids=str)
async def test_order_of_the_websocket_api_that_is_cut_off_ends_answers(
    tmp_path: Path, market: Market
) -> None:
    async with desk(tmp_path, market) as one, session(one.lab, market) as api:
        one.faults.delay_ms = 250
        one.lab.sandbox.ws_apis[market].faults.reset_after = "order.place"
        before, begun = one.lab.truth(market), time.monotonic()
        await api.send("order.place", signed(**one.limit()))
        await wait_until(lambda: one.lab.truth(market) != before)
        message = await api.socket.receive(timeout=5)
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        assert not await one.ask()
        await one.look(2.0)
        await one.until_hit()
        assert time.monotonic() - begun > 4.9


# --- whose session ---------------------------------------------------------------------------------


async def test_session_of_one_key_proves_nothing_about_another(tmp_path: Path) -> None:
    async with desk(tmp_path, SPOT) as one:
        lab, callers = one.lab, one.lab.gateway.accounts.callers
        secret, public = ed25519()
        lab.sandbox.accounts.add("ThiefsKey", public_key=public)
        victim = digest_of(API_KEY)
        callers.refused(victim)  # as if nobody had shown it from this address
        order = one.limit()
        async with session(lab, SPOT) as api:
            await api.ask("session.logon", signed("ThiefsKey", secret))
            # A log-on that Binance refuses, then orders that are the thief's own.
            refused = await api.ask("session.logon", {**signed(), "signature": "00" * 32}, status=400)
            assert refused["error"]["code"] == -1022
            await api.ask("order.place", {**order, "timestamp": int(time.time() * 1000)})
            number = await api.send("session.logon", {**signed(), "signature": "00" * 32})
            placed = await api.send("order.place", {**order, "timestamp": int(time.time() * 1000)})
            await api.answer(number)
            assert (await api.answer(placed))["status"] == 200
            # Not even good orders of the victim's own: it shows by REST.
            await api.ask("order.place", signed(**order))
        assert not callers.addresses(victim, time.monotonic())
        reply = await call(
            lab.run.port, "GET", f"{OPEN_ORDERS[SPOT]}?timestamp={int(time.time() * 1000)}&signature={'ab' * 32}",
            headers=(("X-MBX-APIKEY", API_KEY),),
        )  # fmt: skip
        assert not is_hit(reply)
        assert reply.status == 400
        reply = await call(
            lab.run.port, "GET", "/local/spot/openOrders", headers=(("X-MBX-APIKEY", API_KEY),)
        )
        assert reply.status == 403
        # The thief's orders are not the victim's: nothing of them is waited for.
        await asyncio.sleep(2.5)
        assert one.account.difference_count == 0, one.account.differences


# --- listenKeys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", [UM, Market.CM], ids=str)
@pytest.mark.parametrize("how", ["answered", "cut off", "slow"])
async def test_client_that_deletes_the_listen_key_ends_answers_at_once(
    tmp_path: Path, market: Market, how: str
) -> None:
    async with desk(tmp_path, market) as one:
        path, sandbox = KEY_PATH[market], one.lab.sandbox
        header = (("X-MBX-APIKEY", API_KEY),)
        if how == "cut off":
            sandbox.faults.add(Fault("reset_before", match=path, method="DELETE", after=True))
        elif how == "slow":
            sandbox.faults.add(Fault("delay", match=path, method="DELETE", after=True, seconds=1.0))
        opened = sandbox.count("POST", path)
        deleting = asyncio.create_task(call(one.lab.run.port, "DELETE", path, headers=header))
        await wait_until(lambda: sandbox.count("DELETE", path) == 1)
        # The stream says nothing any more, whatever happens to the orders.
        order = sandbox.exchange.order(market, API_KEY, SYMBOL[market], one.mine[0])
        sandbox.exchange.expire(order)
        for _ in range(10):
            assert not await one.ask()
            await asyncio.sleep(0.1)
        reply = await deleting
        assert (reply.status == 200) is (how != "cut off")
        await wait_until(lambda: sandbox.count("POST", path) > opened, 10)
        await one.until_hit()
        assert sandbox.count("DELETE", path) == 1, "the client's own"


async def test_listen_key_deleted_over_the_websocket_api_ends_answers_too(tmp_path: Path) -> None:
    async with desk(tmp_path, UM) as one, session(one.lab, UM) as api:
        opened = one.lab.sandbox.count("POST", KEY_PATH[UM])
        await api.ask("userDataStream.stop", {"apiKey": API_KEY})
        assert not await one.ask()
        await wait_until(lambda: one.lab.sandbox.count("POST", KEY_PATH[UM]) > opened, 10)
        await one.until_hit()


async def test_gateway_itself_deletes_no_listen_key_in_its_whole_life(tmp_path: Path) -> None:
    calls: list[tuple[str, str]] = []
    async with desk(tmp_path, UM) as one:
        lab, sandbox = one.lab, one.lab.sandbox
        second = await lab.add("cm", "secret", "two")
        await wait_until(lambda: second.proof.is_open, 20)
        for fault in (sandbox.faults.accounts[UM], sandbox.faults.accounts[Market.CM]):
            fault.drop()
            await asyncio.sleep(1.5)
            fault.expire_keys()
            await asyncio.sleep(1.5)
        # Removed, and then the whole gateway is stopped.
        number = second.spec.id
        await lab.gateway.store.account_change(lambda repository: repository.account_remove(number))
        assert lab.gateway.accounts.find(number) is None
        await one.until_hit()
        kept = sandbox
    calls = [(each.method, each.path) for each in kept.calls if each.path.endswith("/listenKey")]
    assert sum(method == "POST" for method, _ in calls) >= 4
    assert not [each for each in calls if each[0] == "DELETE"]
    assert not [method for method, _ in kept.ws_apis[SPOT].requests if method == "userDataStream.stop"]
