"""Stream connections through every kind of egress, spread over several."""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import book_ticker_stream
from resender.core.egress.spec import DEFAULT_ROUTE, EgressSpec
from resender.sandbox import Sandbox, SandboxConfig
from resender.upstream.streams.pool import StreamLimits, StreamPool
from resender.upstream.streams.session import Socket, StreamBroken
from resender.upstream.streams.spread import SpreadSessions, make_stream_session
from resender.upstream.tls import make_context
from tests.support.authority import AUTHORITY, Authority, client_context
from tests.support.egress_ways import (
    BAD_PASSWORD,
    PROXIES,
    TUNNELS,
    address,
    egress_of,
    make_proxy,
)
from tests.support.proxies import Proxy
from tests.support.running import wait_until
from tests.support.venue import BTC, ETH, QUICK, Seen, Venue

pytestmark = pytest.mark.component

GATEWAY = EgressSpec("far", "resender", scheme="http", host="127.0.0.1", port=9)


@pytest.fixture(autouse=True)
def _no_garbage() -> Iterator[None]:
    yield
    gc.collect()


@dataclass
class Spread:
    """A `SpreadSessions` whose clock the test moves, and the sockets it has opened."""

    sessions: SpreadSessions
    sockets: list[Socket]
    now: list[float]

    async def open(self) -> Socket:
        socket = await self.sessions.open("/stream", 65_536)
        self.sockets.append(socket)
        return socket

    async def close(self, socket: Socket) -> None:
        self.sockets.remove(socket)
        await socket.ws.close()
        socket.transport.abort()


@asynccontextmanager
async def spread_on(specs: Sequence[EgressSpec], url: str, **options: Any) -> AsyncIterator[Spread]:
    now = [1000.0]
    options.setdefault("ssl_context", client_context())
    sessions = SpreadSessions(
        specs, url, 0.8, clock=Clock(mono=lambda: now[0]), random=random.Random(1), **options
    )
    await sessions.start()
    spread = Spread(sessions, [], now)
    try:
        yield spread
    finally:
        for socket in list(spread.sockets):
            await spread.close(socket)
        await sessions.stop()


@asynccontextmanager
async def pool_through(
    specs: Sequence[EgressSpec], url: str, limits: StreamLimits = QUICK, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Seen, SpreadSessions]]:
    seen: Seen
    tasks = Tasks()
    sessions = SpreadSessions(specs, url, limits.connect_timeout_s, ssl_context=context or client_context())
    pool = StreamPool(
        Market.SPOT, url, "", limits,
        on_frame=lambda name, data, raw: seen.frames.append((name, data)),
        on_live=lambda names: seen.told.append(("live", names)),
        on_lost=lambda names: seen.told.append(("lost", names)),
        tasks=tasks, clock=Clock(), random=random.Random(1), session_factory=lambda: sessions,
    )  # fmt: skip
    seen = Seen(pool, tasks)
    await pool.start()
    try:
        yield seen, sessions
    finally:
        await pool.stop()
        assert not len(tasks)


# --- each kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TUNNELS)
async def test_streams_of_the_exchange_come_through_every_way(kind: str, tmp_path: Path) -> None:
    name = book_ticker_stream("BTCUSDT")
    limits = replace(QUICK, messages_per_s=3.0, ping_every_s=0.8, ack_timeout_s=2.0)
    async with (
        Sandbox(SandboxConfig(book_ticker_hz=30.0)) as sandbox,
        egress_of(kind, "", tmp_path) as (spec, proxy),
        pool_through([spec], sandbox.urls["STREAM_SPOT"], limits) as (seen, sessions),
    ):
        seen.pool.want([name])
        await seen.until_live(name)
        await wait_until(lambda: len(seen.frames) >= 5)
        assert seen.pool.is_proven(name)
        assert sessions.open_sockets == {spec.name: 1}
        if proxy is not None:
            assert proxy.open_tunnels == 1


