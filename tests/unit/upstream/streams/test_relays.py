"""WebSockets of one client each: which egress opens them, how many, and the books of the WebSocket API."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import orjson
import pytest
from aiohttp import ClientConnectionResetError, WSMessage, WSMsgType

from resender.aio import Tasks
from resender.core.binance.exchange_clock import ExchangeClock
from resender.core.binance.markets import Market
from resender.core.egress.governor import Governor
from resender.core.egress.spec import Pins, parse_egress, parse_pins
from resender.core.egress.state import Limits
from resender.core.weights.rules import Charge
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


# --- the books of the WebSocket API ---------------------------------------------------------------


def request(method: str, message_id: Any = 1, **params: Any) -> dict[str, Any]:
    return {"id": message_id, "method": method, "params": params}


def answer(message_id: Any, status: int = 200, used: int | None = None, **more: Any) -> str:
    """Write an answer as Binance does."""
    body: dict[str, Any] = {"id": message_id, "status": status, **more}
    if used is not None:
        body["rateLimits"] = [
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50, "count": 12},
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": 6000,
                "count": used,
            },
        ]
    return orjson.dumps(body).decode()


def test_request_is_charged_before_it_is_sent_and_settled_by_its_answer(make: Any) -> None:
    world = make()
    desk = world.desk()
    assert desk.admit(request("account.status", "x")) is None
    assert world.used() == 20
    assert desk.unanswered == ["account.status"]
    world.time.mono += 0.25
    found = desk.note(answer("x", used=321, result={}))
    assert (found.method, found.status, found.duration_ms) == ("account.status", 200, 250.0)
    assert world.used() == 321
    assert desk.unanswered == []


def test_answers_find_their_requests_in_any_order(make: Any) -> None:
    desk = make().desk()
    ids = [1, "1", "a-b", "币", None, -5, '"', "\\", 18446744073709551615]
    for place, message_id in enumerate(ids):
        desk.admit(request(f"m{place}", message_id))
    for place in (3, 8, 0, 6, 4, 7, 1, 5, 2):
        assert desk.note(answer(ids[place], result={"id": 1})).method == f"m{place}"
    assert desk.unanswered == []


def test_requests_of_one_id_are_answered_in_turn(make: Any) -> None:
    desk = make().desk()
    for method in ("a", "b", "c"):
        desk.admit(request(method, 7))
    assert [desk.note(answer(7)).method for _ in range(3)] == ["a", "b", "c"]
    assert desk.note(answer(7)) is None


def test_answer_whose_id_cannot_be_read_is_that_of_the_oldest_request(make: Any) -> None:
    desk = make().desk()
    desk.admit(request("old", "x" * 300))
    desk.admit(request("new", 2))
    assert desk.note(answer("x" * 300)).method == "old"
    assert desk.note('{"status":400,"id":null,"error":{"code":-1135}}').method == "new"


def test_event_answers_no_request(make: Any) -> None:
    desk = make().desk()
    event = '{"subscriptionId":0,"event":{"e":"executionReport","E":1,"s":"BTCUSDT","X":"NEW","i":200}}'
    assert desk.note(event) is None
    desk.admit(request("order.place"))
    assert desk.note(event) is None
    assert desk.unanswered == ["order.place"]
    assert desk.note(answer(1)).method == "order.place"


def test_weight_is_read_where_the_answer_is_long(make: Any) -> None:
    world = make()
    desk = world.desk()
    desk.admit(request("klines", 1))
    desk.note(answer(1, used=77, result=[["0.1"] * 12] * 2000))
    assert world.used() == 77


def test_request_without_parameters_or_with_odd_ones_is_charged_all_the_same(make: Any) -> None:
    world = make()
    desk = world.desk()
    for params in (None, [], "x", 7):
        assert desk.admit({"id": 1, "method": "openOrders.status", "params": params}) is None
    assert desk.admit({"method": "openOrders.status"}) is None
    assert world.used() == 400


def test_request_that_does_not_fit_is_refused_as_binance_would_with_its_id(make: Any) -> None:
    world = make(limits=Limits(spot=100))
    desk = world.desk()
    assert desk.admit(request("openOrders.status")) is None
    refused = orjson.loads(desk.admit(request("account.status", "id-1")))
    assert (refused["id"], refused["status"], refused["error"]["code"]) == ("id-1", 429, -1003)
    data = refused["error"]["data"]
    assert data["serverTime"] < data["retryAfter"] <= data["serverTime"] + 61_000
    assert desk.unanswered == ["openOrders.status"]
    # Orders have a reserve of their own.
    assert desk.admit(request("order.place", 2)) is None


@pytest.mark.parametrize(("status", "seconds"), [(429, 7), (418, 300)])
def test_429_and_418_close_the_pool_until_the_time_they_name(make: Any, status: int, seconds: int) -> None:
    world = make()
    desk = world.desk()
    desk.admit(request("klines"))
    at = int(world.governor.clock.low_ms(world.time.mono)) + seconds * 1000
    error = {"code": -1003, "msg": "x", "data": {"serverTime": 1, "retryAfter": at}}
    found = desk.note(answer(1, status, error=error))
    assert found.status == status
    assert world.governor.closed_s(SPOT, SPOT_POOL, world.time.mono) == pytest.approx(seconds, abs=0.01)
    refused = orjson.loads(desk.admit(request("ping", 2)))
    assert refused["status"] == status
    assert desk.unanswered == []


@pytest.mark.parametrize(("status", "seconds"), [(429, 60), (418, 120)])
def test_429_and_418_without_a_time_close_the_pool_for_a_while(make: Any, status: int, seconds: int) -> None:
    world = make()
    desk = world.desk()
    desk.admit(request("klines"))
    desk.note(answer(1, status))
    assert world.governor.closed_s(SPOT, SPOT_POOL, world.time.mono) == seconds


def test_pool_of_usd_m_is_closed_for_the_websocket_api_alone(make: Any) -> None:
    world = make()
    desk = world.desk(UM)
    desk.admit(request("ticker.price"))
    desk.note(answer(1, 429))
    assert world.governor.closed_s(UM, WS_UM_POOL, world.time.mono) == 60
    assert world.governor.closed_s(UM, FUTURES_POOL, world.time.mono) == 0


def test_accounts_own_limit_of_orders_closes_nothing(make: Any) -> None:
    world = make()
    desk = world.desk()
    desk.admit(request("order.place"))
    assert desk.note(answer(1, 429, error={"code": -1015, "msg": "Too many new orders"})).status == 429
    assert world.governor.closed_s(SPOT, SPOT_POOL, world.time.mono) == 0


@pytest.mark.parametrize("seconds", [-100, 10**7])
def test_time_that_cannot_be_meant_is_kept_within_bounds(make: Any, seconds: int) -> None:
    world = make()
    desk = world.desk()
    desk.admit(request("klines"))
    desk.note(answer(1, 418, error={"data": {"retryAfter": START_MS + seconds * 1000}}))
    assert 1 <= world.governor.closed_s(SPOT, SPOT_POOL, world.time.mono) <= 4 * 86_400


def test_end_tells_what_has_no_answer_and_that_once(make: Any) -> None:
    world = make()
    desk = world.desk()
    for method, message_id in (("order.place", 1), ("order.cancel", 1), ("klines", 2)):
        desk.admit(request(method, message_id))
    desk.note(answer(1))
    assert desk.end() == ["order.cancel", "klines"]
    assert desk.end() == []
    assert desk.note(answer(2)) is None
    budget = world.governor.egresses[0].budgets[SPOT_POOL]
    assert not budget.reserved
    assert world.used() == 4, "what was sent may have been charged"


def test_requests_go_by_the_egress_of_their_connection_whatever_the_others_have_left(make: Any) -> None:
    world = make(*TWO)
    first, second = world.governor.egresses
    desk = world.relays.desk(SPOT, second, "10.0.0.1")
    for number in range(5):
        desk.admit(request("klines", number))
    assert first.budgets == {} or not first.budgets[SPOT_POOL].reserved
    assert second.budgets[SPOT_POOL].reserved == 10


async def test_answer_of_an_id_nobody_knows_answers_no_order(make: Any) -> None:
    desk = make().desk()
    assert desk.admit({"id": 1, "method": "order.place"}) is None
    assert desk.note('{"id":null,"status":400,"error":{}}') is None
    assert desk.unanswered == ["order.place"]
    assert desk.admit({"id": 2, "method": "time"}) is None
    answered = desk.note('{"id":null,"status":400,"error":{}}')
    assert answered is not None
    assert answered.method == "time"
    assert desk.end() == ["order.place"]


async def test_request_that_finds_no_room_asks_for_more_through_its_own_egress(make: Any) -> None:
    world = make()
    desk = world.desk()
    assert not await desk.has_more_room(request("openOrders.status"))
    asked: list[Any] = []

    async def ask(market: Market, charge: Charge, key: str | None, egress: Any) -> bool:
        asked.append((market, charge.weight, key, egress))
        return True

    world.relays.on_no_room = ask
    assert await desk.has_more_room({"id": 1, "method": "openOrders.status", "params": {"apiKey": "k" * 64}})
    ((market, weight, key, egress),) = asked
    assert (market, weight, key, egress) == (Market.SPOT, 80, "k" * 64, desk._egress)
