"""The stream pool when things go wrong: a stream is proven or it is lost, never in between."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import WSMsgType

from resender.aio import Backoff
from resender.upstream.streams import pool as stream_pool
from resender.upstream.streams.pool import StreamLimits
from tests.support.running import wait_until
from tests.support.venue import (
    BTC,
    ETH,
    QUICK,
    Peer,
    Seen,
    Venue,
    acknowledge,
    make_pool,
    pool_on,
)

pytestmark = pytest.mark.component


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnect sooner, where the length of the pause is not what is tested."""
    monkeypatch.setattr(stream_pool, "Backoff", lambda random, **_: Backoff(0.05, random=random))


async def go_live(venue: Venue, seen: Seen) -> Peer:
    """Subscribe two streams and prove their connection."""
    seen.pool.want([BTC, ETH])
    await seen.until_live(BTC, ETH)
    await venue.publish(BTC, {"u": 0})
    await wait_until(lambda: seen.pool.is_proven(BTC))
    seen.frames.clear()
    return venue.open[0]


async def lost_and_live_again(venue: Venue, seen: Seen) -> None:
    """Wait for the whole way: told lost at once, told live on a new connection."""
    await wait_until(lambda: seen.lost)
    await seen.until_live(BTC, ETH, times=2)
    assert [word for word, _ in seen.told] == ["live", "lost", "live"]
    assert sorted(seen.lost) == sorted([BTC, ETH])
    assert not seen.pool.is_proven(BTC)
    assert seen.pool.stats.reconnects == 1
    assert seen.pool.connections[0].reconnects == 1
    await venue.publish(BTC, {"u": 9})
    await wait_until(lambda: (BTC, {"u": 9}) in seen.frames)


# -- frames that cannot be trusted -----------------------------------------------------------

BAD_FRAMES: dict[str, Any] = {
    "no JSON": "hello",
    "empty": "",
    "truncated": f'{{"stream":"{BTC}","data":{{"u":1',
    "two objects": '{"result":null,"id":1}{"result":null,"id":2}',
    "not a number": f'{{"stream":"{BTC}","data":{{"u":NaN}}}}',
    "list": [1, 2],
    "number": 5,
    "text": '"x"',
    "null": "null",
    "empty object": {},
    "no data": {"stream": BTC},
    "no stream": {"data": {"u": 1}},
    "data is a list": {"stream": BTC, "data": [{"u": 1}]},
    "data is null": {"stream": BTC, "data": None},
    "data of an unwanted stream is a text": {"stream": "bnbusdt@bookTicker", "data": "x"},
    "stream is a number": {"stream": 5, "data": {}},
    "stream is a list": {"stream": [BTC], "data": {}},
    "stream is null": {"stream": None, "data": {}},
    "raw event": {"e": "kline", "s": "BTCUSDT"},
    "binary": b'{"stream":"btcusdt@bookTicker","data":{"u":1}}',
    "huge": {"stream": BTC, "data": {"u": "x" * 70_000}},
    "error of no request": {"error": {"code": 4, "msg": "Too many subscriptions"}},
    "error with an unknown id": {"code": 2, "msg": "Invalid request", "id": 999},
}


@pytest.mark.usefixtures("quick_pauses")
@pytest.mark.parametrize("frame", BAD_FRAMES.values(), ids=BAD_FRAMES)
async def test_frame_that_cannot_be_trusted_breaks_the_connection(frame: Any) -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        peer = await go_live(venue, seen)
        await peer.send(frame)
        await peer.send({"stream": BTC, "data": {"u": 1}})
        await lost_and_live_again(venue, seen)
        assert (BTC, {"u": 1}) not in seen.frames
        await wait_until(lambda: not peer.is_open)


async def test_text_that_is_no_utf_8_breaks_the_connection() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        peer = await go_live(venue, seen)
        await peer.ws.send_frame(b'{"stream":"\xff\xfe","data":{}}', WSMsgType.TEXT)
        await lost_and_live_again(venue, seen)
        assert seen.pool.stats.bad_frames == 1


async def test_frame_of_a_broken_protocol_breaks_the_connection() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        peer = await go_live(venue, seen)
        assert peer.request.transport is not None
        peer.request.transport.write(b"\xf3\x00garbage")
        await lost_and_live_again(venue, seen)


def refuse(name: str, data: Any) -> bool | None:
    return False if data.get("u") == 1 else None


def stumble(name: str, data: Any) -> bool | None:
    if data.get("u") == 1:
        raise KeyError("b")
    return True


