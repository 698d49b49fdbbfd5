"""What each kind of REST fault does to the connection.

Works on one request at a time with the transport in hand; it owns nothing. Functions
that destroy the connection end in `park`, where the server's cancellation finds them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Iterator

from aiohttp import web

from .faults import Fault
from .model import Reply

_CHUNK = 64 * 1024
_HTML = (
    b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n"
    b"<center><h1>403 Forbidden</h1></center>\r\n</body>\r\n</html>\r\n"
)
_FLUSH_S = 0.03


async def park() -> web.StreamResponse:
    """Wait until the connection or the sandbox ends; never answers."""
    await asyncio.sleep(86_400)
    return web.Response(status=500)


def reset(transport: asyncio.Transport | None) -> None:
    """End a connection with a TCP RST."""
    if transport is None:
        return
    plain = transport.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0:
        with socket.fromfd(plain.fileno(), socket.AF_INET, socket.SOCK_STREAM) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def flush(transport: asyncio.Transport | None) -> None:
    """Give what was written time to leave before the connection is destroyed."""
    while transport is not None and not transport.is_closing() and transport.get_write_buffer_size():
        await asyncio.sleep(0.005)
    await asyncio.sleep(_FLUSH_S)


def status_reply(fault: Fault) -> Reply:
    """Return the prepared answer of a `status` or `html` fault."""
    if fault.kind == "html":
        return Reply(403, _HTML, {"content-type": "text/html", **fault.headers})
    body = fault.body
    if body is None:
        body = json.dumps({"code": -1000, "msg": "An unknown error occurred while processing the request."})
    if isinstance(body, str):
        body = body.encode()
    return Reply(fault.status, body, {"content-type": "application/json;charset=UTF-8", **fault.headers})


async def before_answer(request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
    """Carry out a fault that sends no proper answer."""
    transport = request.transport
    if fault.kind == "reset_before":
        reset(transport)
    elif fault.kind == "close_before" and transport is not None:
        transport.close()
    elif fault.kind == "partial_status_line" and transport is not None:
        transport.write(b"HTTP/1.1 2")
        await flush(transport)
        transport.close()
    return await park()


async def with_answer(
    request: web.BaseRequest, fault: Fault, reply: Reply, headers: dict[str, str]
) -> web.StreamResponse:
    """Carry out a fault that damages the answer; `reply` is what would have been sent."""
    transport = request.transport
    if fault.kind == "truncated_gzip":
        packed = gzip.compress(reply.body, 1, mtime=0)
        part = packed[: max(12, len(packed) // 2)]
        return web.Response(
            status=reply.status, body=part,
            headers={**headers, "content-encoding": "gzip", "content-length": str(len(part))},
        )  # fmt: skip
    if fault.kind == "close_idle":
        whole = web.Response(status=reply.status, body=reply.body, headers=headers)
        await whole.prepare(request)
        await whole.write_eof()
        await flush(transport)
        if transport is not None:
            transport.close()
        return whole
    response = web.StreamResponse(status=reply.status, headers=headers)
    if fault.chunked:
        response.headers.popall("content-length", None)
        response.enable_chunked_encoding()
    else:
        response.content_length = len(reply.body)
    await response.prepare(request)
    if fault.kind == "reset_mid_body":
        await response.write(reply.body[: len(reply.body) // 2])
        await flush(transport)
        reset(transport)
        return await park()
    if fault.kind == "body_delay":
        await asyncio.sleep(fault.seconds)
        await response.write(reply.body)
    else:  # slow_body: ten parts over the given time
        size = max(1, -(-len(reply.body) // 10))
        for start in range(0, len(reply.body), size):
            await response.write(reply.body[start : start + size])
            await asyncio.sleep(fault.seconds / 10)
    await response.write_eof()
    return response


def large_parts(megabytes: float) -> tuple[int, Iterator[bytes]]:
    """Return size and parts of a JSON array of strings, made while it is sent."""
    item = b'"' + b"x" * 1020 + b'",\n'
    items = max(1, int(megabytes * 1024))
    tail = b'"end"]'
    per_part = _CHUNK // len(item)

    def parts() -> Iterator[bytes]:
        yield b"["
        left = items
        while left:
            count = min(left, per_part)
            yield item * count
            left -= count
        yield tail

    return 1 + items * len(item) + len(tail), parts()


async def send_large(request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
    """Answer with a body of `megabytes`, holding one part in memory at a time."""
    size, parts = large_parts(fault.megabytes)
    response = web.StreamResponse(headers={"content-type": "application/json;charset=UTF-8"})
    if fault.chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = size
    await response.prepare(request)
    for part in parts:
        await response.write(part)
    await response.write_eof()
    return response
