"""Klines: when an answer comes from memory, what a miss is for, and how one is settled at a candle's end."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.candles import parse_rows
from resender.core.market.costs import kline_weight
from resender.core.market.requests import KlineRequest, Miss
from resender.errors import EgressExhausted
from resender.market.kinds import klines as module
from resender.market.kinds.base import Hit
from resender.market.kinds.klines import Klines
from resender.market.series import KeptKlines
from tests.support.fixtures import event, wire
from tests.support.market_fakes import MINUTE, T0, World, kline_event

STREAM = "btcusdt@kline_1m"
PATH = "/fapi/v1/klines"


class Kept:
    """One series of a kind, subscribed; `fill` reads it as the backfill would."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.kind = Klines(world.tools("kline", **options))
        self.feed = world.feeds.feed(world.market, "kline")
        self.one: KeptKlines = self.kind.make("BTCUSDT", "1m", world.clock.mono(), is_preload=False)
        self.kind.kept["BTCUSDT", "1m"] = self.one
        self.kind.begin(self.one)
        self.feed.subscribe([STREAM], self)

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.one, data)

    def live(self) -> None:
        self.one.is_live = True
        self.kind.live(self.one)

    async def fill(self, limit: int = 30) -> None:
        """Read the latest rows; what the stream brought is of now."""
        self.live()
        made_ms = self.world.now_ms
        body = await self.world.reader.get(f"{PATH}?symbol=BTCUSDT&interval=1m&limit={limit}")
        candles = parse_rows(orjson.loads(body), "1m", orjson.dumps, made_ms=made_ms)
        assert self.one.series.apply_read(candles, made_ms, epoch=self.one.series.epoch)

    def send(self, open_time: int, **options: Any) -> None:
        self.feed.send(STREAM, kline_event(open_time, self.world.now_ms, **options))

    async def ask(self, limit: int = 5, **options: Any) -> Hit | Miss:
        values = [limit, options.pop("start", None), options.pop("end", None)]
        request = KlineRequest(Market.UM, "BTCUSDT", "1m", *values, **options)
        found = self.kind.answer(request, packed=False)
        return found if isinstance(found, Hit | Miss) else await found


def times(hit: Hit | Miss) -> list[int]:
    assert isinstance(hit, Hit), hit
    return [(row[0] - T0) // MINUTE for row in orjson.loads(hit.body)]


# -- answers --------------------------------------------------------------------------------------


async def test_series_with_an_event_of_now_is_answered_from_memory(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill()
    kept.send(T0)
    hit = await kept.ask(3)
    assert times(hit) == [-2, -1, 0]
    assert isinstance(hit, Hit)
    assert orjson.loads(hit.body)[-1][8] == 30
    assert (hit.age_ms, world.desk.hits, kept.one.hits) == (0, 1, 1)


async def test_age_is_the_time_since_the_last_proof(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill()
    kept.send(T0)
    await world.until(31_500)
    hit = await kept.ask()
    assert isinstance(hit, Hit)
    assert 1490 <= hit.age_ms <= 1510


async def test_series_nobody_asked_for_before_is_begun(world: World) -> None:
    kept = Kept(world)
    found = kept.kind.answer(KlineRequest(Market.UM, "ETHUSDT", "1h", 5, None, None), packed=False)
    assert found == Miss("not held yet")
    assert world.desk.begun == [(Market.UM, "ETHUSDT", "1h")]


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda kept: setattr(kept.one, "is_live", False), "stream not live"),
        (lambda kept: kept.feed.dead.add(STREAM), "stream not live"),
        (lambda kept: setattr(kept.one, "is_mute", True), "stream mute"),
        (lambda kept: setattr(kept.kind.facts.server, "is_set", False), "starting"),
    ],
)
async def test_miss_says_what_is_the_matter(world: World, break_it: Any, reason: str) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill()
    kept.send(T0)
    break_it(kept)
    assert await kept.ask() == Miss(reason)
    assert world.desk.reasons == {reason: 1}


