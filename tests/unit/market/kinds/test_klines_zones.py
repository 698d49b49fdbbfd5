"""Candles of UTC+8: series of their own beside those of UTC, in no file and in no log of closes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from resender.core.binance.endpoints import KLINES
from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.candles import parse_rows
from resender.core.market.requests import KlineRequest, Miss, parse_klines
from resender.core.market.words import ZONED
from resender.market.cache import CacheOptions, MarketCache
from resender.market.kinds.base import Hit
from resender.market.kinds.klines import Klines
from resender.market.series import KeptKlines
from tests.support.market_fakes import T0, World, kline_event, row

HOUR, DAY = 3_600_000, 86_400_000
WORD = "1d@+08:00"
#: The days that begin before T0, of UTC and of UTC+8.
UTC_DAY = T0 // DAY * DAY
ZONE_DAY = (T0 + 8 * HOUR) // DAY * DAY - 8 * HOUR


@pytest.fixture
async def spot() -> Any:
    world = World(Market.SPOT)
    yield world
    await world.end()


class Both:
    """The days of UTC and of UTC+8 of one symbol, subscribed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kind = Klines(world.tools("kline"))
        self.created: list[KeptKlines] = []
        self.kind.on_created = self.created.append
        self.feed = world.feeds.feed(Market.SPOT, "kline")
        self.utc, self.zoned = (self.keep(what) for what in ("1d", WORD))

    def keep(self, what: str) -> KeptKlines:
        kept = self.kind.make("BTCUSDT", what, self.world.clock.mono(), is_preload=False)
        self.kind.kept["BTCUSDT", what] = kept
        self.kind.begin(kept)
        self.feed.subscribe([kept.stream], self)
        kept.is_live = True
        self.kind.live(kept)
        return kept

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.utc if name == self.utc.stream else self.zoned, data)

    def fill(self, kept: KeptKlines, day: int) -> None:
        made_ms = self.world.now_ms
        rows = [row(day - n * DAY, 7 + n, interval_ms=DAY) for n in range(5, -1, -1)]
        candles = parse_rows(rows, "1d", orjson.dumps, made_ms=made_ms)
        assert kept.series.apply_read(candles, made_ms, epoch=kept.series.epoch)

    def send(self, kept: KeptKlines, open_time: int, **options: Any) -> None:
        self.feed.send(kept.stream, kline_event(open_time, self.world.now_ms, interval="1d", **options))

    def ask(self, query: str) -> list[int] | str:
        request = parse_klines(Market.SPOT, f"symbol=BTCUSDT&limit=3&{query}")
        assert isinstance(request, KlineRequest)
        found = self.kind.answer(request, packed=False)
        if isinstance(found, Hit):
            return [each[0] for each in orjson.loads(found.body)]
        assert isinstance(found, Miss)
        return found.reason


async def test_days_of_both_zones_are_told_each_from_its_own_series(spot: World) -> None:
    both = Both(spot)
    assert (both.utc.stream, both.zoned.stream) == ("btcusdt@kline_1d", "btcusdt@kline_1d@+08:00")
    both.fill(both.zoned, ZONE_DAY)
    both.send(both.zoned, ZONE_DAY)
    assert both.ask("interval=1d&timeZone=8") == [ZONE_DAY - 2 * DAY, ZONE_DAY - DAY, ZONE_DAY]
    assert both.ask("interval=1d") == "not read yet", "nothing of it belongs to the days of UTC"
    both.fill(both.utc, UTC_DAY)
    both.send(both.utc, UTC_DAY)
    assert both.ask("interval=1d&timeZone=0") == [UTC_DAY - 2 * DAY, UTC_DAY - DAY, UTC_DAY]
    assert both.ask("interval=1d&timeZone=8")[-1] == ZONE_DAY
    assert UTC_DAY != ZONE_DAY