def explode(name: str, data: Any) -> bool | None:
    if data.get("u") == 1:
        raise RuntimeError("a bug")
    return True


@pytest.mark.usefixtures("quick_pauses")
@pytest.mark.parametrize("answer", [refuse, stumble, explode])
async def test_data_the_owner_cannot_use_breaks_the_connection(
    answer: Callable[[str, Any], bool | None], caplog: pytest.LogCaptureFixture
) -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        peer = await go_live(venue, seen)
        seen.answer = answer
        for number in (1, 2, 3):
            await peer.send({"stream": BTC, "data": {"u": number}})
        await lost_and_live_again(venue, seen)
        assert [data for _, data in seen.frames if data["u"] in (2, 3)] == []
        assert ("a bug" in caplog.text) is (answer is explode)


async def test_live_callback_that_fails_breaks_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with Venue() as venue:
        calls: list[list[str]] = []
        lost: list[str] = []

        def on_live(names: list[str]) -> None:
            calls.append(names)
            if len(calls) == 1:
                raise RuntimeError("a bug in on_live")

        seen = make_pool(venue.url)
        seen.pool._on_live = on_live
        seen.pool._on_lost = lost.extend
        await seen.pool.start()
        seen.pool.want([BTC])
        await wait_until(lambda: len(calls) == 2)
        assert lost == [BTC]
        assert seen.is_alive(BTC)
        assert "a bug in on_live" in caplog.text
        await seen.pool.stop()
        assert not len(seen.tasks)


async def test_lost_callback_that_fails_stops_no_reconnect(caplog: pytest.LogCaptureFixture) -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        await go_live(venue, seen)

        def on_lost(names: list[str]) -> None:
            raise RuntimeError("a bug in on_lost")

        seen.pool._on_lost = on_lost
        venue.peers[0].cut()
        await seen.until_live(BTC, ETH, times=2)
        assert "a bug in on_lost" in caplog.text


# -- acks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_nested", [True, False])
async def test_refused_batch_is_tried_again_one_by_one(is_nested: bool) -> None:
    async def reply(peer: Peer, message: dict[str, Any]) -> None:
        if ETH not in message["params"]:
            await acknowledge(peer, message)
            return
        for name in message["params"]:
            peer.names.pop(name, None)
        error = {"code": 2, "msg": "Invalid request"}
        await peer.send({"error": error, "id": message["id"]} if is_nested else error | {"id": message["id"]})

    names = [BTC, "bnbusdt@bookTicker", ETH]
    async with Venue(reply=reply) as venue, pool_on(venue) as seen:
        seen.pool.want(names)
        await seen.until_live(*names[:2])
        await wait_until(lambda: len(venue.peers[0].controls) >= 4)
        assert [len(control["params"]) for control in venue.peers[0].controls[:4]] == [3, 1, 1, 1]
        assert not seen.is_alive(ETH)
        assert seen.is_alive(BTC)
        assert len(venue.peers) == 1
        venue.reply = acknowledge
        await seen.until_live(ETH)
        assert not seen.lost


async def test_refused_stream_can_be_dropped() -> None:
    async def reply(peer: Peer, message: dict[str, Any]) -> None:
        if message["method"] == "SUBSCRIBE":
            await peer.send({"code": 2, "msg": "no", "id": message["id"]})

    async with Venue(reply=reply) as venue, pool_on(venue, replace(QUICK, ack_timeout_s=10.0)) as seen:
        seen.pool.want([BTC, ETH])
        await wait_until(lambda: venue.peers and venue.peers[0].controls)
        await asyncio.sleep(0.1)
        seen.pool.drop([BTC])
        await wait_until(lambda: len(venue.peers[0].controls) >= 3)
        assert all(BTC not in c["params"] for c in venue.peers[0].controls[1:] if c["method"] == "SUBSCRIBE")


async def test_missing_ack_breaks_the_connection_and_makes_nothing_live() -> None:
    async def silent(peer: Peer, message: dict[str, Any]) -> None:
        await peer.send({"stream": BTC, "data": {"u": 1}})  # frames prove no other subscription

    async with Venue(reply=silent) as venue, pool_on(venue) as seen:
        seen.pool.want([BTC, ETH])
        await wait_until(lambda: len(venue.peers) == 2)
        assert not seen.told
        assert not seen.is_alive(BTC)
        venue.reply = acknowledge
        await seen.until_live(BTC, ETH)
        assert not seen.lost


# -- silence and loss ------------------------------------------------------------------------


