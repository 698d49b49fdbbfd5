"""Every hit is what REST would have answered within its told age, whatever streams and REST do.

Plays of a made-up exchange on a loop on which waiting takes no time: events lost, repeated and late, natural
holes, streams that are lost or mute, REST that trails behind, answers slowly or not at all, a witness that
comes and goes, and times in which nothing is traded.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.binance.stream_names import MINI_TICKERS
from resender.errors import EgressExhausted
from resender.market.kinds.base import Hit
from resender.market.kinds.trades import AggTrades, Trades, TradeTails
from resender.market.series import Kept
from tests.support.fast_loop import FastLoop
from tests.support.market_fakes import T0, World
from tests.support.trade_fakes import Counter, History

STEP_MS = 50
SYMBOLS = ("BTCUSDT", "ETHUSDT")
# Two clocks run apart by so much: an age may be told too small.
DRIFT = 200e-6

Step = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Play:
    """What the exchange does, and who asks in between. Units: `lag_ms` milliseconds."""

    market: Market
    kind: type[TradeTails]
    past: int
    lag_ms: int
    is_preload: bool
    steps: tuple[Step, ...]


FATES = st.sampled_from(["told"] * 5 + ["lost", "twice", "old", "skip"])
TRADES = st.tuples(
    st.just("trade"), st.sampled_from(SYMBOLS), st.lists(FATES, min_size=1, max_size=6).map(tuple)
)
WAITS = st.tuples(
    st.just("wait"), st.sampled_from([50, 100, 300, 900, 1100, 2500, 4000, 9000, 12_000, 30_000])
)
ASKS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(SYMBOLS), st.sampled_from([1, 3, 500, 1000])),
    st.tuples(st.just("prices"), st.sampled_from([SYMBOLS[:1], SYMBOLS, SYMBOLS[::-1]])),
)
BUSY = st.tuples(
    st.just("busy"), st.sampled_from([500, 1500, 4000]), st.lists(FATES, min_size=1, max_size=9).map(tuple)
)
FAULTS = st.one_of(
    st.tuples(st.just("drop"), st.sampled_from([0, 200, 3000])),
    st.tuples(st.just("mute"), st.booleans()),
    st.tuples(st.just("witness"), st.booleans()),
    st.tuples(st.just("refuse"), st.booleans()),
    st.tuples(st.just("slow"), st.booleans()),
    st.tuples(st.just("delay"), st.sampled_from([0, 100, 1500])),
)
KINDS = [(Market.SPOT, AggTrades), (Market.UM, AggTrades), (Market.CM, AggTrades), (Market.SPOT, Trades)]
# Much at once about one symbol: what happens while a read is under way, behind or ahead of the stream.
ONE = SYMBOLS[0]
AT_ONCE = st.one_of(
    st.builds(lambda fate: ("trade", ONE, (fate,)), FATES),
    st.builds(lambda fate: ("trade", ONE, (fate,)), FATES),
    st.builds(lambda limit: ("ask", ONE, limit), st.sampled_from([1, 3, 1000])),
    st.just(("prices", SYMBOLS)),
    st.builds(lambda ms: ("wait", ms), st.sampled_from([50, 150, 700, 1100])),
    st.builds(lambda ms: ("drop", ms), st.sampled_from([0, 200])),
    st.builds(lambda on: ("slow", on), st.booleans()),
    st.builds(lambda ms: ("delay", ms), st.sampled_from([0, 100, 1500])),
)
KNOTS = st.builds(
    lambda steps, ms: [*steps, ("slow", False), ("ask", ONE, 3), ("wait", ms), ("ask", ONE, 3)],
    st.lists(AT_ONCE, min_size=3, max_size=20),
    st.sampled_from([100, 1100, 2500, 12_000]),
)
OTHERS = st.lists(st.one_of(ASKS, ASKS, TRADES, TRADES, WAITS, BUSY, FAULTS), min_size=3, max_size=25)
PLAYS = st.builds(
    lambda at, past, lag_ms, is_preload, parts: Play(
        *at, past, lag_ms, is_preload, tuple(step for part in parts for step in part)
    ),
    st.sampled_from(KINDS),
    st.sampled_from([0, 1, 40, 1200]),
    st.sampled_from([0, 0, 80, 600, 1000]),
    st.booleans(),
    st.lists(st.one_of(KNOTS, KNOTS, OTHERS), min_size=1, max_size=5),
)


@dataclass
class Stage:
    """The exchange, the kind that follows it, and what was told."""

    play: Play
    problems: list[str] = field(default_factory=list)
    hits: int = 0
    told: Counts[str] = field(default_factory=Counts)

    async def run(self) -> None:
        play = self.play
        self.world = World(play.market)
        self.counter = Counter(
            self.world, play.kind, *SYMBOLS, is_preload=play.is_preload, mute=self._mute, quiet_s=10.0
        )
        self.queue: deque[tuple[int, dict[str, Any]]] = deque()
        self.delay_ms = 0
        self.is_muted = self.has_witness = False
        self.asking: list[asyncio.Task[None]] = []
        self.good = self.world.door.answers[self.counter.path]
        for history in self.counter.histories.values():
            history.begin_with(play.past)
            history.lag_ms = play.lag_ms
            history.is_odd = True
        self.has_witness = True
        self.counter.live()
        for step in play.steps:
            await getattr(self, f"_{step[0]}")(*step[1:])
        self.world.door.held.set()
        await asyncio.gather(*self.asking)
        await self.world.end()

    # -- time ---------------------------------------------------------------------------------------

    async def _wait(self, ms: int) -> None:
        """Let the time pass: what is under way arrives, and an array each second."""
        counter, world = self.counter, self.world
        end = world.now_ms + ms
        while world.now_ms < end:
            await world.until(min(end, world.now_ms + STEP_MS) - T0)
            self._arrive()
            if (world.now_ms - T0) % 1000 == 0:
                if self.has_witness:
                    counter.array()
                else:
                    counter._named.clear()

    def _arrive(self) -> None:
        while self.queue and self.queue[0][0] <= self.world.now_ms:
            _, event = self.queue.popleft()
            if all(kept.is_live for kept in self.counter.all.values()):
                self.counter.tell(event)

    # -- what the exchange does ---------------------------------------------------------------------

    async def _trade(self, symbol: str, fates: tuple[str, ...]) -> None:
        counter = self.counter
        for fate in fates:
            is_hole = fate == "skip" and self.play.market is not Market.SPOT
            event = counter.trade(symbol, is_told=False, skip=int(is_hole))
            if fate == "lost" or self.is_muted:
                continue
            past = counter.histories[symbol]
            events = [event] * (1 + (fate == "twice"))
            if fate == "old":
                events.append(past.event(past.trades[max(0, len(past.trades) - 3)]))
            self.queue.extend((self.world.now_ms + self.delay_ms, each) for each in events)
        self._arrive()

    async def _busy(self, ms: int, fates: tuple[str, ...]) -> None:
        for number in range(ms // 100):
            await self._trade(SYMBOLS[0], (fates[number % len(fates)],))
            await self._wait(100)
            if number % 3 == 0:
                await self._ask(SYMBOLS[0], (1, 500)[number % 2])

    async def _drop(self, ms: int) -> None:
        self.queue.clear()
        for kept in self.counter.all.values():
            if kept.is_live:
                self.counter.lose(kept)
        await self._wait(ms)
        self.counter.live()

    async def _move(self) -> None:
        await asyncio.sleep(0.7)
        self.is_muted = False
        self.queue.clear()
        for kept in self.counter.all.values():
            if kept.is_live:
                self.counter.lose(kept)
        self.counter.live()

    def _mute(self, on: bool | Kept) -> Any:
        """A step of the exchange, or the word of the kind that something is mute."""
        if isinstance(on, Kept):
            self.told["moved"] += not on.is_mute
            if not on.is_mute:
                on.is_mute = True
                self.asking.append(asyncio.create_task(self._move()))
            return None
        self.is_muted = on
        return asyncio.sleep(0)

    async def _witness(self, on: bool) -> None:
        if self.has_witness and not on:
            self.counter.witness_feed.lose(MINI_TICKERS)
        if on and not self.has_witness:
            self.counter._named.clear()  # what happened before it begins it does not name
        self.has_witness = on

    async def _refuse(self, on: bool) -> None:
        answer = (lambda *_: EgressExhausted("no weight", retry_after_s=1.0)) if on else self.good
        self.world.door.answers[self.counter.path] = answer

    async def _slow(self, on: bool) -> None:
        self.world.door.held.clear() if on else self.world.door.held.set()

    async def _delay(self, ms: int) -> None:
        if self.queue:
            await self._wait(max(0, self.queue[-1][0] - self.world.now_ms))  # none overtakes another
        self.delay_ms = ms

    # -- calls --------------------------------------------------------------------------------------

    async def _ask(self, symbol: str, limit: int) -> None:
        self.asking.append(asyncio.create_task(self._judge_rows(symbol, limit)))
        await self.world.settle()

    async def _prices(self, symbols: tuple[str, ...]) -> None:
        if self.play.kind is Trades:
            self.asking.append(asyncio.create_task(self._judge_prices(symbols)))
            await self.world.settle()

    async def _judge_rows(self, symbol: str, limit: int) -> None:
        begun = self.world.now_ms
        found = await self.counter.ask(limit, symbol)
        history = self.counter.histories[symbol]
        if not self._note(found):
            return
        assert isinstance(found, Hit)
        counts = self._counts(history, begun, found)
        if not any(found.body == history.first(count, limit) for count in counts):
            shown = [row.get("a", row.get("id")) for row in orjson.loads(found.body)][-5:]
            newest = [one.id for one in history.trades[: counts[0]]][-5:]
            self.problems.append(
                f"{begun - T0}: {symbol} {limit} age {found.age_ms}: {shown}, at least {newest}"
            )

    async def _judge_prices(self, symbols: tuple[str, ...]) -> None:
        begun = self.world.now_ms
        found = await self.counter.ask_price(*symbols, is_list=True)
        if not self._note(found):
            return
        assert isinstance(found, Hit)
        rows = orjson.loads(found.body)
        assert [row["symbol"] for row in rows] == list(symbols)
        for row in rows:
            history = self.counter.histories[row["symbol"]]
            counts = self._counts(history, begun, found)
            wanted = {history.trades[count - 1].price if count else "0.00000000" for count in counts}
            if row["price"] not in wanted:
                self.problems.append(f"{begun - T0}: {row} age {found.age_ms}, not of {wanted}")

    def _note(self, found: Any) -> bool:
        is_hit = isinstance(found, Hit)
        self.hits += is_hit
        self.told["hit" if is_hit else found.reason] += 1
        return is_hit

    def _counts(self, history: History, begun: int, hit: Hit) -> range:
        """Return of how many trades REST may have known while the answer was true."""
        now = self.world.now_ms
        slack = 3 + int((now - T0) * DRIFT)
        first = history.count(begun - hit.age_ms - slack - history.lag_ms)
        return range(first, history.count(now) + 1)


def played(play: Play) -> Stage:
    loop = FastLoop()
    try:
        stage = Stage(play)
        loop.run_until_complete(stage.run())
        return stage
    finally:
        loop.close()


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(PLAYS)
def test_every_hit_is_what_rest_would_have_answered(play: Play) -> None:
    assert played(play).problems == []


def polled(*others: Step, times: int = 40, pause_ms: int = 300) -> tuple[Step, ...]:
    """Ask again and again while something goes on."""
    steps: list[Step] = []
    for number in range(times):
        steps += [("wait", pause_ms), ("ask", "BTCUSDT", (1, 500, 1000)[number % 3]), ("prices", SYMBOLS)]
        steps += others[number : number + 1]
    return tuple(steps)


def test_play_without_a_fault_is_hits_from_the_first_read_on() -> None:
    trade = ("trade", "BTCUSDT", ("told", "told", "twice", "old"))
    for market, kind in KINDS:
        stage = played(Play(market, kind, 1200, 0, False, polled(*[trade] * 40)))
        assert stage.problems == []
        assert set(stage.told) <= {"hit", "not settled"}
        assert stage.told["not settled"] <= (5 if kind is Trades else 0), "a product teaches all that come"
        assert len(stage.counter.reads) <= 4


def test_play_of_lost_events_and_a_slow_rest_is_answered_again_after_each() -> None:
    steps: list[Step] = []
    for _ in range(10):
        steps += [("trade", "BTCUSDT", ("told", "lost", "told")), ("ask", "BTCUSDT", 500), ("wait", 2500)]
        steps += [("ask", "BTCUSDT", 500), ("trade", "BTCUSDT", ("told",)), ("ask", "BTCUSDT", 3)]
    stage = played(Play(Market.UM, AggTrades, 1200, 600, False, tuple(steps)))
    assert stage.problems == []
    assert stage.hits >= 20
    assert stage.counter.kind.holes >= 9


def test_play_of_a_mute_stream_ends_with_another_connection() -> None:
    steps = (
        ("busy", 1500, ("told",)),
        ("mute", True),
        *polled(*[("trade", "BTCUSDT", ("told",))] * 60, times=80),
    )
    stage = played(Play(Market.SPOT, AggTrades, 1200, 80, False, steps))
    assert stage.problems == []
    assert stage.told["moved"] == 1
    assert not stage.is_muted


def test_answer_that_lacks_a_trade_is_noticed() -> None:
    stage = Stage(Play(Market.UM, AggTrades, 40, 0, False, polled(*[("trade", "BTCUSDT", ("told",))] * 10)))
    loop = FastLoop()
    ask = Counter.ask

    async def lacking(self: Counter, limit: int = 500, symbol: str = "") -> Any:
        found = await ask(self, limit, symbol)
        if isinstance(found, Hit) and self.world.now_ms > T0 + 2000:
            rows = orjson.loads(found.body)
            return Hit(orjson.dumps(rows[:-2] + rows[-1:]), None, found.age_ms)
        return found

    Counter.ask = lacking  # type: ignore[method-assign]
    try:
        loop.run_until_complete(stage.run())
    finally:
        Counter.ask = ask  # type: ignore[method-assign]
        loop.close()
    assert stage.problems
