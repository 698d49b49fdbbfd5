"""Accepting connections: all of them in the end, few in one turn of the loop, none once it is stopped."""

from __future__ import annotations

import asyncio
import socket
from itertools import pairwise
from typing import Any

import pytest

from resender.web.accepting import ACCEPTED_AT_ONCE, accept_gently


@pytest.fixture
def listening() -> Any:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as made:
        made.setblocking(False)
        yield made


def connect(listening: socket.socket, count: int) -> list[socket.socket]:
    return [socket.create_connection(listening.getsockname()) for _ in range(count)]


async def test_connections_that_wait_are_accepted_over_several_turns(listening: socket.socket) -> None:
    taken: list[Any] = []
    turns: list[int] = []

    async def count() -> None:
        while True:
            turns.append(len(taken))
            await asyncio.sleep(0)

    clients = connect(listening, 50)
    counting = asyncio.create_task(count())
    stop = accept_gently(listening, lambda connection, address: taken.append((connection, address)))
    while len(taken) < 50:
        await asyncio.sleep(0.001)
    counting.cancel()
    stop()
    assert {address for _, address in taken} == {client.getsockname() for client in clients}
    steps = {later - earlier for earlier, later in pairwise(turns)}
    assert max(steps) <= ACCEPTED_AT_ONCE, "other work gets its turn in between"
    for each in (*clients, *(connection for connection, _ in taken)):
        each.close()


async def test_nothing_is_accepted_once_it_is_stopped(listening: socket.socket) -> None:
    taken: list[Any] = []

    def accepted(connection: socket.socket, address: Any) -> None:
        taken.append(connection)
        stop()

    clients = connect(listening, 10)
    stop = accept_gently(listening, accepted)
    await asyncio.sleep(0.05)
    assert len(taken) == 1
    for each in (*clients, *taken):
        each.close()
