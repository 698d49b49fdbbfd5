"""Hand an upstream's answer down to one client, piece by piece.

It neither admits nor sends the call; `web/client/request.py` does. The state belongs to one request.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable
from typing import Any, cast

from tornado import httputil
from tornado.iostream import StreamClosedError

from resender.core.binance.headers import Pairs, headers_down
from resender.core.binance.routing import Route
from resender.core.sharing import Key
from resender.core.weights.table import POOL_OF
from resender.errors import AnswerError
from resender.services import Services
from resender.upstream import REPEATABLE, RestResponse, SharedAnswer
from resender.web.answers import AGE_HEADER, CACHE_HEADER, EGRESS_HEADER, WireHeaders
from resender.web.client.cached import saved_weight
from resender.web.client.overheard import Overheard
from resender.web.connection import ClientConnection

_USED_WEIGHT = frozenset({"x-mbx-used-weight", "x-mbx-used-weight-1m"})
RelayedAnswer = RestResponse | SharedAnswer | Overheard
_NO_BODY_STATUS = frozenset({204, 304})
_LINGER_OFF = struct.pack("ii", 1, 0)


class AnswerRelay(httputil.HTTPMessageDelegate):
    """What one request needs to pass an answer on."""

    method: str
    version: str
    headers: httputil.HTTPHeaders

    def __init__(self, services: Services, connection: ClientConnection) -> None:
        self.services = services
        self.connection = connection
        self.route: Route | None = None
        self.task: asyncio.Task[Any] | None = None
        self.method = ""
        self.is_gone = False
        # The first bytes of an upstream's answer have been written.
        self.has_begun = False
        # Why the cache did not answer, for the header.
        self.miss = ""
        # What makes the call equal to others; None if it is its own.
        self.share_key: Key | None = None

    @property
    def may_stop(self) -> bool:
        """Tell whether what is done for this call may be given up: it cannot trade."""
        return self.method in REPEATABLE

    async def relay(self, response: RelayedAnswer) -> tuple[int, str | None]:
        """Hand an answer down piece by piece; return the bytes sent and what went wrong.

        A break in the middle breaks the client's connection too, after the headers and what there
        is of the body: a client that saw no byte of an answer might repeat the call by itself.
        """
        pairs = headers_down(response.headers)
        self._note(response, pairs)
        if self.is_gone and self.may_stop:
            return 0, None  # it only sent the call for others
        headers = WireHeaders(pairs)
        has_body = self.method != "HEAD" and response.status not in _NO_BODY_STATUS
        sent = 0
        chunk = b""
        broken: AnswerError | None = None
        try:
            if has_body:
                chunk = await response.next_chunk()
                if headers.length is None and response.at_end():
                    headers["Content-Length"] = str(len(chunk))
        except AnswerError as error:
            broken = error
        if has_body and broken is None and self._write_whole(response, headers, chunk):
            return len(chunk), None
        # HTTP/1.0 knows no chunks: such a body ends with its connection.
        ends_with_connection = has_body and headers.length is None and self.version == "HTTP/1.0"
        if ends_with_connection and "Connection" in self.headers:
            del self.headers["Connection"]
        start = httputil.ResponseStartLine("HTTP/1.1", response.status, response.reason)
        written: Awaitable[None] | None = None
        if not self.is_gone:
            self.has_begun = True
            written = self.connection.write_headers(start, cast(Any, headers), chunk)
        while broken is None and chunk:
            if self.is_gone and self.may_stop:
                break  # others who read the same answer go on without this client
            sent += len(chunk)
            if response.at_end():
                break
            try:
                if written is not None and not self.is_gone:
                    await written
            except StreamClosedError:
                self._client_gone()
            try:
                chunk = await response.next_chunk()
            except AnswerError as error:
                broken = error
                break
            if chunk and not self.is_gone:
                written = self.connection.write(chunk)
        if self.is_gone:
            return 0, None
        if broken is not None:
            self.services.metrics.bodies_broken.inc()
            await self._break(written, reset=ends_with_connection)
            return sent, broken.msg
        if ends_with_connection:
            await self._break(written, reset=False)
        else:
            self.connection.finish()
        return sent, None

    def _write_whole(self, response: RelayedAnswer, headers: WireHeaders, chunk: bytes) -> bool:
        """Write an answer that is complete already; return False if it is not, or is no ordinary one.

        Tornado's checks of every header cost more than the rest of it. aiohttp has refused what is
        no header; a line break or NUL that came through all the same is left to Tornado.
        """
        if (
            self.is_gone
            or headers.length != str(len(chunk))
            or not response.at_end()
            or not response.reason.isascii()
            or self.version != "HTTP/1.1"
            or not self.connection.is_kept
        ):
            return False
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.pairs])
        count = len(headers.pairs)
        if lines.count("\n") != count or lines.count("\r") != count or "\0" in lines:
            return False
        self.has_begun = True
        kept = f"Keep-Alive: {self.connection.keep_alive}\r\n"
        head = f"HTTP/1.1 {response.status} {response.reason}\r\n{lines}{kept}\r\n"
        self.connection.write(head.encode("latin-1") + chunk)
        self.connection.finish()
        return True

    def _note(self, response: RelayedAnswer, pairs: Pairs) -> None:
        """Tell the client how its answer came about, and the weight as it is now."""
        services, route = self.services, self.route
        kind = response.kind
        if kind == "shared" and route is not None:
            # What was used when the answer was made is long past.
            now = services.dispatch.egress.used_weight.get(POOL_OF[route.market])
            for index, (name, _) in enumerate(pairs):
                if now is not None and name.lower() in _USED_WEIGHT:
                    pairs[index] = (name, now)
        pairs += [pair for pair in response.told if not kind or pair[0].lower() != CACHE_HEADER.lower()]
        if kind:
            pairs.append((CACHE_HEADER, kind))
            if kind == "shared":
                pairs.append((AGE_HEADER, str(response.age_ms)))
                if route is not None:
                    services.savings.note((route.market.value, "shared"), saved_weight(route))
        elif self.miss and not response.told:
            pairs.append((CACHE_HEADER, f"miss; {self.miss}"))
        pairs.append((EGRESS_HEADER, response.egress))

    async def _break(self, written: Awaitable[None] | None, *, reset: bool) -> None:
        """End the client's connection once what was written has left."""
        try:
            if written is not None:
                await written
        except StreamClosedError:
            return
        stream = self.connection.stream
        if reset and stream.socket is not None:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        self.connection.close()

    def _client_gone(self) -> None:
        """The client closed its connection: stop a GET, finish a call that may trade."""
        if self.is_gone:
            return
        self.is_gone = True
        task = self.task
        if not self.may_stop or task is None:
            return
        if not self.services.dispatch.shared_answers.stays_for_others(self.share_key, task):
            task.cancel()
