"""One upstream for one client: what is passed on, what is refused, and what each side learns of the other's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.binance.stream_urls import StreamRoute
from resender.core.fanout.frames import binary_frame, text_frame, wrapped
from resender.errors import EgressAway, UpstreamUnreachable
from resender.upstream.streams.api_desk import Answered
from resender.web.client import stream_relay as module
from resender.web.client.stream_relay import Relay, carry_user_data
from tests.support.running import wait_until
from tests.unit.fanout.fakes import World as FanoutWorld
from tests.unit.fanout.fakes import sink
from tests.unit.web.serving import NoAccounts

USER = StreamRoute("user", Market.UM, target="/private/ws?listenKey=K", host="stream_um", listen_key="K")
API = StreamRoute("ws_api", Market.SPOT, target="/ws-api/v3", host="ws_api_spot")
KEY = "k" * 64


class FakeUpstream:
    """One connection; `None` among its messages is its end."""

    def __init__(self) -> None:
        self.egress = "default"
        self.messages: asyncio.Queue[str | bytes | Exception | None] = asyncio.Queue()
        self.sent: list[str | bytes] = []
        self.is_gone = False
        self.closes = 0
        self.close_code, self.close_reason = 1006, ""

    async def receive(self) -> str | bytes | None:
        message = await self.messages.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, message: str | bytes) -> bool:
        if not self.is_gone:
            self.sent.append(message)
        return not self.is_gone

    async def close(self, code: int = 1000) -> None:
        self.closes += 1

    def end(self, code: int, reason: str = "") -> None:
        self.close_code, self.close_reason = code, reason
        self.messages.put_nowait(None)


class FakeDesk:
    """The books: refuses methods named "dear", remembers the rest."""

    def __init__(self) -> None:
        self.open: list[str] = []
        # What other nodes leave of a shared address, by method.
        self.more: set[str] = set()

    async def has_more_room(self, request: dict[str, Any]) -> bool:
        return request["method"] in self.more

    def admit(self, request: dict[str, Any]) -> bytes | None:
        if request["method"] == "dear" and "dear" not in self.more:
            return b'{"id":1,"status":429}'
        self.open.append(request["method"])
        return None

    def note(self, message: str) -> Answered | None:
        return Answered(self.open.pop(0), 200, 5.0) if '"status"' in message else None

    @property
    def unanswered(self) -> list[str]:
        return list(self.open)

    def end(self) -> list[str]:
        left, self.open = self.open, []
        return left


class FakeRelays:
    """Opens `upstream`, or raises `error`, when `may_open` is set."""

    def __init__(self) -> None:
        self.upstream = FakeUpstream()
        self.desk_made = FakeDesk()
        self.opened: list[tuple[str, str, Market, dict[str, Any]]] = []
        self.error: Exception | None = None
        self.may_open = asyncio.Event()
        self.may_open.set()

    async def open(self, host: str, target: str, market: Market, **options: Any) -> FakeUpstream:
        self.opened.append((host, target, market, options))
        await self.may_open.wait()
        if self.error is not None:
            raise self.error
        return self.upstream

    def fits(self, market: Market, api_key: str, connection: Any, *, is_hop: bool) -> bool:
        if api_key == "away":
            raise EgressAway("gone")
        return api_key != "other"

    def desk(self, market: Market, egress: Any, client: str) -> FakeDesk:
        return self.desk_made


class Sink:
    """The client's side; while `is_full` every write waits."""

    def __init__(self, drained: Callable[[], None]) -> None:
        self.drained = drained
        self.written: list[bytes] = []
        self.closed: list[tuple[int, str]] = []
        self.is_full = False

    def write(self, data: bytes) -> bool:
        self.written.append(data)
        return not self.is_full

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))


