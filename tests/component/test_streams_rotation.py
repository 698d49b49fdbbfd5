"""Planned replacement of connections: streams move over without being lost and without a gap."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.running import wait_until
from tests.support.venue import (
    BTC,
    ETH,
    QUICK,
    Peer,
    Seen,
    Venue,
    acknowledge,
    pool_on,
)

pytestmark = pytest.mark.component

SHUTDOWNS = {
    "combined": {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1790000000000}},
    "raw": {"e": "serverShutdown", "E": 1790000000000},
}


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    yield
    gc.collect()


class Counting:
    """Publishes 1, 2, 3, ... on a stream to whoever is subscribed at that moment."""

    def __init__(self, venue: Venue, name: str) -> None:
        self.venue = venue
        self.name = name
        self.last = 0
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.last += 1
            await self.venue.publish(self.name, {"u": self.last})
            await asyncio.sleep(0.005)

    async def stop(self) -> int:
        self._task.cancel()
        await asyncio.wait({self._task})
        return self.last


async def start(venue: Venue, seen: Seen) -> Peer:
    seen.pool.want([BTC, ETH])
    await seen.until_live(BTC, ETH)
    return venue.open[0]


@pytest.mark.parametrize("notice", SHUTDOWNS.values(), ids=SHUTDOWNS)
async def test_shutdown_notice_moves_the_streams_without_a_lost_frame(notice: Any) -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        old = await start(venue, seen)
        counting = Counting(venue, BTC)
        await wait_until(lambda: len(seen.frames) > 10)
        await old.send(notice)
        await old.send(notice)
        always: list[bool] = []
        while old.is_open:
            always.append(seen.is_alive(BTC) and seen.is_alive(ETH) and seen.pool.is_proven(BTC))
            await asyncio.sleep(0.005)
        more = len(seen.frames) + 20
        await wait_until(lambda: len(seen.frames) > more)
        last = await counting.stop()
        await wait_until(lambda: seen.frames[-1][1]["u"] == last)
        numbers = {data["u"] for _, data in seen.frames}
        assert numbers == set(range(min(numbers), last + 1))
        assert all(always)
        assert seen.told == [("live", [BTC, ETH])]
        assert seen.pool.stats.rotations == 1
        assert seen.pool.stats.reconnects == 0
        assert [list(peer.names) for peer in venue.open] == [[BTC, ETH]]
        assert old.close_code == 1000
        assert len(venue.tries) == 2


async def test_old_frames_still_on_their_way_are_read_before_the_old_connection_closes() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        old = await start(venue, seen)
        await venue.publish(BTC, {"u": 1})
        old.answers_pings = False  # its pong waits behind the late frames below
        await old.send(SHUTDOWNS["raw"])
        await wait_until(lambda: len(venue.open) == 2 and venue.open[1].names)
        await venue.open[1].send({"stream": BTC, "data": {"u": 3}})
        await wait_until(lambda: len(seen.frames) == 2)
        assert old.is_open
        await old.send({"stream": BTC, "data": {"u": 2}})
        await wait_until(lambda: seen.pool.stats.rotations == 1)
        assert [data["u"] for _, data in seen.frames] == [1, 3, 2]
        assert not seen.lost


async def test_age_rotates_one_connection_after_the_other() -> None:
    names = [f"s{number}@bookTicker" for number in range(6)]
    limits = replace(QUICK, streams_per_connection=2, max_age_s=0.8)
    async with Venue() as venue, pool_on(venue, limits) as seen:
        seen.pool.want(names)
        await seen.until_live(*names)
        most = 0
        while seen.pool.stats.rotations < 4:
            # Three lines, one successor and one predecessor that is just closing.
            most = max(most, len(venue.open))
            assert all(seen.is_alive(name) for name in names)
            await asyncio.sleep(0.005)
        assert most <= 5
        assert not seen.lost
        assert sorted(seen.live) == sorted(names)
        assert seen.pool.stats.reconnects == 0


async def test_venue_that_cuts_at_its_own_age_is_met_again() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        for times in (1, 2, 3):
            seen.pool.want([BTC, ETH])
            await seen.until_live(BTC, ETH, times=times)
            await venue.open[0].ws.close(code=1001)
            await wait_until(lambda times=times: seen.lost.count(BTC) == times)
        await seen.until_live(BTC, ETH, times=4)


async def test_quiet_connection_is_rotated_too() -> None:
    async with Venue() as venue, pool_on(venue, replace(QUICK, ack_timeout_s=0.2)) as seen:
        old = await start(venue, seen)
        await venue.publish(BTC, {"u": 1})
        await wait_until(lambda: seen.frames)
        await old.send(SHUTDOWNS["raw"])
        await wait_until(lambda: seen.pool.stats.rotations == 1)
        assert not seen.lost
        assert not seen.pool.is_proven(BTC)  # the new connection has shown nothing yet


async def test_new_connection_that_delivers_nothing_is_not_taken() -> None:
    async with Venue() as venue, pool_on(venue, replace(QUICK, ack_timeout_s=0.2)) as seen:
        old = await start(venue, seen)

        async def deaf(peer: Peer, message: dict[str, Any]) -> None:
            peer.names.clear()  # acknowledged, never delivered: as on a wrong path
            await acknowledge(peer, message)

        venue.reply = deaf
        counting = Counting(venue, BTC)
        await wait_until(lambda: seen.frames)
        await old.send(SHUTDOWNS["raw"])
        await wait_until(lambda: len(venue.tries) >= 3)
        assert seen.pool.stats.rotations == 0
        assert old.is_open
        venue.reply = acknowledge
        await wait_until(lambda: seen.pool.stats.rotations == 1)
        await counting.stop()
        assert not seen.lost


async def test_rotation_that_cannot_connect_is_tried_again_while_the_old_one_serves() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        old = await start(venue, seen)
        venue.status = 503
        await old.send(SHUTDOWNS["combined"])
        await wait_until(lambda: len(venue.tries) >= 4)
        assert seen.is_alive(BTC)
        await venue.publish(BTC, {"u": 1})
        await wait_until(lambda: seen.frames)
        assert venue.tries[3] - venue.tries[2] > 0.4
        venue.status = 0
        await wait_until(lambda: seen.pool.stats.rotations == 1)
        assert not seen.lost
        assert seen.pool.stats.reconnects == 0


async def test_rotation_refused_a_stream_keeps_the_old_connection() -> None:
    async with Venue() as venue, pool_on(venue, replace(QUICK, ack_timeout_s=0.3)) as seen:
        old = await start(venue, seen)

        async def reply(peer: Peer, message: dict[str, Any]) -> None:
            await peer.send({"code": 2, "msg": "no", "id": message["id"]})

        venue.reply = reply
        await old.send(SHUTDOWNS["combined"])
        await wait_until(lambda: len(venue.tries) >= 3)
        assert old.is_open
        assert seen.is_alive(BTC)
        assert not seen.lost
        venue.reply = acknowledge
        await wait_until(lambda: seen.pool.stats.rotations == 1)


async def test_old_connection_that_dies_during_its_rotation_hands_over_as_lost_and_live() -> None:
    async with Venue() as venue, pool_on(venue, replace(QUICK, ack_timeout_s=1.5)) as seen:
        old = await start(venue, seen)

        async def half(peer: Peer, message: dict[str, Any]) -> None:
            pass

        venue.reply = half
        await old.send(SHUTDOWNS["combined"])
        await wait_until(lambda: len(venue.open) == 2 and venue.open[1].controls)
        old.cut()
        await wait_until(lambda: seen.lost)
        assert not seen.is_alive(BTC)
        await acknowledge(venue.peers[1], venue.peers[1].controls[0])
        await seen.until_live(BTC, ETH, times=2)
        assert [word for word, _ in seen.told] == ["live", "lost", "live"]
        assert len(venue.tries) == 2
        assert seen.pool.stats.rotations == 0
        assert seen.pool.stats.reconnects == 1


async def test_streams_wanted_and_dropped_during_a_rotation_are_right_afterwards() -> None:
    new = "bnbusdt@bookTicker"
    async with Venue() as venue, pool_on(venue, replace(QUICK, ack_timeout_s=1.5)) as seen:
        old = await start(venue, seen)
        held: list[tuple[Peer, dict[str, Any]]] = []

        async def hold(peer: Peer, message: dict[str, Any]) -> None:
            held.append((peer, message))

        venue.reply = hold
        await old.send(SHUTDOWNS["combined"])
        await wait_until(lambda: held)
        seen.pool.drop([ETH])
        seen.pool.want([new])
        await wait_until(lambda: len(held) == 5)  # SUBSCRIBE, then both changes on both connections
        venue.reply = acknowledge
        for peer, message in held:
            await acknowledge(peer, message)
        await wait_until(lambda: seen.pool.stats.rotations == 1)
        await wait_until(lambda: [list(peer.names) for peer in venue.open] == [[BTC, new]])
        assert seen.is_alive(BTC)
        assert seen.is_alive(new)
        assert not seen.is_alive(ETH)
        assert seen.live == [BTC, ETH, new]
        assert not seen.lost


async def test_line_that_runs_empty_during_its_rotation_is_closed() -> None:
    async with Venue() as venue, pool_on(venue) as seen:
        old = await start(venue, seen)

        async def mute(peer: Peer, message: dict[str, Any]) -> None:
            pass

        venue.reply = mute
        await old.send(SHUTDOWNS["combined"])
        await wait_until(lambda: len(venue.open) == 2)
        seen.pool.drop([BTC, ETH])
        await wait_until(lambda: not venue.open)
        assert not seen.pool.connections
        assert not seen.lost


async def test_venue_that_announces_its_shutdown_every_time_is_not_stormed() -> None:
    async def greet(peer: Peer, message: dict[str, Any]) -> None:
        await acknowledge(peer, message)
        await peer.send(SHUTDOWNS["combined"])

    async with Venue(reply=greet) as venue, pool_on(venue) as seen:
        await start(venue, seen)
        await wait_until(lambda: len(venue.tries) >= 5, 10)
        assert venue.tries[4] - venue.tries[3] > 0.9
        assert not seen.lost
        assert seen.is_alive(BTC)


async def test_stop_during_a_rotation_leaves_nothing() -> None:
    for step in range(8):
        async with Venue() as venue:
            async with pool_on(venue) as seen:
                old = await start(venue, seen)
                await old.send(SHUTDOWNS["raw"])
                await wait_until(lambda: len(venue.tries) == 2)
                await asyncio.sleep(step * 0.003)
