"""WebSockets of one client each: which egress opens them, how many, and the books of the WebSocket API."""

from __future__ import annotations

import asyncio
import ssl
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from aiohttp import ClientConnectionResetError, WSMessage, WSMsgType

from resender.aio import Tasks
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.cluster.homes import Peer
from resender.core.egress.governor import Governor
from resender.core.egress.spec import Pins, parse_egress, parse_pins
from resender.core.egress.state import Limits
from resender.core.weights.table import FUTURES_POOL, SPOT_POOL, WS_UM_POOL
from resender.errors import Busy, EgressExhausted, UpstreamUnreachable
from resender.upstream.streams import relays as module
from resender.upstream.streams.relays import _CONNECTS, RelayConnection, Relays
from resender.upstream.streams.session import Socket, StreamBroken
from tests.unit.upstream.fakes import START_MS, Time
from tests.unit.upstream.streams.test_link import FakeWs

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
KEY = "k" * 64
LISTEN_KEY = "L" * 64
URLS = {
    f"{kind}_{market}": f"wss://{kind}.{market}.example"
    for kind in ("stream", "ws_api")
    for market in (SPOT, UM, CM)
}


class RelayedWs(FakeWs):
    """A socket whose messages are given beforehand; silence is a timeout, without waiting."""

    def __init__(self, *messages: WSMessage) -> None:
        super().__init__()
        self.messages = list(messages)
        self.codes: list[int] = []

    async def receive(self, timeout: float | None = None) -> WSMessage:
        if not self.messages:
            raise asyncio.TimeoutError
        return self.messages.pop(0)

    async def close(self, *, code: int = 1000) -> bool:
        self.codes.append(code)
        return await super().close()


