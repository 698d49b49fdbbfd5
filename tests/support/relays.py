"""What may stand between two programs on loopback: a long way, and an end of TLS."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


class Relay:
    """Passes every connection on to a port of loopback; when one side ends, both do."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context, backlog=500)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in set(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far_writer: Writer | None = None
        try:
            with suppress(OSError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
                ways = (self._carry(reader, far_writer), self._carry(far_reader, writer))
                pumps = [asyncio.ensure_future(way) for way in ways]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            for side in (writer, far_writer):
                if side is not None:
                    self._end(side)

    def _end(self, side: Writer) -> None:
        side.transport.abort()

    async def _carry(self, reader: Reader, writer: Writer) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


class TlsFront(Relay):
    """What stands before another gateway: it ends TLS and passes the rest on."""


class Distance(Relay):
    """A way to one port of the exchange on which every byte takes a while, in both directions."""

    def __init__(self, url: str, delay_s: float) -> None:
        self._scheme, _, place = url.partition("://")
        super().__init__(int(place.rpartition(":")[2]))
        self.delay_s = delay_s

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def _end(self, side: Writer) -> None:
        side.close()

    async def _carry(self, reader: Reader, writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                moment, data = await due.get()
                await asyncio.sleep(max(0.0, moment - loop.time()))
                if not data:
                    writer.close()
                    return
                writer.write(data)

        delivery = asyncio.create_task(deliver())
        try:
            while data := await reader.read(65536):
                due.put_nowait((loop.time() + self.delay_s, data))
            due.put_nowait((loop.time() + self.delay_s, b""))
            await delivery
        finally:
            delivery.cancel()
