"""Opens WebSockets to one host through one egress, with the guarded session REST has too.

It subscribes nothing and reads nothing; `link.py` does. A `StreamSession` owns its connection pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from yarl import URL

from resender import __version__
from resender.errors import ResenderError
from resender.upstream.connector import (
    Attempt,
    EgressFault,
    Timeouts,
    current_attempt,
    note_unexpected,
    why_not,
)
from resender.upstream.rest import RestClient
from resender.upstream.tls import make_context


class StreamBroken(ResenderError):
    """A stream connection could not be opened; it never reaches a client.

    Shape: `is_whole` tells that the egress itself failed, whatever the host was.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0, *, is_whole: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
        self.is_whole = is_whole


@dataclass(slots=True)
class Socket:
    """An open WebSocket and the transport below it."""

    ws: aiohttp.ClientWebSocketResponse[Any]
    transport: asyncio.Transport

    async def close(self, code: int = 1000) -> None:
        """Close it and leave nothing behind, whatever state it is in."""
        try:
            await self.ws.close(code=code)
        finally:
            self.transport.abort()
            # aiohttp forgets to, where the connection broke while it was read.
            self.ws._response.close()


class Opens(Protocol):
    """Something that opens WebSockets, such as `StreamSession`: what a session factory makes."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def open(self, target: str, max_message_bytes: int) -> Socket: ...


class StreamSession(RestClient):
    """Opens WebSockets; the same guarded session as for REST, so nothing is repeated in secret."""

    def __init__(
        self,
        base_url: str,
        connect_timeout_s: float,
        *,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        if base_url.startswith("wss:") and options.get("ssl_context") is None:
            options["ssl_context"] = make_context()
        timeouts = Timeouts(connect_timeout_s, connect_timeout_s, connect_timeout_s)
        super().__init__(base_url, timeouts, **options)
        self._headers = {"User-Agent": f"binance-resender/{__version__}", **(headers or {})}

    async def open(
        self, target: str, max_message_bytes: int, headers: Mapping[str, str] | None = None
    ) -> Socket:
        """Open one WebSocket, once. Shape: `headers` beside those of the session.

        Raises: StreamBroken.
        """
        assert self._session is not None, "start() first"
        base = self._base
        path = base.raw_path.rstrip("/") + target
        url = URL.build(scheme=base.scheme, authority=base.raw_authority, path=path, encoded=True)
        attempt = Attempt(must_be_new=True)
        current_attempt.set(attempt)
        try:
            # No compression: one frame is some hundred bytes, inflating it costs more than it saves.
            # autoping off: a ping must be seen here, and its pong counts into the message rate.
            ws = await self._session.ws_connect(
                url,
                headers=self._headers if headers is None else {**self._headers, **headers},
                autoping=False,
                heartbeat=None,
                compress=0,
                decode_text=False,
                max_msg_size=max_message_bytes,
                timeout=aiohttp.ClientWSTimeout(ws_receive=None, ws_close=1.0),
            )
        except aiohttp.WSServerHandshakeError as error:
            raise StreamBroken(
                f"{self.host} answered the handshake{self._through()} with {error.status}",
                _retry_after_s(error),
            ) from None
        except Exception as error:
            note_unexpected(self.host, error)
            why = why_not(error, attempt, self._timeouts)
            # A proxy that is silent may be waiting for this one host.
            is_whole = isinstance(error, EgressFault) and error.is_certain
            raise StreamBroken(f"{self.host}{self._through()}: {why}", is_whole=is_whole) from None
        transport = attempt.protocol.transport if attempt.protocol is not None else None
        if transport is None:
            await ws.close()
            raise StreamBroken(f"{self.host} closed the connection after the handshake{self._through()}")
        return Socket(ws, transport)


def _retry_after_s(error: aiohttp.WSServerHandshakeError) -> float:
    text = error.headers.get("Retry-After", "") if error.headers else ""
    return min(3600.0, float(text)) if text.isascii() and text.isdigit() else 0.0
