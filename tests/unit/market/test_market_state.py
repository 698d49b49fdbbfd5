"""One market of the cache: what is kept while it is traded, who gets a frame, and how mute streams are moved."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.binance.stream_names import MINI_TICKERS
from resender.core.market.candles import parse_rows
from resender.market.kinds import BookTickers, Kind, Klines
from resender.market.kinds.books import Books
from resender.market.kinds.closes import wait_for_closes
from resender.market.kinds.consented import DayTickers, MarkPrices
from resender.market.kinds.trades import AggTrades, Trades
from resender.market.market_state import MarketState
from resender.market.series import Kept, KeptKlines
from tests.support.market_fakes import MINUTE, SYMBOLS, T0, World, kline_event, row, ticker_event

STREAM, TICKER = "btcusdt@kline_1m", "btcusdt@bookTicker"


class State:
    """A market state that is followed, with its feeds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.changes = 0
        self.state = world.state(self._changed)
        self.klines = world.feeds.feed(Market.UM, "kline")
        self.tickers = world.feeds.feed(Market.UM, "bookTicker")

    def _changed(self, state: MarketState) -> None:
        self.changes += 1

    async def begin(self) -> MarketState:
        self.state.start()
        await self.world.settle()
        return self.state

    def kept(self, what: str = "1m", symbol: str = "BTCUSDT") -> Kept:
        kept = self.state.add(symbol, what)
        assert kept is not None
        return kept


@pytest.fixture
async def market(world: World) -> State:
    made = State(world)
    await made.begin()
    return made


# -- what is kept ---------------------------------------------------------------------------------


async def test_nothing_is_asked_of_the_exchange_before_the_start(world: World) -> None:
    state = State(world)
    await world.settle()
    assert world.door.targets == []
    assert not state.state.is_started


async def test_start_follows_the_symbols_and_opens_the_feeds(market: State) -> None:
    market.state.start()
    assert market.state.is_started
    assert list(market.state.symbols.tradable) == list(SYMBOLS)
    assert market.changes == 1
    assert all(feed.is_started for feed in (market.klines, market.tickers))
    made = [feed for (of, _, _), feed in market.world.feeds.made.items() if of is Market.UM]
    assert all(feed.is_started for feed in made), "the witness' own, too"


async def test_interval_and_ticker_are_kept_by_their_kinds_and_subscribed(market: State) -> None:
    market.kept()
    market.kept("bookTicker")
    assert list(market.state.kind(Klines).kept) == [("BTCUSDT", "1m")]
    assert list(market.state.kind(BookTickers).kept) == [("BTCUSDT", "bookTicker")]
    assert (list(market.klines.listeners), list(market.tickers.listeners)) == ([STREAM], [TICKER])
    assert len(market.state.entries()) == market.state.on_demand == 2


@pytest.mark.parametrize(
    ("what", "kind", "stream"),
    [
        ("depth20", Books, "btcusdt@depth20@100ms"),
        ("depth", Books, "btcusdt@depth@100ms"),
        ("aggTrade", AggTrades, "btcusdt@aggTrade"),
        ("ticker", DayTickers, "btcusdt@ticker"),
        ("markPrice", MarkPrices, "btcusdt@markPrice@1s"),
    ],
)
async def test_books_trades_and_rows_are_kept_by_their_kinds_and_subscribed(
    market: State, what: str, kind: type[Kind[Any]], stream: str
) -> None:
    kept = market.kept(what)
    assert list(market.state.kind(kind).kept) == [("BTCUSDT", what)]
    assert (kept.what, kept.stream) == (what, stream)
    assert list(market.world.feeds.feed(Market.UM, kind.stream).listeners) == [stream]
    assert market.state.entries() == [kept]


@pytest.mark.parametrize(
    ("symbol", "what"),
    [
        ("GONEUSDT", "1m"),
        ("BTCUSDT", "1s"),
        ("BTCUSDT", "trade"),
        ("BTCUSDT", "depth5"),
        ("GONEUSDT", "depth"),
    ],
)
async def test_what_cannot_be_kept_is_not(market: State, symbol: str, what: str) -> None:
    assert market.state.add(symbol, what) is None
    assert market.state.entries() == []


