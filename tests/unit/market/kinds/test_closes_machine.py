"""No closed row is ever told that differs from the final one, whatever finals, REST and streams do.

The simulated exchange's own stores and streams on a loop on which waiting takes no time: every profile
of finals, REST up to a second behind, streams lost in the middle, calls that wait and calls that do not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resender.core.binance.endpoints import KLINES
from resender.core.binance.markets import Market
from resender.core.market.preload import parse_rule
from resender.core.market.requests import KlineRequest
from resender.market import CacheOptions, Hit, Klines, MarketCache, wait_for_closes
from resender.sandbox.config import SandboxConfig
from resender.sandbox.exchange import Exchange
from resender.sandbox.stream_feed import StreamFeed
from resender.sandbox.stream_names import parse_stream
from tests.support.fast_loop import FastLoop
from tests.support.market_fakes import MINUTE, T0, FakeFeed, World

STEP_MS = 50
MINUTES = 3
SYMBOLS = ("BTCUSDT", "SIM003USDT", "CTKUSDT")  # busy, usual, quiet
WITNESS = "!miniTicker@arr"


@dataclass(frozen=True, slots=True)
class Ask:
    """A call. Units: milliseconds since T0, `wait_ms` None for one that does not want closed rows only."""

    at_ms: int
    wait_ms: int | None
    limit: int


@dataclass(frozen=True, slots=True)
class Play:
    """What the exchange does, and who asks when. Shape: `outages` are times at which all streams are lost."""

    market: Market
    seed: int
    finals: str | float | None
    rest_lag_ms: int
    measured: bool
    swallow: bool
    wanted: str
    outages: tuple[int, ...]
    asks: tuple[Ask, ...]


ASKS = st.builds(
    Ask,
    st.one_of(
        st.integers(0, MINUTES * MINUTE - 9000),
        st.builds(lambda n, d: n * MINUTE + d, st.integers(0, MINUTES - 1), st.integers(-300, 4000)).map(abs),
    ),
    st.sampled_from([None, 0, 300, 1500, 3000, 8000]),
    st.integers(1, 5),
)
PLAYS = st.builds(
    Play,
    market=st.sampled_from([Market.UM, Market.SPOT]),
    seed=st.integers(1, 1000),
    finals=st.sampled_from([None, "plain", "continuous", "spot", "measured", 0.0, 900.0, 2500.0, 6000.0]),
    rest_lag_ms=st.integers(0, 1000),
    measured=st.booleans(),
    swallow=st.booleans(),
    wanted=st.sampled_from(["continuous", "plain"]),
    outages=st.lists(st.integers(0, MINUTES * MINUTE), max_size=2).map(tuple),
    asks=st.lists(ASKS, min_size=10, max_size=40).map(tuple),
)


@dataclass
class Stage:
    """The exchange, the program's cache on it, and what was told."""

    play: Play
    told: list[tuple[str, int, list[Any]]] = field(default_factory=list)
    waits: int = 0

    def __post_init__(self) -> None:
        play = self.play
        self.world = World(play.market)
        names = {"um_symbols": SYMBOLS, "spot_symbols": SYMBOLS, "cm_symbols": 1}
        config = SandboxConfig(
            seed=play.seed, clock_ms=lambda: self.world.now_ms, rest_lag_ms=play.rest_lag_ms,
            final_delay=play.finals, measured=play.measured, **names,  # type: ignore[arg-type]
        )  # fmt: skip
        self.exchange = Exchange(config)
        self.store = self.exchange.stores[play.market]
        faults = self.exchange.faults.stream(play.market)
        faults.swallow_final = play.swallow
        self.frames: list[tuple[str, str]] = []
        self.feed = StreamFeed(
            self.exchange, play.market, faults, lambda name, text: self.frames.append((name, text))
        )
        self.known: dict[str, FakeFeed] = {}
        door = self.world.door
        door.answers[KLINES[play.market]] = self._klines
        door.answers[KLINES[play.market].replace("klines", "exchangeInfo")] = self._info
        self.cache = MarketCache(
            CacheOptions(depth=20, um_kline_stream=play.wanted),
            door=door, feeds=self.world.feeds, clock=self.world.clock, tasks=self.world.tasks,
        )  # fmt: skip

    def _klines(self, target: str, params: dict[str, str]) -> bytes:
        end = int(params["endTime"]) if "endTime" in params else None
        return self.exchange.rest_klines(
            self.store,
            params["symbol"],
            params["interval"],
            None,
            end,
            int(params["limit"]),
            self.world.now_ms,
        )

    def _info(self, target: str, params: dict[str, str]) -> Any:
        rows = [
            {
                "symbol": spec.symbol,
                "status": "TRADING",
                "pair": spec.pair,
                "contractType": spec.contract_type,
            }
            for spec in (series.spec for series in self.store.series.values())
        ]
        return {"serverTime": self.world.now_ms, "rateLimits": [], "symbols": rows}

    async def run(self) -> None:
        self.cache.start()
        self.cache.set_rules([parse_rule(self.play.market.value, "*", "1m")])
        asking = [asyncio.create_task(self._ask(one)) for one in self.play.asks]
        outages = sorted(self.play.outages)
        for now in range(0, MINUTES * MINUTE, STEP_MS):
            await self.world.until(now)
            if outages and now >= outages[0]:
                outages.pop(0)
                self._lose()
            self._tick()
        await asyncio.gather(*asking)
        await self.cache.stop()
        await self.world.end()

    def _feeds(self) -> list[FakeFeed]:
        return list(self.world.feeds.made.values())

    def _tick(self) -> None:
        """Subscribe what is wanted by now, and bring what the exchange pushes."""
        now = self.world.now_ms
        wanted = {name: feed for feed in self._feeds() for name in feed.listeners}
        for name in set(self.known) - set(wanted):
            del self.known[name]
            self.feed.discard(name)
        for name in wanted:
            if name not in self.known:
                stream = parse_stream(name, self.play.market)
                assert stream is not None, name
                self.known[name] = wanted[name]
                self.feed.add(stream, now)
                wanted[name].live(name)
        self.feed.tick(now, self.world.clock.mono())
        frames = self.frames[:]
        self.frames.clear()
        for name, text in frames:
            if name in self.known:
                self.known[name].send(name, orjson.loads(text))

    def _lose(self) -> None:
        for name, feed in list(self.known.items()):
            feed.lose(name)
            self.feed.discard(name)
        self.known.clear()

    async def _ask(self, one: Ask) -> None:
        await self.world.until(one.at_ms)
        klines = self.cache.states[self.play.market].kind(Klines)
        if one.wait_ms is not None:
            symbols = tuple(series for series, _ in klines.kept)
            found = await wait_for_closes(klines, symbols, "1m", limit=one.limit, wait_ms=one.wait_ms)
            for symbol, parts in found.rows.items():
                self._tell(symbol, orjson.loads(b"".join((b"[", *parts, b"]"))))
            return
        for symbol in SYMBOLS:
            request = KlineRequest(self.play.market, symbol, "1m", one.limit, None, None)
            outcome = self.cache.answer(KLINES[self.play.market], request, packed=False)
            hit = outcome if not asyncio.iscoroutine(outcome) else await outcome
            if isinstance(hit, Hit):
                self._tell(symbol, orjson.loads(hit.body)[:-1])  # the last one may be open

    def _tell(self, symbol: str, rows: list[Any]) -> None:
        self.told.append((symbol, self.world.now_ms, rows))

    def wrong(self) -> list[tuple[str, int, Any, Any]]:
        """List rows that were told and are not what the exchange says in the end."""
        end = T0 + (MINUTES + 60) * MINUTE
        found = []
        for symbol, now_ms, rows in self.told:
            for row in rows:
                (final,) = self.store.kline_rows(symbol, "1m", start_ms=row[0], limit=1, now_ms=end)
                if row != final:
                    found.append((symbol, now_ms - T0, row, final))
        return found


