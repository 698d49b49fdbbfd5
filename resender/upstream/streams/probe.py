"""Try one stream: open, subscribe, wait for the first frame. For the doctor; it keeps nothing."""

from __future__ import annotations

import asyncio
import time

from aiohttp import WSMsgType

from resender.core.binance.stream_names import control_message
from resender.upstream.streams.session import StreamBroken, StreamSession

_MAX_FRAME_BYTES = 1 << 22


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
            message = await asyncio.wait_for(opened.ws.receive(), max(0.01, end - time.perf_counter()))
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