async def test_what_is_kept_already_is_kept_once(market: State) -> None:
    first = market.kept()
    again = market.state.add("BTCUSDT", "1m", is_preload=True)
    assert again is first
    assert first.is_preload
    market.kept()
    assert first.is_preload, "a call takes nothing from a rule"
    assert market.state.on_demand == 0


async def test_what_is_removed_is_unsubscribed_and_those_who_wait_are_woken(market: State) -> None:
    kept = market.kept()
    market.klines.live(STREAM)
    waiter = market.world.tasks.spawn(_wait(kept), name="waiter")
    await market.world.settle()
    market.state.remove(kept)
    await market.world.settle()
    assert waiter.done()
    assert (kept.is_dropped, kept.is_live) == (True, False)
    assert market.klines.listeners == {}
    assert market.state.entries() == []


async def _wait(kept: Kept) -> None:
    future = asyncio.get_running_loop().create_future()
    kept.waiters.append(future)
    await future


async def test_what_was_asked_for_before_the_symbols_were_known_is_begun_with_them(world: World) -> None:
    state = State(world)
    state.state.request_later("BTCUSDT", "1m")
    state.state.request_later("GONEUSDT", "1m")
    await state.begin()
    assert [kept.symbol for kept in state.state.entries()] == ["BTCUSDT"]
    assert state.state.requested == {}


async def test_symbol_that_is_not_traded_any_more_is_dropped(market: State) -> None:
    kept, other = market.kept(), market.kept(symbol="ETHUSDT")
    market.world.door.symbols.remove("BTCUSDT")
    await market.world.until(65_000)
    assert kept.is_dropped
    assert market.state.entries() == [other]
    assert market.changes == 2


def test_kind_nobody_knows_is_refused() -> None:
    state = object.__new__(MarketState)
    state.kinds, state.market = (), Market.UM
    with pytest.raises(LookupError, match="um has no klines"):
        state.kind(Klines)


# -- frames ---------------------------------------------------------------------------------------


