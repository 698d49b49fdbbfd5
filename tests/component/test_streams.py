"""The stream pool against a scripted venue: subscribing, pacing, wanting and dropping."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import WSMsgType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from tests.support.running import wait_until
from tests.support.venue import BTC, ETH, QUICK, Peer, Venue, acknowledge, make_pool, pool_on

pytestmark = pytest.mark.component


def busiest_second(times: list[float]) -> int:
    return max((sum(1 for t in times[i:] if t - at < 1.0) for i, at in enumerate(times)), default=0)


# -- subscribing -----------------------------------------------------------------------------


async def test_streams_become_live_and_deliver_in_order() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        seen.pool.want([BTC, ETH])
        assert not seen.is_alive(BTC)
        await seen.until_live(BTC, ETH)
        assert seen.is_alive(BTC)
        assert len(venue.peers) == 1
        assert venue.peers[0].request.raw_path == "/stream"
        assert "Sec-WebSocket-Extensions" not in venue.peers[0].request.headers
        assert venue.peers[0].controls == [{"method": "SUBSCRIBE", "params": [BTC, ETH], "id": 1}]
        for number in range(300):
            await venue.publish((BTC, ETH)[number % 2], {"u": number})
        await wait_until(lambda: len(seen.frames) == 300)
        assert seen.frames == [((BTC, ETH)[number % 2], {"u": number}) for number in range(300)]
        assert seen.pool.stats.frames == 300
        info = seen.pool.connections[0]
        assert (info.market, info.path, info.streams, info.is_live) == (Market.SPOT, "", 2, True)
        assert info.last_frame_ms is not None
        assert seen.told == [("live", [BTC, ETH])]


async def test_ack_proves_nothing_and_one_frame_proves_the_connection() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        seen.pool.want([BTC, ETH])
        await seen.until_live(BTC, ETH)
        assert not seen.pool.is_proven(BTC)
        assert seen.pool.connections[0].last_frame_ms is None
        await venue.publish(ETH, {"e": "kline"})
        await wait_until(lambda: seen.pool.is_proven(BTC))
        assert seen.pool.is_proven(ETH)
        assert not seen.pool.is_proven("bnbusdt@bookTicker")


async def test_450_streams_fill_three_connections_in_messages_below_4_kb() -> None:
    names = [f"sym{number:04d}币usdt@bookTicker" for number in range(450)]
    async with Venue() as venue, pool_on(venue) as seen:
        for name in names:
            seen.pool.want([name])
        await seen.until_live(*names)
        assert sorted(len(peer.names) for peer in venue.open) == [50, 200, 200]
        assert sorted(info.streams for info in seen.pool.connections) == [50, 200, 200]
        assert venue.subscribed == set(names)
        for peer in venue.peers:
            sent = peer.sent(WSMsgType.TEXT)
            assert all(len(text.encode()) < 4096 for text in sent)
            assert len(sent) <= 3
        seen.pool.want(names)
        await asyncio.sleep(0.1)
        assert len(seen.live) == 450


async def test_um_path_stands_before_stream() -> None:
    async with Venue() as venue:
        async with (
            pool_on(venue, market=Market.UM, path="/market") as klines,
            pool_on(venue, market=Market.UM, path="/public") as tickers,
        ):
            klines.pool.want([ETH])
            tickers.pool.want([BTC])
            await klines.until_live(ETH)
            await tickers.until_live(BTC)
            assert {peer.request.raw_path: list(peer.names) for peer in venue.peers} == {
                "/market/stream": [ETH],
                "/public/stream": [BTC],
            }
            venue.close()
            for peer in venue.peers:
                peer.cut()


@pytest.mark.parametrize("path", ["market", "/", "/market/", "/a?b", "/a/../b", "/A"])
def test_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError):
        make_pool("wss://127.0.0.1:9", path=path)


async def test_wrong_name_is_refused_and_takes_no_other_with_it() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        with pytest.raises(ValueError):
            seen.pool.want([BTC, 'x","y@bookTicker'])
        assert not seen.pool.connections
        seen.pool.want([BTC, BTC])
        await seen.until_live(BTC)
        assert venue.subscribed == {BTC}


async def test_streams_wanted_before_start_are_carried() -> None:
    async with Venue() as venue:
        seen = make_pool(venue.url)
        seen.pool.want([BTC])
        await seen.pool.start()
        await seen.until_live(BTC)
        await seen.pool.stop()
        assert not len(seen.tasks)


async def test_frames_of_streams_nobody_wants_are_ignored_and_counted() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        await venue.peers[0].send({"stream": ETH, "data": {"e": "kline"}})
        await venue.peers[0].send({"result": None, "id": 4711})
        await venue.publish(BTC, {"u": 1})
        await wait_until(lambda: seen.frames)
        assert seen.frames == [(BTC, {"u": 1})]
        assert seen.pool.stats.ignored == 1
        assert not seen.lost


# -- wanting and dropping --------------------------------------------------------------------


async def test_dropped_stream_is_unsubscribed_without_a_word() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        seen.pool.want([BTC, ETH])
        await seen.until_live(BTC, ETH)
        seen.pool.drop([BTC, "bnbusdt@bookTicker"])
        assert not seen.is_alive(BTC)
        await venue.publish(BTC, {"u": 1})
        await wait_until(lambda: venue.subscribed == {ETH})
        await venue.publish(ETH, {"e": "kline"})
        await wait_until(lambda: seen.frames)
        assert seen.frames == [(ETH, {"e": "kline"})]
        assert venue.peers[0].controls[-1] == {"method": "UNSUBSCRIBE", "params": [BTC], "id": 2}
        assert not seen.lost
        assert seen.is_alive(ETH)


async def test_stream_dropped_and_wanted_again_is_announced_again() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        seen.pool.want([BTC, ETH])
        await seen.until_live(BTC, ETH)
        seen.pool.drop([BTC])
        seen.pool.want([BTC])  # before the UNSUBSCRIBE was sent
        assert not seen.is_alive(BTC)
        await seen.until_live(BTC, times=2)
        seen.pool.drop([BTC])
        await wait_until(lambda: BTC not in venue.subscribed)
        seen.pool.want([BTC])
        await seen.until_live(BTC, times=3)
        assert venue.subscribed == {BTC, ETH}
        assert seen.live.count(ETH) == 1
        assert not seen.lost
        assert len(venue.peers) == 1


async def test_ack_that_comes_after_the_drop_makes_nothing_live() -> None:
    held: list[tuple[Peer, dict[str, Any]]] = []

    async def hold(peer: Peer, message: dict[str, Any]) -> None:
        held.append((peer, message))

    async with Venue(reply=hold) as venue, pool_on(venue, replace(QUICK, ack_timeout_s=5.0)) as seen:
        seen.pool.want([BTC, ETH])
        await wait_until(lambda: held)
        seen.pool.drop([BTC])
        seen.pool.want([BTC])
        await wait_until(lambda: len(held) == 2)
        await acknowledge(*held[0])
        await seen.until_live(ETH)
        assert seen.live == [ETH]
        await acknowledge(*held[1])
        await seen.until_live(BTC)


async def test_connection_without_streams_is_closed_and_its_place_is_free() -> None:
    async with Venue() as venue, pool_on(venue, replace(QUICK, streams_per_connection=1)) as seen:
        seen.pool.want([BTC, ETH])
        await seen.until_live(BTC, ETH)
        assert len(venue.open) == 2
        seen.pool.drop([BTC])
        await wait_until(lambda: venue.subscribed == {ETH} and len(venue.open) == 1)
        assert [info.streams for info in seen.pool.connections] == [1]
        seen.pool.drop([ETH])
        seen.pool.want(["bnbusdt@bookTicker"])  # in the same breath: the connection is kept
        await seen.until_live("bnbusdt@bookTicker")
        assert len(venue.peers) == 2
        assert not seen.lost


async def test_new_stream_goes_to_the_fullest_connection_with_room() -> None:
    names = [f"s{number}@bookTicker" for number in range(9)]
    async with Venue() as venue, pool_on(venue, replace(QUICK, streams_per_connection=3)) as seen:
        seen.pool.want(names)
        await seen.until_live(*names)
        seen.pool.drop([names[0], names[1], names[3]])
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        assert [info.streams for info in seen.pool.connections] == [1, 3, 3]


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 3)), max_size=40))
def test_any_sequence_of_wants_and_drops_ends_with_what_is_wanted(steps: list[tuple[bool, int, int]]) -> None:
    async def run() -> None:
        limits = replace(QUICK, streams_per_connection=3, messages_per_s=200.0)
        wanted: set[str] = set()
        async with Venue() as venue, pool_on(venue, limits) as seen:
            for is_wanted, number, pause_ms in steps:
                name = f"s{number}@bookTicker"
                (seen.pool.want if is_wanted else seen.pool.drop)([name])
                (wanted.add if is_wanted else wanted.discard)(name)
                if pause_ms:
                    await asyncio.sleep(pause_ms / 1000)
            await wait_until(lambda: venue.subscribed == wanted)
            await wait_until(lambda: all(seen.is_alive(name) for name in wanted))
            assert all(
                not seen.is_alive(f"s{number}@bookTicker")
                for number in range(8)
                if f"s{number}@bookTicker" not in wanted
            )
            assert not seen.lost
            assert sum(info.streams for info in seen.pool.connections) == len(wanted)

    asyncio.run(run())


# -- pace ------------------------------------------------------------------------------------


async def test_messages_keep_the_rate_whatever_is_asked_for() -> None:
    limits = replace(QUICK, messages_per_s=5.0, ping_every_s=0.4, ack_timeout_s=5.0)
    async with Venue() as venue, pool_on(venue, limits) as seen:
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        end = time.monotonic() + 2.2
        number = 0
        while time.monotonic() < end:
            number += 1
            seen.pool.want([f"s{number}@bookTicker"])
            seen.pool.drop([f"s{number - 2}@bookTicker"])
            if number % 60 == 0:
                await venue.peers[0].ws.ping(b"%d" % number)
            await asyncio.sleep(0.01)
        times = [at for at, _, _ in venue.peers[0].messages]
        assert busiest_second(times) <= 6
        assert len(times) >= 8
        assert venue.peers[0].sent(WSMsgType.PONG)
        assert venue.peers[0].sent(WSMsgType.PING)
        assert not seen.lost


async def test_ping_is_answered_with_its_payload_before_anything_else() -> None:
    limits = replace(QUICK, messages_per_s=5.0, ping_every_s=0.9)
    async with Venue() as venue, pool_on(venue, limits) as seen:
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        peer = venue.peers[0]
        await peer.ws.ping(b"\x00payload \xff")
        await peer.ws.ping(b"")
        seen.pool.want([ETH])
        await seen.until_live(ETH)
        kinds = [kind for _, kind, _ in peer.messages if kind is not WSMsgType.PING]
        assert kinds.index(WSMsgType.PONG) < len(kinds) - 1
        await wait_until(lambda: peer.sent(WSMsgType.PONG) == [b"\x00payload \xff", b""])


async def test_flood_of_pings_starves_nothing() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        for number in range(500):
            await venue.peers[0].ws.ping(b"%d" % number)
        await wait_until(lambda: b"499" in venue.peers[0].sent(WSMsgType.PONG))
        assert len(venue.peers[0].sent(WSMsgType.PONG)) < 100
        seen.pool.want([ETH])
        await seen.until_live(ETH)


async def test_own_pings_keep_a_quiet_connection_proven() -> None:
    limits = replace(QUICK, silence_s=0.7, ping_every_s=0.15)
    async with Venue() as venue, pool_on(venue, limits) as seen:
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        first = seen.pool.proof_mono(BTC)
        assert first is not None
        await wait_until(lambda: (seen.pool.proof_mono(BTC) or 0) > first + 1.5)
        assert not seen.lost
        assert len(venue.peers) == 1  # and it outlives connect_timeout_s


async def test_connects_stay_within_their_limit_in_a_storm() -> None:
    limits = replace(QUICK, connects_per_5_min=3, streams_per_connection=1)
    async with Venue(status=503) as venue, pool_on(venue, limits) as seen:
        seen.pool.want([f"s{number}@bookTicker" for number in range(6)])
        await wait_until(lambda: len(venue.tries) >= 3)
        await asyncio.sleep(1.2)
        assert len(venue.tries) == 3
        venue.status = 0
        seen.shift_s += 301
        await wait_until(lambda: len(venue.peers) == 3)
        await asyncio.sleep(0.3)
        assert len(venue.tries) == 6


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    """Whatever warns when it is collected shall do so inside the test that made it."""
    yield
    gc.collect()