@pytest.mark.parametrize("kind", PROXIES)
async def test_stream_is_found_again_after_the_proxy_cut_it(kind: str) -> None:
    async with (
        Venue() as venue,
        make_proxy(kind) as proxy,
        pool_through([proxy.spec()], venue.url) as (seen, _),
    ):
        seen.pool.want([BTC])
        await seen.until_live(BTC)
        assert proxy.cut() == 1
        await seen.until_live(BTC, times=2)
        assert seen.lost == [BTC]


@pytest.mark.parametrize("kind", PROXIES)
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_streams_are_encrypted_end_to_end(kind: str, is_trusted: bool, tmp_path: Path, caplog) -> None:
    server_context = AUTHORITY.server_context("stream.example.test")
    file = tmp_path / "ca.pem"
    (AUTHORITY if is_trusted else Authority()).write_ca(file)
    async with Venue(context=server_context) as venue, make_proxy(kind) as proxy:
        proxy.names = {"stream.example.test": "127.0.0.1"}
        url = f"wss://stream.example.test:{venue.port}"
        context = make_context(str(file))
        async with pool_through([proxy.spec()], url, context=context) as (seen, _):
            seen.pool.want([BTC])
            if is_trusted:
                await seen.until_live(BTC)
                await venue.publish(BTC, {"u": 1})
                await wait_until(lambda: seen.frames)
            else:
                await wait_until(
                    lambda: "through via: its TLS certificate is signed by an authority" in caplog.text
                )


async def test_venue_sees_the_source_address() -> None:
    async with Venue() as venue, spread_on([address("127.0.0.2"), address("127.0.0.3")], venue.url) as spread:
        await spread.open()
        await spread.open()
        assert [peer.request.remote for peer in venue.peers] == ["127.0.0.2", "127.0.0.3"]


@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("socks5", {"hangs": True}, r"127\.0\.0\.1 through via: no answer of the proxy within 0\.8 s"),
        ("http", {"refuse": 403}, "the proxy's rules do not allow it"),
        ("http login", {"password": BAD_PASSWORD}, "wants another user name or password"),
    ],
)
async def test_fault_of_a_proxy_breaks_the_stream_with_plain_words(
    kind: str, fault: dict[str, object], words: str
) -> None:
    async with Venue() as venue, make_proxy(kind) as proxy:
        spec = proxy.spec()
        for name, value in fault.items():
            setattr(proxy, name, value)
        async with spread_on([spec], venue.url) as spread:
            with pytest.raises(StreamBroken, match=words) as caught:
                await spread.open()
        if spec.password:
            assert spec.password not in str(caught.value)
        assert not venue.tries


def test_another_gateway_has_no_stream_session() -> None:
    with pytest.raises(ValueError, match="no streams"):
        make_stream_session(GATEWAY, "wss://127.0.0.1:9", 1.0)


# --- spreading ---------------------------------------------------------------------------------------


async def test_only_another_gateway_is_told_in_plain_words_and_not_tried_often() -> None:
    async with spread_on([GATEWAY], "wss://127.0.0.1:9") as spread:
        with pytest.raises(StreamBroken, match="no entry of EGRESS carries streams") as caught:
            await spread.open()
    assert caught.value.retry_after_s >= 60


async def test_sockets_are_spread_evenly_and_a_freed_way_is_used_first() -> None:
    async with Venue() as venue, Proxy("socks5") as one, Proxy("http") as two:
        specs = [one.spec("one"), GATEWAY, two.spec("two"), address("127.0.0.2")]
        async with spread_on(specs, venue.url) as spread:
            for _ in range(6):
                await spread.open()
            assert spread.sessions.open_sockets == {"one": 2, "two": 2, "127.0.0.2": 2}
            spread.now[0] += 30
            await spread.close(spread.sockets[1])
            assert spread.sessions.open_sockets == {"one": 2, "two": 1, "127.0.0.2": 2}
            await spread.open()
            assert spread.sessions.open_sockets == {"one": 2, "two": 2, "127.0.0.2": 2}


