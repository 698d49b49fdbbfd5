"""A client's HTTP connection: what Tornado's own leaves to be wished for.

It reads messages and keeps the connection's promise; it routes nothing and answers nothing but
what cannot be read. What Tornado announces about a connection and what becomes of it agree here
for every answer, whoever writes it: a reverse proxy that was promised a connection and then loses
it reports an order as "outcome unknown". The state belongs to one request.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

from tornado import httputil
from tornado.http1connection import HTTP1Connection, _ExceptionLoggingContext
from tornado.iostream import IOStream, UnsatisfiableReadError
from tornado.log import app_log

from resender.errors import ANSWERS, error_body

UNLIMITED = 1 << 62
#: Connections are closed so much later than announced: a request on its way still arrives.
IDLE_GRACE_S = 10.0
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")
_MAX_CHUNK_LINE_BYTES = 4096
_MAX_TRAILER_BYTES = 16_384
_DELIVER_BYTES = 65_536
# Others get their turn after so many bytes; a chunk counts as some of them.
_WORK_AT_ONCE = 262_144
_CHUNK_WORK = 1024
_LONG_LINE_BYTES = 32_768
_LINGER_S = 2.0
_LINGER_BYTES = 4 << 20

# What Tornado writes for a message it cannot parse; a JSON answer goes out in its place.
TORNADO_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n"


def declared_length(headers: httputil.HTTPHeaders) -> int:
    """Return the body's length as announced; Tornado itself refuses what is no number."""
    if "Content-Length" not in headers:
        return 0
    text = headers["Content-Length"].lstrip("0")
    if not (text.isascii() and text.isdigit()):
        return 0
    return int(text) if len(text) < 19 else UNLIMITED