class World:
    def __init__(self) -> None:
        self.of_fanout = FanoutWorld()
        self.fanout = self.of_fanout.fanout
        self.relays = FakeRelays()
        self.services: Any = SimpleNamespace(
            clock=self.fanout._clock, tasks=self.of_fanout.tasks, fanout=self.fanout, relays=self.relays,
            calls=SimpleNamespace(is_open=True), accounts=NoAccounts(),
        )  # fmt: skip
        self.calls: list[tuple[str, int, float, str | None]] = []
        self.upstream = self.relays.upstream
        self.desk = self.relays.desk_made

    def relay(self, route: StreamRoute = USER, *, is_open: bool = True) -> Relay:
        relay = Relay(
            self.services, route, cast(Any, self.upstream) if is_open else None, address="10.0.0.1",
            is_hop=False, path="/ws", note_call=lambda *call: self.calls.append(call),
        )  # fmt: skip

        def make_sink(drained: Callable[[], None]) -> Any:
            self.sink = Sink(drained)
            return self.sink

        relay.start(make_sink)
        return relay

    async def written(self, *frames: bytes) -> None:
        await wait_until(lambda: self.sink.written == list(frames))

    async def closed(self) -> tuple[int, str]:
        return (await wait_until(lambda: self.sink.closed))[0]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.of_fanout.tasks.cancel()


def ask(method: str, message_id: Any = 1, **params: Any) -> str:
    return orjson.dumps({"id": message_id, "method": method, "params": params}).decode()


# --- messages -------------------------------------------------------------------------------------


async def test_user_data_is_passed_on_as_it_came(world: World) -> None:
    relay = world.relay()
    world.upstream.messages.put_nowait('{"e":"币",  "E":1}')
    world.upstream.messages.put_nowait(b"\x00\x01")
    await world.written(text_frame('{"e":"币",  "E":1}'.encode()), binary_frame(b"\x00\x01"))
    await relay.hear('{"method":"x"}')
    await relay.hear(b"\x02")
    assert world.upstream.sent == ['{"method":"x"}', b"\x02"]
    assert (relay.frames_in, relay.frames_out) == (2, 2)
    assert relay.bytes_out == sum(map(len, world.sink.written))


async def test_relay_counts_as_a_client_until_it_ends(world: World) -> None:
    relay = world.relay()
    assert world.fanout.size == world.fanout.stats.opened == 1
    await relay.finish()
    await relay.finish()
    assert world.fanout.size == 0
    assert world.upstream.closes >= 1
    await wait_until(lambda: not len(world.of_fanout.tasks))


async def test_upstream_is_read_no_faster_than_the_client_reads(world: World) -> None:
    world.relay()
    world.sink.is_full = True
    for number in range(3):
        world.upstream.messages.put_nowait(f"{number}")
    await world.written(text_frame(b"0"))
    await world.of_fanout.settle()
    assert world.upstream.messages.qsize() == 2
    world.sink.is_full = False
    world.sink.drained()
    await world.written(*(text_frame(b"%d" % number) for number in range(3)))


# --- the WebSocket API ----------------------------------------------------------------------------


async def test_request_is_passed_on_unread_and_its_answer_is_logged(world: World) -> None:
    relay = world.relay(API)
    text = '{"id": 1, "method":"order.place",  "params":{"price":"0.10"}}'
    await relay.hear(text)
    assert world.upstream.sent == [text]
    world.upstream.messages.put_nowait('{"id":1,"status":200}')
    await world.written(text_frame(b'{"id":1,"status":200}'))
    assert world.calls == [("order.place", 200, 5.0, None)]


@pytest.mark.parametrize("text", ["{", "[]", "7", "{}", '{"method":7}', b"\xff", '{"id":1}'])
async def test_what_is_no_request_is_answered_here(world: World, text: str | bytes) -> None:
    relay = world.relay(API)
    await relay.hear(text)
    (frame,) = world.sink.written
    assert orjson.loads(frame[2:])["error"]["code"] == -1135
    assert world.upstream.sent == []
    assert not world.desk.open