async def test_sockets_opened_at_once_are_spread_too() -> None:
    async with Venue() as venue:
        specs = [address(f"127.0.0.{n}") for n in (2, 3, 4)]
        async with spread_on(specs, venue.url) as spread:
            await asyncio.gather(*(spread.open() for _ in range(9)))
            assert set(spread.sessions.open_sockets.values()) == {3}


async def test_socket_that_breaks_is_not_counted() -> None:
    async with Venue() as venue, spread_on([address("127.0.0.2")], venue.url) as spread:
        socket = await spread.open()
        venue.peers[0].cut()
        await socket.ws.receive()
        assert spread.sessions.open_sockets == {"127.0.0.2": 0}


async def test_market_of_an_entry_is_respected() -> None:
    only_um = replace(address("127.0.0.2"), markets=frozenset({Market.UM}))
    async with Venue() as venue:
        async with spread_on([only_um, DEFAULT_ROUTE], venue.url, market=Market.SPOT) as spread:
            await spread.open()
            assert spread.sessions.open_sockets == {"default": 1}
        async with spread_on([only_um], venue.url, market=Market.SPOT) as spread:
            with pytest.raises(StreamBroken):
                await spread.open()


async def test_way_that_fails_is_passed_over_set_aside_and_comes_back() -> None:
    async with Venue() as venue, Proxy("socks5") as bad:
        await bad.stop()
        async with spread_on([bad.spec("bad"), address("127.0.0.2")], venue.url) as spread:
            await spread.open()
            assert spread.sessions.open_sockets == {"bad": 0, "127.0.0.2": 1}
            await bad.listen()
            await spread.open()
            assert bad.accepted == 0, "it was not set aside"
            spread.now[0] += 1.1
            await spread.open()
            assert spread.sessions.open_sockets == {"bad": 1, "127.0.0.2": 2}


async def test_way_whose_connections_end_soon_is_set_aside() -> None:
    async with Venue() as venue, Proxy("socks5") as bad:
        async with spread_on([bad.spec("bad"), address("127.0.0.2")], venue.url) as spread:
            first = await spread.open()
            assert spread.sessions.open_sockets == {"bad": 1, "127.0.0.2": 0}
            bad.cut()
            await first.ws.receive()
            await spread.open()
            await spread.open()
            assert spread.sessions.open_sockets == {"bad": 0, "127.0.0.2": 2}
            spread.now[0] += 1.1
            late = await spread.open()
            assert spread.sessions.open_sockets == {"bad": 1, "127.0.0.2": 2}
            # One that has lived for a while ends for other reasons.
            spread.now[0] += 30
            await spread.close(late)
            await spread.open()
            assert spread.sessions.open_sockets == {"bad": 1, "127.0.0.2": 2}


async def test_failures_at_once_count_as_one() -> None:
    async with Venue() as venue, Proxy("socks5") as bad:
        async with spread_on([bad.spec("bad"), address("127.0.0.2")], venue.url) as spread:
            await asyncio.gather(*(spread.open() for _ in range(40)))
            bad.cut()
            await wait_until(lambda: spread.sessions.open_sockets["bad"] == 0)
            bad.refuse = 1
            spread.now[0] += 1.1
            await asyncio.gather(*(spread.open() for _ in range(40)))
            bad.refuse = 0
            spread.now[0] += 2.1
            await spread.open()
            assert spread.sessions.open_sockets["bad"] == 1


async def test_pauses_of_a_failing_way_grow_to_a_minute() -> None:
    async with Venue() as venue, Proxy("socks5") as bad:
        bad.refuse = 1
        async with spread_on([bad.spec("bad"), address("127.0.0.2")], venue.url) as spread:
            tries: list[float] = []
            while spread.now[0] < 1000 + 600:
                before = bad.accepted
                await spread.open()
                if len(spread.sockets) > 41:  # they live for 20 s
                    await spread.close(spread.sockets[0])
                if bad.accepted > before:
                    tries.append(spread.now[0])
                spread.now[0] += 0.5
    pauses = [b - a for a, b in pairwise(tries)]
    assert pauses[0] <= 1.5
    assert 30 <= max(pauses) <= 60.5
    assert pauses[-1] >= 30


