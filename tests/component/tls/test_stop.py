"""A client that is stopped in the middle of a call leaves no connection behind, whatever the other side does."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvloop

from resender.upstream.connector import Timeouts
from resender.upstream.rest import RestClient
from tests.support.authority import AUTHORITY, client_context

pytestmark = pytest.mark.component

HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"


@contextmanager
def stubborn(phase: str) -> Iterator[tuple[str, threading.Event]]:
    """Run a server that goes so far and then neither says anything nor hangs up; tell when it is there."""
    reached, over = threading.Event(), threading.Event()
    context = AUTHORITY.server_context()

    def work() -> None:
        peer: socket.socket = listening.accept()[0]
        with suppress(OSError):
            if phase != "connected":
                peer = context.wrap_socket(peer, server_side=True)
                peer.recv(65536)
            if phase == "in the body":
                peer.sendall(HALF)
        reached.set()
        over.wait(30)
        # Its TLS goodbye never comes.
        peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}", reached
        finally:
            over.set()
            thread.join(10)


async def cut_off(url: str, reached: threading.Event, context: ssl.SSLContext) -> float:
    """Cancel a call in its middle and stop the client at once; return how long that took."""
    client = RestClient(url, Timeouts(20, 20, 20), ssl_context=context)
    await client.start()

    async def call() -> None:
        response = await client.send("GET", "/api/v3/time", [("User-Agent", "x")], b"")
        try:
            while await response.next_chunk():
                pass
        finally:
            response.close()

    calling = asyncio.create_task(call())
    assert await asyncio.to_thread(reached.wait, 10)
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    calling.cancel()
    await asyncio.wait([calling])
    await client.stop()
    return time.monotonic() - begun


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("phase", ["connected", "asked", "in the body"])
def test_client_stopped_in_the_middle_of_a_call_leaves_nothing_open(
    phase: str, run: Callable[[Coroutine[Any, Any, float]], float]
) -> None:
    with stubborn(phase) as (url, reached), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run(cut_off(url, reached, client_context())) < 2.0
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
