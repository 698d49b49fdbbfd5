"""A client of streams as a test sees it: opens, speaks, reads, checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from tests.support.cache_bench import Bench


class Ears:
    """One open WebSocket and what came over it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.texts: list[str] = []

    async def say(self, method: str, *params: Any, message_id: Any = 1) -> None:
        await self.socket.send_str(
            orjson.dumps({"method": method, "params": list(params), "id": message_id}).decode()
        )

    async def next_text(self, timeout_s: float = 5.0) -> str:
        """Return the next text; fail at the end of the connection."""
        message = await self.socket.receive(timeout=timeout_s)
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        self.texts.append(message.data)
        return str(message.data)

    async def next(self, timeout_s: float = 5.0) -> Any:
        return orjson.loads(await self.next_text(timeout_s))

    async def reply(self, timeout_s: float = 5.0) -> str:
        """Return the next text that answers a message, events left out."""
        while True:
            text = await self.next_text(timeout_s)
            data = orjson.loads(text)
            if isinstance(data, dict) and "id" in data and "e" not in data:
                return text

    async def event(self, timeout_s: float = 5.0, **wanted: Any) -> dict[str, Any]:
        """Return the next event with these values; of a combined one the payload is looked at."""
        while True:
            data = await self.next(timeout_s)
            if isinstance(data, list):
                continue
            payload = data.get("data", data)
            if "id" not in data and all(payload.get(name) == value for name, value in wanted.items()):
                return dict(data)

    async def closed(self, timeout_s: float = 10.0) -> tuple[int, str]:
        """Read to the end; return the code and the words it came with."""
        while True:
            message = await self.socket.receive(timeout=timeout_s)
            if message.type is aiohttp.WSMsgType.TEXT:
                self.texts.append(message.data)
                continue
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data or 0), str(message.extra or "")
            assert message.type in (aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED), message
            return int(self.socket.close_code or 0), ""


class Listener:
    """Opens WebSockets to a gateway."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    @asynccontextmanager
    async def open(self, path: str, **options: Any) -> AsyncIterator[Ears]:
        socket = await self._session.ws_connect(
            self._url + path, autoclose=options.pop("autoclose", False), **options
        )
        try:
            yield Ears(socket)
        finally:
            await asyncio.wait_for(socket.close(), 5)

    async def refused(self, path: str, **headers: str) -> tuple[int, Any, aiohttp.typedefs.LooseHeaders]:
        """Try a handshake that must fail; return status, JSON body and headers."""
        upgrade = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        async with self._session.get(
            self._url.replace("ws:", "http:") + path, headers={**upgrade, **headers}
        ) as reply:
            return reply.status, orjson.loads(await reply.read()), reply.headers


@asynccontextmanager
async def listener(one: Bench) -> AsyncIterator[Listener]:
    async with aiohttp.ClientSession() as session:
        yield Listener(session, f"ws://127.0.0.1:{one.run.port}")
