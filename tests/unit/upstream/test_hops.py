from __future__ import annotations

import hashlib
import ssl
from typing import Any

import pytest

from resender.core.account.spec import AccountMarket
from resender.core.binance.markets import Market
from resender.core.cluster.homes import Homes, Peer
from resender.core.cluster.node_info import NodeEgress, NodeInfo
from resender.core.cluster.node_proof import ANYBODY, NODE_HEADER, ProofReader
from resender.core.egress.spec import Pins
from resender.errors import EgressAway, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.upstream import hops as module
from resender.upstream.connector import Timeouts
from resender.upstream.egress import Call
from resender.upstream.hops import CollectorSession, Hops, collector_sessions
from resender.upstream.streams.session import StreamBroken
from tests.unit.upstream.fakes import Time

SECRET = "s" * 40
HEADERS = [("Cache-Control", "max-age=3"), ("Accept", "*/*")]


class FakeResponse:
    def __init__(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        self.status = status
        self.headers: Any = headers
        self.egress = ""
        self.told: list[tuple[str, str]] = []
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class Nodes:
    """What the other nodes answer, in turn, each after so many seconds."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.answers: list[tuple[float, Any]] = []
        self.asked: list[tuple[str, str, str, dict[str, str], bytes]] = []
        self.opened: list[tuple[str, str, dict[str, str]]] = []
        self.stopped = 0

    def rest(self, url: str, *args: Any, **options: Any) -> Any:
        return _Session(self, url)

    stream = rest


class _Session:
    def __init__(self, nodes: Nodes, url: str) -> None:
        self.nodes, self.url = nodes, url

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.nodes.stopped += 1

    async def send(self, method: str, target: str, headers: Any, body: bytes) -> Any:
        self.nodes.asked.append((self.url, method, target, dict(headers), body))
        took_s, answer = self.nodes.answers.pop(0)
        self.nodes.time.mono += took_s
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def open(self, target: str, max_message_bytes: int, headers: dict[str, str]) -> Any:
        self.nodes.opened.append((self.url, target, headers))
        _, answer = self.nodes.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str, is_front: bool = True) -> None:
        self.time = Time()
        self.nodes = Nodes(self.time)
        monkeypatch.setattr(module, "RestClient", self.nodes.rest)
        monkeypatch.setattr(module, "StreamSession", self.nodes.stream)
        self.homes = Homes("me", Pins(), lambda market: ["me/ip"], is_front=is_front)
        self.homes.learn(
            NodeInfo(name, name, f"https://{name}.example/under", egresses=(NodeEgress("ip", "address"),))
            for name in names
        )
        self.hops = Hops(
            self.homes, SECRET, Timeouts(1, 1, 1), clock=self.time.clock, keepalive_s=5,
            ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )  # fmt: skip

    async def send(self, *answers: Any, method: str = "GET", key: str | None = None) -> Any:
        self.nodes.answers = [each if isinstance(each, tuple) else (0.0, each) for each in answers]
        call = Call(Market.UM, method, "/fapi/v1/x?a=1", HEADERS, b"body", key, "10.0.0.1")
        return await self.hops.send(call)

    @property
    def who(self) -> list[str]:
        return [url.partition("//")[2].partition(".")[0] for url, *_ in self.nodes.asked]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch, "a", "b")


async def test_call_is_shown_to_be_of_a_node_and_names_its_client(world: World) -> None:
    response = await world.send(FakeResponse())
    assert response.egress == "a"
    ((url, method, target, headers, body),) = world.nodes.asked
    assert (url, method, target, body) == ("https://a.example/under", "GET", "/fapi/fapi/v1/x?a=1", b"body")
    shown = ProofReader(SECRET, "a").read(headers.pop(NODE_HEADER), world.time.clock.now_ms(), method, target)
    assert shown.client == "10.0.0.1"
    assert headers == dict(HEADERS)


async def test_what_the_other_node_tells_is_set_apart_from_what_the_exchange_told(world: World) -> None:
    response = await world.send(
        FakeResponse(
            (b"Date", b"today"),
            (b"X-Resender-Egress", b"ip2"),
            (b"X-Resender-Cache", b"miss; cold"),
            (b"X-MBX-USED-WEIGHT-1M", b"7"),
            (b"Resender-Waited", b"3"),
        )
    )
    assert response.egress == "a/ip2"
    assert response.told == [("X-Resender-Cache", "miss; cold")]
    assert response.headers == ((b"Date", b"today"), (b"X-MBX-USED-WEIGHT-1M", b"7"))


async def test_call_that_leaves_from_here_is_not_sent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, "a", is_front=False)
    assert await world.send(key=None) is None
    assert world.nodes.asked == []


async def test_node_that_cannot_be_reached_is_passed_over_and_left_alone(world: World) -> None:
    response = await world.send(UpstreamUnreachable("refused"), FakeResponse(), method="POST")
    assert response.egress == "b"
    assert world.who == ["a", "b"]
    await world.send(FakeResponse())
    assert world.who[-1] == "b"
    world.time.mono += 6
    await world.send(FakeResponse())
    assert world.who[-1] == "a"
    assert world.hops.moved == 1


async def test_node_that_is_stopping_sends_nothing_and_another_is_asked(world: World) -> None:
    away = FakeResponse((b"X-Resender-Error", b"egress_away"), status=503)
    response = await world.send(away, FakeResponse(), method="POST")
    assert (response.egress, away.is_closed) == ("b", True)


@pytest.mark.parametrize("error", [UpstreamLost("gone"), UpstreamTimeout("mute")])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_may_have_left_is_not_sent_again(world: World, error: Exception, method: str) -> None:
    with pytest.raises(type(error)):
        await world.send(error, method=method)
    assert world.who == ["a"]


async def test_mute_node_is_left_alone_and_one_that_lost_a_connection_is_not(world: World) -> None:
    for error, following in ((UpstreamLost("gone"), "a"), (UpstreamTimeout("mute"), "b")):
        with pytest.raises(type(error)):
            await world.send(error)
        await world.send(FakeResponse())
        assert world.who[-1] == following


async def test_error_is_the_last_one_where_nobody_can_be_reached(world: World) -> None:
    with pytest.raises(EgressAway):
        await world.send(UpstreamUnreachable("1"), UpstreamUnreachable("2"))


HIT = (b"X-Resender-Cache", b"hit")


@pytest.mark.parametrize(
    ("took_s", "waited", "is_asked_again"),
    [(0.4, b"0", False), (0.6, b"0", True), (3.4, b"3000", False), (3.6, b"3000", True), (0.6, b"odd", True)],
)
async def test_late_answer_out_of_memory_is_asked_for_anew(
    world: World, took_s: float, waited: bytes, is_asked_again: bool
) -> None:
    late = FakeResponse(HIT, (b"Resender-Waited", waited))
    response = await world.send((took_s, late), FakeResponse())
    assert late.is_closed == is_asked_again
    assert (response is late) != is_asked_again
    assert world.hops.late == is_asked_again
    if is_asked_again:
        first, second = (headers for *_, headers, _ in world.nodes.asked)
        assert second["Cache-Control"] == "no-cache"
        assert first[NODE_HEADER] != second[NODE_HEADER]


async def test_slow_answer_of_the_exchange_itself_is_good(world: World) -> None:
    response = FakeResponse()
    assert await world.send((9.0, response)) is response


async def test_order_is_not_asked_for_anew_however_late(world: World) -> None:
    response = FakeResponse(HIT)
    assert await world.send((9.0, response), method="POST") is response


async def test_memory_that_is_late_twice_is_told_by_nobody(world: World) -> None:
    second = FakeResponse(HIT)
    with pytest.raises(UpstreamLost):
        await world.send((1.0, FakeResponse(HIT)), (1.0, second))
    assert second.is_closed


async def test_local_call_is_asked_as_it_is(world: World) -> None:
    world.nodes.answers = [(0.0, UpstreamUnreachable("gone")), (0.0, FakeResponse())]
    response = await world.hops.ask_collector("POST", "/local/um/klines", HEADERS, b"{}", "10.0.0.1")
    assert response.egress == "b"
    assert [target for _, _, target, _, _ in world.nodes.asked] == ["/local/um/klines"] * 2
    world.homes.learn([])
    with pytest.raises(EgressAway):
        await world.hops.ask_collector("GET", "/local/um/klines", [], b"", "10.0.0.1")


async def test_streams_are_those_of_the_collector_of_the_moment(world: World) -> None:
    session = collector_sessions(world.hops, world.time.clock)("ws://fstream.binance.com", 5.0)
    assert isinstance(session, CollectorSession)
    await session.start()
    world.nodes.answers = [(0.0, "socket"), (0.0, StreamBroken("refused")), (0.0, "other")]
    assert await session.open("/market/stream", 10) == "socket"
    with pytest.raises(StreamBroken, match="refused"):
        await session.open("/market/stream", 10)
    assert await session.open("/market/stream", 10) == "other"
    assert [url for url, *_ in world.nodes.opened] == [
        "wss://a.example/under", "wss://a.example/under", "wss://b.example/under",
    ]  # fmt: skip
    _, target, headers = world.nodes.opened[0]
    assert target == "/fstream.binance.com/market/stream"
    shown = ProofReader(SECRET, "a").read(headers[NODE_HEADER], world.time.clock.now_ms(), "GET", target)
    assert shown.client == ANYBODY
    world.homes.learn([])
    with pytest.raises(StreamBroken, match="no node"):
        await session.open("/market/stream", 10)
    await session.stop()


async def test_busy_collector_is_not_given_up(world: World) -> None:
    session = CollectorSession(world.hops, world.time.clock, "fstream.binance.com")
    world.nodes.answers = [(0.0, StreamBroken("busy", 3.0))]
    with pytest.raises(StreamBroken):
        await session.open("/ws/x", 10)
    assert world.homes.collector(world.time.mono) == Peer("a", "https://a.example/under")


async def test_stop_ends_all_sessions(world: World) -> None:
    await world.send(FakeResponse())
    world.nodes.answers = [(0.0, "socket")]
    await world.hops.open(world.homes.peers[0], "/ws/x", "10.0.0.1", 10)
    await world.hops.stop()
    assert world.nodes.stopped == 2


def test_local_endpoints_are_answered_where_the_account_or_the_market_data_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, "a", "b", is_front=False)
    hops, homes, mono = world.hops, world.homes, world.time.mono
    keys = [f"key {number}" for number in range(20)]
    for key in keys:
        assert hops.home_of_local(AccountMarket.UM, key, None) == homes.home(Market.UM, key, mono)
    assert len({hops.home_of_local(AccountMarket.UM, key, None) for key in keys}) == 3
    assert hops.home_of_local(None, keys[0], None) is None, "market data is here"
    away = next(key for key in keys if homes.home(Market.SPOT, key, mono) is not None)
    hops.accounts = ((AccountMarket.MARGIN, "One", hashlib.sha256(away.encode()).hexdigest()),)
    there = homes.home(Market.SPOT, away, mono)
    assert hops.home_of_local(AccountMarket.MARGIN, None, "one") == there
    assert hops.home_of_local(AccountMarket.MARGIN, None, None) == there
    assert hops.home_of_local(AccountMarket.MARGIN, None, "other") is None
    assert hops.home_of_local(AccountMarket.SPOT, None, None) is None


def test_front_asks_its_collector_for_all_else(world: World) -> None:
    assert world.hops.home_of_local(None, None, None) == world.homes.peers[0]
    assert world.hops.home_of_local(AccountMarket.UM, None, None) == world.homes.peers[0]
    world.homes.learn([])
    with pytest.raises(EgressAway):
        world.hops.home_of_local(None, None, None)