async def test_each_is_read_with_its_zone_and_ranges_are_of_its_own_rows(spot: World) -> None:
    both = Both(spot)
    both.fill(both.zoned, ZONE_DAY)
    both.send(both.zoned, ZONE_DAY)
    start = ZONE_DAY - 3 * DAY
    assert both.ask(f"interval=1d&timeZone=8&startTime={start}")[:2] == [start, start + DAY]
    spot.door.targets.clear()
    read = both.kind.read_soon(both.zoned)
    assert read is not None
    await read
    assert spot.door.targets == [f"{KLINES[Market.SPOT]}?symbol=BTCUSDT&timeZone=8&interval=1d&limit=3"]


async def test_zone_that_changes_nothing_is_answered_by_the_series_of_utc(spot: World) -> None:
    both = Both(spot)
    for interval in (*INTERVALS[Market.SPOT],):
        asked = parse_klines(Market.SPOT, f"symbol=BTCUSDT&interval={interval}&timeZone=8")
        if interval == "1M":
            assert isinstance(asked, Miss)
        else:
            assert isinstance(asked, KlineRequest)
            what = f"{interval}@+08:00" if interval in ZONED else interval
            assert (asked.word or asked.interval) == what
            assert what in both.kind.words(Market.SPOT)
    assert both.ask("interval=8h&timeZone=8") == "not held yet"
    assert spot.desk.begun == [(Market.SPOT, "BTCUSDT", "8h")]


async def test_they_are_in_no_log_of_closes_and_no_list_of_an_interval(spot: World) -> None:
    both = Both(spot)
    both.fill(both.zoned, ZONE_DAY)
    both.send(both.zoned, ZONE_DAY)
    await spot.until(ZONE_DAY + DAY - T0 + 100)
    both.send(both.zoned, ZONE_DAY, final=True)
    assert both.zoned.series.last_final == ZONE_DAY
    assert both.kind.closes == {}
    assert (dict(both.kind.held), both.kind.symbols_of("1d")) == ({"1d": 1}, ("BTCUSDT",))
    assert both.created == [both.utc], "candles of files are of UTC"


async def test_interval_is_held_as_long_as_a_series_of_utc_is(spot: World) -> None:
    both = Both(spot)
    both.kind._log_of("1d")
    both.kind.end(both.zoned)
    assert (dict(both.kind.held), list(both.kind.closes)) == ({"1d": 1}, ["1d"])
    both.kind.end(both.utc)
    assert (dict(both.kind.held), both.kind.closes) == ({}, {})
    again = both.kind.make("BTCUSDT", WORD, 0.0, is_preload=False)
    both.kind.begin(again)
    assert dict(both.kind.held) == {}, "no close of 1d is waited for because of it"
    both.kind.end(again)


async def test_they_are_filled_and_never_saved(spot: World) -> None:
    class Files:
        def __init__(self) -> None:
            self.restored: list[str] = []

        def restore(self, kept: KeptKlines, done: Any) -> None:
            self.restored.append(kept.what)

        def start(self, series: Any, pause_s: Any) -> None:
            self.series = series

        async def stop(self) -> None:
            """Nothing is open."""

    files = Files()
    cache = MarketCache(
        CacheOptions(),
        door=spot.door,
        feeds=spot.feeds,
        clock=spot.clock,
        tasks=spot.tasks,
        files=files,  # type: ignore[arg-type]
    )
    cache.start()
    state = cache.states[Market.SPOT]
    state.facts.symbols.tradable = {"BTCUSDT": None}
    for what in ("1d", WORD):
        assert state.add("BTCUSDT", what) is not None
    assert files.restored == ["1d"]
    assert [kept.what for kept in files.series()] == ["1d"]
    assert {kept.what for kept in cache._filled("spot")} == {"1d", WORD}
    assert "1d" in cache._held_intervals()
    state.remove(state.kind(Klines).kept["BTCUSDT", "1d"])
    assert cache._held_intervals() == set()


async def test_mute_one_is_moved_and_keeps_its_stream(spot: World) -> None:
    both = Both(spot)
    assert both.kind.other_stream(both.zoned) is None
    both.kind.symbols_changed()
    assert both.zoned.stream.endswith("@+08:00")


def test_futures_have_none() -> None:
    for market in (Market.UM, Market.CM):
        assert not any("@" in word for word in Klines.words(market))
