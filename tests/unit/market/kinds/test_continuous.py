"""Continuous candles: klines under another name, of the contract that trades now, with a stream of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import INTERVALS, Market
from resender.core.market.candles import parse_rows
from resender.core.market.requests import ContinuousRequest, KlineRequest, Miss
from resender.market.kinds.base import Hit
from resender.market.kinds.continuous import ContinuousKlines
from resender.market.kinds.klines import Klines
from resender.market.series import KeptKlines
from tests.support.market_fakes import MINUTE, T0, World, kline_event

PERPETUAL = ("BTCUSDT", "PERPETUAL")
QUARTER = ("BTCUSDT", "CURRENT_QUARTER")
STREAM = "btcusdt_perpetual@continuousKline_1m"


def event(
    open_time: int, at_ms: int, contract: tuple[str, str] = PERPETUAL, **options: Any
) -> dict[str, Any]:
    made = kline_event(open_time, at_ms, **options)
    del made["s"], made["k"]["s"]
    return made | {"e": "continuous_kline", "ps": contract[0], "ct": contract[1]}


class Kept:
    """One series of the kind, subscribed; `fill` reads it as the backfill would."""

    def __init__(self, world: World, what: str = "continuousKline_1m", symbol: str = "BTCUSDT") -> None:
        self.world = world
        self.kind = ContinuousKlines(world.tools("kline"))
        symbols = self.kind.facts.symbols
        symbols.tradable, symbols.is_loaded = dict.fromkeys(("BTCUSDT", "BTCUSDT_261225", "ETHUSDT")), True
        symbols.contracts = {
            PERPETUAL: "BTCUSDT",
            QUARTER: "BTCUSDT_261225",
            ("ETHUSDT", "PERPETUAL"): "ETHUSDT",
        }
        self.feed = world.feeds.feed(world.market, "kline")
        self.one: KeptKlines = self.kind.make(symbol, what, world.clock.mono(), is_preload=False)
        self.kind.kept[symbol, what] = self.one
        self.kind.begin(self.one)
        self.feed.subscribe([self.one.stream], self)

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        return self.kind.event(self.one, data)

    async def fill(self, limit: int = 30) -> None:
        self.one.is_live = True
        self.kind.live(self.one)
        made_ms = self.world.now_ms
        body = await self.world.reader.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit={limit}")
        candles = parse_rows(orjson.loads(body), "1m", orjson.dumps, made_ms=made_ms)
        assert self.one.series.apply_read(candles, made_ms, epoch=self.one.series.epoch)

    def send(self, open_time: int, contract: tuple[str, str] = PERPETUAL, **options: Any) -> None:
        self.feed.send(self.one.stream, event(open_time, self.world.now_ms, contract, **options))

    async def ask(
        self, limit: int = 3, contract: tuple[str, str] = PERPETUAL, interval: str = "1m"
    ) -> Hit | Miss:
        klines = KlineRequest(self.world.market, "X", interval, limit, None, None)
        found = self.kind.answer(ContinuousRequest(*contract, klines), packed=False)
        return await found if isinstance(found, Awaitable) else found


def times(hit: Hit | Miss) -> list[int]:
    assert isinstance(hit, Hit), hit
    return [(row[0] - T0) // MINUTE for row in orjson.loads(hit.body)]


async def test_series_is_told_out_of_its_own_stream(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    assert kept.one.stream == STREAM
    await kept.fill()
    kept.send(T0)
    assert times(await kept.ask()) == [-2, -1, 0]


async def test_close_comes_out_of_the_stream_and_is_read_from_its_own_path(world: World) -> None:
    await world.until(59_000)
    kept = Kept(world)
    await kept.fill()
    kept.send(T0)
    await world.until(60_100)
    kept.send(T0, final=True)
    kept.send(T0 + MINUTE)
    assert times(await kept.ask()) == [-1, 0, 1]
    assert kept.kind.closes == {}, "the log of closes is of klines"
    assert not kept.kind.held
    path = "/fapi/v1/continuousKlines"
    world.door.answers[path] = world.door.answers["/fapi/v1/klines"]
    await world.until(125_000)
    read = kept.kind.read_soon(kept.one)
    assert read is not None
    await read
    assert world.door.asked(path) == [f"{path}?pair=BTCUSDT&contractType=PERPETUAL&interval=1m&limit=3"]
    assert kept.one.series.last_final == T0 + MINUTE


@pytest.mark.parametrize(
    ("contract", "symbol", "reason"),
    [
        (("BTCUSDT", "TRADIFI_PERPETUAL"), None, "unknown symbol"),
        (("GONEUSDT", "PERPETUAL"), None, "unknown symbol"),
        (("BTCUSDT_261225", "CURRENT_QUARTER"), None, "unknown symbol"),
        (("BTCUSDT", "NEXT_QUARTER"), None, "unknown symbol"),
        (("BTCUSDT", "PERPETUAL_X"), None, "odd parameter"),
        (QUARTER, "BTCUSDT_261225", "not held yet"),
        (("ETHUSDT", "PERPETUAL"), "ETHUSDT", "not held yet"),
    ],
)
async def test_contract_is_that_of_the_symbol_that_trades_now(
    world: World, contract: tuple[str, str], symbol: str | None, reason: str
) -> None:
    kept = Kept(world)
    assert await kept.ask(contract=contract) == Miss(reason)
    assert [each for _, each, _ in world.desk.begun] == ([symbol] if symbol else [])


async def test_contracts_of_a_pair_are_never_mixed_up(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world, "continuousKline_1m@CURRENT_QUARTER", "BTCUSDT_261225")
    assert kept.one.stream == "btcusdt_current_quarter@continuousKline_1m"
    assert kept.one.target.endswith("?pair=BTCUSDT&contractType=CURRENT_QUARTER")
    with pytest.raises(ValueError, match="another series"):
        kept.send(T0, PERPETUAL)
    with pytest.raises(ValueError, match="another series"):
        kept.send(T0, QUARTER, i="5m")
    with pytest.raises((ValueError, KeyError)):
        kept.feed.send(kept.one.stream, kline_event(T0, world.now_ms))
    await kept.fill()
    kept.send(T0, QUARTER)
    assert times(await kept.ask(contract=QUARTER)) == [-2, -1, 0]
    assert await kept.ask() == Miss("not held yet"), "the perpetual one is another"


async def test_contract_that_has_another_symbol_now_is_told_from_the_old_one_no_more(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world, "continuousKline_1m@CURRENT_QUARTER", "BTCUSDT_261225")
    await kept.fill()
    kept.send(T0, QUARTER)
    kept.kind.facts.symbols.contracts[QUARTER] = "BTCUSDT_270326"
    assert await kept.ask(contract=QUARTER) == Miss("not held yet")
    assert world.desk.begun == [(Market.UM, "BTCUSDT_270326", "continuousKline_1m@CURRENT_QUARTER")]


async def test_before_the_symbols_are_known_it_is_asked_for_them(world: World) -> None:
    kept = Kept(world)
    symbols = kept.kind.facts.symbols
    symbols.is_loaded, symbols.contracts = False, {}
    assert await kept.ask() == Miss("not held yet")
    assert world.desk.begun == [(Market.UM, "BTCUSDT", "continuousKline_1m")]


async def test_perpetual_one_has_the_witness_and_a_dated_one_has_not(world: World) -> None:
    perpetual = Kept(world)
    dated = Kept(world, "continuousKline_1m@CURRENT_QUARTER", "BTCUSDT_261225")
    for kept, is_named in ((perpetual, True), (dated, False)):
        kept.kind._on_traded(kept.one.symbol, T0 + 500, "1.0")
        assert bool(kept.one.named_ms) is is_named
        assert kept.one.is_uncovered is not is_named
        kept.kind.end(kept.one)
        kept.kind._on_traded(kept.one.symbol, T0 + 900, "1.0")
        assert kept.one.named_ms in (0, T0 + 500), "it is kept no longer"


async def test_stream_stays_what_it_is_whatever_klines_choose(world: World) -> None:
    kept = Kept(world)
    kept.one.is_live = True
    assert kept.kind.other_stream(kept.one) is None
    kept.kind.symbols_changed()
    kept.kind.start()
    await world.settle()
    await asyncio.sleep(20)
    assert kept.one.stream == STREAM
    await kept.kind.stop()


async def test_lost_stream_takes_the_open_end_away(world: World) -> None:
    await world.until(30_000)
    kept = Kept(world)
    await kept.fill()
    kept.send(T0)
    kept.one.is_live = False
    kept.kind.lose(kept.one)
    assert await kept.ask() == Miss("stream not live")
    kept.one.is_live = True
    assert await kept.ask() == Miss("not read yet")


def test_only_futures_have_them_and_their_words_name_the_contract_but_the_perpetual() -> None:
    assert ContinuousKlines.words(Market.SPOT) == frozenset()
    assert ContinuousKlines.paths(Market.SPOT) == {}
    for market in (Market.UM, Market.CM):
        words = ContinuousKlines.words(market)
        assert len(words) == 4 * len(INTERVALS[market])
        assert {"continuousKline_1m", "continuousKline_1m@CURRENT_QUARTER"} <= words
        assert not words & Klines.words(market)


async def test_word_of_a_contract_the_symbol_has_not_is_kept_for_nobody(world: World) -> None:
    kind = Kept(world).kind
    assert kind.can_keep("BTCUSDT", "continuousKline_1m")
    assert kind.can_keep("BTCUSDT_261225", "continuousKline_1m@CURRENT_QUARTER")
    assert not kind.can_keep("BTCUSDT_261225", "continuousKline_1m")
    assert not kind.can_keep("BTCUSDT", "continuousKline_1m@NEXT_QUARTER")
