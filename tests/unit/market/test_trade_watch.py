"""One witness for all kinds of a market: who is told, when its stream is wanted, and that it is kept alive."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from resender.core.binance.stream_names import MINI_TICKERS
from resender.market.trade_watch import WITNESS_ROLE, TradeWatch
from tests.support.market_fakes import T0, FakeFeed, World


class Watched:
    """A watch of a market that nobody has asked anything yet, and its feed."""

    def __init__(self, world: World) -> None:
        self.world = world
        facts = world.facts()
        facts.server.set(world.now_ms, world.clock.mono(), world.clock.mono())
        self.watch: TradeWatch = world.watch(facts)
        self.feed: FakeFeed = world.feeds.feed(world.market, "miniTicker", WITNESS_ROLE)

    def send(self, *symbols: str, price: str = "1.5") -> None:
        rows = [{"s": symbol, "E": self.world.now_ms, "c": price} for symbol in symbols]
        self.feed.send(MINI_TICKERS, rows)


@pytest.fixture
async def watched(world: World) -> Watched:
    return Watched(world)


# -- who is told ------------------------------------------------------------------------------------


async def test_every_listener_is_told_of_every_symbol_that_trades(watched: Watched) -> None:
    first: list[tuple[str, int, str]] = []
    second: list[tuple[str, int, str]] = []
    watched.watch.want()
    watched.send("EARLYUSDT")
    watched.watch.listen(lambda *told: first.append(told))
    watched.send("BTCUSDT", price="2.5")
    watched.watch.listen(lambda *told: second.append(told))
    await asyncio.sleep(1)
    watched.send("BTCUSDT", "ETHUSDT")
    now_ms = watched.world.now_ms
    assert second == [("BTCUSDT", now_ms, "1.5"), ("ETHUSDT", now_ms, "1.5")]
    assert first == [("BTCUSDT", now_ms - 1000, "2.5"), *second]


async def test_time_by_which_arrays_are_judged_is_the_exchanges(watched: Watched) -> None:
    told: list[str] = []
    watched.watch.want()
    watched.watch.listen(lambda symbol, event_ms, price: told.append(symbol))
    watched.feed.send(MINI_TICKERS, [{"s": "X", "E": watched.world.now_ms + 600_000, "c": "1"}])
    assert (told, watched.watch.witness.since_ms) == ([], None), "a time that cannot be"
    watched.send("BTCUSDT")
    assert (told, watched.watch.witness.since_ms) == (["BTCUSDT"], watched.world.now_ms)


# -- its stream -------------------------------------------------------------------------------------


async def test_stream_is_subscribed_once_somebody_needs_it_and_once_only(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    subscribe = watched.feed.subscribe
    monkeypatch.setattr(
        watched.feed, "subscribe", lambda names, listener: (asked.append(names), subscribe(names, listener))
    )
    watched.watch.start()
    await watched.world.settle()
    assert watched.feed.is_started
    assert asked == []
    watched.watch.want()
    watched.watch.want()
    assert asked == [[MINI_TICKERS]]
    assert watched.feed.listeners == {MINI_TICKERS: watched.watch.witness}


async def test_feed_is_not_opened_before_the_start(watched: Watched) -> None:
    watched.watch.want()
    await watched.world.until(60_000)
    assert not watched.feed.is_started
    assert watched.feed.shifted == []
    await watched.watch.stop()


async def test_witness_that_is_silent_is_subscribed_again_and_again_less_often(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.watch.want()
    watched.watch.start()
    moved: list[int] = []
    while watched.world.now_ms < T0 + 600_000:
        await asyncio.sleep(1)
        while len(moved) < len(watched.feed.shifted):
            moved.append(watched.world.now_ms)
    assert watched.feed.is_started
    assert 3 <= len(moved) <= 8
    assert set(watched.feed.shifted) == {MINI_TICKERS}
    assert watched.watch.mutes == len(moved) == caplog.text.count("um: !miniTicker@arr brings nothing")
    pauses = [later - earlier for earlier, later in pairwise(moved)]
    assert pauses[-1] > 2 * pauses[0]
    await watched.watch.stop()


async def test_witness_that_speaks_is_left_where_it_is(watched: Watched) -> None:
    watched.watch.want()
    watched.watch.start()
    for _ in range(120):
        watched.send("X")
        await asyncio.sleep(1)
    assert not watched.feed.shifted
    assert watched.watch.mutes == 0
    await watched.watch.stop()


async def test_witness_that_has_spoken_again_is_moved_soon_when_it_falls_silent_anew(
    watched: Watched,
) -> None:
    watched.watch.want()
    watched.watch.start()
    await watched.world.until(1_800_000)
    before = len(watched.feed.shifted)
    for _ in range(700):
        watched.send("X")
        await asyncio.sleep(1)
    assert len(watched.feed.shifted) == before
    await asyncio.sleep(40)
    assert len(watched.feed.shifted) > before
    await watched.watch.stop()


@pytest.mark.parametrize("why", ["nobody wants it", "its connection is dead"])
async def test_witness_whose_stream_is_not_there_at_all_is_not_called_mute(
    watched: Watched, why: str
) -> None:
    if why == "its connection is dead":
        watched.watch.want()
        watched.feed.dead.add(MINI_TICKERS)
    watched.watch.start()
    await watched.world.until(600_000)
    assert watched.feed.shifted == []
    assert watched.watch.mutes == 0
    await watched.watch.stop()


async def test_watch_that_was_stopped_moves_nothing_any_more(watched: Watched) -> None:
    watched.watch.want()
    watched.watch.start()
    await watched.world.until(30_000)
    shifted = len(watched.feed.shifted)
    assert shifted
    await watched.watch.stop()
    await watched.world.until(3_600_000)
    assert len(watched.feed.shifted) == shifted
