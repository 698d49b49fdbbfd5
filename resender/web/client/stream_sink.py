"""Writes ready WebSocket frames to a client's socket, as quickly as that can be done.

While the socket takes everything the bytes go to it directly; what it does not take goes through Tornado's
stream, which waits for it. A `TornadoSink` belongs to one connection.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketProtocol

# What the kernel takes beyond what it has sent: more would be as stale as it is out of reach.
_UNSENT_BYTES = 131_072
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class TornadoSink:
    """The sink of one client."""

    __slots__ = ("_connection", "_drained", "_send", "_stream")

    def __init__(self, connection: WebSocketProtocol, stream: IOStream, drained: Callable[[], None]) -> None:
        self._connection = connection
        self._stream = stream
        self._drained = drained
        self._send: Callable[[bytes], int] | None = None
        if type(stream) is IOStream:  # not over TLS
            self._send = stream.socket.send
        with contextlib.suppress(OSError, AttributeError):
            stream.socket.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT_BYTES)

    def write(self, data: bytes) -> bool:
        stream = self._stream
        rest: bytes | memoryview = data
        if self._send is not None and not stream.writing():
            if stream.closed():
                return True
            try:
                sent = self._send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                stream.close((type(error), error, None))
                return True
            if sent == len(data):
                return True
            rest = memoryview(data)[sent:]
        try:
            stream.write(rest).add_done_callback(self._written)
        except StreamClosedError:
            return True
        return False

    def _written(self, future: Any) -> None:
        if not future.cancelled():
            future.exception()  # a client that is gone waits for nothing any more
            self._drained()

    def close(self, code: int, reason: str) -> None:
        # At most 123 bytes of words. Source: RFC 6455 section 5.5.
        self._connection.close(code, reason.encode()[:123].decode("utf-8", "ignore"))
