"""Streams a client opens: spot by a signature of its own, futures by the key it sends anyway; keys that are refused."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from resender.account import KeyRefused, check_key
from resender.api_keys import Signer, digest_of
from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, READ_KEY, READ_SECRET, Sandbox, SandboxConfig
from tests.support.account_judge import PROOF_MS, Trader
from tests.support.account_lab import AccountLab, account_lab, is_hit
from tests.support.client import Reply, call
from tests.support.mute_link import MuteLink
from tests.support.relays import Distance
from tests.support.running import make_config, running, wait_until

pytestmark = [pytest.mark.component, pytest.mark.waits]

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
NEEDED = "miss; subscription needed"
GENEROUS = {"weight_limit_spot": 60_000, "stream_silence_s": 4}


def exchange() -> SandboxConfig:
    return SandboxConfig(
        spot_symbols=4, um_symbols=4, cm_symbols=4, weight_limits={"spot": 60_000, "futures": 60_000}
    )


async def subscribe(lab: AccountLab, secret: str = API_SECRET, key: str = API_KEY) -> Reply:
    """Do what README tells a client to do."""
    params = {"apiKey": key, "timestamp": int(time.time() * 1000)}
    text = urlencode(sorted(params.items()))
    params["signature"] = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return await call(lab.run.port, "POST", "/local/spot/userDataStream", body=urlencode(params).encode())


async def add_signed(lab: AccountLab) -> None:
    await lab.add("spot", "signed", digest=digest_of(API_KEY))


async def test_signature_of_a_client_opens_the_stream(tmp_path: Path) -> None:
    async with account_lab(tmp_path, sandbox=exchange(), **GENEROUS) as lab:
        await add_signed(lab)
        # Binance takes it, so the caller is believed from now on.
        assert not is_hit(await lab.open_orders(SPOT))
        assert (await lab.open_orders(SPOT)).header("X-Resender-Cache") == NEEDED
        assert (await subscribe(lab, secret="wrong")).status != 200
        assert (await lab.open_orders(SPOT)).header("X-Resender-Cache") == NEEDED
        reply = await subscribe(lab)
        assert (reply.status, reply.json()["subscribed"]) == (200, True)
        async with Trader(lab, SPOT) as trader:
            await trader.until_hits(20)
            trader.check()


@pytest.mark.parametrize("how", ["drop", "terminate", "silent end", "mute"])
async def test_lost_subscription_is_asked_for_and_signed_again(tmp_path: Path, how: str) -> None:
    async with account_lab(tmp_path, sandbox=exchange(), **GENEROUS) as lab:
        await add_signed(lab)
        assert (await subscribe(lab)).status == 200
        fault = lab.sandbox.faults.accounts[SPOT]
        # Behind the back of the bot nothing happens that a silent end would hide.
        async with Trader(lab, SPOT, is_outside=how in ("drop", "terminate")) as trader:
            await trader.until_hits()
            if how == "drop":
                assert fault.drop()
            elif how == "mute":
                fault.mute = True
            else:
                assert fault.terminate(notice=how == "terminate")
            await wait_until(lambda: NEEDED in trader.misses, 20)
            fault.clear()
            await asyncio.sleep(1.0)
            hits = trader.hits
            assert (await subscribe(lab)).status == 200
            await trader.until_hits(20)
            assert trader.hits > hits
            trader.check(PROOF_MS if how == "mute" else 0)


async def test_signing_twice_at_once_is_answered_both_times(tmp_path: Path) -> None:
    async with account_lab(tmp_path, sandbox=exchange(), **GENEROUS) as lab:
        await add_signed(lab)
        begun = time.monotonic()
        for _ in range(3):  # while the change from one to the other is still under way
            assert (await subscribe(lab)).status == 200
        assert time.monotonic() < begun + 10.0


async def test_signing_again_while_live_is_not_noticed(tmp_path: Path) -> None:
    async with account_lab(tmp_path, sandbox=exchange(), **GENEROUS) as lab:
        await add_signed(lab)
        assert (await subscribe(lab)).status == 200
        api = lab.sandbox.ws_apis[SPOT]
        async with Trader(lab, SPOT) as trader:
            await trader.until_hits()
            before, accepted = dict(trader.misses), api.accepted
            for _ in range(3):
                assert (await subscribe(lab)).status == 200
                await asyncio.sleep(2.5)
            new = {reason for reason, count in trader.misses.items() if count != before.get(reason)}
            assert new <= {"miss; own order not told yet"}
            assert api.accepted == accepted + 3
            assert len(api._sessions) == 1
            trader.check()


@asynccontextmanager
async def far_away(folder: Path, mode: str) -> AsyncIterator[tuple[AccountLab, MuteLink]]:
    """Run a lab whose WebSocket API is far away, over a line that can stall besides."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(exchange()))
        urls = {name.lower(): url for name, url in sandbox.urls.items()}
        distance = await stack.enter_async_context(Distance(urls["ws_api_spot"], 0.15))
        link = await stack.enter_async_context(MuteLink(distance.url))
        settings = {"cache_enabled": False, **urls, "ws_api_spot": link.url, **GENEROUS}
        run = await stack.enter_async_context(running(make_config(folder, **settings)))
        lab = AccountLab(sandbox, run)
        if mode == "signed":
            await add_signed(lab)
            assert (await subscribe(lab)).status == 200
        else:
            await lab.add("spot", mode)
        yield lab, link


