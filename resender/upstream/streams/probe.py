"""Try one stream, or a WebSocket API: open, ask, wait for the answer. For the doctor; it keeps nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import orjson
from aiohttp import WSMsgType

from resender.aio import within
from resender.core.binance.stream_names import control_message
from resender.upstream.streams.session import StreamBroken, StreamSession

_MAX_FRAME_BYTES = 1 << 22
# Source: web-socket-api.md of 2026-07-21.
_PING = b'{"id":"doctor","method":"ping"}'


async def first_frame_ms(session: StreamSession, path: str, name: str, wait_s: float) -> float:
    """Return how long it took until the first frame of a stream came.

    Shape: `path` as for `StreamPool`. Units: milliseconds; `wait_s` seconds after the connection.
    Raises: StreamBroken in words.
    """
    started = time.perf_counter()
    opened = await session.open(f"{path}/stream", _MAX_FRAME_BYTES)
    try:
        await opened.ws.send_frame(control_message("SUBSCRIBE", [name], 1), WSMsgType.TEXT)
        end = time.perf_counter() + wait_s
        while True:
            message = await within(opened.ws.receive(), max(0.01, end - time.perf_counter()))
            if message.type is WSMsgType.TEXT:
                if b'"stream"' in message.data:
                    return (time.perf_counter() - started) * 1000
            elif message.type not in (WSMsgType.PING, WSMsgType.PONG):
                raise StreamBroken("the connection is closed at once")
    except asyncio.TimeoutError:
        raise StreamBroken(f"connected, but nothing came within {wait_s:g} s") from None
    except OSError:
        raise StreamBroken("the connection broke off") from None
    finally:
        await opened.close()


@dataclass(frozen=True, slots=True)
class Pong:
    """What a WebSocket API answered to a ping.

    Shape: `used_weight` as it counts itself, "" where it does not say.
    Units: `took_ms` milliseconds from the ping to the answer, the handshake left out.
    """

    status: int
    took_ms: float
    used_weight: str


async def ping_ws_api(session: StreamSession, path: str, wait_s: float) -> Pong:
    """Open a WebSocket API and ping it; nothing else is asked.

    Units: `wait_s` seconds after the connection.
    Raises: StreamBroken in words.
    """
    opened = await session.open(path, _MAX_FRAME_BYTES)
    try:
        started = time.perf_counter()
        await opened.ws.send_frame(_PING, WSMsgType.TEXT)
        while True:
            left = wait_s - (time.perf_counter() - started)
            message = await within(opened.ws.receive(), max(0.01, left))
            if message.type is WSMsgType.TEXT:
                return _pong(message.data, (time.perf_counter() - started) * 1000)
            if message.type not in (WSMsgType.PING, WSMsgType.PONG):
                raise StreamBroken("the connection is closed at once")
    except asyncio.TimeoutError:
        raise StreamBroken(f"connected, but no answer to a ping came within {wait_s:g} s") from None
    except OSError:
        raise StreamBroken("the connection broke off") from None
    finally:
        await opened.close()


def _pong(text: bytes, took_ms: float) -> Pong:
    try:
        answer = orjson.loads(text)
        status = int(answer["status"])
    except (ValueError, KeyError, TypeError):
        raise StreamBroken("it answers, but not like Binance") from None
    used = ""
    with suppress(KeyError, TypeError):
        used = next(
            (str(row["count"]) for row in answer["rateLimits"] if row["rateLimitType"] == "REQUEST_WEIGHT"),
            "",
        )
    return Pong(status, took_ms, used)
