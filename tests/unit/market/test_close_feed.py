"""What is told after each close, when and to whom; on a made-up exchange with a clock of its own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from resender.core.binance.intervals import INTERVAL_MS
from resender.core.binance.markets import Market
from resender.market import close_feed
from resender.market.close_feed import CLOSE_INTERVALS, CloseFeeds, CloseOptions
from tests.support.market_fakes import KLINES, MINUTE, SYMBOLS, T0, World, kline_event, row
from tests.unit.market.test_cache import Cached

UM, SPOT = Market.UM, Market.SPOT
CLOSE = T0 + MINUTE


class Ear:
    """One who listens; `heard` holds messages, `at` the milliseconds after T0 at which they came."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.raw: list[bytes] = []
        self.at: list[int] = []
        self.leave: Callable[[], None] = lambda: None
        # Called with each message.
        self.then: Callable[[], Any] = lambda: None

    def __call__(self, message: bytes) -> None:
        self.raw.append(message)
        self.at.append(self._told.world.now_ms - T0)
        self.then()

    @property
    def heard(self) -> list[Any]:
        return [orjson.loads(each) for each in self.raw]

    @property
    def gist(self) -> list[tuple[int, str, str]]:
        """Which candle, which rows and which are missing; symbols by their first letters."""
        return [
            (
                (each["open_time"] - T0) // MINUTE,
                "".join(sorted(name[0] for name in each["rows"])),
                "".join(sorted(name[0] for name in each["missing"])),
            )
            for each in self.heard
        ]


class Told:
    """Feeds of closes over a cache whose series are held and live."""

    def __init__(self, world: World, *, first_ms: int = 0, deadline_ms: int = 3500, **options: Any) -> None:
        self.world = world
        self.cached = Cached(world, **options)
        self.feeds = CloseFeeds(self.cached.cache, CloseOptions(first_ms, deadline_ms), world.tasks)

    async def hold(self, *symbols: str, interval: str = "1m") -> None:
        """Have series kept and their streams live, half a minute before a close."""
        await self.world.until(30_000)
        if symbols:
            self.cached.rules(f"um:{','.join(symbols)}:{interval}")
        await self.world.settle()
        self.stream.live()
        await self.world.settle()

    @property
    def stream(self) -> Any:
        return self.world.feeds.feed(UM, "kline")

    def listen(
        self, *symbols: str, interval: str = "1m", market: Market = UM, then: Callable[[], Any] | None = None
    ) -> Ear:
        ear = Ear(self)
        if then is not None:
            ear.then = then
        ear.leave = self.feeds.listen(market, interval, symbols or None, ear)
        return ear

    async def close(
        self, *symbols: str, after_ms: int = 20, close_ms: int = CLOSE, interval: str = "1m"
    ) -> None:
        """Let the closing events of candles come so long after a close."""
        await self.world.until(close_ms - T0 + after_ms)
        open_time = close_ms - INTERVAL_MS[interval]
        for symbol in symbols:
            event = kline_event(open_time, self.world.now_ms, symbol, interval=interval, final=True)
            self.stream.send(f"{symbol.lower()}@kline_{interval}", event)
        await self.world.settle()

    @property
    def tasks(self) -> list[str]:
        return [name for name in self.world.tasks.names() if name.startswith("closes:")]


@pytest.fixture
async def told(world: World) -> AsyncIterator[Told]:
    made = Told(world)
    await made.hold(*SYMBOLS)
    yield made
    await made.cached.cache.stop()


@pytest.fixture
async def make(world: World) -> AsyncIterator[Callable[..., Any]]:
    """Make what `told` is, with options."""
    made: list[Told] = []

    async def build(*symbols: str, interval: str = "1m", **options: Any) -> Told:
        made.append(Told(world, **options))
        await made[0].hold(*symbols, interval=interval)
        return made[0]

    yield build
    for each in made:
        await each.cached.cache.stop()


def no_proof(told: Told) -> None:
    """From now on no read tells of a close, and nothing else does."""
    told.world.door.lag_ms = 10 * MINUTE


# -- all are final --------------------------------------------------------------------------------


