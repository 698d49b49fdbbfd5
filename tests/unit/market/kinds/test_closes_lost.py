"""Calls that wait for a close while something goes another way: reads refused, rows in doubt, young symbols."""

from __future__ import annotations

import asyncio

import orjson

from resender.core.market.candles import parse_rows
from resender.errors import EgressExhausted
from resender.market.kinds.closes import holds
from resender.market.series import KeptKlines
from tests.support.market_fakes import MINUTE, T0, World, kline_event, row
from tests.unit.market.kinds.test_closes import Waiting, opens


async def waiting_at(world: World, at_ms: int) -> Waiting:
    await world.until(at_ms)
    return Waiting(world)


def read(waiting: Waiting, kept: KeptKlines, newest: int) -> None:
    """Let a series take a read made now, of the rows up to one minute."""
    rows = [row(T0 + n * MINUTE, 60 if n < newest else 0) for n in range(newest - 9, newest + 1)]
    made_ms = waiting.world.now_ms
    candles = parse_rows(rows, "1m", orjson.dumps, made_ms=made_ms)
    assert kept.series.apply_read(candles, made_ms, epoch=kept.series.epoch)
    kept.wake()


async def test_final_event_of_a_series_that_is_only_being_read_ends_no_wait(world: World) -> None:
    waiting = await waiting_at(world, 50_000)
    waiting.add("BTCUSDT")
    young = waiting.add("ETHUSDT", is_read=False)
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask(wait_ms=5000))
    await world.until(60_100)
    waiting.close("BTCUSDT")
    waiting.close("ETHUSDT")
    await world.until(61_900)
    assert not asking.done()
    await world.until(62_000)
    read(waiting, young, 1)
    found = await asking
    assert found.pending == {}
    assert opens(found, "ETHUSDT")[-1] == 0
    assert world.now_ms < T0 + 62_500


async def test_row_that_comes_into_doubt_while_a_call_waits_is_neither_told_nor_kept(world: World) -> None:
    waiting = await waiting_at(world, 50_000)
    waiting.add("BTCUSDT")
    waiting.add("ETHUSDT")
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask(wait_ms=5000))
    await world.until(60_100)
    waiting.close("BTCUSDT")
    await world.until(61_000)
    waiting.kind._on_differing("BTCUSDT")  # the plain stream says something else
    await world.until(61_200)
    waiting.close("ETHUSDT")
    found = await asking
    assert list(found.rows) == ["ETHUSDT"]
    assert found.pending == {"BTCUSDT": "not read yet"}
    assert found.stamp is not None
    read(waiting, waiting.all["BTCUSDT"], 1)
    assert not holds(waiting.kind, "1m", found.stamp), "a read has judged it"


async def test_symbol_that_was_listed_a_moment_ago_closes_its_first_candle(world: World) -> None:
    waiting = await waiting_at(world, 50_000)
    young = waiting.add("NEWUSDT", is_read=False)
    young.series.apply_read([], world.now_ms, epoch=young.series.epoch, is_whole=True)
    young.is_filled = True
    await world.until(60_200)
    waiting.kind.event(young, kline_event(T0 + MINUTE, world.now_ms, "NEWUSDT"))
    await world.until(119_900)
    asking = asyncio.create_task(waiting.ask("NEWUSDT", wait_ms=8000, limit=1))
    await world.until(120_050)
    waiting.kind.event(young, kline_event(T0 + MINUTE, world.now_ms, "NEWUSDT", final=True))
    found = await asking
    assert opens(found, "NEWUSDT") == [1]
    assert len(world.door.targets) == 1


async def test_first_candle_of_a_new_symbol_is_final_without_anybody_asking(world: World) -> None:
    waiting = await waiting_at(world, 50_000)
    young = waiting.add("NEWUSDT", is_read=False)
    young.series.apply_read([], world.now_ms, epoch=young.series.epoch, is_whole=True)
    await world.until(60_200)
    waiting.kind.event(young, kline_event(T0 + MINUTE, world.now_ms, "NEWUSDT"))
    await world.until(120_050)
    waiting.kind.event(young, kline_event(T0 + MINUTE, world.now_ms, "NEWUSDT", final=True))
    await world.until(121_000)
    assert young.series.last_final == T0 + MINUTE
    assert len(world.door.targets) == 1


async def test_symbol_without_any_trade_is_asked_for_once_by_a_call_that_waits(world: World) -> None:
    waiting = await waiting_at(world, 50_000)
    young = waiting.add("NEWUSDT", is_read=False)
    world.door.answers["/fapi/v1/klines"] = lambda *_: []
    young.series.apply_read([], world.now_ms, epoch=young.series.epoch, is_whole=True)
    await world.until(60_010)
    found = await waiting.ask("NEWUSDT", wait_ms=8000)
    assert found.pending == {"NEWUSDT": "not read yet"}
    assert len(world.door.targets) == 1


async def test_read_that_was_refused_for_weight_is_made_as_soon_as_it_may(world: World) -> None:
    waiting = await waiting_at(world, 50_000)
    waiting.add("BTCUSDT")
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask(wait_ms=8000))
    await world.until(61_000)
    world.door.refuse = EgressExhausted("no weight", retry_after_s=1.0)
    await world.until(64_500)
    assert not asking.done()
    world.door.refuse = None
    found = await asking
    assert opens(found)[-1] == 0
    assert world.now_ms < T0 + 66_000
    assert len(world.door.targets) == 1


async def test_series_that_leaves_during_a_wait_is_told_as_not_held(world: World) -> None:
    waiting = await waiting_at(world, 50_000)
    waiting.add("BTCUSDT")
    gone = waiting.add("ETHUSDT")
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask(wait_ms=5000))
    await world.until(60_050)
    gone.is_dropped = True
    gone.wake()
    waiting.close("BTCUSDT")
    found = await asking
    assert (list(found.rows), found.pending) == (["BTCUSDT"], {"ETHUSDT": "not held yet"})