async def test_when_all_have_failed_the_one_due_soonest_is_tried() -> None:
    async with Proxy("socks5") as one, Proxy("http") as two, Venue() as venue:
        one.refuse, two.refuse = 1, 503
        async with spread_on([one.spec("one"), two.spec("two")], venue.url) as spread:
            with pytest.raises(StreamBroken):
                await spread.open()
            assert (one.accepted, two.accepted) == (1, 1)
            for _ in range(6):  # no time passes: both are set aside
                before = one.accepted + two.accepted
                with pytest.raises(StreamBroken) as caught:
                    await spread.open()
                assert one.accepted + two.accepted == before + 1
                assert caught.value.retry_after_s == 0
            assert one.accepted > 1
            assert two.accepted > 1
            two.refuse = 0
            for _ in range(4):
                try:
                    await spread.open()
                    break
                except StreamBroken:
                    continue
            assert spread.sessions.open_sockets == {"one": 0, "two": 1}


async def test_one_that_was_set_aside_is_the_last_resort() -> None:
    async with Venue() as venue, Proxy("socks5") as one, Proxy("http") as two:
        await two.stop()
        async with spread_on([two.spec("two"), one.spec("one")], venue.url) as spread:
            await spread.open()  # two is set aside
            await two.listen()
            one.refuse = 1
            await spread.open()
            assert spread.sessions.open_sockets == {"two": 1, "one": 1}


async def test_way_told_to_wait_is_left_alone_and_the_others_serve() -> None:
    async with Venue() as venue, Venue(status=418, headers={"Retry-After": "120"}) as banned:
        async with Proxy("socks5") as one:
            _divert(one, banned)
            async with spread_on([one.spec("one"), address("127.0.0.2")], venue.url) as spread:
                for _ in range(3):
                    await spread.open()
                assert len(banned.tries) == 1
                spread.now[0] += 119
                await spread.open()
                assert len(banned.tries) == 1
                spread.now[0] += 2
                await spread.open()
                assert len(banned.tries) == 2


def _divert(proxy: Proxy, venue: Venue) -> None:
    """Lead everything a proxy is asked for to another venue, as if this one had banned it."""
    dial = proxy._dial
    proxy._dial = lambda host, port: dial("127.0.0.1", venue.port)  # type: ignore[method-assign]


async def test_nobody_is_asked_while_all_are_told_to_wait() -> None:
    async with Venue(status=429, headers={"Retry-After": "30"}) as venue:
        async with spread_on([address("127.0.0.2"), address("127.0.0.3")], venue.url) as spread:
            with pytest.raises(StreamBroken, match="answered the handshake through") as caught:
                await spread.open()
            assert caught.value.retry_after_s == pytest.approx(30)
            assert len(venue.tries) == 2
            spread.now[0] += 29
            with pytest.raises(StreamBroken, match="told to wait") as caught:
                await spread.open()
            assert caught.value.retry_after_s == pytest.approx(1)
            assert len(venue.tries) == 2
            venue.status = 0
            spread.now[0] += 1.5
            await spread.open()


async def test_streams_of_a_dead_way_move_to_the_other_one() -> None:
    limits = replace(QUICK, streams_per_connection=1)
    async with Venue() as venue, Proxy("socks5") as one, Proxy("http") as two:
        async with pool_through([one.spec("one"), two.spec("two")], venue.url, limits) as (seen, sessions):
            seen.pool.want([BTC, ETH])
            await seen.until_live(BTC, ETH)
            assert sessions.open_sockets == {"one": 1, "two": 1}
            await one.stop()
            one.cut()
            await wait_until(lambda: seen.is_alive(BTC) and seen.is_alive(ETH) and len(seen.live) == 3)
            assert sessions.open_sockets == {"one": 0, "two": 2}
            await venue.publish(BTC, {"u": 1})
            await venue.publish(ETH, {"u": 2})
            await wait_until(lambda: len(seen.frames) == 2)