async def test_close_is_told_as_soon_as_the_last_series_is_final(told: Told) -> None:
    ear = told.listen()
    await told.close("BTCUSDT", "ETHUSDT")
    assert ear.raw == []
    await told.close("NKNUSDT", after_ms=70)
    assert ear.at == [MINUTE + 70]
    (message,) = ear.heard
    assert list(message) == ["interval", "open_time", "rows", "missing", "settled_ms"]
    assert (message["interval"], message["open_time"], message["missing"]) == ("1m", T0, [])
    assert message["rows"] == {symbol: row(T0, 60) for symbol in SYMBOLS}
    assert 0 <= message["settled_ms"] <= 100
    await told.world.until(MINUTE + 50_000)
    assert len(ear.raw) == 1, "a close is told once"


async def test_every_close_is_told_one_after_the_other(told: Told) -> None:
    ear = told.listen()
    for number in range(1, 5):
        await told.close(*SYMBOLS, close_ms=T0 + number * MINUTE)
    assert ear.gist == [(number, "BEN", "") for number in range(4)]


@pytest.mark.parametrize("ahead_ms", [100, 300, 1500])
async def test_close_that_comes_before_its_time_by_our_clock_is_told_once(told: Told, ahead_ms: int) -> None:
    ear = told.listen()
    await told.world.until(MINUTE - ahead_ms)
    for symbol in SYMBOLS:
        told.stream.send(f"{symbol.lower()}@kline_1m", kline_event(T0, CLOSE + 10, symbol, final=True))
    await told.world.until(MINUTE + 400)
    assert ear.gist == [(0, "BEN", "")]
    assert ear.heard[0]["settled_ms"] >= 0
    await told.close(*SYMBOLS, close_ms=CLOSE + MINUTE)
    assert len(ear.raw) == 2


@pytest.mark.parametrize("after_ms", [-5000, -100, -1])
async def test_event_dated_before_the_close_is_no_proof(told: Told, after_ms: int) -> None:
    no_proof(told)
    ear = told.listen()
    await told.close(*SYMBOLS, after_ms=after_ms)
    await told.world.until(MINUTE + 3600)
    assert ear.gist == [(0, "", "BEN")]


async def test_named_symbols_alone_are_told_in_messages_of_their_own(told: Told) -> None:
    every, one, two = told.listen(), told.listen("ETHUSDT"), told.listen("ETHUSDT", "BTCUSDT")
    await told.close("ETHUSDT")
    assert [ear.gist for ear in (every, one, two)] == [[], [(0, "E", "")], []]
    await told.close("BTCUSDT", after_ms=50)
    assert two.gist == [(0, "BE", "")]
    assert list(two.heard[0]["rows"]) == ["ETHUSDT", "BTCUSDT"]


async def test_one_message_is_made_for_all_who_want_the_same(told: Told) -> None:
    ears = [told.listen() for _ in range(3)]
    assert len(told.tasks) == 1
    await told.close(*SYMBOLS)
    first, *others = [ear.raw[0] for ear in ears]
    assert all(each is first for each in others)


async def test_series_that_are_held_at_the_close_are_told_and_no_others(told: Told) -> None:
    ear = told.listen()
    told.world.door.symbols.append("SOLUSDT")
    told.cached.rules("um:BTCUSDT:1m")
    await told.world.settle()
    await told.close("BTCUSDT")
    assert ear.gist == [(0, "B", "")]


async def test_where_nothing_is_held_closes_have_no_rows_and_cost_no_read(make: Any) -> None:
    told = await make()
    ear = told.listen()
    await told.world.until(3 * MINUTE)
    assert ear.heard
    assert all((each["rows"], each["missing"]) == ({}, []) for each in ear.heard)
    assert all(0 <= each["settled_ms"] < 1000 for each in ear.heard)
    assert told.world.door.asked(KLINES[UM]) == []


