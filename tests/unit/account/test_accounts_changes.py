"""All accounts together: calls that change something, listenKeys that are ended, keys that come at the same time."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from resender.api_keys import digest_of
from resender.core.account.spec import AccountMarket, Mode
from resender.core.binance.markets import Market
from tests.unit.account.test_accounts import HOME, KEY, OTHER_KEY, SIGNED, Stream, World, spec_of, streamed


@pytest.mark.parametrize(
    ("status", "body", "restarts"),
    [
        (200, b"{}", 1),
        (400, b'{"code":-1125}', 1),
        (401, b'{"code":-2015}', 0),
        (429, b"", 0),
        (None, b"", 1),
    ],
)
def test_client_that_ends_a_shared_listen_key_ends_answers_at_once(
    status: int | None, body: bytes, restarts: int
) -> None:
    world = World(spec_of(1, AccountMarket.UM, Mode.KEY))
    world.prove()
    account, found = world.account(), []
    account.on_restart = lambda: found.append(True)
    passing = world.accounts.watch(Market.UM, "DELETE", "/fapi/v1/listenKey", "", b"", KEY, HOME)
    assert passing is not None
    # From when it is sent: the stream may say nothing more before the answer is here.
    assert account.proof.lack(None, world.mono) == "a client ended the listenKey"
    assert not found
    passing.unanswered(is_sent=True) if status is None else passing.answered(status, body)
    assert len(found) == restarts
    assert not world.accounts.callers.addresses(digest_of(KEY), world.mono), "it needs no signature"


def test_listen_key_of_a_key_nobody_watches_is_nothing() -> None:
    world = World(spec_of(1, AccountMarket.UM, Mode.KEY))
    assert world.accounts.watch(Market.UM, "DELETE", "/fapi/v1/listenKey", "", b"", OTHER_KEY, HOME) is None


@pytest.mark.parametrize(
    ("market", "method", "path", "numbers"),
    [
        (Market.SPOT, "POST", "/sapi/v1/asset/transfer", [1]),
        (Market.SPOT, "POST", "/sapi/v1/margin/order", [2]),
        (Market.SPOT, "POST", "/sapi/v1/margin/isolated/transfer", [1, 2]),
        (Market.SPOT, "POST", "/api/v3/somethingNew", [1]),
        (Market.UM, "DELETE", "/fapi/v1/somethingNew", [3]),
    ],
)
def test_change_that_proves_nobody_is_learned_from_all_the_same(
    market: Market, method: str, path: str, numbers: list[int]
) -> None:
    world = World(spec_of(1), spec_of(2, AccountMarket.MARGIN), spec_of(3, AccountMarket.UM, Mode.KEY))
    told: list[int] = []
    for number in (1, 2, 3):
        world.account(number).written = lambda *_, number=number: told.append(number)  # type: ignore[method-assign]
    world.accept(market=market, method=method, path=path)
    assert told == numbers
    assert not world.accounts.callers.addresses(digest_of(KEY), world.mono)
    assert world.account(3).api_key is None


def test_what_changes_portfolio_margin_is_no_doubt_about_it() -> None:
    world = World(spec_of(1, AccountMarket.PM, Mode.KEY))
    assert world.accounts.watch(Market.PM, "POST", "/papi/v1/um/order", SIGNED, b"", KEY, HOME) is None
    world.accept(market=Market.PM, path="/papi/v1/um/openOrders")
    assert world.account().api_key == KEY


def test_order_that_is_no_proof_is_learned_from_and_proves_nobody() -> None:
    world = World(spec_of())
    world.prove()
    call = (Market.SPOT, "POST", "/api/v3/order", f"symbol=BTCUSDT&{SIGNED}", b"", KEY, HOME)
    passing = world.accounts.watch(*call, is_proof=False)
    assert passing is not None
    passing.answered(200, b'{"symbol":"BTCUSDT","orderId":7,"status":"NEW","executedQty":"0"}')
    assert world.account().writes.is_pending("BTCUSDT")
    assert world.account().api_key is None
    assert not world.accounts.callers.addresses(digest_of(KEY), world.mono)


class SlowStream(Stream):
    """One whose subscriptions take as long as a test wants."""

    def __init__(self, *words: str | None) -> None:
        super().__init__(*words)
        self.gate = asyncio.Event()

    async def subscribe(self, params: dict[str, Any]) -> str | None:
        await self.gate.wait()
        return await super().subscribe(params)


async def test_account_without_a_key_is_taken_by_one_key_at_a_time() -> None:
    world = World(spec_of(key=None))
    slow = SlowStream("no", None, None)
    world.accounts._kept[1].stream = cast(Any, slow)

    def sign(key: str) -> Any:
        return world.accounts.subscribe(AccountMarket.SPOT, {"apiKey": key, "signature": "x"}, key, HOME)

    first = asyncio.create_task(sign(KEY))
    await asyncio.sleep(0)
    refused = await sign(OTHER_KEY)
    assert refused is not None
    assert "has no such account" in refused
    slow.gate.set()
    assert await first == "no"
    # It was not taken: another one may come, and even a client that goes away has it to the end.
    slow.gate.clear()
    second = asyncio.create_task(sign(OTHER_KEY))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    assert await sign(KEY) == refused
    slow.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.bound == [(1, digest_of(OTHER_KEY), "wxyz")]
    # Between the row in the database and the account that is known by it nobody else gets in.
    assert await sign(KEY) == refused


async def test_stream_of_a_key_that_came_too_late_is_given_up() -> None:
    world = World(spec_of(key=None))
    streamed(world, [None])
    world.prove()
    restarts: list[bool] = []
    world.account().on_restart = lambda: restarts.append(True)
    world.binds = False
    await world.accounts.subscribe(AccountMarket.SPOT, {"apiKey": KEY}, KEY, HOME)
    assert restarts == [True]
    assert world.account().proof.lack(None, world.mono) == "subscription needed"
    assert not world.accounts.callers.addresses(digest_of(KEY), world.mono)
