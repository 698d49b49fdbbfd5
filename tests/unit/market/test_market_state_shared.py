"""One stream for several kinds: each hears all of it, and what becomes of one is not the others' matter."""

from __future__ import annotations

from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.market.series import KeptFunding, KeptRow
from tests.support.market_fakes import World
from tests.unit.market.test_market_state import STREAM, State

MARK = "btcusdt@markPrice@1s"


@pytest.fixture
async def market(world: World) -> State:
    made = State(world)
    await made.begin()
    return made


def mark_event(at_ms: int, **values: Any) -> dict[str, Any]:
    return {"e": "markPriceUpdate", "E": at_ms, "s": "BTCUSDT", "p": "1.0", "i": "1.0", "P": "1.0", "r": "0.1",
            "T": at_ms + 3_600_000} | values  # fmt: skip


class Shared:
    """Mark prices and funding rates of one symbol, which have one stream."""

    def __init__(self, market: State) -> None:
        self.state, self.feed = market.state, market.world.feeds.feed(Market.UM, "markPrice")
        self.world = market.world
        self.mark, self.funding = market.kept("markPrice"), market.kept("fundingRate")
        assert isinstance(self.mark, KeptRow)
        assert isinstance(self.funding, KeptFunding)
        self.mark_row, self.rates = self.mark, self.funding

    def send(self, **values: Any) -> Any:
        return self.feed.send(MARK, mark_event(self.world.now_ms, **values))

    @property
    def heard(self) -> tuple[bool, bool]:
        return self.mark_row.row.event_ms > 0, self.rates.next_ms > 0


@pytest.fixture
async def shared(market: State) -> Shared:
    return Shared(market)


async def test_stream_of_several_kinds_is_subscribed_once_and_each_gets_its_frames(shared: Shared) -> None:
    assert list(shared.feed.listeners) == [MARK]
    shared.feed.live(MARK)
    assert (shared.mark.is_live, shared.funding.is_live) == (True, True)
    shared.send()
    assert shared.heard == (True, True)
    shared.feed.lose(MARK)
    assert (shared.mark.is_live, shared.funding.is_live) == (False, False)
    assert shared.rates.was_lost


@pytest.mark.parametrize("goes", ["markPrice", "fundingRate"])
async def test_what_is_removed_leaves_the_stream_to_the_others(shared: Shared, goes: str) -> None:
    shared.feed.live(MARK)
    gone, left = (shared.mark, shared.funding)[:: 1 if goes == "markPrice" else -1]
    shared.state.remove(gone)
    assert list(shared.feed.listeners) == [MARK]
    assert (gone.is_live, left.is_live) == (False, True)
    shared.send()
    assert shared.heard == (goes != "markPrice", goes == "markPrice")
    shared.state.remove(left)
    assert shared.feed.listeners == {}


async def test_what_begins_on_a_stream_that_is_live_is_live_at_once(market: State) -> None:
    feed = market.world.feeds.feed(Market.UM, "markPrice")
    first = market.kept("markPrice")
    feed.live(MARK)
    second = market.kept("fundingRate")
    assert not second.is_live, "it is told like any other, not while it is made"
    await market.world.settle()
    assert (first.is_live, second.is_live) == (True, True)


async def test_what_begins_on_a_stream_that_is_not_live_waits_for_it(market: State) -> None:
    feed = market.world.feeds.feed(Market.UM, "markPrice")
    market.kept("markPrice")
    second = market.kept("fundingRate")
    await market.world.settle()
    assert not second.is_live
    feed.live(MARK)
    assert second.is_live


@pytest.mark.parametrize("what", ["lost", "removed"])
async def test_stream_that_is_lost_before_it_is_told_makes_nothing_live(market: State, what: str) -> None:
    feed = market.world.feeds.feed(Market.UM, "markPrice")
    market.kept("markPrice")
    feed.live(MARK)
    second = market.kept("fundingRate")
    if what == "lost":
        feed.lose(MARK)
    else:
        market.state.remove(second)
    await market.world.settle()
    assert not second.is_live


async def test_frame_one_of_them_cannot_use_reaches_the_others(shared: Shared) -> None:
    shared.feed.live(MARK)
    event = mark_event(shared.world.now_ms)
    del event["T"]
    with pytest.raises(KeyError):
        shared.feed.send(MARK, event)
    assert shared.heard == (True, False)
    shared.state.remove(shared.mark)
    again = shared.state.add("BTCUSDT", "markPrice")  # it comes behind the other now
    assert isinstance(again, KeptRow)
    with pytest.raises(KeyError):
        shared.feed.send(MARK, event)
    assert again.row.event_ms > 0


async def test_mute_one_is_moved_with_its_stream_and_all_are_live_again(shared: Shared) -> None:
    shared.feed.live(MARK)
    shared.state.mute(shared.mark)
    shared.state.mute(shared.funding)
    shared.feed.lose(MARK)
    shared.feed.live(MARK)
    assert not shared.mark.is_mute
    assert not shared.funding.is_mute
    await shared.world.until(60_000)
    assert shared.feed.shifted == [], "it spoke meanwhile"


async def test_klines_and_continuous_klines_share_a_stream_until_one_gets_another(world: World) -> None:
    state = world.state(um_kline_stream="continuous")
    symbols = state.facts.symbols
    symbols.tradable = {"BTCUSDT": None}
    symbols.continuous = {"BTCUSDT": ("BTCUSDT", "PERPETUAL")}
    symbols.contracts = {("BTCUSDT", "PERPETUAL"): "BTCUSDT"}
    feed = world.feeds.feed(Market.UM, "kline")
    plain, continuous = state.add("BTCUSDT", "1m"), state.add("BTCUSDT", "continuousKline_1m")
    assert plain is not None
    assert continuous is not None
    shared = plain.stream
    assert continuous.stream == shared == "btcusdt_perpetual@continuousKline_1m"
    feed.live()
    state.restream([(plain, STREAM)])
    assert sorted(feed.listeners) == sorted([shared, STREAM])
    assert (plain.is_live, continuous.is_live) == (False, True), "what happens to one is not the other's"
    state.restream([(plain, shared)])
    assert list(feed.listeners) == [shared]
    await world.settle()
    assert plain.is_live, "it came back to a stream that is live"
    state.remove(continuous)
    assert list(feed.listeners) == [shared]
    state.remove(plain)
    assert feed.listeners == {}
