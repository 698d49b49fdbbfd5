"""Streams opened once for any number of listeners: who is told what, and which pools there are."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from typing import Any, cast

import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.egress.spec import DEFAULT_ROUTE
from resender.upstream.streams.feeds import MICROSECOND, WITNESS, Feed, Feeds
from resender.upstream.streams.relays import _CONNECTS
from tests.unit.upstream.fakes import settle

A, B, C = (f"{symbol}usdt@kline_1m" for symbol in "abc")


class FakePool:
    """Remembers what is wanted; `live` holds what is subscribed on a connection."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.dropped: list[str] = []
        self.live: set[str] = set()
        self.starts = self.stops = 0
        self.error: ValueError | None = None

    async def start(self) -> None:
        self.starts += 1

    async def stop(self) -> None:
        self.stops += 1

    def want(self, names: Iterable[str]) -> None:
        if self.error is not None:
            raise self.error
        self.wanted += names

    def drop(self, names: Iterable[str]) -> None:
        self.dropped += names

    def proof_mono(self, name: str) -> float | None:
        return 1.0 if name in self.live else None


class Ear:
    """A listener; `verdict` is returned for every frame or raised."""

    def __init__(self, verdict: bool | Exception | None = None, *, is_relay: bool = False) -> None:
        self.is_relay = is_relay
        self.verdict = verdict
        self.frames: list[tuple[str, Any, bytes]] = []
        self.told: list[tuple[str, list[str]]] = []
        self.failure: Exception | None = None

    def on_frame(self, name: str, data: Any, raw: bytes) -> bool | None:
        self.frames.append((name, data, raw))
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def on_live(self, names: list[str]) -> None:
        self._tell("live", names)

    def on_lost(self, names: list[str]) -> None:
        self._tell("lost", names)

    def _tell(self, word: str, names: list[str]) -> None:
        self.told.append((word, names))
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def feed(pool: FakePool) -> Feed:
    return Feed(lambda feed: cast(Any, pool))


def go_live(feed: Feed, pool: FakePool, *names: str) -> None:
    pool.live |= set(names)
    feed.on_live(list(names))


# --- subscribing ----------------------------------------------------------------------------------


async def test_stream_goes_with_its_last_listener(feed: Feed, pool: FakePool) -> None:
    one, two = Ear(), Ear()
    feed.subscribe([A, B], one)
    feed.subscribe([A], two)
    feed.unsubscribe([A, B], one)
    assert pool.dropped == [B]
    feed.unsubscribe([A], two)
    assert pool.dropped == [B, A]


async def test_name_that_is_given_twice_is_counted_once(feed: Feed, pool: FakePool) -> None:
    ear = Ear()
    feed.subscribe([A, A], ear)
    feed.subscribe([A], ear)
    feed.on_frame(A, {}, b"{}")
    assert len(ear.frames) == 1
    feed.unsubscribe([A], ear)
    assert pool.dropped == [A]


async def test_unsubscribing_what_nobody_has_drops_nothing(feed: Feed, pool: FakePool) -> None:
    feed.subscribe([A], Ear())
    feed.unsubscribe([A, B], Ear())
    assert pool.dropped == []


async def test_name_that_cannot_be_one_takes_none_of_its_call(feed: Feed, pool: FakePool) -> None:
    ear = Ear()
    pool.error = ValueError("no stream name")
    with pytest.raises(ValueError, match="no stream name"):
        feed.subscribe([A, "no stream"], ear)
    assert feed.on_frame(A, {}, b"{}") is None
    assert ear.frames == []


async def test_late_listener_is_told_what_is_live_already_but_not_within_its_call(
    feed: Feed, pool: FakePool
) -> None:
    first, late = Ear(), Ear()
    feed.subscribe([A, B], first)
    go_live(feed, pool, A)
    feed.subscribe([A, B, C], late)
    assert late.told == []
    await settle()
    assert late.told == [("live", [A])]
    assert first.told == [("live", [A])]


