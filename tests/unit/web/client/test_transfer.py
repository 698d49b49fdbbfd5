"""Which requests a reader hands over, and that every byte of the connection passes both ways."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream

from resender.aio import Tasks
from resender.api_keys import digest_of
from resender.core.cluster.worker import Worker
from resender.store import AccountRow
from resender.store.account_rows import AccountKeyRow
from resender.web.client.transfer import carry, inner_head, is_elsewhere
from resender.workers import Elsewhere
from tests.support.ports import free_port

SECRET = "cd" * 32


def services(number: int = 1, *keys: str) -> Any:
    elsewhere = Elsewhere()
    if keys:
        rows = tuple(AccountKeyRow(1, digest_of(key), key[-4:], None, "bound", 0) for key in keys)
        elsewhere.set_accounts([AccountRow(1, "main", "um", "key", None, 0, rows)])
    worker = Worker(number, 2, 8000, 41000, 7, SECRET)
    return SimpleNamespace(worker=worker, elsewhere=elsewhere, config=SimpleNamespace(host_suffix=""))


def elsewhere(target: str, *keys: str, number: int = 1, upgrade: bool = False, **headers: str) -> bool:
    given = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
    return is_elsewhere(cast(Any, services(number, *keys)), target, given, is_upgrade=upgrade)


@pytest.mark.parametrize(
    "target",
    [
        "/local/status", "/local/spot/klines?symbol=A", "/metrics", "/metrics?a=b", "/admin", "/admin/login",
        "/admin/api/x",
    ],
)  # fmt: skip
def test_what_one_process_knows_for_all_is_the_collectors(target: str) -> None:
    assert elsewhere(target)
    assert not elsewhere(target, number=0)


@pytest.mark.parametrize(
    "target", ["/", "/healthz", "/api/v3/klines?symbol=A", "/locals", "/administrator", "/fapi/v1/order"]
)
def test_everything_else_is_answered_where_it_comes_in(target: str) -> None:
    assert not elsewhere(target)
    assert not elsewhere(target, "WatchedKey", X_MBX_APIKEY="AnotherKey")


def test_calls_of_watched_accounts_are_the_collectors() -> None:
    assert elsewhere("/fapi/v1/order", "WatchedKey", X_MBX_APIKEY="WatchedKey")
    assert not elsewhere("/fapi/v1/order", X_MBX_APIKEY="WatchedKey")


@pytest.mark.parametrize(
    ("target", "with_accounts", "without"),
    [
        ("/ws/btcusdt@trade", False, False),
        ("/stream.binance.com/ws/btcusdt@trade", False, False),
        ("/ws-api.binance.com/ws-api/v3", True, False),
        ("/local/um/closes?interval=1m", True, True),
        ("/local/um/account", True, True),
        ("/nowhere/at/all", False, False),
    ],
)
def test_streams_are_served_where_they_come_in_but_for_the_collectors_own(
    target: str, with_accounts: bool, without: bool
) -> None:
    assert elsewhere(target, "WatchedKey", upgrade=True) is with_accounts
    assert elsewhere(target, upgrade=True) is without


def test_head_of_the_first_request_tells_whose_it_is_and_stays_as_it_was() -> None:
    worker = Worker(1, 2, 8000, 41000, 7, SECRET)
    head = b"GET /local/status HTTP/1.1\r\nhOsT: gw\r\nX-Odd:  a  \r\n\r\n"
    assert inner_head(worker, "203.0.113.9", head) == (
        b"GET /local/status HTTP/1.1\r\nResender-Inner: " + SECRET.encode() + b" 203.0.113.9\r\n"
        b"hOsT: gw\r\nX-Odd:  a  \r\n\r\n"
    )
    assert inner_head(worker, "::1", b"GET / HTTP/1.1\nHost: gw\n\n").startswith(
        b"GET / HTTP/1.1\nResender-Inner: "
    )


async def client_pair() -> tuple[IOStream, asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the gateway's end of a client's connection, and the client's."""
    mine, theirs = socket.socketpair()
    mine.setblocking(False)
    theirs.setblocking(False)
    return IOStream(mine), *await asyncio.open_connection(sock=theirs)


async def test_bytes_pass_both_ways_until_the_collector_ends() -> None:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        got.append(head)
        body = await reader.readexactly(5)
        got.append(body)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body[::-1])
        await writer.drain()
        writer.close()

    inner = await asyncio.start_server(serve, "127.0.0.1", 0)
    worker = Worker(1, 2, 8000, inner.sockets[0].getsockname()[1], 7, SECRET)
    stream, reader, writer = await client_pair()
    tasks = Tasks()
    passing = tasks.spawn(
        carry(tasks, worker, stream, "127.0.0.1", b"POST /local/x HTTP/1.1\r\n\r\n"), name="test"
    )
    writer.write(b"hello")
    assert await asyncio.wait_for(reader.read(), 5.0) == b"HTTP/1.1 200 OK\r\n\r\nolleh"
    await asyncio.wait_for(passing, 5.0)
    assert got[0].startswith(b"POST /local/x HTTP/1.1\r\nResender-Inner: ")
    assert not len(tasks)
    writer.close()
    inner.close()


async def test_collector_that_is_not_there_is_said_so() -> None:
    worker = Worker(1, 2, 8000, free_port(), 7, SECRET)
    stream, reader, writer = await client_pair()
    tasks = Tasks()
    await carry(tasks, worker, stream, "127.0.0.1", b"GET /local/x HTTP/1.1\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 5.0)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"is being started again; nothing was sent" in answer
    writer.close()