async def test_silence_is_seen_in_the_very_call() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        await go_live(venue, seen)
        seen.shift_s += QUICK.silence_s + 0.1
        assert seen.pool.proof_mono(BTC) is None
        assert not seen.pool.connections[0].is_live
        assert not seen.lost  # nobody has been told yet: no timer had its turn
        await lost_and_live_again(venue, seen)


async def test_frames_that_waited_through_a_silence_are_not_believed() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        peer = await go_live(venue, seen)
        await peer.send({"stream": BTC, "data": {"u": 1}})
        time.sleep(0.05)  # noqa: ASYNC251  (it is in the socket's buffer now)
        seen.shift_s += QUICK.silence_s + 0.1
        await lost_and_live_again(venue, seen)
        assert (BTC, {"u": 1}) not in seen.frames


async def test_half_open_connection_is_lost_and_replaced() -> None:
    limits = replace(QUICK, silence_s=0.7, ping_every_s=0.15)
    async with Venue() as venue, pool_on(venue, limits) as seen:
        peer = await go_live(venue, seen)
        peer.answers_pings = False
        await lost_and_live_again(venue, seen)
        await wait_until(lambda: not peer.is_open)


async def test_frames_alone_keep_a_venue_that_answers_no_ping_alive() -> None:
    limits = replace(QUICK, silence_s=0.7, ping_every_s=0.15)
    async with Venue(answers_pings=False) as venue, pool_on(venue, limits) as seen:
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        for number in range(25):
            await venue.publish(BTC, {"u": number})
            await asyncio.sleep(0.06)
        assert len(seen.frames) == 25
        assert not seen.lost


async def test_pongs_that_lag_far_behind_break_the_connection() -> None:
    limits = replace(QUICK, silence_s=0.7, ping_every_s=0.15)
    async with Venue() as venue, pool_on(venue, limits) as seen:
        peer = await go_live(venue, seen)
        await wait_until(lambda: peer.sent(WSMsgType.PING))
        await asyncio.sleep(0.1)
        peer.answers_pings = False
        while not seen.lost:
            await peer.send({"stream": BTC, "data": {"u": 1}})
            await asyncio.sleep(0.05)
        await seen.until_live(BTC, ETH, times=2)


@pytest.mark.usefixtures("quick_pauses")
@pytest.mark.parametrize("code", [0, 1000, 1001, 1006, 1008])
async def test_connection_the_venue_ends_is_lost_and_replaced(code: int) -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        peer = await go_live(venue, seen)
        if code in (0, 1006):
            peer.cut()
        else:
            await peer.ws.close(code=code)
        await lost_and_live_again(venue, seen)


async def test_lost_is_told_before_any_new_connect() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        await go_live(venue, seen)
        tries: list[int] = []
        on_lost = seen.pool._on_lost
        seen.pool._on_lost = lambda names: (tries.append(len(venue.tries)), on_lost(names))[1]
        venue.peers[0].cut()
        await seen.until_live(BTC, times=2)
        assert tries == [1]


async def test_every_connection_lost_at_once_comes_back() -> None:
    names = [f"s{number}@bookTicker" for number in range(12)]
    async with Venue() as venue, pool_on(venue, replace(QUICK, streams_per_connection=3)) as seen:
        seen.pool.want(names)
        await seen.until_live(*names)
        for peer in venue.open:
            peer.cut()
        await seen.until_live(*names, times=2)
        assert sorted(seen.lost) == sorted(names)
        assert venue.subscribed == set(names)


async def test_streams_dropped_and_wanted_during_an_outage_are_right_afterwards() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        await go_live(venue, seen)
        venue.status = 503
        venue.peers[0].cut()
        await wait_until(lambda: seen.lost)
        seen.pool.drop([BTC])
        seen.pool.want(["bnbusdt@bookTicker"])
        venue.status = 0
        await seen.until_live("bnbusdt@bookTicker")
        await seen.until_live(ETH, times=2)
        assert venue.subscribed == {ETH, "bnbusdt@bookTicker"}
        assert BTC not in seen.live[2:]


# -- connecting ------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick_pauses")
@pytest.mark.parametrize("status", [400, 403, 418, 429, 451, 503])
async def test_refused_handshake_is_tried_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with Venue(status=status) as venue, pool_on(venue) as seen:
        seen.pool.want([BTC])
        await wait_until(lambda: len(venue.tries) >= 2)
        assert not seen.is_alive(BTC)
        assert [info.is_live for info in seen.pool.connections] == [False]
        venue.status = 0
        await seen.until_live(BTC)
        assert str(status) in caplog.text


