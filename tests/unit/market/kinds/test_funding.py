"""Funding rates: complete up to now or not told, whatever becomes of the stream and however late REST is."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.requests import FundingRequest, Miss
from resender.errors import UpstreamLost
from resender.market.kinds.base import Hit
from resender.market.kinds.funding import FundingRates
from resender.market.series import KeptFunding
from tests.support.market_fakes import MINUTE, T0, World

PATH = "/fapi/v1/fundingRate"
STREAM = "btcusdt@markPrice@1s"
HOUR = 60 * MINUTE
#: The first full hour, in milliseconds after T0.
FIRST = HOUR - T0 % HOUR


class Venue:
    """Pays at the hours of `paid` (numbers, 0 is at FIRST) and those before T0; REST shows it `lag_s` later."""

    def __init__(self, world: World, *, every_h: int = 1) -> None:
        self.world = world
        self.paid = [n for n in range(-40, 100) if n % every_h == 0]
        self.lag_s = 0.0
        self.shown_ms = 0
        world.door.answers[PATH] = lambda _, params: self.rows(int(params["limit"]))

    def times(self) -> list[int]:
        # What was shown once is not hidden again.
        self.shown_ms = max(self.shown_ms, self.world.now_ms - int(self.lag_s * 1000))
        return [each for each in (T0 + FIRST + n * HOUR + n % 7 for n in self.paid) if each <= self.shown_ms]

    def rows(self, limit: int = 1000, start: int | None = None, end: int | None = None) -> list[Any]:
        found = [
            each for each in self.times() if (start is None or each >= start) and (end is None or each <= end)
        ]
        found = found[-limit:] if start is None else found[:limit]
        return [
            {"symbol": "BTCUSDT", "fundingTime": each, "fundingRate": f"0.{each % 9973}"} for each in found
        ]

    def next_ms(self) -> int:
        now = self.world.now_ms
        return min(T0 + FIRST + n * HOUR for n in self.paid if T0 + FIRST + n * HOUR > now)


class Kept:
    """The rates of one symbol, subscribed, with an exchange that pays them."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.venue = Venue(world, **options)
        self.kind = FundingRates(world.tools("markPrice"))
        self.feed = world.feeds.feed(Market.UM, "markPrice")
        self.one: KeptFunding = self.kind.make("BTCUSDT", "fundingRate", 0.0, is_preload=False)
        self.kind.kept["BTCUSDT", "fundingRate"] = self.one
        self.kind.begin(self.one)
        self.feed.subscribe([STREAM], self)
        self.live()

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.one, data)

    def live(self) -> None:
        self.one.is_live = True
        self.kind.live(self.one)

    def lose(self) -> None:
        self.one.is_live = False
        self.kind.lose(self.one)

    def send(self, **values: Any) -> None:
        event = {"e": "markPriceUpdate", "E": self.world.now_ms, "s": "BTCUSDT", "T": self.venue.next_ms()}
        self.feed.send(STREAM, event | values)

    async def at(self, after_ms: int, *, is_told: bool = True) -> None:
        await self.world.until(after_ms)
        if is_told:
            self.send()

    async def ask(self, limit: int = 5, start: int | None = None, end: int | None = None) -> Hit | Miss:
        found = self.kind.answer(FundingRequest(Market.UM, "BTCUSDT", limit, start, end), packed=False)
        return found if isinstance(found, Hit | Miss) else await found

    async def reason(self, **options: Any) -> str:
        found = await self.ask(**options)
        assert isinstance(found, Miss), found
        return found.reason

    async def right(self, limit: int = 5, start: int | None = None, end: int | None = None) -> list[Any]:
        found = await self.ask(limit, start, end)
        assert isinstance(found, Hit), found
        rows: list[Any] = orjson.loads(found.body)
        assert rows == self.venue.rows(limit, start, end)
        return rows


async def test_rates_are_told_after_one_read_until_the_next_is_due(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST + 20 * MINUTE)
    assert len(await kept.right()) == 5
    for minute in range(21, 60):
        await kept.at(FIRST + minute * MINUTE)
        await kept.right()
    assert len(world.door.asked(PATH)) == 1
    assert world.desk.hits == kept.one.hits == 40


async def test_all_who_ask_at_once_are_served_by_one_read(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST + 20 * MINUTE)
    found = await asyncio.gather(*(kept.ask() for _ in range(20)))
    assert all(isinstance(each, Hit) for each in found)
    assert len(world.door.asked(PATH)) == 1


async def test_rate_nobody_asked_for_before_is_begun(world: World) -> None:
    kept = Kept(world)
    found = kept.kind.answer(FundingRequest(Market.UM, "ETHUSDT", 5), packed=False)
    assert found == Miss("not held yet")
    assert world.desk.begun == [(Market.UM, "ETHUSDT", "fundingRate")]


