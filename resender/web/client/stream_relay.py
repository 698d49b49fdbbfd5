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
from resender.core.fanout.protocol import UNSPOKEN_CODES
from resender.errors import ANSWERS, AnswerError
from resender.fanout import StreamClient
from resender.services import Services
from resender.upstream import ApiDesk, RelayConnection, is_request, key_of
from resender.web.client.relay_writes import RelayWrites
from resender.web.client.stream_sink import TornadoSink

logger = logging.getLogger("resender.streams")

RESTART, INTERNAL, TRY_LATER, TOO_SLOW = 1012, 1011, 1013, 1008
_PING_EVERY_S = 20.0
_SILENT_S = 60.0
# Source: web-socket-api.md of 2026-07-21.
_NO_REQUEST = b'{"id":null,"status":400,"error":{"code":-1135,"msg":"Invalid JSON Request"}}'
# Methods after which something stands on the connection.
_STATEFUL = ("session.", "userDataStream.")
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
        is_hop: bool,
        path: str,
        note_call: NoteCall,
    ) -> None:
        self.address = address
        self._is_hop = is_hop
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
        self._writes = RelayWrites(services, route.market, address)
        self._sink: TornadoSink | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0
        self._is_closed = False
        # What stands on the upstream: API keys that fit its egress, a log-in or subscriptions.
        self._keys: set[str] = set()
        self._has_state = False
        self._carrying: asyncio.Task[None] | None = None

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
        self._carrying = self._services.tasks.spawn(self._carry(upstream), name="relay:carry")
        self._tasks.append(self._carrying)

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
        if not is_request(request):
            await self._answer(_NO_REQUEST)
            return
        if not self._services.calls.is_open:
            await self._answer(_stopping(request))
            return
        if not await self._has_upstream_for(request):
            return
        assert self._upstream is not None
        assert self._desk is not None
        self._has_state |= request["method"].startswith(_STATEFUL)
        refusal = self._desk.admit(request)
        if refusal is not None and await self._desk.has_more_room(request):
            refusal = self._desk.admit(request)
        if refusal is not None:
            self._note_call(request["method"], orjson.loads(refusal)["status"], 0.0, "no weight")
            await self._answer(refusal)
            return
        self._writes.sent(request)
        if not await self._upstream.send(message):
            self._lost(1006, "")

    async def _answer(self, answer: bytes) -> None:
        """Answer a request here; the next one is read when the client has taken this."""
        self._write(text_frame(answer))
        await self._can_write.wait()

    async def _has_upstream_for(self, request: dict[str, Any]) -> bool:
        """Have an upstream through the egress an API key is bound to; a request without one takes any."""
        key, upstream = key_of(request), self._upstream
        if upstream is not None:
            is_new = key is not None and key not in self._keys
            if not is_new or key is None:
                return True
            if self._fits(key, upstream):
                self._keys.add(key)
                return True
            if self._has_state or self._desk is None or self._desk.unanswered:
                self.close(
                    RESTART, f"this key belongs to another egress; nothing was sent of {request['method']}"
                )
                return False
            self._give_up(upstream)
        if key is not None:
            self._keys.add(key)
        return await self._open_for(key)

    def _fits(self, key: str, upstream: RelayConnection) -> bool:
        try:
            return self._services.relays.fits(self._route.market, key, upstream, is_hop=self._is_hop)
        except AnswerError:
            return False  # what may carry it is not there now

    def _give_up(self, upstream: RelayConnection) -> None:
        """Leave an upstream on which nothing stands; another takes its place."""
        self._upstream = None
        if self._carrying is not None:
            self._carrying.cancel()
            self._tasks.remove(self._carrying)
        if self._desk is not None:
            self._desk.end()

    async def _open_for(self, key: str | None) -> bool:
        route = self._route
        try:
            upstream = await self._services.relays.open(
                route.host,
                route.target,
                route.market,
                client=self.address,
                api_key=key,
                is_hop=self._is_hop,
            )
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
                    self._writes.came(message)
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
        self._writes.end()
        if code == 1006:
            code, reason = RESTART, "upstream lost"
        left = self._desk.unanswered if self._desk is not None else []
        self.close(code, "upstream lost" if left else reason)
        if self._desk is not None:
            for method in self._desk.end():
                self._note_call(method, 0, 0.0, "outcome unknown")

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
        """End the client's connection with words; whatever the reason, an outcome it will not hear of comes first."""
        left = self._desk.unanswered if self._desk is not None else []
        if left:
            code, reason = INTERNAL, f"{reason}: outcome unknown of {', '.join(left)}"
        if not self._is_closed and self._sink is not None:
            self._sink.close(code if code not in UNSPOKEN_CODES else RESTART, reason)
        self._is_closed = True
        self._can_write.set()

    def end(self) -> None:
        """The client is gone."""
        self._writes.end()
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


def _stopping(request: dict[str, Any]) -> bytes:
    """Answer a request that comes while the gateway stops."""
    error = {"code": ANSWERS["busy"].code, "msg": "The gateway is stopping; nothing was sent."}
    return orjson.dumps({"id": request.get("id"), "status": ANSWERS["busy"].status, "error": error})


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