def last_word(name: str, msg: str) -> bytes:
    answer = ANSWERS[name]
    body = error_body(answer.code, msg)
    head = (
        f"HTTP/1.1 {answer.status} {answer.reason}\r\nContent-Type: application/json\r\n"
        f"X-Resender-Error: {answer.name}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


MALFORMED_REQUEST = last_word("bad_request", "Malformed HTTP request.")
URI_TOO_LONG = last_word("uri_too_long", "The request target is longer than 64 KiB.")
HEADERS_TOO_LARGE = last_word("headers_too_large", "The request's headers are larger than 64 KiB.")


def connection_tokens(value: str) -> set[str]:
    """Read a `Connection` header. Source: RFC 9110 section 7.6.1, a list of tokens."""
    return {token.strip().lower() for token in value.split(",")}


class ClientConnection(HTTP1Connection):
    """One request on a client's connection."""

    # The request's head as it came, from its first byte to the empty line.
    raw_head = b""

    @property
    def is_kept(self) -> bool:
        """Whether the connection stays open after the answer, as far as is known now."""
        return not self._disconnect_on_finish and not self.params.no_keep_alive

    @property
    def keep_alive(self) -> str:
        """The value of the `Keep-Alive` header: how long an idle connection is kept for certain."""
        return f"timeout={max(1, int((self.params.header_timeout or 0) - IDLE_GRACE_S))}"

    def _parse_headers(self, data: bytes) -> tuple[str, httputil.HTTPHeaders]:
        start_line, headers = super()._parse_headers(data)
        self.raw_head = data
        # Tornado knows one spelling. Source: RFC 9110 section 10.1.1, compared without case.
        if "Expect" in headers and headers["Expect"].strip().lower() == "100-continue":
            headers["Expect"] = "100-continue"
        # An answer may then be finished at once without ending the connection.
        length = headers["Content-Length"].strip() if "Content-Length" in headers else "0"
        if "Transfer-Encoding" not in headers and length and not length.strip("0"):
            self._read_finished = True
        return start_line, headers

    def _can_keep_alive(self, start_line: Any, headers: httputil.HTTPHeaders) -> bool:
        tokens = connection_tokens(headers["Connection"]) if "Connection" in headers else ()
        if "close" in tokens or self.params.no_keep_alive:
            return False
        if start_line.version == "HTTP/1.1":
            return True
        if "keep-alive" in tokens:
            # Tornado answers with `Keep-Alive` only to this spelling.
            headers["Connection"] = "keep-alive"
        return super()._can_keep_alive(start_line, headers)

    def write_headers(self, start_line: Any, headers: Any, chunk: bytes | None = None) -> Any:
        if not self._read_finished or self.params.no_keep_alive or self._closes(headers):
            # The rest of the body is not read, or whoever answers wants the end: then it is told too.
            self._disconnect_on_finish = True
        request = self._request_start_line
        is_old = request is not None and request.version == "HTTP/1.0"
        if is_old and "Content-Length" not in headers and self._has_body(start_line.code):
            # No chunks there: such a body ends with its connection.
            self._disconnect_on_finish = True
        received = self._request_headers
        if not self._disconnect_on_finish:
            headers["Keep-Alive"] = self.keep_alive
        elif is_old and received is not None and "Connection" in received:
            del received["Connection"]  # else Tornado would promise to keep it
        return super().write_headers(start_line, headers, chunk)

    def _has_body(self, status: int) -> bool:
        request = self._request_start_line
        return status not in (204, 304) and not (request is not None and request.method == "HEAD")

    @staticmethod
    def _closes(headers: Any) -> bool:
        return any(
            name.lower() == "connection" and "close" in connection_tokens(value)
            for name, value in headers.get_all()
        )

    async def _read_chunked_body(self, delegate: httputil.HTTPMessageDelegate) -> None:
        """Read a chunked body; extensions and trailers are read and left out.

        Source: RFC 9112 section 7.1.
        """
        stream = self.stream
        pending = bytearray()
        total = work = 0
        while True:
            line = (await stream.read_until(b"\r\n", max_bytes=_MAX_CHUNK_LINE_BYTES))[:-2]
            text = line.partition(b";")[0].rstrip(b" \t")
            if not _CHUNK_SIZE.fullmatch(text) or b"\n" in line or b"\r" in line:
                raise httputil.HTTPInputError("invalid chunk size")
            left = int(text, 16)
            if left == 0:
                break
            total += left
            if total > self._max_body_size:
                raise httputil.HTTPInputError("chunked body too large")
            while left:
                data = await stream.read_bytes(min(left, _DELIVER_BYTES), partial=True)
                left -= len(data)
                work += len(data)
                pending += data
                if len(pending) >= _DELIVER_BYTES:
                    await self._hand_over(delegate, pending)
                if work >= _WORK_AT_ONCE:
                    work = 0
                    await asyncio.sleep(0)
            if await stream.read_bytes(2) != b"\r\n":
                raise httputil.HTTPInputError("improperly terminated chunk")
            work += _CHUNK_WORK
            if work >= _WORK_AT_ONCE:
                work = 0
                await asyncio.sleep(0)
        size = 0
        while line := (await stream.read_until(b"\r\n", max_bytes=_MAX_TRAILER_BYTES))[:-2]:
            size += len(line)
            if size > _MAX_TRAILER_BYTES or b":" not in line or b"\n" in line or b"\r" in line:
                raise httputil.HTTPInputError("improperly terminated chunked request")
        if pending:
            await self._hand_over(delegate, pending)

    async def _hand_over(self, delegate: httputil.HTTPMessageDelegate, pending: bytearray) -> None:
        data = bytes(pending)
        pending.clear()
        if not self._write_finished:
            with _ExceptionLoggingContext(app_log):
                awaitable = delegate.data_received(data)
                if awaitable is not None:
                    await awaitable


def answer_unreadable(stream: IOStream) -> None:
    """Have a stream say in JSON why it closes when a message on it cannot be read."""
    write, close = stream.write, stream.close

    def write_json(data: bytes | memoryview) -> Any:
        return write(MALFORMED_REQUEST if data == TORNADO_BAD_REQUEST else data)

    def close_with_words(exc_info: Any = False) -> None:
        if isinstance(exc_info, UnsatisfiableReadError) and not stream.closed():
            _say_and_linger(stream)
        close(exc_info)

    stream.write = write_json  # type: ignore[method-assign]
    stream.close = close_with_words  # type: ignore[method-assign]


def _say_and_linger(stream: IOStream) -> None:
    """Write the last words of a connection and read on for a moment, so that they arrive.

    A socket closed with unread bytes is reset, and a reset takes the answer away with it.
    """
    is_head = getattr(stream, "_read_regex", None) is not None
    begin = bytes(getattr(stream, "_read_buffer", b""))
    words = MALFORMED_REQUEST
    if is_head:
        line, end_of_line, _ = begin.lstrip(b"\r\n").partition(b"\n")
        words = HEADERS_TOO_LARGE if end_of_line and len(line) < _LONG_LINE_BYTES else URI_TOO_LONG
    try:
        sock = socket.socket(fileno=socket.dup(stream.socket.fileno()))
    except OSError:
        return
    try:
        sock.setblocking(False)
        # Over TLS the stream's own socket seals it.
        stream.socket.send(words)
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        sock.close()
        return
    loop = asyncio.get_running_loop()
    state = {"left": _LINGER_BYTES}

    def end() -> None:
        timer.cancel()
        if sock.fileno() >= 0:
            loop.remove_reader(sock)
            sock.close()

    def drain() -> None:
        try:
            data = sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        state["left"] -= len(data)
        if not data or state["left"] < 0:
            end()

    timer = loop.call_later(_LINGER_S, end)
    loop.add_reader(sock, drain)