async def test_late_listener_that_left_at_once_is_told_nothing(feed: Feed, pool: FakePool) -> None:
    first, late = Ear(), Ear()
    feed.subscribe([A, B], first)
    go_live(feed, pool, A, B)
    feed.subscribe([A, B], late)
    feed.unsubscribe([A], late)
    pool.live.discard(B)  # lost in the same moment
    await settle()
    assert late.told == []


async def test_first_listener_waits_for_the_pool_even_if_the_stream_was_live_once(
    feed: Feed, pool: FakePool
) -> None:
    pool.live.add(A)
    ear = Ear()
    feed.subscribe([A], ear)
    await settle()
    assert ear.told == []


# --- frames and news ------------------------------------------------------------------------------


async def test_frame_reaches_all_who_listen_to_its_stream_and_nobody_else(feed: Feed) -> None:
    one, two, other = Ear(), Ear(), Ear()
    feed.subscribe([A], one)
    feed.subscribe([A], two)
    feed.subscribe([B], other)
    data = {"u": 1}
    assert feed.on_frame(A, data, b"raw") is None
    assert one.frames == two.frames == [(A, data, b"raw")]
    assert other.frames == []


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_listener_that_fails_keeps_no_frame_from_the_others(feed: Feed, place: int) -> None:
    ears = [Ear(), Ear(), Ear()]
    ears[place].verdict = KeyError("u")
    for ear in ears:
        feed.subscribe([A], ear)
    with pytest.raises(KeyError):
        feed.on_frame(A, {}, b"{}")
    assert [len(ear.frames) for ear in ears] == [1, 1, 1]


async def test_one_listener_that_calls_a_frame_unusable_is_heard(feed: Feed) -> None:
    for verdict in (True, False, None):
        feed.subscribe([A], Ear(verdict))
    assert feed.on_frame(A, {}, b"{}") is False


async def test_frame_nobody_waits_for_any_more_is_ignored(feed: Feed) -> None:
    ear = Ear(ValueError("x"))
    feed.subscribe([A], ear)
    feed.unsubscribe([A], ear)
    assert feed.on_frame(A, {}, b"{}") is None


@pytest.mark.parametrize("word", ["live", "lost"])
async def test_each_listener_is_told_once_of_its_own_streams(feed: Feed, word: str) -> None:
    one, two, other = Ear(), Ear(), Ear()
    feed.subscribe([A, B], one)
    feed.subscribe([B, C], two)
    feed.subscribe(["dusdt@kline_1m"], other)
    getattr(feed, f"on_{word}")([A, B, C])
    assert one.told == [(word, [A, B])]
    assert two.told == [(word, [B, C])]
    assert other.told == []


async def test_listener_that_fails_at_news_keeps_it_from_nobody(feed: Feed) -> None:
    ears = [Ear(), Ear()]
    ears[0].failure = RuntimeError("a bug")
    for ear in ears:
        feed.subscribe([A], ear)
    with pytest.raises(RuntimeError):
        feed.on_lost([A])
    assert [ear.told for ear in ears] == [[("lost", [A])]] * 2


async def test_listener_may_unsubscribe_while_it_is_told(feed: Feed, pool: FakePool) -> None:
    class Leaver(Ear):
        def on_lost(self, names: list[str]) -> None:
            super().on_lost(names)
            feed.unsubscribe(names, self)

    one, two = Leaver(), Leaver()
    feed.subscribe([A], one)
    feed.subscribe([A], two)
    feed.on_lost([A])
    assert len(one.told) == len(two.told) == 1
    assert pool.dropped == [A]


async def test_feed_is_started_once(feed: Feed, pool: FakePool) -> None:
    await feed.start()
    await feed.start()
    assert pool.starts == 1


# --- listeners that pass messages on ----------------------------------------------------------------


