"""What is relayed one to one: one upstream WebSocket for one of a client, every message as it came.

User data and the WebSocket API have a state on their connection (a log-in, subscriptions, orders under way):
nothing is shared, nothing is sent twice, and when one side ends the other does too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson

from resender.core.binance.markets import Market
from resender.core.binance.stream_urls import StreamRoute, user_target
from resender.core.fanout.frames import binary_frame, ping_frame, text_frame, wrapped
from resender.errors import AnswerError
from resender.fanout import StreamClient
from resender.services import Services
from resender.upstream import ApiDesk, RelayConnection
from resender.web.client.stream_sink import TornadoSink

logger = logging.getLogger("resender.streams")

RESTART, INTERNAL, TRY_LATER, TOO_SLOW = 1012, 1011, 1013, 1008
_PING_EVERY_S = 20.0
_SILENT_S = 60.0
# Codes that may not be sent. Source: RFC 6455 section 7.4.1.
_UNSPOKEN = (1005, 1006, 1015)
# Source: web-socket-api.md of 2026-07-21.
_NO_REQUEST = b'{"id":null,"status":400,"error":{"code":-1135,"msg":"Invalid JSON Request"}}'
NoteCall = Callable[[str, int, float, "str | None"], None]


class Relay:
    """One client's connection to an upstream of its own. It is a `Guest` of the fan-out."""

    def __init__(
        self,
        services: Services,
        route: StreamRoute,
        upstream: RelayConnection | None,
        *,
        address: str,
        path: str,
        note_call: NoteCall,
    ) -> None:
        self.address = address
        self.kind = "relay"
        self.market = route.market.value
        self.path = path
        self.since_ms = services.clock.now_ms()
        self.frames_in = self.frames_out = self.bytes_out = 0
        self.last_sign = services.clock.mono()
        self._services = services
        self._route = route
        self._upstream = upstream
        self._note_call = note_call
        self._desk: ApiDesk | None = None
        self._sink: TornadoSink | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0
        self._is_closed = False

    def start(self, make_sink: Callable[[Callable[[], None]], TornadoSink]) -> None:
        """Begin to relay, once the client has been accepted."""
        self._sink = make_sink(self._can_write.set)
        fanout = self._services.fanout
        self._number = fanout.next_number()
        fanout.guests[self._number] = self
        fanout.stats.opened += 1
        self._tasks.append(self._services.tasks.spawn(self._keep(), name="relay:keep"))
        if self._upstream is not None:
            self._begin(self._upstream)

    def _begin(self, upstream: RelayConnection) -> None:
        if self._route.what == "ws_api":
            self._desk = self._services.relays.desk(self._route.market, upstream.egress, self.address)
        self._tasks.append(self._services.tasks.spawn(self._carry(upstream), name="relay:carry"))

    # --- from the client -------------------------------------------------------------------

    async def hear(self, message: str | bytes) -> None:
        """Pass a message of the client on; one that crossed the end of its connection is passed no more."""
        if self._is_closed:
            return
        self.frames_in += 1
        if self._route.what == "ws_api":
            await self._request(message)
        elif self._upstream is not None and not await self._upstream.send(message):
            self.close(RESTART, "upstream lost")

    async def _request(self, message: str | bytes) -> None:
        try:
            request = orjson.loads(message)
        except ValueError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            await self._answer(_NO_REQUEST)
            return
        if self._upstream is None and not await self._open_for(request):
            return
        assert self._upstream is not None
        assert self._desk is not None
        refusal = self._desk.admit(request)
        if refusal is not None:
            self._note_call(request["method"], orjson.loads(refusal)["status"], 0.0, "no weight")
            await self._answer(refusal)
            return
        if not await self._upstream.send(message):
            self._lost(1006, "")

    async def _answer(self, answer: bytes) -> None:
        """Answer a request here; the next one is read when the client has taken this."""
        self._write(text_frame(answer))
        await self._can_write.wait()

    async def _open_for(self, request: dict[str, Any]) -> bool:
        """Open the upstream for the API key of the first request: it may be bound to one egress."""
        route, params = self._route, request.get("params")
        key = params.get("apiKey") if isinstance(params, dict) else None
        try:
            upstream = await self._services.relays.open(
                route.host, route.target, route.market, client=self.address,
                api_key=key if isinstance(key, str) else None,
            )  # fmt: skip
        except AnswerError as error:
            self.close(TRY_LATER, "nothing was sent: upstream not reachable")
            logger.warning("client %s: %s", self.address, error.msg)
            return False
        if self._is_closed:
            await upstream.close()
            return False
        self._upstream = upstream
        self._begin(upstream)
        return True

    # --- from the upstream -----------------------------------------------------------------

    async def _carry(self, upstream: RelayConnection) -> None:
        try:
            while (message := await upstream.receive()) is not None:
                if isinstance(message, str):
                    if self._desk is not None and (answered := self._desk.note(message)) is not None:
                        self._note_call(answered.method, answered.status, answered.duration_ms, None)
                    self._write(text_frame(message.encode()))
                else:
                    self._write(binary_frame(message))
                # The upstream is read no faster than the client reads.
                await self._can_write.wait()
        finally:
            await upstream.close()
        self._lost(upstream.close_code, upstream.close_reason)

    def _lost(self, code: int, reason: str) -> None:
        """The upstream is gone: so is the client's connection, and it gets to know what it cannot."""
        left = self._desk.end() if self._desk is not None else []
        for method in left:
            self._note_call(method, 0, 0.0, "outcome unknown")
        if left:
            self.close(INTERNAL, f"upstream lost: outcome unknown of {', '.join(left)}")
        elif code == 1006:
            self.close(RESTART, "upstream lost")
        else:
            self.close(code, reason)

    # --- to the client ---------------------------------------------------------------------

    def _write(self, frame: bytes) -> None:
        if self._is_closed or self._sink is None:
            return
        self.frames_out += 1
        self.bytes_out += len(frame)
        if not self._sink.write(frame):
            self._can_write.clear()

    async def _keep(self) -> None:
        """Ping the client; end it if it shows no sign of life. The upstream sees to itself."""
        while True:
            await asyncio.sleep(_PING_EVERY_S)
            if self._services.clock.mono() - self.last_sign > _SILENT_S:
                self.close(TOO_SLOW, "no sign of life for a minute")
                return
            if self._can_write.is_set():
                self._write(ping_frame(b"%d" % self._services.clock.now_ms()))

    def close(self, code: int, reason: str) -> None:
        """End the client's connection with words."""
        if not self._is_closed and self._sink is not None:
            self._sink.close(code if code not in _UNSPOKEN else 1000, reason)
        self._is_closed = True

    def end(self) -> None:
        """The client is gone."""
        self._is_closed = True
        self._can_write.set()
        self._services.fanout.guests.pop(self._number, None)
        if self._desk is not None:
            for method in self._desk.end():
                self._note_call(method, 0, 0.0, "client gone: outcome unknown")
        for task in self._tasks:
            task.cancel()

    async def finish(self) -> None:
        """Leave no upstream behind, not even of a client that was never accepted."""
        self.end()
        if self._upstream is not None:
            await self._upstream.close()


async def carry_user_data(
    services: Services, client: StreamClient, market: Market, listen_key: str, is_open: asyncio.Event
) -> None:
    """Bring the events of a listenKey to a client that subscribed it beside its market streams.

    Shape: `is_open` is set from when on nothing that happens can be missed any more.
    """
    fanout = services.fanout
    try:
        upstream = await services.relays.open(
            f"stream_{market}", user_target(market, listen_key), market,
            listen_key=listen_key, client=client.address,
        )  # fmt: skip
    except AnswerError as error:
        logger.warning("client %s: %s", client.address, error.msg)
        fanout.close(client, RESTART, "user data not reachable")
        return
    is_open.set()
    try:
        while (message := await upstream.receive()) is not None:
            payload = message.encode() if isinstance(message, str) else message
            fanout.push(client, text_frame(wrapped(listen_key, payload) if client.is_combined else payload))
    finally:
        await upstream.close()
    fanout.close(client, RESTART, "upstream lost")