@pytest.mark.parametrize("every_h", [1, 4, 8])
async def test_rate_that_has_been_due_is_never_missing(world: World, every_h: int) -> None:
    kept = Kept(world, every_h=every_h)
    for hour in range(9):
        await kept.at(FIRST + hour * HOUR + 20 * MINUTE)
        rows = await kept.right()
        assert rows[-1]["fundingTime"] >= world.now_ms - every_h * HOUR
    assert len(world.door.asked(PATH)) <= 2 + 8 // every_h, "a read is due only where something was"


async def test_while_rest_does_not_show_the_new_rate_calls_go_up_and_it_is_read_seldom(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST - 10 * MINUTE)
    await kept.right()
    kept.venue.lag_s = 200.0
    reads = len(world.door.asked(PATH))
    for second in range(0, 195, 5):
        await kept.at(FIRST + second * 1000)
        assert await kept.reason() in ("not read yet", "not settled")
    assert len(world.door.asked(PATH)) - reads <= 195 / 30 + 1
    await kept.at(FIRST + 240_000)
    await kept.right()


async def test_from_the_moment_it_is_due_nothing_is_told_though_the_stream_is_late(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST - 5000)
    await kept.right()
    due = kept.venue.next_ms()
    await kept.at(FIRST - 1500, is_told=False)
    kept.send(T=due)
    await kept.right()
    await kept.at(FIRST + 1, is_told=False)
    assert await kept.reason() == "not settled"
    kept.send(T=due)  # the stream still says so
    assert await kept.reason() == "not settled"


async def test_time_the_exchange_may_have_passed_counts_as_passed(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST - 5000)
    await kept.right()
    mono = world.clock.mono()
    kept.kind.facts.server.is_set = False
    kept.kind.facts.server.set(world.now_ms, mono - 0.6, mono)  # an answer that took long tells little
    await kept.at(FIRST - 300)
    assert kept.kind.facts.now_ms() < T0 + FIRST - 300
    assert await kept.reason() == "not settled"


async def test_rate_paid_while_the_stream_was_lost_is_not_overlooked(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST - 10 * MINUTE)
    await kept.right()
    kept.lose()
    assert await kept.reason() == "stream not live"
    kept.live()
    assert await kept.reason() == "stream quiet", "it has not said when the next one is due"
    kept.lose()
    await kept.at(FIRST + 20 * MINUTE, is_told=False)
    kept.live()
    kept.send()
    assert (await kept.right())[-1]["fundingTime"] >= T0 + FIRST


async def test_rate_paid_out_of_its_turn_while_the_stream_was_lost_is_not_overlooked(world: World) -> None:
    kept = Kept(world, every_h=8)
    await kept.at(FIRST + 20 * MINUTE)
    await kept.right()
    kept.lose()
    kept.venue.paid = sorted({*kept.venue.paid, 1})  # from now on it is paid sooner
    await kept.at(FIRST + HOUR + 20 * MINUTE, is_told=False)
    kept.live()
    kept.send()
    assert (await kept.right())[-1]["fundingTime"] >= T0 + FIRST + HOUR


async def test_stream_that_is_quiet_says_nothing_of_when_the_next_one_is_due(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST + 20 * MINUTE)
    await kept.right()
    await kept.at(FIRST + 20 * MINUTE + 10_500, is_told=False)
    assert await kept.reason() == "stream quiet"
    kept.send()
    await kept.right()


async def test_ended_range_needs_no_stream_to_speak_and_an_open_one_does(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST + 3 * HOUR + 20 * MINUTE)
    await kept.right()
    await kept.at(FIRST + 4 * HOUR + 20 * MINUTE, is_told=False)
    start, newest = T0 + FIRST - 2 * HOUR, T0 + FIRST + 2 * HOUR
    assert len(await kept.right(9, start, newest)) == 4, "that of the very hour is a little late"
    assert len(await kept.right(3, start)) == 3, "full before the newest"
    assert await kept.reason(limit=9, start=start) == "stream quiet"
    assert await kept.reason(limit=9, start=start, end=newest + 3 * HOUR) == "stream quiet"


async def test_range_from_before_what_is_held_goes_to_the_exchange(world: World) -> None:
    kept = Kept(world)
    kept.venue.paid = list(range(-1500, 100))
    await kept.at(FIRST + 20 * MINUTE)
    assert len(await kept.right(1000)) == 1000
    assert await kept.reason(limit=5, start=T0 + FIRST - 1200 * HOUR) == "range not held"
    await kept.right(5, T0 + FIRST - 900 * HOUR)
    assert len(world.door.asked(PATH)) == 1


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[1]", b'[{"fundingTime":"1"}]', UpstreamLost("gone")])
async def test_read_that_fails_is_a_miss_and_not_repeated_at_once(world: World, answer: Any) -> None:
    kept = Kept(world)
    world.door.answers[PATH] = lambda *_: answer
    await kept.at(FIRST + 20 * MINUTE)
    for _ in range(5):
        assert await kept.reason() == "not read yet"
    assert len(world.door.asked(PATH)) == 1


