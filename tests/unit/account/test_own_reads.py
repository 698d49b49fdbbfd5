"""Own reads: when an account with a key of its own is read, and what of."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from resender.account.own_reads import OwnReads
from resender.account.ports import AccountOptions
from resender.account.watched import Answer, WatchedAccount
from resender.aio import Clock
from resender.core.account.calls import SignedRead, read_signed
from resender.core.account.lore import Lore
from resender.core.account.spec import AccountMarket, AccountSpec, Mode
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.errors import EgressExhausted

NOW_MS = 1_796_000_000_000
ORDERS = {
    AccountMarket.SPOT: ["/api/v3/openOrders"],
    AccountMarket.MARGIN: ["/sapi/v1/margin/openOrders"],
    AccountMarket.UM: ["/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"],
    AccountMarket.CM: ["/dapi/v1/openOrders"],
    AccountMarket.PM: ["/papi/v1/um/openOrders", "/papi/v1/cm/openOrders"],
}
MONEY = {
    AccountMarket.SPOT: ["/api/v3/account"],
    AccountMarket.MARGIN: [],
    AccountMarket.UM: ["/fapi/v3/balance", "/fapi/v3/positionRisk"],
    AccountMarket.CM: ["/dapi/v1/balance", "/dapi/v1/positionRisk"],
    AccountMarket.PM: [],
}
EVERY = list(AccountMarket)


class World:
    """An account whose stream is there, its reads, and Binance."""

    def __init__(self, market: AccountMarket = AccountMarket.SPOT, mode: Mode = Mode.SECRET) -> None:
        self.mono = 1000.0
        lores: dict[Any, Lore] = {}
        options = AccountOptions(reconcile_s=900.0)
        clock = Clock(now_ms=lambda: NOW_MS, mono=lambda: self.mono)
        exchange_clock = ExchangeClock()
        exchange_clock.set(NOW_MS, self.mono, self.mono)
        self.account = WatchedAccount(
            AccountSpec(1, "desk", market, mode), options,
            lambda dialect: lores.setdefault(dialect, Lore(dialect)), clock=clock, exchange_clock=exchange_clock,
        )  # fmt: skip
        self.account.api_key = "key"
        self.signed: list[str] = []
        self.account.signer = SimpleNamespace(sign=self._sign)
        self.reads = OwnReads(self.account, options, self, clock, exchange_clock)
        self.asked: list[str] = []
        self.targets: list[tuple[Market, str]] = []
        self.status = 200
        self.error: Exception | None = None
        self.rows: dict[str, Any] = {"/api/v3/account": {"updateTime": NOW_MS, "balances": []}}
        self.account.opened()

    def _sign(self, payload: bytes) -> str:
        self.signed.append(payload.decode())
        return "A" * 84 + "+/=="

    async def call_with_key(
        self, market: Market, method: str, target: str, api_key: str, *, is_urgent: bool = False
    ) -> tuple[Fetched, str]:
        assert (method, api_key, is_urgent) == ("GET", "key", False)
        path = target.partition("?")[0]
        self.asked.append(path)
        self.targets.append((market, target))
        if self.error is not None:
            raise self.error
        return Fetched(self.status, {}, orjson.dumps(self.rows.get(path, []))), "hk"

    async def pass_(self, seconds: float) -> list[str]:
        """Let time pass, read if something is due, and return what was asked for."""
        self.mono += seconds
        self.account.heard()
        self.asked = []
        if self.reads.is_due():
            await self.reads.run()
        return self.asked


@pytest.mark.parametrize("market", EVERY)
async def test_orders_are_read_at_once_and_again_after_five_seconds_with_the_money(
    market: AccountMarket,
) -> None:
    world = World(market)
    assert await world.pass_(0) == ORDERS[market]
    assert await world.pass_(1) == []
    assert await world.pass_(4.2) == ORDERS[market] + MONEY[market]
    assert world.account._lack() is None
    assert await world.pass_(60) == []


async def test_account_is_proven_by_its_own_reads_alone() -> None:
    world = World()
    await world.pass_(0)
    await world.pass_(5.2)
    query = f"timestamp={NOW_MS + 5200}&signature=" + "0" * 64
    for path in ("/api/v3/openOrders", "/api/v3/account"):
        read = read_signed(Market.SPOT, path, query)
        assert isinstance(read, SignedRead)
        assert isinstance(world.account.answer(read), Answer)


@pytest.mark.parametrize("market", EVERY)
async def test_what_is_known_is_compared_now_and_then(market: AccountMarket) -> None:
    world = World(market)
    await world.pass_(0)
    await world.pass_(5.2)
    assert await world.pass_(800) == []
    asked = await world.pass_(101)
    assert asked[: len(ORDERS[market])] == ORDERS[market]
    assert set(asked) == {*ORDERS[market], *MONEY[market]}


@pytest.mark.parametrize("lacks", ["mode", "secret", "stream"])
def test_nothing_is_due_without_a_key_of_its_own_or_a_stream(lacks: str) -> None:
    world = World(mode=Mode.SIGNED if lacks == "mode" else Mode.SECRET)
    if lacks == "secret":
        world.account.signer = None
    if lacks == "stream":
        world.account.closed("upstream lost")
    assert not world.reads.is_due()


async def test_reads_are_signed_over_what_is_sent() -> None:
    world = World(AccountMarket.MARGIN)
    await world.pass_(0)
    ((market, target),) = world.targets
    assert market is Market.SPOT
    assert world.signed == [f"recvWindow=10000&timestamp={NOW_MS}"]
    signature = "A" * 84 + "%2B%2F%3D%3D"
    assert target == f"/sapi/v1/margin/openOrders?{world.signed[0]}&signature={signature}"


async def test_new_stream_is_read_anew() -> None:
    world = World()
    await world.pass_(0)
    await world.pass_(5.2)
    world.account.closed("upstream lost")
    assert await world.pass_(1) == []
    world.account.opened()
    assert await world.pass_(0) == ["/api/v3/openOrders"]
    assert await world.pass_(5.2) == ["/api/v3/openOrders", "/api/v3/account"]


@pytest.mark.parametrize("how", ["refused here", "answered otherwise"])
async def test_read_that_failed_is_tried_again_after_a_pause(how: str) -> None:
    world = World(AccountMarket.UM)
    if how == "refused here":
        world.error = EgressExhausted("Too much request weight used", 5)
    else:
        world.status = 503
    assert await world.pass_(0)
    assert not world.reads.is_running
    assert await world.pass_(0.9) == []
    world.error, world.status = None, 200
    assert await world.pass_(3.2) == ORDERS[AccountMarket.UM]


async def test_pauses_grow_while_nothing_can_be_sent() -> None:
    world = World()
    world.error = EgressExhausted("Too much request weight used", 5)
    pauses = []
    for _ in range(4):
        assert await world.pass_(0)
        pauses.append(world.reads._not_before - world.mono)
        world.mono = world.reads._not_before
    assert all(first_s / 2 <= pause <= first_s for first_s, pause in zip((2, 4, 8, 16), pauses, strict=True))


async def test_bad_answer_proves_nothing() -> None:
    world = World()
    world.status = 500
    await world.pass_(0)
    assert world.account.proof.lack(None, world.mono) == "no snapshot yet"


async def test_lost_balances_are_read_again_at_once() -> None:
    world = World()
    await world.pass_(0)
    await world.pass_(5.2)
    world.account.spot.lose()
    assert await world.pass_(0.3) == ["/api/v3/account"]


async def test_row_that_is_not_whole_is_read_by_its_symbol_once_a_second() -> None:
    world = World(AccountMarket.CM)
    await world.pass_(0)
    await world.pass_(5.2)
    world.mono += 1
    at_ms = NOW_MS + 6200
    world.account.message({
        "e": "ORDER_TRADE_UPDATE", "T": at_ms,
        "o": {"s": "BTCUSD_PERP", "i": 8, "x": "NEW", "X": "NEW", "q": "1", "z": "0", "p": "9000", "T": at_ms},
    })  # fmt: skip
    assert await world.pass_(0.1) == ["/dapi/v1/openOrders"]
    assert re.search(r"\?symbol=BTCUSD_PERP&recvWindow=10000&timestamp=\d+&signature=", world.targets[-1][1])
    assert await world.pass_(0.5) == []
    assert await world.pass_(0.6) == ["/dapi/v1/openOrders"]
