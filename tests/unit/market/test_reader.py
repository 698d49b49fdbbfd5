"""Own reads of the cache: whatever goes wrong becomes one error that says when to try again."""

from __future__ import annotations

import pytest

from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.errors import EgressExhausted, UpstreamTimeout
from resender.market.reader import Reader, ReadFailed
from tests.support.fixtures import raw
from tests.support.market_fakes import World

TARGET = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5"


async def test_good_answer_is_its_body_as_it_came(world: World) -> None:
    body = raw(Market.UM, "http_klines")
    world.door.answers["/fapi/v1/klines"] = lambda *_: body
    assert await world.reader.get(TARGET) == body
    assert world.door.targets == [TARGET]


@pytest.mark.parametrize("status", [429, 418])
async def test_refusal_of_the_exchange_is_no_answer(world: World, status: int) -> None:
    body = raw(Market.UM, f"http_error_{status}")
    world.door.answers["/fapi/v1/klines"] = lambda *_: Fetched(status, {}, body)
    with pytest.raises(ReadFailed, match=f"HTTP {status}") as caught:
        await world.reader.get(TARGET)
    assert caught.value.retry_after_s == 0


async def test_body_of_an_error_is_cut_and_need_not_be_text(world: World) -> None:
    world.door.answers["/fapi/v1/klines"] = lambda *_: Fetched(502, {}, b"\xff" + b"x" * 5000)
    with pytest.raises(ReadFailed) as caught:
        await world.reader.get(TARGET)
    assert len(str(caught.value)) < 200


async def test_call_that_failed_on_its_way_is_a_failed_read(world: World) -> None:
    world.door.answers["/fapi/v1/klines"] = lambda *_: UpstreamTimeout("no answer within 10 s")
    with pytest.raises(ReadFailed, match="no answer"):
        await world.reader.get(TARGET)


async def test_want_of_weight_says_when_there_will_be_some(world: World) -> None:
    world.door.answers["/fapi/v1/klines"] = lambda *_: EgressExhausted("no weight", retry_after_s=17.0)
    with pytest.raises(ReadFailed) as caught:
        await world.reader.get(TARGET)
    assert caught.value.retry_after_s == 17.0


async def test_permit_that_is_not_given_says_when_to_ask_again(world: World) -> None:
    world.door.refuse = EgressExhausted("no weight", retry_after_s=3.5)
    with pytest.raises(ReadFailed) as caught:
        world.reader.admit(TARGET, is_urgent=True)
    assert caught.value.retry_after_s == 3.5
    world.door.refuse = UpstreamTimeout("out of order")
    with pytest.raises(ReadFailed) as caught:
        world.reader.admit(TARGET, is_urgent=False)
    assert caught.value.retry_after_s == 0


async def test_permit_is_passed_on_and_can_be_given_back(world: World) -> None:
    reader = Reader(world.door, Market.UM)
    permit = reader.admit(TARGET, is_urgent=True)
    assert world.door.admitted == [(TARGET, True)]
    reader.give_back(permit)
    assert world.door.given_back == [permit]