async def test_retry_after_of_a_refused_handshake_is_kept() -> None:
    async with Venue(status=429, headers={"Retry-After": "2"}) as venue, pool_on(venue) as seen:
        seen.pool.want([BTC])
        await wait_until(lambda: venue.tries)
        venue.status = 0
        await seen.until_live(BTC)
        assert venue.tries[1] - venue.tries[0] >= 1.9


async def test_closed_port_is_tried_until_it_opens(caplog: pytest.LogCaptureFixture) -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        await go_live(venue, seen)
        venue.close()
        venue.peers[0].cut()
        await wait_until(lambda: "refused the connection" in caplog.text)
        assert sorted(seen.lost) == sorted([BTC, ETH])
        await venue.listen()
        await seen.until_live(BTC, ETH, times=2)


async def test_handshake_without_an_answer_ends_in_time() -> None:
    async with Venue(hangs=True) as venue, pool_on(venue) as seen:
        seen.pool.want([BTC])
        await wait_until(lambda: len(venue.tries) >= 2)
        venue.hangs = False
        await seen.until_live(BTC)


async def test_pauses_between_connects_grow() -> None:
    async with Venue(status=503) as venue, pool_on(venue) as seen:
        seen.pool.want([BTC])
        await wait_until(lambda: len(venue.tries) >= 4)
        first, second, third = (b - a for a, b in zip(venue.tries, venue.tries[1:4], strict=False))
        # Drawn from the upper half of 0.5, 1 and 2 s.
        assert first >= 0.24
        assert second >= 0.49
        assert third >= 0.99


async def test_pauses_start_over_after_a_good_connection() -> None:
    async with Venue(status=503) as venue, pool_on(venue) as seen:
        seen.pool.want([BTC, ETH])
        await wait_until(lambda: len(venue.tries) >= 3)
        venue.status = 0
        peer = await go_live(venue, seen)
        # Thirty good seconds pass, in steps no longer than the silence that is allowed.
        for number in range(22):
            seen.shift_s += 1.5
            await peer.send({"stream": BTC, "data": {"u": number}})
            await wait_until(lambda number=number: seen.frames[-1:] == [(BTC, {"u": number})])
        cut_at = time.monotonic()
        peer.cut()
        await seen.until_live(BTC, ETH, times=2)
        assert venue.tries[-1] - cut_at < 1.9  # at least 2 s if they did not


async def test_connection_that_never_delivers_counts_as_bad() -> None:
    async def never(peer: Peer, message: dict[str, Any]) -> None:
        pass

    async with Venue(reply=never) as venue, pool_on(venue, replace(QUICK, ack_timeout_s=0.1)) as seen:
        seen.pool.want([BTC])
        await wait_until(lambda: len(venue.tries) >= 4)
        gaps = [b - a for a, b in zip(venue.tries, venue.tries[1:4], strict=False)]
        assert gaps[2] > gaps[0] + 0.4


# -- stopping --------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["never", "connecting", "refused", "acking", "live", "lost", "limited"])
async def test_stop_leaves_nothing_in_any_phase(phase: str, caplog: pytest.LogCaptureFixture) -> None:
    async def mute(peer: Peer, message: dict[str, Any]) -> None:
        pass

    limits: StreamLimits = replace(QUICK, connects_per_5_min=1) if phase == "limited" else QUICK
    async with Venue() as venue:
        venue.hangs = phase == "connecting"
        venue.status = 503 if phase in ("refused", "limited") else 0
        venue.reply = mute if phase == "acking" else acknowledge
        async with pool_on(venue, limits) as seen:
            if phase != "never":
                seen.pool.want([BTC, ETH])
                await wait_until(lambda: venue.tries)
            if phase in ("live", "lost"):
                await go_live(venue, seen)
            if phase == "lost":
                venue.peers[0].cut()
                await wait_until(lambda: seen.lost)
        assert asyncio.all_tasks() - {asyncio.current_task()} <= set(_server_tasks())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def _server_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "RequestHandler" in repr(task.get_coro())]


async def test_stop_right_after_a_burst_leaves_nothing() -> None:
    async with Venue() as venue:
        for ticks in range(12):
            async with pool_on(venue, replace(QUICK, streams_per_connection=1)) as seen:
                seen.pool.want([BTC, ETH])
                for _ in range(ticks):
                    await asyncio.sleep(0.001)


async def test_stop_closes_with_a_close_frame() -> None:
    async with Venue() as venue:
        async with pool_on(venue) as seen:
            peer = await go_live(venue, seen)
        assert peer.close_code == 1000