async def test_gap_between_two_connections_is_not_overlooked(tmp_path: Path) -> None:
    async with far_away(tmp_path, "secret") as (lab, _):
        spec = lab.sandbox.exchange.spec(SPOT, "BTCUSDT")
        assert spec is not None
        price = Trader(lab, SPOT).price("BTCUSDT")
        placed = await lab.place(SPOT, "BTCUSDT", quantity="0.02", price=price)
        await lab.until_hit(SPOT)
        account = lab.gateway.accounts.all[0]
        # It says that it will end, and ends before another connection is there.
        lab.sandbox.ws_apis[SPOT].announce_shutdown()
        await asyncio.sleep(0.2)
        assert lab.sandbox.faults.accounts[SPOT].drop() == 1
        lab.sandbox.exchange.expire(lab.sandbox.exchange.order(SPOT, API_KEY, "BTCUSDT", placed["orderId"]))
        end = time.monotonic() + 6.0
        await asyncio.sleep(0.5)  # what is known of the end on this far side
        while time.monotonic() < end:
            reply = await lab.open_orders(SPOT)
            assert not is_hit(reply) or reply.body == lab.truth(SPOT), account.state()
            await asyncio.sleep(0.3)
        assert (await lab.until_hit(SPOT)).body == b"[]"


async def test_key_of_a_call_opens_the_stream_of_an_account_without_one(tmp_path: Path) -> None:
    async with account_lab(tmp_path, sandbox=exchange(), weight_limit_futures=60_000) as lab:
        account = await lab.add("um", "key", digest=None)
        assert not account.spec.keys
        refused = await lab.signed("GET", "/fapi/v1/openOrders", secret="wrong")
        assert refused.status == 400
        await asyncio.sleep(0.3)
        assert account.api_key is None, "nobody knows whose key that was"
        reply = await lab.open_orders(UM)
        assert reply.status == 200
        await wait_until(lambda: lab.gateway.accounts.all[0].api_key == API_KEY)
        assert set(lab.gateway.accounts.all[0].spec.keys) == {digest_of(API_KEY)}
        async with Trader(lab, UM) as trader:
            await trader.until_hits(20)
            trader.check()
        # Another key does not take its place.
        await lab.signed("GET", "/fapi/v1/openOrders", key=READ_KEY, secret=READ_SECRET)
        await asyncio.sleep(0.3)
        assert set(lab.gateway.accounts.all[0].spec.keys) == {digest_of(API_KEY)}


async def test_key_that_may_trade_is_refused(tmp_path: Path) -> None:
    async with account_lab(tmp_path, sandbox=exchange()) as lab:
        door, now = lab.gateway.dispatch, int(time.time() * 1000)
        await check_key(door, READ_KEY, Signer.parse(READ_SECRET), now)
        with pytest.raises(KeyRefused, match=r"may more than read: .*enableSpotAndMarginTrading"):
            await check_key(door, API_KEY, Signer.parse(API_SECRET), now)
        with pytest.raises(KeyRefused):
            await check_key(door, READ_KEY, Signer.parse(API_SECRET), now)
