"""Reads of candles by REST: what is read first, how far back, and what a bad answer costs."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.core.market.candles import parse_event
from resender.core.market.klines import KlineSeries
from resender.errors import EgressExhausted
from resender.market.backfill import Backfill
from resender.market.close_pause import PauseS, no_pause
from resender.market.reader import Reader
from resender.market.series import FinalWaiter, KeptKlines
from tests.support.market_fakes import LISTED_MINUTES, MINUTE, T0, World, kline_event, row

PATH = "/fapi/v1/klines"


class Filling:
    """A backfill and the series it fills."""

    def __init__(self, world: World, pause_s: PauseS = no_pause) -> None:
        # Series whose latest rows were read, and their newest closed row before.
        self.told: list[tuple[str, int]] = []
        self.world = world
        self.entries: list[KeptKlines] = []
        server = ExchangeClock()
        server.set(world.now_ms, world.clock.mono(), world.clock.mono())
        readers = {market: Reader(world.door, market) for market in (Market.SPOT, Market.UM, Market.CM)}
        self.backfill = Backfill(
            "futures",
            readers,
            lambda: self.entries,
            lambda market: server,
            world.clock,
            world.tasks,
            pause_s,
            lambda kept, last_close: self.told.append((kept.symbol, last_close)),
        )
        self.backfill.start()

    def add(self, symbol: str = "BTCUSDT", depth: int = 60, **values: Any) -> KeptKlines:
        options: dict[str, Any] = {"is_live": True, "market": Market.UM, **values}
        series = KlineSeries("1m", depth)
        kept = KeptKlines(
            symbol=symbol, stream=symbol, used_mono=0.0, interval="1m", series=series, **options
        )
        self.entries.append(kept)
        self.backfill.wake()
        return kept


def limits(targets: list[str]) -> list[int]:
    return [int(target.partition("limit=")[2].partition("&")[0]) for target in targets]


async def test_new_series_is_read_to_its_depth(world: World) -> None:
    await world.until(30_000)
    filling = Filling(world)
    kept = filling.add(depth=90)
    await world.until(31_000)
    assert kept.series.is_synced
    assert kept.is_filled
    assert len(kept.series) >= 90
    assert kept.series.last_open == T0
    assert filling.backfill.rows_read >= 90
    assert filling.backfill.queued() == 0


async def test_deep_series_is_read_in_pieces_the_newest_first(world: World) -> None:
    await world.until(30_000)
    filling = Filling(world)
    kept = filling.add(depth=1500)
    await world.until(31_000)
    assert kept.is_filled
    assert len(kept.series) >= 1500
    first, *older = world.door.targets
    assert "endTime" not in first
    assert older
    assert all("endTime" in target for target in older)


async def test_series_younger_than_its_depth_is_whole(world: World) -> None:
    await world.until(30_000)
    filling = Filling(world)
    kept = filling.add(depth=LISTED_MINUTES + 5000, market=Market.UM)
    await world.until(60_000 * 5)
    assert kept.series.is_whole
    assert kept.is_filled
    assert kept.series.first_open == T0 - LISTED_MINUTES * MINUTE
    reads = len(world.door.targets)
    filling.backfill.wake()
    await world.settle()
    assert len(world.door.targets) == reads


async def test_series_whose_stream_is_not_live_is_not_read(world: World) -> None:
    filling = Filling(world)
    kept = filling.add(is_live=False)
    await world.until(90_000)
    assert world.door.targets == []
    assert filling.backfill.queued() == 1
    kept.is_live = True
    filling.backfill.wake()
    await world.settle()
    assert kept.series.is_synced


async def test_series_without_any_rows_is_read_before_older_rows_of_others(world: World) -> None:
    await world.until(30_000)
    filling = Filling(world)
    other = filling.add("ETHUSDT", depth=3000)
    world.door.held.clear()
    await world.settle()
    world.door.refuse = EgressExhausted("no weight", retry_after_s=60.0)
    world.door.held.set()
    await world.settle()
    assert other.series.is_synced
    assert not other.is_filled
    filling.add("BTCUSDT", depth=3000)
    del world.door.targets[:]
    world.door.refuse = None
    filling.backfill.wake()
    await world.settle()
    assert "symbol=BTCUSDT" in world.door.targets[0]
    assert any("symbol=ETHUSDT" in target for target in world.door.targets)


async def test_most_wanted_series_is_read_first(world: World) -> None:
    filling = Filling(world)
    for number, misses in enumerate((1, 9, 3, 0, 5, 2)):
        kept = filling.add(f"S{number}USDT", is_live=False)
        kept.misses["not held yet"] = misses
    for kept in filling.entries:
        kept.is_live = True
    filling.backfill.wake()
    await world.settle()
    assert [target.partition("symbol=")[2][:2] for target in world.door.targets][:6] == [
        "S1", "S4", "S2", "S5", "S0", "S3",
    ]  # fmt: skip


async def test_no_more_than_four_reads_are_under_way(world: World) -> None:
    filling = Filling(world)
    world.door.held.clear()
    for number in range(10):
        filling.add(f"S{number}USDT")
    await world.settle()
    assert len(world.door.targets) == 4
    world.door.held.set()
    await world.until(1000)
    assert all(kept.series.is_synced for kept in filling.entries)


async def test_clients_series_is_urgent_and_a_rules_first_rows_are_not(world: World) -> None:
    filling = Filling(world)
    filling.add("RULEUSDT", is_preload=True)
    await world.settle()
    filling.add("CALLUSDT")
    await world.settle()
    urgent = {target.partition("symbol=")[2].partition("&")[0]: is_urgent
              for target, is_urgent in world.door.admitted}  # fmt: skip
    assert urgent == {"RULEUSDT": False, "CALLUSDT": True}


async def test_without_weight_it_waits_as_long_as_it_is_told(world: World) -> None:
    filling = Filling(world)
    world.door.refuse = EgressExhausted("no weight", retry_after_s=20.0)
    kept = filling.add()
    await world.until(10_000)
    world.door.refuse = None
    await world.until(19_000)
    assert not kept.series.is_synced
    await world.until(21_000)
    assert kept.series.is_synced


async def test_failed_read_is_tried_again_after_growing_pauses_and_logged_now_and_then(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    filling = Filling(world)
    good = world.door.answers[PATH]
    world.door.answers[PATH] = lambda *_: Fetched(500, {}, b"")
    kept = filling.add()
    await world.until(120_000)
    assert 5 <= kept.failures <= 12
    assert len(caplog.records) == 2
    world.door.answers[PATH] = good
    await world.until(200_000)
    assert kept.series.is_synced
    assert kept.failures == 0


async def test_series_that_fails_does_not_keep_others_waiting(world: World) -> None:
    filling = Filling(world)
    good = world.door.answers[PATH]

    def some(target: str, params: dict[str, str]) -> Any:
        return b"<html>" if params["symbol"] == "BADUSDT" else good(target, params)

    world.door.answers[PATH] = some
    bad, kept = filling.add("BADUSDT"), filling.add()
    await world.settle()
    assert kept.series.is_synced
    assert not bad.series.is_synced


# -- after a loss ---------------------------------------------------------------------------------


async def filled(world: World, depth: int = 60) -> tuple[Filling, KeptKlines]:
    await world.until(30_000)
    filling = Filling(world)
    kept = filling.add(depth=depth)
    await world.settle()
    assert kept.is_filled
    del world.door.targets[:]
    return filling, kept


async def test_after_a_loss_only_what_may_be_missing_is_read(world: World) -> None:
    filling, kept = await filled(world)
    kept.series.lose()
    kept.is_live = False
    await world.until(30_000 + 5 * MINUTE)
    kept.is_live = True
    filling.backfill.wake()
    await world.settle()
    assert kept.series.is_synced
    assert kept.series.last_open == T0 + 5 * MINUTE
    assert len(world.door.targets) == 1
    assert 6 <= limits(world.door.targets)[0] <= 10


async def test_read_made_before_another_loss_does_not_count(world: World) -> None:
    filling, kept = await filled(world)
    kept.series.lose()
    world.door.held.clear()
    filling.backfill.wake()
    await world.settle()
    kept.series.lose()
    world.door.held.set()
    await world.settle()
    assert kept.series.is_synced
    assert len(world.door.targets) == 2


async def test_series_that_is_not_what_the_exchange_says_is_begun_anew(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    filling, kept = await filled(world)
    identity, version = kept.identity, kept.series.version
    kept.series.lose()
    good = world.door.answers[PATH]
    world.door.answers[PATH] = lambda target, params: [
        row(each[0], each[8] + 1) if each[0] < T0 else each for each in good(target, params)
    ]
    filling.backfill.wake()
    await world.until(40_000)
    assert "not what the exchange says" in caplog.text
    assert kept.series.is_synced
    assert kept.identity is not identity, "bodies of the old rows must not be answered"
    assert kept.series.version > version
    span = kept.series.latest(2)
    assert span is not None
    assert b",61," in kept.series.body(span)


async def test_event_that_comes_while_older_rows_are_read_is_kept(world: World) -> None:
    await world.until(30_000)
    filling = Filling(world)
    kept = filling.add(depth=1500)
    world.door.held.clear()
    await world.settle()
    kept.series.apply_event(parse_event(kline_event(T0, world.now_ms + 2000))[2])
    world.door.held.set()
    await world.until(31_000)
    assert kept.is_filled
    span = kept.series.latest(1)
    assert span is not None
    assert b",32," in kept.series.body(span)


# -- the end of what there is ---------------------------------------------------------------------


@pytest.mark.parametrize(("market", "path"), [(Market.UM, PATH), (Market.CM, "/dapi/v1/klines")])
async def test_no_older_rows_are_the_end_of_it(world: World, market: Market, path: str) -> None:
    await world.until(30_000)
    filling = Filling(world)
    good = world.door.answers[path]
    world.door.answers[path] = lambda target, params: [] if "endTime" in params else good(target, params)
    kept = filling.add("X", depth=1500, market=market)
    await world.until(35_000)
    assert kept.is_filled
    assert len(world.door.asked(path)) == 2


# -- while candles close ------------------------------------------------------------------------


def until(world: World, after_ms: int) -> PauseS:
    """Make a pause that lasts until so long after T0."""
    return lambda: max(0, T0 + after_ms - world.now_ms) / 1000


async def test_older_rows_wait_until_no_candle_closes_and_the_first_ones_do_not(world: World) -> None:
    await world.until(58_000)
    filling = Filling(world, until(world, 70_000))
    kept = filling.add(depth=1500)
    await world.until(69_900)
    assert kept.series.is_synced
    assert not kept.is_filled
    (first,) = world.door.targets
    assert "endTime" not in first
    await world.until(70_100)
    assert kept.is_filled
    assert len(kept.series) >= 1500


async def test_series_begun_while_others_wait_is_read_at_once(world: World) -> None:
    await world.until(58_000)
    filling = Filling(world, until(world, 70_000))
    filling.add("ETHUSDT", depth=1500)
    await world.until(61_000)
    reads = len(world.door.targets)
    kept = filling.add(depth=60)
    await world.settle()
    assert kept.is_filled
    assert len(world.door.targets) == reads + 1


async def test_series_that_lost_its_stream_is_read_while_candles_close(world: World) -> None:
    await world.until(30_000)
    filling = Filling(world, until(world, 70_000))
    kept = filling.add()
    await world.until(60_500)
    kept.series.lose()
    filling.backfill.wake()
    await world.settle()
    assert kept.series.is_synced


async def test_older_rows_of_a_series_somebody_waits_for_do_not_wait(world: World) -> None:
    await world.until(58_000)
    filling = Filling(world, until(world, 70_000))
    other, kept = filling.add("ETHUSDT", depth=1500), filling.add(depth=1500)
    await world.settle()
    assert not kept.is_filled
    waiter = FinalWaiter()
    waiter.watch(kept, T0 + MINUTE)
    filling.backfill.wake()
    await world.until(58_500)
    assert kept.is_filled
    assert not other.is_filled
    waiter.leave()


async def test_read_of_the_latest_rows_is_told_and_one_of_older_rows_is_not(world: World) -> None:
    await world.until(30_000)
    filling = Filling(world)
    kept = filling.add(depth=1500)
    await world.until(31_000)
    assert len(world.door.targets) > 1
    assert filling.told == [("BTCUSDT", -1)]
    kept.series.lose()
    before = kept.series.last_close
    await world.until(2 * 60_000)
    filling.backfill.wake()
    await world.until(2 * 60_000 + 1000)
    assert filling.told[1:] == [("BTCUSDT", before)]
    assert kept.series.last_close > before
