"""`CONNECT`: which hosts may be reached, and bytes that pass both ways until one side ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.iostream import IOStream

from resender.aio import Tasks
from resender.errors import BadRequest, Denied, MethodNotAllowed
from resender.web.client.tunnel import read_authority, serve_tunnel
from tests.support.upstream import LINGER_OFF

HOSTS = ("fapi.binance.com", "api.binance.com")
ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
# More than all buffers between two ends of a connection hold.
MUCH = 16 << 20


def read(target: str, hosts: tuple[str, ...] = HOSTS) -> tuple[str, int]:
    return read_authority(cast(Any, SimpleNamespace(config=SimpleNamespace(proxy_hosts=hosts))), target)


# --- which hosts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    ["fapi.binance.com:443", "FAPI.Binance.COM:443", "fapi.binance.com.:443", "fapi.binance.com:00443"],
)
def test_host_of_the_settings_may_be_reached_however_it_is_spelled(target: str) -> None:
    assert read(target) == ("fapi.binance.com", 443)


@pytest.mark.parametrize(
    "target",
    [
        "evil.example:443", "fapi.binance.com.evil.example:443", "xfapi.binance.com:443", "binance.com:443",
        "fapi.binance.com:80", "fapi.binance.com:0", "fapi.binance.com:44", "fapi.binance.com:99999", "[::1]:443",
        "127.0.0.1:443", "localhost:443", "user@fapi.binance.com:443", "fapi.binance.com@evil.example:443",
        "fapi.binance.com/:443", "fapi.binance.com?:443", "fapi.binance.com#:443", "http://fapi.binance.com:443",
        "fapi.binance.com:443:443", "evil.example:443:fapi.binance.com:443", " fapi.binance.com:443",
        "fapi.binance.com :443", "fapi.binance.com\x00:443", "fapi%2ebinance.com:443", ".fapi.binance.com:443",
        "fapi..binance.com:443", "*:443", ".:443", "..:443", "ｆapi.binance.com:443",
    ],
)  # fmt: skip
def test_other_host_or_port_is_denied(target: str) -> None:
    with pytest.raises(Denied) as caught:
        read(target)
    assert "evil" not in caught.value.msg


@pytest.mark.parametrize(
    "target",
    [
        "", ":", ":443", "443", "fapi.binance.com", "fapi.binance.com:", "fapi.binance.com:x", "fapi.binance.com:-443",
        "fapi.binance.com:+443", "fapi.binance.com: 443", "fapi.binance.com:443 ", "fapi.binance.com:443/",
        "fapi.binance.com:000443", "fapi.binance.com:٤٤٣", "fapi.binance.com:²", "/fapi/v1/time", "*",
        f"fapi.binance.com:{'4' * 5000}", "fapi.binance.com:443.0", "fapi.binance.com:0x1bb",
    ],
)  # fmt: skip
def test_what_is_no_host_and_port_is_a_wrong_request(target: str) -> None:
    with pytest.raises(BadRequest):
        read(target)


@pytest.mark.parametrize("target", ["fapi.binance.com:443", "", "x"])
def test_without_hosts_in_the_settings_there_is_no_connect(target: str) -> None:
    with pytest.raises(MethodNotAllowed):
        read(target, ())


# --- bytes -----------------------------------------------------------------------------------------


class Ends:
    """A tunnel: the client's end of it and the host's."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.client, stream = self._pair()
        self.host, self._upstream = self._pair()
        self.stream = IOStream(stream)

    async def run(self) -> None:
        streams = await asyncio.open_connection(sock=self._upstream, limit=1 << 17)
        self.writer = streams[1]
        self.work = asyncio.create_task(serve_tunnel(self.tasks, self.stream, streams))

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            here = socket.create_connection(server.getsockname())
            there, _ = server.accept()
        here.setblocking(False)
        there.setblocking(False)
        return here, there

    async def say(self, sock: socket.socket, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(sock, data), 10)

    async def hear(self, sock: socket.socket, count: int) -> bytes:
        """Read so many bytes, fewer at the end."""
        found = b""
        while len(found) < count:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, count - len(found)), 10)
            if not data:
                break
            found += data
        return found

    async def counts(self) -> tuple[int, int]:
        """Wait for the end; return how many bytes went up and down."""
        found = await asyncio.wait_for(self.work, 10)
        for _ in range(3):
            await asyncio.sleep(0)
        assert self.stream.closed()
        assert self.writer.is_closing()
        assert self.tasks.names() == []
        return found

    @property
    def is_open(self) -> bool:
        return not self.work.done()

    async def close(self) -> None:
        self.work.cancel()
        await asyncio.wait([self.work])
        await self.tasks.cancel()
        self.writer.transport.abort()
        for sock in (self.client, self.host):
            sock.close()
        await asyncio.sleep(0)


@pytest.fixture
async def begun() -> AsyncIterator[Ends]:
    """Both ends before the tunnel runs."""
    made = Ends()
    yield made
    await made.close()


@pytest.fixture
async def ends(begun: Ends) -> Ends:
    """A tunnel that runs."""
    await begun.run()
    assert await begun.hear(begun.client, len(ESTABLISHED)) == ESTABLISHED
    return begun