async def test_frame_goes_to_the_kind_that_keeps_its_stream(market: State) -> None:
    candle, ticker = market.kept(), market.kept("bookTicker")
    market.klines.live()
    market.tickers.live()
    now = market.world.now_ms
    market.klines.send(STREAM, kline_event(now // 60_000 * 60_000, now))
    market.tickers.send(TICKER, ticker_event(7, at_ms=now))
    assert market.state.proof(candle) == (None, ""), "an event alone does not join anything"
    assert market.state.proof(ticker) == (0, "event")


async def test_frame_of_a_stream_that_is_kept_no_longer_is_passed_over(market: State) -> None:
    market.state.remove(market.kept())
    assert market.state.on_frame(STREAM, {"odd": 1}, b"") is None
    market.state.on_live([STREAM])
    market.state.on_lost([STREAM])


async def test_streams_that_come_alive_together_have_their_reads_begun_once(market: State) -> None:
    market.kept()
    market.kept("5m")
    fills = market.world.desk.fills
    market.state.on_live([STREAM, "btcusdt@kline_5m"])
    assert market.world.desk.fills == fills + 1
    assert all(kept.is_live for kept in market.state.entries())


async def test_lost_stream_is_not_live(market: State) -> None:
    kept = market.kept()
    market.klines.live(STREAM)
    market.klines.lose(STREAM)
    assert not kept.is_live
    assert kept.state == "connecting"


async def test_every_feed_is_listed_once(market: State) -> None:
    feeds: list[Any] = market.state.feeds
    assert feeds == [
        market.klines,
        market.tickers,
        market.world.feeds.feed(Market.UM, "depth"),
        market.world.feeds.feed(Market.UM, "aggTrade"),
        market.world.feeds.feed(Market.UM, "ticker"),
        market.world.feeds.feed(Market.UM, "markPrice"),
        market.world.feeds.feed(Market.UM, "miniTicker", "witness"),
    ]


async def test_feed_that_carries_several_kinds_is_listed_once(world: World) -> None:
    shared = world.feeds.feed(Market.UM, "kline")
    for what in ("bookTicker", "depth", "aggTrade", "ticker", "markPrice"):
        world.feeds.made[Market.UM, what, ""] = shared
    witness = world.feeds.feed(Market.UM, "miniTicker", "witness")
    assert world.state().feeds == [shared, witness]


async def test_market_has_only_the_kinds_it_has_words_for(market: State) -> None:
    with pytest.raises(LookupError, match="um has no trades"):
        market.state.kind(Trades)
    assert (Market.UM, "trade", "") not in market.world.feeds.made


async def test_all_kinds_of_a_market_share_one_witness_and_only_what_needs_it_wants_it(market: State) -> None:
    witness = market.world.feeds.feed(Market.UM, "miniTicker", "witness")
    assert market.state.kind(Klines).witness is market.state.watch.witness
    market.kept("bookTicker")
    assert list(witness.listeners) == []
    for what in ("aggTrade", "1m", "depth20"):
        market.kept(what)
        assert list(witness.listeners) == [MINI_TICKERS]


async def test_witness_that_is_mute_counts_among_the_mute_streams_until_the_market_is_left(
    market: State,
) -> None:
    market.kept()
    witness = market.world.feeds.feed(Market.UM, "miniTicker", "witness")
    await market.world.until(60_000)
    shifted = len(witness.shifted)
    assert market.state.mutes == shifted > 0
    await market.state.stop()
    await market.world.until(1_800_000)
    assert len(witness.shifted) == shifted


async def test_series_that_is_given_another_stream_is_in_doubt_until_that_one_is_live(market: State) -> None:
    kept, other = market.kept(), "btcusdt_perpetual@continuousKline_1m"
    market.klines.live(STREAM)
    market.state.restream([(kept, other)])
    assert (kept.stream, kept.is_live) == (other, False)
    assert list(market.klines.listeners) == [other]
    market.state.on_live([STREAM])
    assert not kept.is_live, "the old one says nothing of it any more"
    market.klines.live(other)
    assert kept.is_live
    market.state.remove(kept)
    assert market.klines.listeners == {}


async def test_stream_that_goes_over_to_another_symbol_is_first_taken_from_the_one_that_had_it(
    world: World,
) -> None:
    state = world.state(um_kline_stream="continuous")
    symbols = state.facts.symbols
    symbols.tradable = dict.fromkeys(("AUSDT", "BUSDT"))
    symbols.continuous = {"AUSDT": ("AUSDT", "PERPETUAL"), "BUSDT": ("BUSDT", "PERPETUAL")}
    first, second = state.add("AUSDT", "1m"), state.add("BUSDT", "1m")
    assert first is not None
    assert second is not None
    streams = first.stream, second.stream
    assert streams == ("ausdt_perpetual@continuousKline_1m", "busdt_perpetual@continuousKline_1m")
    symbols.continuous = {"AUSDT": ("BUSDT", "PERPETUAL"), "BUSDT": ("AUSDT", "PERPETUAL")}
    state._symbols_changed()
    assert (second.stream, first.stream) == streams
    feed = world.feeds.feed(Market.UM, "kline")
    assert sorted(feed.listeners) == sorted(streams)
    feed.live(first.stream)
    assert (first.is_live, second.is_live) == (True, False)
    state.remove(first)
    state.remove(second)
    assert feed.listeners == {}


async def test_new_symbol_gets_the_stream_only_once_the_one_that_had_it_has_another(world: World) -> None:
    state = world.state(um_kline_stream="continuous")
    symbols = state.facts.symbols
    symbols.tradable, symbols.continuous = {"AUSDT": None}, {"AUSDT": ("AUSDT", "PERPETUAL")}
    old = state.add("AUSDT", "1m")
    assert old is not None
    symbols.tradable["BUSDT"] = None
    symbols.continuous = {"BUSDT": ("AUSDT", "PERPETUAL")}
    state.request_later("BUSDT", "1m")
    state._symbols_changed()
    new = state.kind(Klines).kept["BUSDT", "1m"]
    assert (old.stream, new.stream) == ("ausdt@kline_1m", "ausdt_perpetual@continuousKline_1m")


@pytest.mark.parametrize("is_plain_first", [True, False])
async def test_rows_of_a_continuous_stream_that_is_contradicted_are_told_no_more(
    world: World, is_plain_first: bool
) -> None:
    await world.until(50_000)
    state = world.state(um_kline_stream="continuous")
    state.facts.server.set(world.now_ms, world.clock.mono(), world.clock.mono())
    state.facts.symbols.tradable = {"BTCUSDT": None}
    state.facts.symbols.continuous = {"BTCUSDT": ("BTCUSDT", "PERPETUAL")}
    kept = state.add("BTCUSDT", "1m")
    assert isinstance(kept, KeptKlines)
    feed, kind = world.feeds.feed(Market.UM, "kline"), state.kind(Klines)
    continuous = kept.stream
    feed.live()
    rows = [row(T0 - n * MINUTE, 60) for n in range(9, 0, -1)] + [row(T0, 50)]
    candles = parse_rows(rows, "1m", orjson.dumps, made_ms=world.now_ms)
    assert kept.series.apply_read(candles, world.now_ms, epoch=kept.series.epoch)
    kind.streams.sample([kept], world.clock.mono())
    await world.until(60_100)
    event = kline_event(T0, T0 + 60_050, final=True, c="9.99")
    del event["s"], event["k"]["s"]
    event |= {"e": "continuous_kline", "ps": "BTCUSDT", "ct": "PERPETUAL"}
    calls = [(continuous, event), (STREAM, kline_event(T0, T0 + 60_050, final=True))]
    for name, each in reversed(calls) if is_plain_first else calls:
        feed.send(name, each)
    found = await wait_for_closes(kind, ["BTCUSDT"], "1m", limit=1)
    assert (found.rows, found.pending) == ({}, {"BTCUSDT": "not read yet"})
    assert (kept.stream, kept.is_live, list(feed.listeners)) == (STREAM, False, [STREAM])
    assert kept.series.last_close == (T0 - 1 if is_plain_first else T0 + MINUTE - 1)
    feed.live()
    found = await wait_for_closes(kind, ["BTCUSDT"], "1m", limit=1, wait_ms=5000)
    assert found.rows == {}, "until it has been read"
    assert world.door.targets == [], "a read of a few rows is no judge of what is held"


# -- mute streams ---------------------------------------------------------------------------------


async def test_mute_stream_is_moved_at_once_and_then_after_growing_pauses(market: State) -> None:
    kept, world = market.kept(), market.world
    market.klines.live(STREAM)
    moved: list[int] = []
    begun = world.now_ms
    for count in range(1, 6):
        market.state.mute(kept)
        assert kept.is_mute
        while len(market.klines.shifted) < count:
            await asyncio.sleep(1)
        moved.append((world.now_ms - begun) // 1000)
        market.klines.live(STREAM)
        assert not kept.is_mute
        begun = world.now_ms
    assert kept.mutes == 5
    assert market.state.mutes == 5 + market.state.watch.mutes
    assert moved[0] <= 1
    assert moved[1] >= 15
    assert moved[1:] == sorted(moved[1:])


async def test_stream_that_speaks_while_it_waits_to_be_moved_stays(market: State) -> None:
    kept, world = market.kept(), market.world
    market.klines.live(STREAM)
    kept.mutes, kept.moved_mono = 3, world.clock.mono()
    market.state.mute(kept)
    await world.until(5000)
    kept.is_mute = False
    await world.until(300_000)
    assert market.klines.shifted == []


async def test_stream_dropped_while_it_waits_to_be_moved_is_forgotten(market: State) -> None:
    kept, world = market.kept(), market.world
    market.klines.live(STREAM)
    kept.mutes, kept.moved_mono = 3, world.clock.mono()
    market.state.mute(kept)
    market.state.remove(kept)
    await world.until(300_000)
    assert market.klines.shifted == []


async def test_stream_is_found_mute_once_and_only_while_it_is_live(
    market: State, caplog: pytest.LogCaptureFixture
) -> None:
    kept = market.kept()
    market.state.mute(kept)
    assert not kept.is_mute
    market.klines.live(STREAM)
    market.state.mute(kept)
    market.state.mute(kept)
    assert (kept.mutes, market.state.mutes) == (1, 1)
    assert len(caplog.records) == 1


async def test_mutes_of_long_ago_are_forgotten(market: State) -> None:
    kept, world = market.kept(), market.world
    market.klines.live(STREAM)
    kept.mutes, kept.moved_mono = 7, world.clock.mono()
    await world.until(1_900_000)
    market.state.mute(kept)
    await world.settle()
    assert kept.mutes == 1
    assert market.klines.shifted == [STREAM]
