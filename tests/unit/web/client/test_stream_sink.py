"""Frames on a client's socket: written at once as far as it takes them, in order, and told when it can again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from tornado.iostream import IOStream

from resender.web.client.stream_sink import TornadoSink
from tests.support.running import wait_until

BIG = bytes(range(256)) * 16_384  # 4 MiB, more than both sockets' buffers take


class Connection:
    """What Tornado has of a WebSocket."""

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []

    def close(self, code: int, reason: str) -> None:
        assert len(reason.encode()) <= 123
        self.closed.append((code, reason))


class Through(IOStream):
    """A stream whose socket must not be written to behind its back, as one over TLS."""


class World:
    def __init__(self, kind: type[IOStream] = IOStream) -> None:
        ours, self.peer = socket.socketpair()
        for each in (ours, self.peer):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        self.peer.setblocking(False)
        self.stream = kind(ours)
        self.connection = Connection()
        self.drained = 0
        self.sink = TornadoSink(cast(Any, self.connection), self.stream, self._on_drained)

    def _on_drained(self) -> None:
        self.drained += 1

    async def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = await asyncio.get_running_loop().sock_recv(self.peer, 1 << 20)
            assert part
            found += part
        return found


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.stream.close()
    made.peer.close()


async def test_what_the_socket_takes_is_written_at_once_and_past_the_stream(world: World) -> None:
    assert world.sink.write(b"one")
    assert world.sink.write(b"two")
    assert world.peer.recv(100) == b"onetwo", "before the loop has had a turn"
    assert not world.stream.writing()
    assert world.drained == 0


async def test_what_it_does_not_take_waits_in_the_stream_and_the_end_of_that_is_told(world: World) -> None:
    assert not world.sink.write(BIG)
    assert world.stream.writing()
    await asyncio.sleep(0)
    assert world.drained == 0
    assert await world.read(len(BIG)) == BIG
    await wait_until(lambda: world.drained == 1)
    assert world.sink.write(b"next")
    assert await world.read(4) == b"next"


async def test_nothing_overtakes_what_waits(world: World) -> None:
    assert not world.sink.write(BIG)
    assert not world.sink.write(b"second")
    tornados = asyncio.ensure_future(cast(Any, world.stream.write(b"pong")))
    assert not world.sink.write(b"third")
    whole = BIG + b"second" + b"pong" + b"third"
    assert await world.read(len(whole)) == whole
    await tornados
    await wait_until(lambda: world.drained == 3)


async def test_socket_that_takes_nothing_at_all_blocks(world: World) -> None:
    while True:
        try:
            world.stream.socket.send(b"x" * 65_536)
        except BlockingIOError:
            break
    assert not world.sink.write(b"y")
    assert world.stream.writing()


async def test_stream_over_tls_is_written_by_tornado_alone() -> None:
    world = World(Through)
    assert not world.sink.write(b"one")
    assert await world.read(3) == b"one"
    await wait_until(lambda: world.drained == 1)
    world.stream.close()
    world.peer.close()


async def test_client_that_is_gone_takes_everything_and_is_closed(world: World) -> None:
    world.peer.close()
    assert world.sink.write(b"into the void")
    assert world.stream.closed()
    assert isinstance(world.stream.error, OSError)
    assert world.sink.write(b"more")
    assert world.drained == 0


async def test_who_waits_for_a_client_that_goes_waits_no_more(world: World) -> None:
    assert not world.sink.write(BIG)
    world.stream.close()
    assert world.sink.write(b"more")
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.drained == 1


@pytest.mark.parametrize(
    ("reason", "words"), [("", ""), ("upstream lost", "upstream lost"), ("x" * 200, "x" * 123), ("币" * 60, "币" * 41)]
)  # fmt: skip
async def test_words_of_a_close_fit_into_its_frame(world: World, reason: str, words: str) -> None:
    world.sink.close(1012, reason)
    assert world.connection.closed == [(1012, words)]