async def test_bytes_pass_both_ways_as_they_are(ends: Ends) -> None:
    every = bytes(range(256))
    await ends.say(ends.client, every)
    assert await ends.hear(ends.host, 256) == every
    await ends.say(ends.host, b"\r\n\r\n" + every)
    assert await ends.hear(ends.client, 260) == b"\r\n\r\n" + every
    ends.client.close()
    assert await ends.hear(ends.host, 1) == b""
    assert await ends.counts() == (256, 260)


async def test_nothing_is_said_to_the_host_that_the_client_did_not_say(ends: Ends) -> None:
    ends.client.close()
    assert await ends.hear(ends.host, 1) == b""
    assert await ends.counts() == (0, 0)


async def test_last_words_of_the_host_arrive_before_its_end(ends: Ends) -> None:
    data = bytes(1000) * 1000
    sending = asyncio.create_task(ends.say(ends.host, data))
    sending.add_done_callback(lambda _: ends.host.close())
    assert await ends.hear(ends.client, len(data) + 1) == data
    assert await ends.counts() == (0, len(data))


async def test_last_words_of_the_client_arrive_before_its_end(ends: Ends) -> None:
    data = bytes(1000) * 1000
    sending = asyncio.create_task(ends.say(ends.client, data))
    sending.add_done_callback(lambda _: ends.client.close())
    assert await ends.hear(ends.host, len(data) + 1) == data
    assert (await ends.counts())[0] == len(data)


async def test_half_of_a_connection_is_not_kept_open(ends: Ends) -> None:
    ends.host.shutdown(socket.SHUT_WR)
    assert await ends.hear(ends.client, 1) == b""
    assert await ends.hear(ends.host, 1) == b""
    assert await ends.counts() == (0, 0)


async def test_client_that_only_stops_speaking_ends_its_tunnel_too(ends: Ends) -> None:
    await ends.say(ends.client, b"GET")
    ends.client.shutdown(socket.SHUT_WR)
    assert await ends.hear(ends.host, 4) == b"GET"
    assert await ends.counts() == (3, 0)
    assert await ends.hear(ends.client, 1) == b""


@pytest.mark.parametrize("side", ["client", "host"])
async def test_side_that_breaks_off_ends_the_other(ends: Ends, side: str) -> None:
    await ends.say(ends.client, b"x")
    assert await ends.hear(ends.host, 1) == b"x"
    broken, other = (ends.client, ends.host) if side == "client" else (ends.host, ends.client)
    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
    broken.close()
    assert await ends.hear(other, 1) == b""
    assert await ends.counts() == (1, 0)


@pytest.mark.parametrize("side", ["client", "host"])
async def test_slow_reader_holds_the_other_side_back(ends: Ends, side: str) -> None:
    slow, other = (ends.client, ends.host) if side == "client" else (ends.host, ends.client)
    sending = asyncio.create_task(ends.say(other, bytes(MUCH)))
    await asyncio.sleep(0.3)
    assert not sending.done(), "nobody keeps what is not read"
    assert ends.writer.transport.get_write_buffer_size() < 1 << 20
    assert len(await ends.hear(slow, MUCH)) == MUCH
    await sending
    ends.client.close()
    assert sum(await ends.counts()) == MUCH


async def test_client_that_leaves_while_the_host_sends_ends_it(ends: Ends) -> None:
    sending = asyncio.create_task(ends.say(ends.host, bytes(MUCH)))
    await asyncio.sleep(0.1)
    ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
    ends.client.close()
    await ends.counts()
    with pytest.raises(OSError, match=r".*"):
        await sending


async def test_host_that_leaves_while_the_client_sends_ends_it(ends: Ends) -> None:
    sending = asyncio.create_task(ends.say(ends.client, bytes(MUCH)))
    await asyncio.sleep(0.1)
    ends.host.close()
    await ends.counts()
    with pytest.raises(OSError, match=r".*"):
        await sending


async def test_connection_idles_as_long_as_both_like(ends: Ends) -> None:
    await asyncio.sleep(0.2)
    assert ends.is_open
    await ends.say(ends.host, b"x")
    assert await ends.hear(ends.client, 1) == b"x"


async def test_what_the_client_says_before_it_is_told_to_is_not_lost(begun: Ends) -> None:
    await begun.say(begun.client, b"early")
    await begun.run()
    assert await begun.hear(begun.host, 5) == b"early"
    assert await begun.hear(begun.client, len(ESTABLISHED)) == ESTABLISHED


async def test_client_that_is_gone_already_costs_one_connection_and_no_error(begun: Ends) -> None:
    begun.stream.close()
    await begun.run()
    assert await begun.counts() == (0, 0)
    assert await begun.hear(begun.host, 1) == b""


async def test_host_that_spoke_and_ended_at_once_is_still_heard(begun: Ends) -> None:
    await begun.say(begun.host, b"220 bye")
    begun.host.close()
    await begun.run()
    assert await begun.hear(begun.client, 1000) == ESTABLISHED + b"220 bye"
    assert await begun.counts() == (0, 7)


async def test_stop_in_the_middle_closes_both_sides(ends: Ends) -> None:
    await ends.say(ends.client, b"x")
    assert await ends.hear(ends.host, 1) == b"x"
    ends.work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends.work
    assert await ends.hear(ends.client, 1) == b""
    assert await ends.hear(ends.host, 1) == b""
    await asyncio.sleep(0)
    assert ends.tasks.names() == []