async def test_answer_without_rows_takes_away_what_was_held(world: World, caplog: Any) -> None:
    kept = Kept(world)
    await kept.at(FIRST + 20 * MINUTE)
    await kept.right()
    world.door.answers[PATH] = lambda *_: []
    await kept.at(FIRST + HOUR + 20 * MINUTE)
    assert isinstance(await kept.ask(), Miss)
    assert "has changed" in caplog.text


async def test_symbol_that_pays_none_is_told_so_only_when_rest_has_said_so(world: World) -> None:
    kept = Kept(world)
    kept.venue.paid = [5]
    await kept.at(FIRST + 20 * MINUTE)
    assert await kept.right() == []


@pytest.mark.parametrize(
    "values",
    [{"s": "ETHUSDT"}, {"T": "1"}, {"T": None}, {"T": True}, {"E": None}, {"E": 1.5}],
)
async def test_event_that_cannot_be_used_is_refused_and_changes_nothing(world: World, values: Any) -> None:
    kept = Kept(world)
    await kept.at(FIRST + 20 * MINUTE)
    before = kept.one.next_ms, kept.one.event_mono
    await kept.at(FIRST + 20 * MINUTE + 1000, is_told=False)
    with pytest.raises(ValueError, match="mark price"):
        kept.send(**values)
    assert (kept.one.next_ms, kept.one.event_mono) == before


async def test_dated_contract_that_pays_none_is_left_to_the_exchange(world: World) -> None:
    kept = Kept(world)
    await kept.at(FIRST + 20 * MINUTE, is_told=False)
    kept.send(T=0)
    assert await kept.reason() == "stream quiet"


async def test_proof_is_the_age_of_the_stream(world: World) -> None:
    kept = Kept(world)
    assert kept.kind.proof(kept.one) == (None, "")
    await kept.at(FIRST + 20 * MINUTE)
    await kept.right()
    await world.until(FIRST + 20 * MINUTE + 700)
    age_ms, kind = kept.kind.proof(kept.one)
    assert kind == "event"
    assert age_ms == pytest.approx(700, abs=2)
    kept.lose()
    assert kept.kind.proof(kept.one) == (None, "")


def test_spot_has_no_funding() -> None:
    assert FundingRates.words(Market.SPOT) == frozenset()
    assert FundingRates.paths(Market.SPOT) == {}
    assert set(FundingRates.paths(Market.CM)) == {"/dapi/v1/fundingRate"}


@pytest.mark.parametrize("seed", range(12))
async def test_no_hit_is_ever_wrong_whatever_happens_in_a_day(world: World, seed: int) -> None:
    dice = random.Random(seed)
    kept = Kept(world, every_h=dice.choice((1, 2, 4, 8)))
    good, hits, now = world.door.answers[PATH], 0, FIRST - 30 * MINUTE
    while now < FIRST + 24 * HOUR:
        # Mostly around the hours, in small steps.
        to_hour = (FIRST - now) % HOUR
        is_near = to_hour < 60_000 or to_hour > HOUR - 11 * MINUTE
        now += dice.choice((100, 1000, 5000, 20_000)) if is_near else dice.choice((30_000, 400_000))
        chance = dice.random()
        await kept.at(now, is_told=kept.one.is_live and chance < 0.7)
        kept.venue.lag_s = max(0.0, kept.venue.lag_s + dice.choice((-60, 0, 0, 30))) % 300
        if chance > 0.96:
            kept.lose()
        elif not kept.one.is_live and chance > 0.8:
            kept.live()
        elif not kept.one.is_live and chance < 0.1:  # it is paid at other times from now on
            coming = [n for n in range(100) if FIRST + n * HOUR > now and n % dice.choice((1, 2, 4)) == 0]
            kept.venue.paid = [n for n in kept.venue.paid if FIRST + n * HOUR <= now] + coming
        world.door.answers[PATH] = (lambda *_: b"<html>") if dice.random() < 0.1 else good
        limit, start = dice.choice((1, 5, 60)), None
        if dice.random() < 0.3:
            start = T0 + FIRST + dice.randrange(-30, 24) * HOUR
        before = kept.venue.rows(limit, start)
        found = await kept.ask(limit, start)
        if isinstance(found, Hit):
            hits += 1
            told, after = orjson.loads(found.body), kept.venue.rows(limit, start)
            shown = [
                [(row["fundingTime"] - T0 - FIRST) / HOUR for row in each] for each in (told, before, after)
            ]
            assert told in (before, after), (now - FIRST, shown)
    assert hits > 50