async def test_request_without_weight_is_refused_here_and_not_sent(world: World) -> None:
    relay = world.relay(API)
    await relay.hear(ask("dear"))
    assert world.sink.written == [text_frame(b'{"id":1,"status":429}')]
    assert world.upstream.sent == []
    assert world.calls == [("dear", 429, 0.0, "no weight")]


async def test_refusals_wait_for_the_client_to_read_them(world: World) -> None:
    relay = world.relay(API)
    world.sink.is_full = True
    hearing = asyncio.ensure_future(relay.hear(ask("dear")))
    await world.of_fanout.settle()
    assert not hearing.done()
    world.sink.drained()
    await hearing
    hearing = asyncio.ensure_future(relay.hear("{"))
    await world.of_fanout.settle()
    assert not hearing.done()
    relay.end()
    await asyncio.wait_for(hearing, 1)


async def test_request_of_a_client_that_has_been_told_to_go_is_not_sent(world: World) -> None:
    relay = world.relay(API)
    relay.close(1012, "the gateway stops")
    await relay.hear(ask("order.place"))
    assert world.upstream.sent == []
    assert not world.desk.open


async def test_upstream_is_opened_for_the_key_of_the_first_request(world: World) -> None:
    relay = world.relay(API, is_open=False)
    await relay.hear("no request")
    assert world.relays.opened == []
    await relay.hear(ask("account.status", apiKey=KEY))
    await relay.hear(ask("time"))
    assert world.relays.opened == [
        ("ws_api_spot", "/ws-api/v3", Market.SPOT, {"client": "10.0.0.1", "api_key": KEY, "is_hop": False})
    ]
    assert len(world.upstream.sent) == 2


async def test_key_whose_egress_is_away_ends_a_connection_on_which_something_stands(world: World) -> None:
    relay = world.relay(API, is_open=False)
    await relay.hear(ask("session.logon", apiKey=KEY))
    await relay.hear(ask("order.place", apiKey="away"))
    assert len(world.upstream.sent) == 1, "nothing was sent of the order"
    assert len(world.relays.opened) == 1


@pytest.mark.parametrize("params", [None, [], {"apiKey": 7}, {}])
async def test_first_request_without_a_key_opens_it_all_the_same(world: World, params: Any) -> None:
    relay = world.relay(API, is_open=False)
    await relay.hear(orjson.dumps({"id": 1, "method": "time", "params": params}).decode())
    assert world.relays.opened[0][3]["api_key"] is None
    assert len(world.upstream.sent) == 1


async def test_upstream_that_cannot_be_opened_ends_the_client_with_nothing_sent(world: World) -> None:
    world.relays.error = UpstreamUnreachable("no way")
    relay = world.relay(API, is_open=False)
    await relay.hear(ask("order.place"))
    assert world.sink.closed == [(1013, "nothing was sent: upstream not reachable")]
    assert not world.desk.open


async def test_client_that_goes_while_its_upstream_opens_leaves_none_behind(world: World) -> None:
    relay = world.relay(API, is_open=False)
    world.relays.may_open.clear()
    hearing = asyncio.ensure_future(relay.hear(ask("order.place")))
    await world.of_fanout.settle()
    relay.end()
    world.relays.may_open.set()
    await hearing
    assert world.upstream.closes == 1
    assert world.upstream.sent == []


# --- the end of one side --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (1006, "", (1012, "upstream lost")),
        (1001, "bye", (1001, "bye")),
        (1008, "disconnected", (1008, "disconnected")),
        (1005, "", (1012, "")),
    ],
)
async def test_end_of_the_upstream_is_passed_on(
    world: World, code: int, reason: str, told: tuple[int, str]
) -> None:
    world.relay()
    world.upstream.end(code, reason)
    assert await world.closed() == told
    assert world.upstream.closes == 1


