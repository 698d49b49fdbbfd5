"""Connections that a reader hands over to the collector, as a whole, at the first request that is not its own.

From then on bytes pass both ways untouched, whatever is spoken. What is the collector's: pages, `/local`, metrics and
calls of watched accounts. No state but the tasks it is given.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, cast

from tornado import httputil
from tornado.iostream import IOStream, StreamClosedError

from resender.aio import Tasks, within
from resender.core.binance.host_names import behind_host
from resender.core.binance.stream_urls import resolve_stream
from resender.core.cluster.worker import INNER_HEADER, Worker, inner_value
from resender.errors import AnswerError
from resender.services import Services
from resender.web.connection import ClientConnection, last_word

logger = logging.getLogger("resender.workers")

_PAGES = ("/metrics", "/readyz", "/admin")
_LOCAL = "/local/"
_CHUNK_BYTES = 65_536
_CONNECT_S = 2.0
# Who takes nothing for so long is gone.
_STUCK_S = 60.0
_NOBODY = last_word("busy", "The worker that answers this is being started again; nothing was sent.")


def is_elsewhere(services: Services, target: str, headers: httputil.HTTPHeaders, *, is_upgrade: bool) -> bool:
    """Tell whether a request is the collector's."""
    worker = services.worker
    if worker is None or worker.is_collector:
        return False
    path = target.partition("?")[0]
    if is_upgrade:
        try:
            route = resolve_stream(behind_host(target, headers.get("Host"), services.config.host_suffix))
        except AnswerError:
            return False
        is_api = route.what == "ws_api" and services.elsewhere.has_accounts
        return is_api or route.what in ("closes", "account")
    if path.startswith((_LOCAL, "/admin/")) or path in _PAGES:
        return True
    key = headers.get("X-Mbx-Apikey")
    return key is not None and services.elsewhere.is_watched(key)


def inner_head(worker: Worker, address: str, head: bytes) -> bytes:
    """Add to the head of a request whose it is. Shape: `head` from its first byte to the empty line."""
    line, end, rest = head.partition(b"\r\n")
    if not end:
        line, end, rest = head.partition(b"\n")
    return line + end + f"{INNER_HEADER}: {inner_value(worker, address)}\r\n".encode("ascii") + rest


def hand_over(tasks: Tasks, worker: Worker, connection: ClientConnection) -> None:
    """Let a connection be the collector's from now on; to be called when its request's head has come."""
    head, address = connection.raw_head, str(cast(Any, connection.context).remote_ip)
    tasks.spawn(carry(tasks, worker, connection.detach(), address, head), name="call-transfer")


async def carry(tasks: Tasks, worker: Worker, client: IOStream, address: str, head: bytes) -> None:
    """Pass the bytes of a connection on until both ways have ended."""
    try:
        reader, writer = await within(
            asyncio.open_connection("127.0.0.1", worker.inner_port, limit=1 << 17), _CONNECT_S
        )
    except (OSError, asyncio.TimeoutError):
        with suppress(StreamClosedError, OSError):
            await client.write(_NOBODY)
        client.close()
        return
    writer.write(inner_head(worker, address, head))
    up = tasks.spawn(_pass_up(client, writer), name="transfer:up")
    try:
        with suppress(StreamClosedError, OSError, asyncio.TimeoutError):
            while data := await reader.read(_CHUNK_BYTES):
                await within(client.write(data), _STUCK_S)
    finally:
        up.cancel()
        await asyncio.wait({up})
        writer.close()
        client.close()


async def _pass_up(client: IOStream, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(await client.read_bytes(_CHUNK_BYTES, partial=True))
            await within(writer.drain(), _STUCK_S)
    except (StreamClosedError, OSError):
        writer.close()  # the client has ended; what it is still told nobody reads
    except asyncio.TimeoutError:
        writer.transport.abort()