class Sessions:
    """Sessions by egress and host; `errors` come first, in turn."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.opened: list[tuple[str, str]] = []
        self.errors: list[BaseException] = []
        self.stopped = 0

    def make(self, spec: Any, url: str, *args: Any, **options: Any) -> Any:
        self.made.append((spec.name, url))
        return _Session(self, spec.name)


class _Session:
    def __init__(self, all_of_them: Sessions, name: str) -> None:
        self.all, self.name = all_of_them, name

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.all.stopped += 1

    async def open(self, target: str, max_message_bytes: int) -> Socket:
        self.all.opened.append((self.name, target))
        if self.all.errors:
            raise self.all.errors.pop(0)
        ws: Any = RelayedWs()
        return Socket(ws, ws.transport)


class World:
    def __init__(self, *egresses: str, pins: Pins | None = None, limits: Limits | None = None) -> None:
        self.time = Time()
        specs = parse_egress(egresses or ["default"])
        self.governor = Governor(
            specs, ExchangeClock.guess(START_MS, self.time.mono), pins=pins, limits=limits, order_reserve=0.1
        )
        self.sessions = Sessions()
        self.relays = Relays(
            specs, URLS, self.governor, clock=self.time.clock, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        )  # fmt: skip

    async def open(self, host: str = "stream_um", market: Market = UM, **options: Any) -> RelayConnection:
        return await self.relays.open(host, "/ws/x", market, **options)

    def desk(self, market: Market = SPOT) -> Any:
        return self.relays.desk(market, self.governor.egresses[0], "10.0.0.1")

    def used(self, pool: str = SPOT_POOL, market: Market = SPOT) -> int:
        return self.governor.used(market, pool, self.time.mono)

    @property
    def egresses(self) -> list[str]:
        """Through which egress each connection was opened."""
        return [name for name, _ in self.sessions.opened]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make_world(*egresses: str, **options: Any) -> World:
        world = World(*egresses, **options)
        monkeypatch.setattr(module, "make_stream_session", world.sessions.make)
        return world

    return make_world


TWO = ("a=127.0.0.1", "b=127.0.0.2")


# --- which egress ---------------------------------------------------------------------------------


async def test_connections_without_a_key_take_the_egresses_in_turn(make: Any) -> None:
    world = make(*TWO)
    for _ in range(4):
        await world.open()
    assert sorted(world.egresses) == ["a", "a", "b", "b"]
    assert world.egresses[0] != world.egresses[1]
    assert len(world.sessions.made) == 2, "one session for each egress and host"


async def test_connection_of_a_key_takes_the_egress_rest_takes_for_it(make: Any) -> None:
    for pinned in ("a", "b"):
        world = make(*TWO, pins=parse_pins([f"{KEY[:12]}={pinned}"]))
        for _ in range(3):
            await world.open("ws_api_spot", SPOT, api_key=KEY)
        assert set(world.egresses) == {pinned}
        assert world.governor.egress_of_key(SPOT, KEY, world.time.mono).name == pinned


async def test_listen_key_goes_where_it_was_made_and_is_not_kept_itself(make: Any) -> None:
    world = make(*TWO, pins=parse_pins([f"{KEY[:12]}=a"]))
    world.relays.note_listen_key(LISTEN_KEY, "b")
    for _ in range(3):
        await world.open(listen_key=LISTEN_KEY, api_key=KEY)
    assert set(world.egresses) == {"b"}
    assert LISTEN_KEY not in repr(vars(world.relays))
    world.relays.note_listen_key(LISTEN_KEY, "gone")
    await world.open(listen_key=LISTEN_KEY, api_key=KEY)
    assert world.egresses[-1] == "a"


async def test_listen_key_is_read_off_the_answer_that_gives_it(make: Any) -> None:
    world = make(*TWO)
    world.relays.note_made(orjson.dumps({"listenKey": LISTEN_KEY}), "b")
    world.relays.note_made(b"{}", "a")
    for _ in range(3):
        await world.open(listen_key=LISTEN_KEY)
    assert set(world.egresses) == {"b"}


def test_so_many_listen_keys_are_remembered(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_KEYS", 3)
    world = make()
    for number in range(10):
        world.relays.note_listen_key(f"{number}" * 64, "default")
    assert len(world.relays._listen_keys) == 3


async def test_egress_that_cannot_connect_is_passed_over_while_another_can(make: Any) -> None:
    world = make(*TWO)
    mono = world.time.mono
    grant = world.governor.admit(UM, module.handshake_charge(CM), mono)
    world.governor.unreachable(grant, mono)
    for _ in range(4):
        await world.open()
    assert set(world.egresses) == {"a", "b"} - {grant.egress.name}


async def test_another_gateway_carries_no_websockets(make: Any) -> None:
    alone = make("resender://127.0.0.1:8000")
    with pytest.raises(UpstreamUnreachable, match="No entry of EGRESS"):
        await alone.open()
    world = make("a=127.0.0.1", "other=resender://127.0.0.1:8000", pins=parse_pins([f"{KEY[:12]}=other"]))
    with pytest.raises(UpstreamUnreachable, match="egress other of this API key"):
        await world.open(api_key=KEY)
    for _ in range(3):
        await world.open()
    assert set(world.egresses) == {"a"}
    assert world.relays.has_choice(UM)  # a key may belong to the other gateway
    assert make(*TWO).relays.has_choice(UM)
    assert not make("a=127.0.0.1;markets=um", "b=127.0.0.2;markets=spot").relays.has_choice(UM)


# --- opening --------------------------------------------------------------------------------------


async def test_so_many_connections_are_opened_and_the_next_is_told_when(make: Any) -> None:
    world = make()
    for _ in range(_CONNECTS):
        await world.open()
        world.time.mono += 1
    with pytest.raises(Busy, match="try again in 271 s") as caught:
        await world.open()
    assert caught.value.retry_after_s == 271
    await world.open("stream_cm", CM), "other markets are other hosts"
    world.time.mono += 271
    await world.open()
    assert len(world.sessions.opened) == _CONNECTS + 2


async def test_each_egress_opens_as_many(make: Any) -> None:
    world = make(*TWO)
    for _ in range(2 * _CONNECTS):
        await world.open()
    with pytest.raises(Busy):
        await world.open()


async def test_only_the_handshake_of_the_websocket_api_has_a_weight(make: Any) -> None:
    world = make()
    await world.open("stream_spot", SPOT)
    assert world.used() == 0
    await world.open("ws_api_spot", SPOT)
    assert world.used() == 2
    await world.open("ws_api_um", UM)
    assert world.used(WS_UM_POOL, UM) == 5
    assert world.used(FUTURES_POOL, UM) == 0
    await world.open("ws_api_cm", CM)
    assert world.used(FUTURES_POOL, CM) == 5


async def test_handshake_that_does_not_fit_opens_nothing(make: Any) -> None:
    world = make(limits=Limits(spot=1))
    with pytest.raises(EgressExhausted):
        await world.open("ws_api_spot", SPOT)
    assert world.sessions.opened == []


async def test_failure_to_open_is_told_in_words_and_its_weight_may_be_gone(make: Any) -> None:
    world = make()
    world.sessions.errors += [
        StreamBroken("x refused"),
        StreamBroken("x said 429", 7.2),
        RuntimeError("a bug"),
    ]
    with pytest.raises(UpstreamUnreachable, match="No WebSocket to spot: x refused"):
        await world.open("ws_api_spot", SPOT)
    with pytest.raises(Busy, match="429") as caught:
        await world.open("ws_api_spot", SPOT)
    assert caught.value.retry_after_s == 8
    with pytest.raises(RuntimeError):
        await world.open("ws_api_spot", SPOT)
    assert world.used() == 6
    budget = world.governor.egresses[0].budgets[SPOT_POOL]
    assert not budget.reserved


async def test_stop_ends_the_sessions_and_what_is_closing(make: Any) -> None:
    world = make(*TWO)
    first, second = await world.open(), await world.open()
    closing = asyncio.ensure_future(first.close())
    await asyncio.sleep(0)
    await world.relays.stop()
    assert world.sessions.stopped == 2
    await closing
    assert first._socket.ws.is_closed  # type: ignore[attr-defined]
    assert not second._socket.ws.is_closed  # type: ignore[attr-defined]


# --- one connection -------------------------------------------------------------------------------


def connection(*messages: WSMessage) -> tuple[RelayConnection, RelayedWs]:
    ws = RelayedWs(*messages)
    return RelayConnection(Socket(cast(Any, ws), cast(Any, ws.transport)), cast(Any, None), Tasks()), ws


def message(kind: WSMsgType, data: Any = None, extra: str = "") -> WSMessage:
    return WSMessage(kind, data, extra)


async def test_messages_come_as_they_were_and_pings_are_answered() -> None:
    relayed, ws = connection(
        message(WSMsgType.TEXT, '{"币":1}'.encode()), message(WSMsgType.PING, b"7"), message(WSMsgType.PONG, b""),
        message(WSMsgType.BINARY, bytearray(b"\x00\xff")), message(WSMsgType.TEXT, "x"),
        message(WSMsgType.CLOSE, 1008, "too slow"),
    )  # fmt: skip
    assert [await relayed.receive() for _ in range(4)] == ['{"币":1}', b"\x00\xff", "x", None]
    assert ws.sent == [(WSMsgType.PONG, b"7")]
    assert (relayed.close_code, relayed.close_reason) == (1008, "too slow")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (message(WSMsgType.CLOSE, 0), 1005), (message(WSMsgType.CLOSE, 1000, "bye"), 1000),
        (message(WSMsgType.CLOSED), 1006), (message(WSMsgType.CLOSING), 1006),
        (message(WSMsgType.ERROR, OSError()), 1006),
        (message(WSMsgType.TEXT, b"\xff\xfe"), 1006),
    ],
)  # fmt: skip
async def test_end_has_a_code(end: WSMessage, code: int) -> None:
    relayed, _ = connection(end)
    assert await relayed.receive() is None
    assert relayed.close_code == code


async def test_connection_that_answers_no_ping_is_at_its_end() -> None:
    relayed, ws = connection()
    assert await relayed.receive() is None
    assert ws.sent == [(WSMsgType.PING, b"")] * 2
    assert relayed.close_code == 1006


async def test_connection_that_answers_pings_may_be_quiet_for_ever() -> None:
    relayed, ws = connection()
    quiet = [True, True, False] * 20

    async def receive(timeout: float | None = None) -> WSMessage:
        if not quiet:
            return message(WSMsgType.TEXT, b"at last")
        if quiet.pop(0):
            raise asyncio.TimeoutError
        return message(WSMsgType.PONG, b"")

    ws.receive = receive  # type: ignore[method-assign]
    assert await relayed.receive() == "at last"


async def test_connection_that_breaks_while_it_is_pinged_is_at_its_end() -> None:
    relayed, ws = connection()
    ws.error = ClientConnectionResetError("gone")
    assert await relayed.receive() is None


async def test_message_is_sent_as_it_is_or_told_not_to_be() -> None:
    relayed, ws = connection()
    assert not ws.sent
    assert await relayed.send(b"\x01")
    ws.error = None
    assert ws.sent == [(WSMsgType.BINARY, b"\x01")]
    for error in (ClientConnectionResetError("gone"), OSError()):
        ws.error = error
        assert not await relayed.send('{"id":1}')
    assert len(ws.sent) == 1


@pytest.mark.parametrize(
    ("code", "spoken"),
    [(1000, 1000), (1001, 1001), (4000, 4000), (1005, 1000), (1006, 1000), (1015, 1000), (7, 1000), (70_000, 1000)],
)  # fmt: skip
async def test_connection_is_closed_once_with_a_code_that_may_be_sent(code: int, spoken: int) -> None:
    relayed, ws = connection()
    await asyncio.gather(relayed.close(code), relayed.close(1011))
    assert ws.codes == [spoken]
    assert ws.transport.is_aborted
    assert ws._response.is_closed


async def test_who_waits_for_the_close_may_be_cancelled() -> None:
    relayed, ws = connection()
    task = asyncio.ensure_future(relayed.close())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await relayed.close()
    assert ws.is_closed


# --- other nodes ----------------------------------------------------------------------------------


class FakeHops:
    """The way to another node, where one key is at home."""

    def __init__(self) -> None:
        self.peer = Peer("b", "http://b")
        self.homes = self
        self.has_others = True
        self.opened: list[tuple[str, str, str, dict[str, str]]] = []
        self.avoided: list[str] = []
        self.error: Exception | None = None

    def home(self, market: Market, key: str | None, mono: float) -> Peer | None:
        return self.peer if key == KEY else None

    def avoid(self, peer: Peer, why: str) -> None:
        self.avoided.append(why)

    async def open(self, peer: Peer, target: str, client: str, most: int, headers: dict[str, str]) -> Socket:
        self.opened.append((peer.name, target, client, headers))
        if self.error is not None:
            raise self.error
        ws: Any = RelayedWs()
        return Socket(ws, ws.transport)


def among_nodes(make: Any) -> tuple[World, FakeHops]:
    world = make()
    hops = FakeHops()
    world.relays.hops = cast(Any, hops)
    return world, hops


@pytest.mark.parametrize(
    ("host", "market", "path"),
    [
        ("ws_api_spot", SPOT, "/ws-api.binance.com/ws/x"),
        ("ws_api_um", UM, "/ws-fapi.binance.com/ws/x"),
        ("stream_cm", CM, "/dstream.binance.com/ws/x"),
        ("stream_spot", SPOT, "/stream.binance.com/ws/x"),
        ("stream_margin", SPOT, "/margin-stream.binance.com/ws/x"),
    ],
)
async def test_connection_of_a_key_leaves_from_its_home(
    make: Any, host: str, market: Market, path: str
) -> None:
    world, hops = among_nodes(make)
    connection = await world.open(host, market, api_key=KEY, client="10.0.0.1")
    assert hops.opened == [("b", path, "10.0.0.1", {"X-MBX-APIKEY": KEY})]
    assert (connection.egress, connection.peer) == (None, hops.peer)
    assert world.sessions.opened == []
    assert world.used() == 0, "that node charges it"


@pytest.mark.parametrize(
    "how", [{"is_hop": True}, {"purpose": "account"}], ids=["asked by a node", "own watch"]
)
async def test_connection_is_never_sent_on_twice(make: Any, how: dict[str, Any]) -> None:
    world, hops = among_nodes(make)
    await world.open(api_key=KEY, **how)
    assert hops.opened == []
    assert len(world.sessions.opened) == 1


async def test_listen_key_goes_to_the_node_where_it_was_made(make: Any) -> None:
    world, hops = among_nodes(make)
    cast(Any, hops).homes = SimpleNamespace(peer=lambda name, mono: Peer(name, "http://c"), has_others=True)
    world.relays.note_listen_key(LISTEN_KEY, "c/ip")
    await world.open(listen_key=LISTEN_KEY)
    assert [name for name, *_ in hops.opened] == ["c"]


async def test_key_fits_the_connection_of_its_home_only(make: Any) -> None:
    world, _ = among_nodes(make)
    there, here = await world.open(api_key=KEY), await world.open(api_key="other")
    relays = world.relays
    assert relays.has_choice(UM)
    assert (relays.fits(UM, KEY, there), relays.fits(UM, KEY, here)) == (True, False)
    assert (relays.fits(UM, "other", there), relays.fits(UM, "other", here)) == (False, True)
    assert relays.fits(UM, KEY, here, is_hop=True), "the node that asked knows best"


async def test_node_that_cannot_be_reached_is_left_alone_and_a_busy_one_is_not(make: Any) -> None:
    world, hops = among_nodes(make)
    hops.error = StreamBroken("refused")
    with pytest.raises(UpstreamUnreachable, match="node b"):
        await world.open(api_key=KEY)
    assert hops.avoided == ["refused"]
    hops.error = StreamBroken("busy", 3.0)
    with pytest.raises(Busy):
        await world.open(api_key=KEY)
    assert len(hops.avoided) == 1


async def test_local_streams_are_opened_where_they_are(make: Any) -> None:
    world, hops = among_nodes(make)
    headers = {"Authorization": "Bearer t"}
    await world.relays.open_local(
        hops.peer, "/local/um/closes?x=1", UM, api_key=None, client="10.0.0.1", headers=headers
    )
    assert hops.opened == [("b", "/local/um/closes?x=1", "10.0.0.1", headers)]
