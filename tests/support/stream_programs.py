"""Programs that listen to streams of a gateway in another process, while its pages are looked at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import aiohttp

PATHS = (
    "/ws/btcusdt@bookTicker/ethusdt@bookTicker/btcusdt@trade",
    "/stream.binance.com/stream?streams=btcusdt@depth@100ms/ethusdt@kline_1m",
    "/fstream.binance.com/market/ws/btcusdt@markPrice@1s/btcusdt@aggTrade",
    "/fstream.binance.com/public/ws/btcusdt@bookTicker",
    "/ws-api/v3",
    "/local/um/closes?interval=1m",
)


@contextmanager
def listening(port: int, paths: Sequence[str] = PATHS) -> Iterator[None]:
    """Hold these WebSockets open and read what comes."""
    is_open, is_over = threading.Event(), threading.Event()

    async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
        async for _ in socket:
            pass

    async def listen() -> None:
        async with aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(f"ws://127.0.0.1:{port}{path}") for path in paths]
            reading = [asyncio.create_task(read(socket)) for socket in sockets]
            is_open.set()
            while not is_over.is_set():
                await asyncio.sleep(0.05)
            for socket in sockets:
                await socket.close()
            await asyncio.gather(*reading)

    thread = threading.Thread(target=lambda: asyncio.run(listen()), daemon=True)
    thread.start()
    assert is_open.wait(20)
    try:
        yield
    finally:
        is_over.set()
        thread.join(10)
