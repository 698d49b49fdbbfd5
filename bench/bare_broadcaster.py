"""The least one can write to fan out streams with aiohttp and uvloop: the baseline of the gateway.

`bare_broadcaster.py PORT wss://HOST:PORT STREAMS KIND STREAMS_PER_CONNECTION` subscribes all streams at once over TLS
and gives each event, as one frame built once, to the transports of those who asked for it: `/ws/a/b` the payload,
`/stream?streams=a/b` the message as it came. It keeps what makes such a program fast and does nothing else: no
whitelist, no messages of clients, no pings, no queue for who reads slowly, no reconnects, no counters. Not for use.
It runs until it is killed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys
from typing import cast
from urllib.parse import unquote

import aiohttp
import uvloop
from cache_feed import frame
from fanout_feed import names_of

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
Transports = dict[asyncio.Transport, None]
# By name: those who want the payload, those who want the message.
listeners: dict[str, tuple[Transports, Transports]] = {}


class ClientProtocol(asyncio.Protocol):
    """One client."""

    def __init__(self) -> None:
        self.received = b""
        self.groups: list[Transports] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.groups:
            return
        self.received += data
        if b"\r\n\r\n" not in self.received:
            return
        head = self.received.decode("latin-1")
        self.received = b""
        lines = dict(line.partition(": ")[::2] for line in head.split("\r\n")[1:])
        key = lines["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        target = unquote(head.split(" ", 2)[1])
        is_combined = target.startswith("/stream?streams=")
        for name in target.removeprefix("/stream?streams=").removeprefix("/ws/").split("/"):
            group = listeners[name][is_combined]
            group[self.transport] = None
            self.groups.append(group)

    def connection_lost(self, exc: Exception | None) -> None:
        for group in self.groups:
            group.pop(self.transport, None)


async def read(session: aiohttp.ClientSession, url: str, names: list[str]) -> None:
    """Read one connection and give each event to its listeners."""
    async with session.ws_connect(url, compress=0, decode_text=False) as socket:
        for number, at in enumerate(range(0, len(names), 100), 1):
            await socket.send_json({"method": "SUBSCRIBE", "params": names[at : at + 100], "id": number})
        async for message in socket:
            data = message.data
            if not data.startswith(b'{"stream":"'):
                continue
            end = data.index(b'"', 11)
            plain, combined = listeners[data[11:end].decode()]
            if plain:
                ready = frame(data[end + 9 : -1])
                for transport in plain:
                    transport.write(ready)
            if combined:
                ready = frame(data)
                for transport in combined:
                    transport.write(ready)


async def main(port: int, base: str, names: list[str], per_connection: int) -> None:
    listeners.update({name: ({}, {}) for name in names})
    await asyncio.get_running_loop().create_server(ClientProtocol, "127.0.0.1", port, backlog=1024)
    async with aiohttp.ClientSession() as session:
        parts = [names[at : at + per_connection] for at in range(0, len(names), per_connection)]
        await asyncio.gather(*(read(session, f"{base}/stream", part) for part in parts))


if __name__ == "__main__":
    count, per_connection = int(sys.argv[3]), int(sys.argv[5])
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], names_of(count, sys.argv[4]), per_connection))