@pytest.mark.parametrize("code", [1006, 1000, 1008])
async def test_client_learns_which_requests_have_an_unknown_outcome(world: World, code: int) -> None:
    relay = world.relay(API)
    await relay.hear(ask("order.place"))
    await relay.hear(ask("order.cancel", 2))
    world.upstream.end(code)
    assert await world.closed() == (1011, "upstream lost: outcome unknown of order.place, order.cancel")
    assert world.calls == [(method, 0, 0.0, "outcome unknown") for method in ("order.place", "order.cancel")]


async def test_request_that_cannot_be_sent_whole_has_an_unknown_outcome(world: World) -> None:
    relay = world.relay(API)
    world.upstream.is_gone = True
    await relay.hear(ask("order.place"))
    assert await world.closed() == (1011, "upstream lost: outcome unknown of order.place")
    world.upstream.end(1006)
    await world.of_fanout.settle()
    assert len(world.sink.closed) == len(world.calls) == 1


async def test_message_of_user_data_that_cannot_be_sent_ends_the_client(world: World) -> None:
    relay = world.relay()
    world.upstream.is_gone = True
    await relay.hear("x")
    assert world.sink.closed == [(1012, "upstream lost")]


async def test_client_that_goes_ends_its_upstream_and_what_it_asked_is_logged(world: World) -> None:
    relay = world.relay(API)
    await relay.hear(ask("order.place"))
    await relay.finish()
    assert world.calls == [("order.place", 0, 0.0, "client gone: outcome unknown")]
    assert world.upstream.closes >= 1
    world.upstream.messages.put_nowait("late")
    await world.of_fanout.settle()
    assert world.sink.written == []


async def test_nothing_is_written_behind_the_end(world: World) -> None:
    relay = world.relay()
    relay.close(1012, "the gateway stops")
    relay.close(1011, "again")
    world.upstream.messages.put_nowait("late")
    await world.of_fanout.settle()
    assert world.sink.written == []
    assert world.sink.closed == [(1012, "the gateway stops")]


async def test_client_is_pinged_and_ended_when_it_is_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PING_EVERY_S", 0.001)
    world.relay()
    await wait_until(lambda: world.sink.written)
    assert world.sink.written[0][:1] == b"\x89"
    world.of_fanout.mono += 61
    assert await world.closed() == (1008, "no sign of life for a minute")


# --- user data beside market streams --------------------------------------------------------------


@pytest.mark.parametrize("combined", [False, True])
async def test_events_of_a_key_come_in_the_form_of_its_connection(world: World, combined: bool) -> None:
    client = world.of_fanout.client(KEY, market=Market.CM, combined=combined)
    is_open = asyncio.Event()
    task = asyncio.ensure_future(carry_user_data(world.services, client, Market.CM, KEY, is_open))
    await asyncio.wait_for(is_open.wait(), 1)
    world.upstream.messages.put_nowait('{"e":"ORDER_TRADE_UPDATE"}')
    await wait_until(lambda: sink(client).written)
    event = b'{"e":"ORDER_TRADE_UPDATE"}'
    assert sink(client).texts() == [wrapped(KEY, event) if combined else event]
    assert world.relays.opened == [
        ("stream_cm", f"/ws/{KEY}", Market.CM, {"listen_key": KEY, "client": "10.0.0.1"})
    ]
    world.upstream.end(1000)
    await task
    assert sink(client).closed == [(1012, "upstream lost")]
    assert world.upstream.closes == 1


async def test_key_whose_events_cannot_be_had_ends_its_connection(world: World) -> None:
    client = world.of_fanout.client(KEY)
    world.relays.error = UpstreamUnreachable("no way")
    await carry_user_data(world.services, client, Market.SPOT, KEY, asyncio.Event())
    assert sink(client).closed == [(1012, "user data not reachable")]


async def test_key_that_is_given_up_leaves_the_connection_alone(world: World) -> None:
    client = world.of_fanout.client(KEY)
    is_open = asyncio.Event()
    task = asyncio.ensure_future(carry_user_data(world.services, client, Market.SPOT, KEY, is_open))
    await is_open.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.upstream.closes == 1
    assert not client.is_closed