async def test_stream_is_read_as_soon_as_one_listener_wants_it_read(feed: Feed) -> None:
    relay, other, reader = Ear(is_relay=True), Ear(is_relay=True), Ear()
    feed.subscribe([A, B], relay)
    feed.subscribe([A], other)
    feed.subscribe([B, C], reader)
    assert (feed.raw_names, feed.relayed_names) == ({A}, {A, B})
    feed.subscribe([A], reader)
    assert (feed.raw_names, feed.relayed_names) == (set(), {A, B})
    feed.unsubscribe([A, B, C], reader)
    assert (feed.raw_names, feed.relayed_names) == ({A, B}, {A, B})
    feed.unsubscribe([A, B], relay)
    assert (feed.raw_names, feed.relayed_names) == ({A}, {A})
    feed.unsubscribe([A], other)
    assert (feed.raw_names, feed.relayed_names) == (set(), set())


async def test_frame_kept_back_unread_is_read_for_who_came_meanwhile(feed: Feed) -> None:
    relay, reader = Ear(is_relay=True), Ear()
    feed.subscribe([A], relay)
    raw = b'{"stream":"%s","data":{"u":1}}' % A.encode()
    feed.on_frame(A, None, raw)
    feed.subscribe([A], reader)
    feed.on_frame(A, None, raw)
    assert [data for _, data, _ in relay.frames] == [None, {"u": 1}]
    assert [data for _, data, _ in reader.frames] == [{"u": 1}]
    with pytest.raises(ValueError):
        feed.on_frame(A, None, b"no json")


# --- which pools there are ------------------------------------------------------------------------


@pytest.fixture
def feeds() -> Feeds:
    return Feeds(
        [DEFAULT_ROUTE],
        {market: f"wss://{market.value}.invalid" for market in (Market.SPOT, Market.UM, Market.CM)},
        silence_s=8.0,
        streams_per_connection=50,
        clock=Clock(mono=lambda: 0.0),
        tasks=Tasks(),
        ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )


def test_streams_of_one_path_share_a_pool_and_those_of_another_do_not(feeds: Feeds) -> None:
    assert feeds.feed(Market.SPOT, "kline") is feeds.feed(Market.SPOT, "bookTicker")
    assert feeds.feed(Market.UM, "kline") is feeds.feed(Market.UM, "miniTicker")
    assert feeds.feed(Market.UM, "kline") is not feeds.feed(Market.UM, "bookTicker")
    assert feeds.feed(Market.SPOT, "kline") is not feeds.feed(Market.CM, "kline")
    assert [feeds.feed(Market.UM, what).pool.path for what in ("kline", "bookTicker")] == [
        "/market",
        "/public",
    ]


def test_another_role_has_connections_of_its_own(feeds: Feeds) -> None:
    witness = feeds.feed(Market.SPOT, "miniTicker", WITNESS)
    assert witness is not feeds.feed(Market.SPOT, "miniTicker")
    assert witness is feeds.feed(Market.SPOT, "miniTicker", WITNESS)


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM, Market.CM])
def test_pools_of_one_market_together_keep_its_limit_of_connections(feeds: Feeds, market: Market) -> None:
    made = [feeds.feed(market, what) for what in ("kline", "bookTicker", "miniTicker")]
    made.append(feeds.feed(market, "miniTicker", WITNESS))
    if market is Market.SPOT:
        made.append(feeds.at(market, "", MICROSECOND))
    everything = {id(feed): feed.pool._limits for feed in made}
    # What clients relay are connections of the same address.
    assert sum(limits.connects_per_5_min for limits in everything.values()) + _CONNECTS <= 300
    # Pings, and the pongs to the venue's own, count as messages.
    most = 5 if market is Market.SPOT else 10
    for limits in everything.values():
        assert limits.messages_per_s + 2 / limits.ping_every_s <= most
        assert limits.streams_per_connection == 50
        assert limits.ping_every_s < limits.silence_s / 2


async def test_stop_ends_what_was_never_started_too(feeds: Feeds, caplog: pytest.LogCaptureFixture) -> None:
    feeds.feed(Market.SPOT, "kline").subscribe(["btcusdt@kline_1m"], Ear())
    with caplog.at_level(logging.WARNING):
        await feeds.stop()
    assert caplog.records == []
    assert feeds.feed(Market.SPOT, "kline").connections == []
