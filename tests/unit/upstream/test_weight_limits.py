"""Weight limits learned from exchangeInfo: who is asked, how often, and what is taken from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from resender.aio import Tasks
from resender.core.binance.markets import Market
from resender.errors import UpstreamUnreachable
from resender.upstream import weight_limits
from resender.upstream.dispatch import Dispatch
from resender.upstream.weight_limits import WeightLimits
from tests.support.running import wait_until
from tests.unit.upstream.fakes import FakeAnswer, Time, make_pool, settle


def info(limit: int, *, kind: str = "REQUEST_WEIGHT", interval: str = "MINUTE", num: int = 1) -> FakeAnswer:
    rule = {"rateLimitType": kind, "interval": interval, "intervalNum": num, "limit": limit}
    return FakeAnswer(json.dumps({"rateLimits": [rule]}).encode())


class World:
    def __init__(self, markets: Sequence[Market] = (Market.SPOT, Market.UM, Market.CM)) -> None:
        self.tasks = Tasks()
        self.pool, self.clients = make_pool(Time(), markets=markets)
        door = Dispatch(self.pool, clock=Time().clock, user_agent="test/1")
        self.followed: set[Market] = set()
        self.limits = WeightLimits(door, self.tasks, self.followed.__contains__)

    def client(self, market: Market) -> Any:
        return self.clients["default", market]

    def limit(self, pool: str) -> int:
        return self.pool.governor.limit(pool)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.tasks.cancel()


def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let every pause be noted and end when the test says so, which is never."""
    noted: list[float] = []

    async def sleep(seconds: float) -> None:
        noted.append(seconds)
        await asyncio.Event().wait()

    monkeypatch.setattr(weight_limits, "asyncio", SimpleNamespace(sleep=sleep))
    return noted


async def test_market_that_told_its_weight_is_asked_for_its_limit_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = pauses(monkeypatch)
    world.client(Market.SPOT).answers = [info(1234)]
    for _ in range(3):
        world.limits.learn(Market.SPOT)
    await settle()
    assert world.client(Market.SPOT).targets == ["/api/v3/exchangeInfo?symbol=BTCUSDT"]
    assert world.limit("spot") == 1234
    assert noted == [6 * 3600]


async def test_markets_of_one_pool_ask_once_and_share_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses(monkeypatch)
    world.client(Market.UM).answers = [info(2000)]
    world.limits.learn(Market.CM)
    world.limits.learn(Market.UM)
    await settle()
    assert world.client(Market.UM).targets == ["/fapi/v1/exchangeInfo"]
    assert world.client(Market.CM).sent == []
    assert world.limit("futures") == 2000


async def test_market_that_is_served_is_asked_where_the_first_choice_is_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses(monkeypatch)
    world = World((Market.CM,))
    world.client(Market.CM).answers = [info(900)]
    world.limits.learn(Market.CM)
    await settle()
    assert world.client(Market.CM).targets == ["/dapi/v1/exchangeInfo"]
    assert world.limit("futures") == 900
    await world.tasks.cancel()


async def test_market_the_cache_follows_is_left_to_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = pauses(monkeypatch)
    world.followed.add(Market.UM)
    world.limits.learn(Market.UM)
    await settle()
    assert world.client(Market.UM).sent == []
    assert noted == [6 * 3600]
    world.limits.note(Market.UM, 777)
    assert world.limit("futures") == 777


async def test_market_without_an_exchange_info_starts_nothing(world: World) -> None:
    world.limits.learn(Market.PM)
    assert len(world.tasks) == 0


@pytest.mark.parametrize(
    "answer",
    [
        UpstreamUnreachable("x"),
        FakeAnswer(b"{}", status=503),
        FakeAnswer(b"<html>"),
        FakeAnswer(b"{}"),
        info(9, kind="ORDERS"),
        info(9, interval="DAY"),
        info(9, num=5),
    ],
    ids=["unreachable", "503", "html", "nothing", "orders", "day", "five minutes"],
)
async def test_answer_that_tells_no_limit_changes_nothing_and_is_asked_for_again_soon(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: FakeAnswer | Exception
) -> None:
    noted = pauses(monkeypatch)
    world.client(Market.SPOT).answers = [answer]
    before = world.limit("spot")
    world.limits.learn(Market.SPOT)
    await wait_until(lambda: noted)
    assert world.limit("spot") == before
    assert noted == [600]


async def test_limit_below_one_is_not_believed(world: World) -> None:
    before = world.limit("spot")
    world.limits.note(Market.SPOT, 0)
    assert world.limit("spot") == before
