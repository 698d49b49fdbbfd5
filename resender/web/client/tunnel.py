"""`CONNECT host:443` of a client: bytes both ways, TLS untouched, to hosts of the settings only.

One `serve_tunnel` lives as long as its connection.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tornado.iostream import IOStream, StreamClosedError

from resender.aio import Tasks, within
from resender.errors import BadRequest, Denied, MethodNotAllowed
from resender.services import Services

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHUNK_BYTES = 65_536
# A host that takes nothing for so long is gone, or its client is.
_STUCK_S = 60.0
_ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
_PORT = 443


def read_authority(services: Services, target: str) -> tuple[str, int]:
    """Read `host:443` and tell whether it may be reached.

    Raises: MethodNotAllowed where this is off; BadRequest; Denied for any other host or port.
    """
    allowed = services.config.proxy_hosts
    if not allowed:
        raise MethodNotAllowed("The method CONNECT is not allowed: PROXY_HOSTS is empty.")
    host, colon, port = target.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise BadRequest("CONNECT wants host:443.")
    if host.lower().rstrip(".") not in allowed or int(port) != _PORT:
        raise Denied("CONNECT is served for the hosts of PROXY_HOSTS at port 443 only.")
    return host.lower().rstrip("."), int(port)


async def serve_tunnel(tasks: Tasks, client: IOStream, upstream: Streams) -> tuple[int, int]:
    """Pass bytes on until one side has ended, then end the other; return how many went up and down.

    What came before an end still arrives; half of a connection is not kept open.
    """
    reader, writer = upstream
    counts = [0, 0]

    async def up() -> None:
        try:
            while True:
                data = await client.read_bytes(_CHUNK_BYTES, partial=True)
                counts[0] += len(data)
                writer.write(data)
                await within(writer.drain(), _STUCK_S)
        except (StreamClosedError, OSError):
            writer.close()  # the client has ended
        except asyncio.TimeoutError:
            writer.transport.abort()

    async def down() -> None:
        while data := await reader.read(_CHUNK_BYTES):
            counts[1] += len(data)
            await client.write(data)

    going_up: asyncio.Task[None] | None = None
    try:
        with suppress(StreamClosedError, OSError):
            await client.write(_ESTABLISHED)
            going_up = tasks.spawn(up(), name="tunnel:up")
            await down()
    finally:
        if going_up is not None:
            going_up.cancel()
        writer.close()
        client.close()
    return counts[0], counts[1]