async def test_range_that_is_not_held_goes_to_the_exchange(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill(10)
    kept.send(T0)
    assert await kept.ask(11) == Miss("range not held")
    assert await kept.ask(5, start=T0 - 20 * MINUTE) == Miss("range not held")
    assert times(await kept.ask(2, start=T0 - 5 * MINUTE)) == [-5, -4]
    assert times(await kept.ask(2, end=T0 - 5 * MINUTE)) == [-6, -5]


async def test_start_that_has_not_come_yet_goes_to_the_exchange(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill(10)
    kept.send(T0)
    assert await kept.ask(2, start=T0 + MINUTE) == Miss("range not held")


# -- a candle's end -------------------------------------------------------------------------------


async def test_call_at_a_candles_end_waits_for_the_closing_event(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=500)
    await kept.fill()
    kept.send(T0)
    await world.until(60_050)
    asking = asyncio.create_task(kept.ask(3))
    await world.settle()
    assert not asking.done()
    reads = len(world.door.targets)
    await world.until(60_200)
    kept.send(T0, final=True)
    kept.send(T0 + MINUTE)
    hit = await asking
    assert times(hit) == [-1, 0, 1]
    assert isinstance(hit, Hit)
    assert orjson.loads(hit.body)[1][8] == 60
    assert len(world.door.targets) == reads, "no read was needed"


async def test_read_so_soon_after_the_close_that_it_proves_nothing_is_not_made(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=100)
    await kept.fill()
    kept.send(T0)
    await world.until(60_050)
    reads = len(world.door.targets)
    assert await kept.ask(3) == Miss("not settled")
    assert len(world.door.targets) == reads


async def test_one_read_serves_all_who_wait_for_the_same_candle(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=100)
    await kept.fill()
    kept.send(T0)
    await world.until(62_000)
    reads = len(world.door.targets)
    found = await asyncio.gather(*(kept.ask(3) for _ in range(20)))
    assert {tuple(times(each)) for each in found} == {(-1, 0, 1)}
    assert len(world.door.targets) == reads + 1


async def test_client_that_leaves_does_not_take_the_read_from_the_others(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=0)
    await kept.fill()
    kept.send(T0)
    await world.until(62_000)
    world.door.held.clear()
    first, second = (asyncio.create_task(kept.ask(3)) for _ in range(2))
    await world.settle()
    first.cancel()
    await world.settle()
    world.door.held.set()
    assert times(await second) == [-1, 0, 1]


async def test_without_weight_for_a_read_the_call_is_a_miss(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=0)
    await kept.fill()
    kept.send(T0)
    await world.until(62_000)
    world.door.refuse = EgressExhausted("no weight", retry_after_s=5.0)
    found = await kept.ask(3)
    assert isinstance(found, Miss)


async def test_failed_read_is_not_repeated_at_once(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=0)
    await kept.fill()
    kept.send(T0)
    await world.until(62_000)
    world.door.answers[PATH] = lambda *_: b"<html>"
    reads = len(world.door.targets)
    for _ in range(5):
        assert isinstance(await kept.ask(3), Miss)
    assert len(world.door.targets) == reads + 1


async def test_series_that_was_quiet_for_minutes_is_settled_by_one_read(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=0)
    await kept.fill()
    kept.send(T0)
    await world.until(5 * 60_000 + 3000)
    reads = len(world.door.targets)
    read = kept.kind.read_soon(kept.one)
    assert read is not None
    await read
    assert len(world.door.targets) == reads + 1
    assert kept.one.series.last_final == T0 + 4 * MINUTE
    assert kept.one.series.is_synced


# -- what reads for calls may cost ----------------------------------------------------------------


MOST = module._MANY_WEIGHT
assert 2 * MOST <= 95, "a whole market costs less than a hundred a minute, with what else is read"


class Many:
    """Series of one market that all need a read."""

    def __init__(self, world: World, count: int) -> None:
        self.world = world
        self.kind = Klines(world.tools("kline"))
        self.all = [self.kind.make(f"S{number}USDT", "1m", 0.0, is_preload=False) for number in range(count)]
        for kept in self.all:
            self.kind.begin(kept)
            kept.is_live = True

    async def read(self, first: int, last: int, *, is_capped: bool) -> int:
        """Ask for the read of some of them; return how many were made."""
        before = len(self.world.door.targets)
        tasks = [self.kind.read_soon(kept, is_capped=is_capped) for kept in self.all[first:last]]
        await self.world.settle()
        made = len(self.world.door.targets) - before
        assert made == len([task for task in tasks if task is not None])
        return made


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
async def test_reads_for_answers_about_many_cost_so_much_a_minute_and_begin_again(market: Market) -> None:
    world = World(market)
    most = -(-MOST // kline_weight(market, 3))
    many = Many(world, 4 * most)
    assert await many.read(0, 20, is_capped=True) == 20
    await world.until(20_000)
    assert await many.read(20, most + 10, is_capped=True) == most - 20
    await world.until(59_000)
    assert await many.read(most, 2 * most, is_capped=True) == 0
    await world.until(61_000)
    assert await many.read(2 * most, 4 * most, is_capped=True) == 20, (
        "those of the first second count no more"
    )
    await world.until(81_000)
    assert await many.read(3 * most, 4 * most, is_capped=True) == most - 20
    await world.end()


async def test_reads_for_calls_that_wait_are_not_capped_and_take_nothing_from_the_others(
    world: World,
) -> None:
    many = Many(world, 400)
    assert await many.read(0, 100, is_capped=False) == 100
    assert await many.read(100, 200, is_capped=True) == MOST
    assert await many.read(200, 300, is_capped=False) == 100
    assert await many.read(300, 400, is_capped=True) == 0


async def test_read_that_is_shared_or_not_made_costs_nothing(world: World) -> None:
    many = Many(world, 200)
    world.door.held.clear()
    for _ in range(100):
        assert many.kind.read_soon(many.all[0], is_capped=True) is many.all[0].read
    world.door.held.set()
    await world.settle()
    for _ in range(100):
        assert many.kind.read_soon(many.all[0], is_capped=True) is None, "it was read just now"
    assert await many.read(1, 200, is_capped=True) == MOST - 1


async def test_answer_about_many_lacks_what_is_beyond_that_and_a_call_about_one_does_not(
    world: World,
) -> None:
    await world.until(59_000)
    kept = Kept(world, settle_wait_ms=0)
    await kept.fill()
    kept.send(T0)
    await world.until(62_000)
    many = Many(world, MOST)
    many.kind = kept.kind
    assert await many.read(0, MOST, is_capped=True) == MOST
    reads = len(world.door.targets)
    assert await kept.ask(3, is_part=True, is_capped=True) == Miss("not settled")
    assert len(world.door.targets) == reads
    assert times(await kept.ask(3)) == [-1, 0, 1], "a call about one symbol is settled all the same"
    assert len(world.door.targets) == reads + 1


# -- events ---------------------------------------------------------------------------------------


async def test_recorded_events_are_taken(world: World) -> None:
    kept = Kept(world)
    kept.live()
    frame = event(Market.UM, "ws_kline")
    kept.kind.facts.server.set(frame["E"], world.clock.mono(), world.clock.mono())
    assert kept.kind.event(kept.one, frame) is None
    assert kept.one.event_ms == frame["E"]
    assert kept.one.price == frame["k"]["c"]
    final = event(Market.UM, "ws_kline_final")
    kept.kind.facts.server.set(final["E"], world.clock.mono(), world.clock.mono())
    kept.kind.event(kept.one, final)
    assert wire(Market.UM, "ws_kline_final")["stream"] == STREAM


@pytest.mark.parametrize("change", [{"symbol": "ETHUSDT"}, {"interval": "3m"}])
async def test_event_of_another_series_is_refused(world: World, change: dict[str, str]) -> None:
    kept = Kept(world)
    kept.live()
    data = kline_event(T0, T0 + 1000, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another series"):
        kept.kind.event(kept.one, data)


async def test_candle_that_opens_after_its_event_is_refused(world: World) -> None:
    kept = Kept(world)
    with pytest.raises(ValueError, match="future"):
        kept.kind.event(kept.one, kline_event(T0 + MINUTE, T0 + MINUTE - 1))


async def test_event_far_ahead_of_the_clock_is_not_built_upon_and_the_time_is_asked_for(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill()
    kept.send(T0)
    kept.kind.event(kept.one, kline_event(T0 + MINUTE, T0 + 3 * MINUTE))
    assert not kept.one.series.is_synced
    assert kept.kind.facts._resync.is_set()
    assert world.desk.fills == 1
    assert kept.one.series.last_open == T0


async def test_lost_stream_proves_nothing_until_it_was_read_again(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill()
    kept.send(T0)
    assert kept.kind.proof(kept.one) == (0, "event")
    kept.kind.lose(kept.one)
    assert kept.kind.proof(kept.one) == (None, "")
    assert isinstance(await kept.ask(), Miss)
    await kept.fill()
    kept.send(T0)
    assert times(await kept.ask(2)) == [-1, 0]


async def test_late_final_event_corrects_what_a_read_had_settled_and_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.until(62_500)
    kept = Kept(world)
    world.door.lag_ms = 10_000  # REST shows the closed candle without its last trades
    kept.live()
    body = orjson.loads(await world.reader.get(f"{PATH}?symbol=BTCUSDT&interval=1m&limit=3"))
    candles = parse_rows(body, "1m", orjson.dumps, made_ms=world.now_ms)
    kept.one.series.apply_read(candles, world.now_ms, epoch=kept.one.series.epoch)
    kept.send(T0, final=True)
    assert kept.kind.corrected == 1
    assert "corrects the candle" in caplog.text


# -- the witness ----------------------------------------------------------------------------------


async def test_symbol_the_witness_names_is_noted_at_all_its_intervals(world: World) -> None:
    kept = Kept(world)
    other = kept.kind.make("BTCUSDT", "1h", 0.0, is_preload=False)
    kept.kind.begin(other)
    items = event(Market.UM, "ws_mini_tickers")
    kept.kind.facts.server.set(items[0]["E"], world.clock.mono(), world.clock.mono())
    kept.kind.witness.on_frame("!miniTicker@arr", items)
    named_ms = next(item["E"] for item in items if item["s"] == "BTCUSDT")
    assert (kept.one.named_ms, other.named_ms) == (named_ms, named_ms)
    kept.kind.end(other)
    kept.kind.end(kept.one)
    kept.kind.witness.on_frame("!miniTicker@arr", [item | {"E": item["E"] + 1000} for item in items])
    assert kept.one.named_ms == named_ms


async def test_witness_is_wanted_from_the_first_series_on(world: World) -> None:
    tools = world.tools("kline")
    kind, feed = Klines(tools), world.feeds.feed(Market.UM, "miniTicker", "witness")
    assert kind.witness is tools.watch.witness
    assert feed.listeners == {}
    kind.begin(kind.make("BTCUSDT", "1m", 0.0, is_preload=False))
    assert list(feed.listeners) == ["!miniTicker@arr"]


async def test_first_read_of_a_series_settles_no_close(world: World) -> None:
    kept = Kept(world)
    await kept.fill()
    kept.kind.note_read(kept.one, -1)
    assert kept.kind.closes == {}
    kept.kind.note_read(kept.one, kept.one.series.last_close - MINUTE)
    (close,) = kept.kind.closes["1m"].stats()
    assert (close.by_read, close.close_ms) == (1, kept.one.series.last_close + 1)