def played(play: Play) -> Stage:
    loop = FastLoop()
    try:

        async def run() -> Stage:
            stage = Stage(play)
            await stage.run()
            return stage

        return loop.run_until_complete(run())
    finally:
        loop.close()


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(PLAYS)
def test_no_closed_row_is_told_that_differs_from_the_final_one(play: Play) -> None:
    assert played(play).wrong() == []


def test_a_play_tells_the_newest_closed_rows_of_all_symbols() -> None:
    asks = (Ask(MINUTE + 20, 8000, 3), Ask(100_000, None, 3))
    stage = played(Play(Market.UM, 1, "measured", 500, True, False, "continuous", (), asks))
    newest = {(symbol, rows[-1][0]) for symbol, _, rows in stage.told}
    assert {(symbol, T0) for symbol in SYMBOLS} <= newest
    assert stage.wrong() == []


def test_a_row_that_is_told_too_early_is_noticed() -> None:
    asks = (Ask(MINUTE + 20, 8000, 3),)
    stage = played(Play(Market.UM, 1, None, 0, False, False, "plain", (), asks))
    symbol, now_ms, rows = stage.told[0]
    stage.told.append((symbol, now_ms, [[*rows[-1][:4], "0.1", *rows[-1][5:]]]))
    assert len(stage.wrong()) == 1