async def test_other_interval_closes_at_its_own_time(make: Any) -> None:
    told = await make("BTCUSDT", interval="3m")
    three = 3 * MINUTE
    close_ms = (T0 // three + 1) * three
    ear = told.listen(interval="3m")
    await told.close("BTCUSDT", close_ms=close_ms, interval="3m")
    assert [each["open_time"] for each in ear.heard] == [close_ms - three]
    assert ear.heard[0]["rows"]["BTCUSDT"][6] == close_ms - 1


# -- some are not ---------------------------------------------------------------------------------


async def test_what_is_missing_at_the_deadline_is_named_and_follows(told: Told) -> None:
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT", "NKNUSDT")
    await told.world.until(MINUTE + 3600)
    assert ear.gist == [(0, "BN", "E")]
    assert ear.at[0] == pytest.approx(MINUTE + 3500, abs=50)
    await told.close("ETHUSDT", after_ms=5000)
    assert ear.gist == [(0, "BN", "E"), (0, "E", "")]
    await told.world.until(MINUTE + 50_000)
    assert len(ear.raw) == 2


async def test_late_ones_come_in_one_message_when_the_last_is_there(told: Told) -> None:
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT")
    await told.close("ETHUSDT", after_ms=6000)
    await told.world.until(MINUTE + 14_000)
    assert ear.gist == [(0, "B", "EN")]
    await told.close("NKNUSDT", after_ms=15_000)
    await told.world.until(MINUTE + 18_000)
    assert ear.gist == [(0, "B", "EN"), (0, "EN", "")]


async def test_what_never_comes_is_given_up_and_the_next_close_is_told_in_time(told: Told) -> None:
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT")
    await told.close("ETHUSDT", after_ms=6000)
    await told.world.until(MINUTE + 45_000)
    assert ear.gist == [(0, "B", "EN"), (0, "E", "N")]
    assert MINUTE + 28_000 < ear.at[1] < MINUTE + 39_000
    told.world.door.lag_ms = 0
    await told.close(*SYMBOLS, close_ms=CLOSE + MINUTE)
    await told.world.until(2 * MINUTE + 8000)
    assert ear.gist[2][:2] == (1, "BEN")
    assert ear.at[2] < 2 * MINUTE + 5000


async def test_without_any_proof_the_deadline_names_all_and_nothing_follows(told: Told) -> None:
    no_proof(told)
    ear = told.listen()
    await told.world.until(MINUTE + 55_000)
    assert ear.gist == [(0, "", "BEN")]


async def test_row_of_another_candle_is_never_told_as_this_ones(told: Told) -> None:
    no_proof(told)
    ear = told.listen()
    await told.world.until(MINUTE + 20)
    # The stream goes on with the next candle, and the close of the last one is lost.
    for symbol in SYMBOLS:
        event = kline_event(CLOSE, told.world.now_ms, symbol)
        told.stream.send(f"{symbol.lower()}@kline_1m", event)
    await told.world.until(MINUTE + 50_000)
    for message in ear.heard:
        assert all(each[0] == message["open_time"] for each in message["rows"].values())
    assert ear.gist == [(0, "", "BEN")]


async def test_symbol_that_is_not_traded_any_more_is_missing(told: Told) -> None:
    ear = told.listen("BTCUSDT", "NKNUSDT")
    told.world.door.symbols.remove("NKNUSDT")
    await told.cached.cache.states[UM].facts._read_symbols()
    await told.close("BTCUSDT")
    await told.world.until(MINUTE + 50_000)
    assert ear.gist == [(0, "B", "N")]


# -- ahead of the others --------------------------------------------------------------------------


async def test_first_message_goes_out_early_and_the_next_has_the_rest_only(make: Any) -> None:
    told = await make(*SYMBOLS, first_ms=300)
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT", "ETHUSDT")
    await told.close("NKNUSDT", after_ms=800)
    assert ear.gist == [(0, "BE", "N"), (0, "N", "")]
    assert ear.at == [pytest.approx(MINUTE + 300, abs=20), MINUTE + 800]


async def test_all_that_are_final_early_need_one_message(make: Any) -> None:
    told = await make(*SYMBOLS, first_ms=300)
    ear = told.listen()
    await told.close(*SYMBOLS)
    await told.world.until(MINUTE + 50_000)
    assert (ear.gist, ear.at) == ([(0, "BEN", "")], [MINUTE + 20])


async def test_nothing_is_told_early_when_nothing_is_final(make: Any) -> None:
    told = await make(*SYMBOLS, first_ms=300)
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT", after_ms=1000)
    await told.world.until(MINUTE + 50_000)
    assert ear.gist == [(0, "B", "EN")]
    assert ear.at[0] > MINUTE + 3000


async def test_deadline_speaks_even_if_there_is_nothing_new(make: Any) -> None:
    told = await make(*SYMBOLS, first_ms=300)
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT")
    await told.world.until(MINUTE + 50_000)
    assert ear.gist == [(0, "B", "EN"), (0, "", "EN")]


@pytest.mark.parametrize("first_ms", [3500, 5000, 8000])
async def test_first_message_that_would_come_behind_the_deadline_is_none(make: Any, first_ms: int) -> None:
    told = await make(*SYMBOLS, first_ms=first_ms)
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT")
    await told.world.until(MINUTE + 50_000)
    assert ear.gist == [(0, "B", "EN")]
    assert ear.at[0] < MINUTE + 3600


# -- who listens ----------------------------------------------------------------------------------


async def test_who_comes_late_is_told_of_the_next_close(told: Told) -> None:
    told.listen()
    await told.close(*SYMBOLS)
    late = told.listen()
    await told.close(*SYMBOLS, close_ms=CLOSE + MINUTE)
    assert late.gist == [(1, "BEN", "")]


async def test_who_has_left_is_told_nothing_and_the_others_still_are(told: Told) -> None:
    gone, stays = told.listen(), told.listen()
    gone.leave()
    gone.leave()
    await told.close(*SYMBOLS)
    assert (gone.raw, stays.gist) == ([], [(0, "BEN", "")])


async def test_nothing_is_waited_for_once_nobody_listens(told: Told) -> None:
    ears = [told.listen(), told.listen(), told.listen("BTCUSDT")]
    assert len(told.tasks) == 2
    for ear in ears:
        ear.leave()
    await told.world.settle()
    assert told.tasks == []
    assert told.feeds._topics == {}


@pytest.mark.parametrize("after_ms", [-5000, -100, 10, 3600, 8000])
async def test_last_one_may_leave_at_any_time(told: Told, after_ms: int) -> None:
    no_proof(told)
    ear = told.listen()
    await told.close("BTCUSDT", after_ms=min(after_ms, 5))
    await told.world.until(MINUTE + after_ms)
    count = len(ear.raw)
    ear.leave()
    await told.world.settle()
    assert told.tasks == []
    kept = told.cached.cache.states[UM].entries()
    assert not any(getattr(each, "final_waiters", None) for each in kept)
    await told.close("ETHUSDT", "NKNUSDT", after_ms=after_ms + 10)
    assert len(ear.raw) == count


async def test_last_one_leaves_while_it_is_being_told(told: Told) -> None:
    ear = told.listen()
    ear.then = ear.leave
    await told.close(*SYMBOLS)
    assert len(ear.raw) == 1
    assert told.tasks == []
    assert told.feeds._topics == {}
    await told.close(*SYMBOLS, close_ms=CLOSE + MINUTE)
    assert len(ear.raw) == 1


async def test_one_that_comes_back_while_the_last_leaves_is_told_of_the_next_close(told: Told) -> None:
    again: list[Ear] = []

    def leave_and_come_back() -> None:
        ear.leave()
        again.append(told.listen())

    ear = told.listen()
    ear.then = leave_and_come_back
    await told.close(*SYMBOLS)
    assert len(told.tasks) == 1
    ear.leave()  # late: it must not end what the other one listens to
    await told.close(*SYMBOLS, close_ms=CLOSE + MINUTE)
    assert (len(ear.raw), again[0].gist) == (1, [(1, "BEN", "")])


async def test_others_who_leave_or_come_while_one_is_told_harm_nobody(told: Told) -> None:
    ears = [told.listen() for _ in range(4)]
    new: list[Ear] = []

    def others() -> None:
        ears[0].leave()
        ears[2].leave()
        new.append(told.listen())

    ears[1].then = others
    await told.close(*SYMBOLS)
    assert [len(ear.raw) for ear in ears] == [1, 1, 1, 1]
    assert new[0].raw == []
    await told.close(*SYMBOLS, close_ms=CLOSE + MINUTE)
    assert [len(ear.raw) for ear in ears] == [1, 2, 1, 2]
    assert len(new[0].raw) == 1


async def test_one_that_cannot_be_told_costs_the_others_nothing(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("full")

    no_proof(told)
    ears = [told.listen(), told.listen(then=fail), told.listen()]
    with caplog.at_level(logging.CRITICAL, logger="resender.market"):
        await told.close("BTCUSDT")
        await told.world.until(MINUTE + 3600)
        await told.close("ETHUSDT", "NKNUSDT", after_ms=5000)
    assert [ear.gist for ear in ears] == [[(0, "B", "EN"), (0, "EN", "")]] * 3


async def test_failure_of_the_wait_costs_that_close_and_no_later_one(
    told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ear = told.listen()
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL, logger="resender.market"):

        async def fail(*args: Any, **options: Any) -> Any:
            raise ValueError("a bug")

        patch.setattr(close_feed, "wait_for_closes", fail)
        await told.close(*SYMBOLS)
    await told.close(*SYMBOLS, close_ms=CLOSE + MINUTE)
    assert ear.gist == [(1, "BEN", "")]


# -- what is not held yet -------------------------------------------------------------------------


async def test_named_symbol_nobody_else_wants_is_read_and_told_at_the_first_close(make: Any) -> None:
    told = await make()
    assert told.world.door.targets == [], "nothing is asked before somebody listens"
    ear = told.listen("ETHUSDT")
    await told.world.until(33_000)
    assert told.cached.kept() == [("ETHUSDT", "1m")]
    told.stream.live()
    await told.close("ETHUSDT")
    assert ear.gist == [(0, "E", "")]


async def test_named_symbol_is_kept_while_somebody_listens_though_closes_are_far_apart(make: Any) -> None:
    told = await make(idle_minutes=5)
    ear = told.listen("BTCUSDT", interval="1h")
    await told.world.until(30 * MINUTE)
    assert told.cached.kept() == [("BTCUSDT", "1h")]
    ear.leave()
    await told.world.until(40 * MINUTE)
    assert told.cached.kept() == []


async def test_named_symbol_that_comes_to_be_traded_is_kept_from_then_on(make: Any) -> None:
    told = await make()
    told.listen("SOLUSDT", interval="1h")
    await told.world.until(2 * MINUTE)
    assert told.cached.kept() == []
    told.world.door.symbols.append("SOLUSDT")
    await told.world.until(4 * MINUTE)
    assert told.cached.kept() == [("SOLUSDT", "1h")]


async def test_no_more_is_kept_for_listeners_than_on_demand_is_allowed(make: Any) -> None:
    told = await make(max_on_demand=1)
    ear = told.listen("BTCUSDT", "ETHUSDT")
    await told.world.until(33_000)
    assert told.cached.kept() == [("BTCUSDT", "1m")]
    told.stream.live()
    await told.close("BTCUSDT")
    await told.world.until(MINUTE + 3600)
    assert ear.gist == [(0, "B", "E")]


async def test_exchange_whose_time_is_not_known_is_waited_for(make: Any) -> None:
    told = await make()
    told.world.door.held.clear()
    ear = told.listen("BTCUSDT")
    await told.world.until(100_000)
    assert ear.raw == []
    told.world.door.held.set()
    await told.world.until(105_000)
    told.stream.live()
    await told.close("BTCUSDT", close_ms=CLOSE + MINUTE)
    assert ear.gist == [(1, "B", "")]


async def test_clock_that_is_set_back_tells_no_close_twice(told: Told) -> None:
    ear = told.listen()
    await told.close(*SYMBOLS)
    mono = told.world.clock.mono()
    told.cached.cache.states[UM].facts.server.set(CLOSE - 3000, mono, mono)
    await told.world.until(MINUTE + 10_000)
    assert ear.gist == [(0, "BEN", "")]


async def test_close_that_was_slept_through_is_named_missing_and_the_next_is_told(told: Told) -> None:
    ear = told.listen()
    mono = told.world.clock.mono()
    told.cached.cache.states[UM].facts.server.set(T0 + 10 * MINUTE + 30_000, mono, mono)
    await told.world.until(40_000)
    assert all(gist[1] == "" for gist in ear.gist)
    assert len(ear.raw) <= 1


def test_intervals_that_are_told_close_on_a_grid_of_utc() -> None:
    assert {"1s", "1m", "3m", "1h", "12h", "1d"} <= set(CLOSE_INTERVALS)
    assert not {"3d", "1w", "1M"} & set(CLOSE_INTERVALS)
    assert all(86_400_000 % INTERVAL_MS[word] == 0 for word in CLOSE_INTERVALS)


async def test_names_are_written_as_json_whatever_they_are(make: Any) -> None:
    told = await make()
    told.world.door.symbols.append("币安人生USDT")
    told.cached.rules("um:币安人生USDT:1m")
    await told.world.settle()
    told.stream.live()
    ear = told.listen()
    await told.close("币安人生USDT")
    assert list(ear.heard[0]["rows"]) == ["币安人生USDT"]
    assert "币安人生USDT".encode() in ear.raw[0]
