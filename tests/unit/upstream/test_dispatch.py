"""The one door out: permits of own reads, shared keys, how each market answered last."""

from __future__ import annotations

import asyncio
import gzip
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resender.core.binance.markets import Market
from resender.core.sharing import share_key
from resender.errors import EgressExhausted, RouteError, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.upstream.dispatch import Dispatch
from resender.upstream.egress import Call
from tests.unit.upstream.fakes import START_MS, FakeAnswer, FakeClient, Time, make_pool, settle

SPOT = ("default", Market.SPOT)
KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1"  # weight 2
JSON = (("Content-Type", "application/json"),)


class World:
    """A door with one egress, whose weight of a minute is small."""

    def __init__(self, *answers: FakeAnswer | Exception, weight: int = 100, **options: float) -> None:
        self.time = Time()
        self.pool, clients = make_pool(self.time, weight=weight, order_reserve=0.0, own_share=0.5)
        self.client: FakeClient = clients[SPOT]
        self.client.answers = list(answers)
        self.door = Dispatch(self.pool, clock=self.time.clock, user_agent="test/1", **options)

    @property
    def spent(self) -> int:
        """What is used and reserved of the spot pool."""
        return self.pool.governor.used(Market.SPOT, "spot", self.time.mono)

    def call(self, target: str = KLINES, method: str = "GET") -> Call:
        return Call(Market.SPOT, method, target, [("User-Agent", "client")])


async def read(response) -> bytes:
    body = b""
    while chunk := await response.next_chunk():
        body += chunk
    response.close()
    return body


# --- permits -------------------------------------------------------------------------------------


async def test_permit_reserves_the_weight_before_anything_is_sent() -> None:
    world = World()
    world.door.admit(Market.SPOT, KLINES, is_urgent=False)
    assert world.spent == 2
    assert world.client.sent == []


async def test_permit_that_is_given_back_leaves_no_trace_in_the_ledger() -> None:
    world = World()
    permits = [world.door.admit(Market.SPOT, KLINES, is_urgent=True) for _ in range(25)]
    with pytest.raises(EgressExhausted):
        world.door.admit(Market.SPOT, KLINES, is_urgent=True)  # half of the weight is for own reads
    for permit in permits:
        world.door.give_back(permit)
    assert world.spent == 0
    assert world.door.admit(Market.SPOT, KLINES, is_urgent=True)


async def test_permit_given_back_twice_counts_once() -> None:
    world = World()
    kept = world.door.admit(Market.SPOT, KLINES, is_urgent=True)
    given = world.door.admit(Market.SPOT, KLINES, is_urgent=True)
    world.door.give_back(given)
    world.door.give_back(given)
    assert world.spent == 2
    world.door.give_back(kept)
    assert world.spent == 0


async def test_permit_that_was_given_back_was_no_trial_of_an_egress() -> None:
    time = Time()
    pool, _ = make_pool(time, "a=127.0.0.2,b=127.0.0.3")
    door = Dispatch(pool, clock=time.clock, user_agent="test/1")
    for name in "ab":
        pool.governor.note_failed(name, time.mono, time.mono)
    time.mono += 1
    door.give_back(door.admit(Market.SPOT, KLINES, is_urgent=True))
    assert not any(pool.governor.is_failed(name, time.mono) for name in "ab")


async def test_calm_reads_are_refused_before_urgent_ones() -> None:
    world = World()
    for _ in range(22):
        world.door.admit(Market.SPOT, KLINES, is_urgent=False)
    with pytest.raises(EgressExhausted) as caught:
        world.door.admit(Market.SPOT, KLINES, is_urgent=False)
    assert caught.value.retry_after_s >= 1
    assert world.door.admit(Market.SPOT, KLINES, is_urgent=True)


async def test_fetch_with_a_permit_takes_no_further_weight() -> None:
    world = World(FakeAnswer(b"[]"))
    permit = world.door.admit(Market.SPOT, KLINES, is_urgent=True)
    fetched = await world.door.fetch(Market.SPOT, KLINES, permit)
    assert (fetched.status, fetched.body) == (200, b"[]")
    assert world.client.targets == [KLINES]
    assert world.spent == 2


async def test_fetch_that_never_left_gives_its_weight_back() -> None:
    world = World(UpstreamUnreachable("no network"))
    permit = world.door.admit(Market.SPOT, KLINES, is_urgent=True)
    with pytest.raises(UpstreamUnreachable):
        await world.door.fetch(Market.SPOT, KLINES, permit)
    assert world.spent == 0
    assert world.pool.governor.own.used("spot", int(START_MS // 60_000)) == 0


@pytest.mark.parametrize("status", [429, 418])
async def test_permit_of_a_pool_that_has_been_closed_since_is_not_used(status: int) -> None:
    """Whoever calls on after a 429 is banned, and a permit may be old."""
    world = World(FakeAnswer(b"{}", status=status, headers=[("Retry-After", "30")]))
    permit = world.door.admit(Market.SPOT, KLINES, is_urgent=True)
    await world.door.fetch(Market.SPOT, KLINES)
    before = world.spent
    with pytest.raises(EgressExhausted) as caught:
        await world.door.fetch(Market.SPOT, KLINES, permit)
    assert caught.value.retry_after_s == 30
    assert len(world.client.sent) == 1
    assert world.spent == before - 2, "what was reserved is free again"


async def test_market_that_is_switched_off_is_admitted_nothing() -> None:
    world = World()
    with pytest.raises(RouteError, match="options is switched off"):
        world.door.admit(Market.OPTIONS, "/eapi/v1/exchangeInfo", is_urgent=True)


# --- own reads -----------------------------------------------------------------------------------


async def test_own_read_names_the_program_and_unpacks_the_answer() -> None:
    packed = gzip.compress(b'{"a":1}')
    headers = (("Content-Encoding", "GZIP"), ("X-Mbx-Used-Weight-1m", "7"))
    world = World(FakeAnswer(packed[:5], packed[5:], headers=headers))
    fetched = await world.door.fetch(Market.SPOT, "/api/v3/time")
    assert fetched.body == b'{"a":1}'
    assert fetched.headers["x-mbx-used-weight-1m"] == "7"
    assert world.client.sent[0][2] == [
        ("User-Agent", "test/1"),
        ("Accept-Encoding", "gzip"),
        ("Cache-Control", "no-cache"),
    ]


async def test_damaged_packed_answer_is_an_error_and_the_connection_is_given_back() -> None:
    answer = FakeAnswer(b"\x1f\x8bnot gzip", headers=(("Content-Encoding", "gzip"),))
    world = World(answer)
    with pytest.raises(UpstreamLost, match="damaged"):
        await world.door.fetch(Market.SPOT, "/api/v3/time")
    assert answer.is_closed


async def test_own_answer_without_end_is_cut_off() -> None:
    answer = FakeAnswer(*[b"x" * (1 << 24)] * 6)
    world = World(answer)
    with pytest.raises(UpstreamLost, match="more than"):
        await world.door.fetch(Market.SPOT, "/api/v3/time")
    assert answer.is_closed
    assert not answer.at_end()


async def test_break_in_an_own_answer_closes_it() -> None:
    answer = FakeAnswer(b"half", UpstreamLost("broke off"))
    world = World(answer)
    with pytest.raises(UpstreamLost):
        await world.door.fetch(Market.SPOT, "/api/v3/time")
    assert answer.is_closed


async def test_exchange_info_read_by_the_gateway_is_joined_by_a_client_that_asks_for_it() -> None:
    world = World(FakeAnswer(b'{"symbols":[]}', headers=JSON))
    world.client.gate = asyncio.Event()
    target = "/api/v3/exchangeInfo?symbol=BTCUSDT"
    own = asyncio.ensure_future(world.door.fetch(Market.SPOT, target))
    await settle()
    call = world.call(target)
    key, _ = share_key(Market.SPOT, target, [("Accept-Encoding", "gzip")])
    client = asyncio.ensure_future(world.door.send(call, key))
    await settle()
    world.client.gate.set()
    response = await client
    assert response.kind == "joined"
    assert await read(response) == b'{"symbols":[]}' == (await own).body
    assert len(world.client.sent) == 1


async def test_client_that_joined_a_read_refused_for_the_gateways_own_share_is_served() -> None:
    time = Time()
    pool, clients = make_pool(time, "a=127.0.0.2,b=127.0.0.3", weight=100, order_reserve=0.0, own_share=0.5)
    door = Dispatch(pool, clock=time.clock, user_agent="test/1")
    target = "/api/v3/exchangeInfo?symbol=BTCUSDT"
    gate = asyncio.Event()
    for name in "ab":
        clients[name, Market.SPOT].gate = gate
    own = asyncio.ensure_future(door.fetch(Market.SPOT, target))
    await settle()
    first, other = sorted((clients[name, Market.SPOT] for name in "ab"), key=lambda each: -len(each.sent))
    first.answers = [UpstreamUnreachable("no connection")]
    call = Call(Market.SPOT, "GET", target, [("User-Agent", "client")])
    key, _ = share_key(Market.SPOT, target, [("Accept-Encoding", "gzip")])
    client = asyncio.ensure_future(door.send(call, key))
    await settle()
    with pytest.raises(EgressExhausted):
        while True:
            door.admit(Market.SPOT, KLINES, is_urgent=True)  # till own reads may use no more
    assert other.sent == []
    gate.set()
    with pytest.raises(EgressExhausted):
        await own
    assert (await client).status == 200
    assert other.targets == [target]


async def test_other_own_reads_are_never_shared() -> None:
    world = World(FakeAnswer(b"1"), FakeAnswer(b"2"))
    world.client.gate = asyncio.Event()
    reads = [asyncio.ensure_future(world.door.fetch(Market.SPOT, KLINES)) for _ in range(2)]
    await settle()
    assert len(world.client.sent) == 2
    world.client.gate.set()
    assert sorted([(await each).body for each in reads]) == [b"1", b"2"]


# --- shared answers ------------------------------------------------------------------------------


async def test_calls_without_a_key_are_each_sent() -> None:
    world = World()
    for _ in range(3):
        assert (await world.door.send(world.call(), None)).kind == ""
    assert len(world.client.sent) == 3


async def test_remembered_answer_serves_equal_calls_for_as_long_as_the_setting_says() -> None:
    answers = [FakeAnswer(b"[1]", headers=JSON), FakeAnswer(b"[2]", headers=JSON)]
    world = World(*answers, get_memory_s=2.0)
    key, _ = share_key(Market.SPOT, KLINES, [])
    kinds = []
    for pause_s in (0.0, 1.5, 1.0):
        world.time.mono += pause_s
        response = await world.door.send(world.call(), key)
        kinds.append((response.kind, await read(response)))
    assert kinds == [("", b"[1]"), ("shared", b"[1]"), ("", b"[2]")]


async def test_client_that_wants_it_fresh_is_not_given_a_remembered_answer() -> None:
    world = World(FakeAnswer(b"[1]", headers=JSON), FakeAnswer(b"[2]", headers=JSON), get_memory_s=60.0)
    key, _ = share_key(Market.SPOT, KLINES, [])
    await read(await world.door.send(world.call(), key))
    assert await read(await world.door.send(world.call(), key, is_fresh=True)) == b"[2]"


@pytest.mark.parametrize("memory_s", [0.0, 60.0])
async def test_answer_is_as_old_as_the_client_consents_to_whatever_the_setting_says(memory_s: float) -> None:
    answers = [FakeAnswer(b"[%d]" % number, headers=JSON) for number in range(9)]
    world = World(*answers, get_memory_s=memory_s)
    key, _ = share_key(Market.SPOT, KLINES, [])
    found = []
    for pause_s, max_age_s, is_fresh in (
        (0.0, 2.0, False),
        (1.5, 2.0, False),
        (0.0, 1.0, False),  # what is there is older
        (0.5, 1.0, False),
        (0.0, 9.0, True),
        (3.0, 9.0, False),
    ):
        world.time.mono += pause_s
        response = await world.door.send(world.call(), key, is_fresh=is_fresh, max_age_s=max_age_s)
        found.append((response.kind, await read(response)))
    assert found == [
        ("", b"[0]"),
        ("shared", b"[0]"),
        ("", b"[1]"),
        ("shared", b"[1]"),
        ("", b"[2]"),
        ("shared", b"[2]"),
    ]


async def test_answer_that_was_remembered_for_one_who_consents_serves_nobody_who_does_not() -> None:
    world = World(*[FakeAnswer(b"[%d]" % number, headers=JSON) for number in range(3)])
    key, _ = share_key(Market.SPOT, KLINES, [])
    found = []
    for max_age_s in (60.0, None, 60.0):
        response = await world.door.send(world.call(), key, max_age_s=max_age_s)
        found.append((response.kind, await read(response)))
    assert found == [("", b"[0]"), ("", b"[1]"), ("shared", b"[0]")]


async def test_exchange_info_has_a_memory_of_its_own() -> None:
    target = "/api/v3/exchangeInfo?symbol=BTCUSDT"
    world = World(
        *[FakeAnswer(b'{"symbols":[]}', headers=JSON) for _ in range(4)], exchange_info_memory_s=60.0
    )
    for path, sent in ((target, 1), (target, 1), (KLINES, 2), (KLINES, 3)):
        await read(await world.door.send(world.call(path), share_key(Market.SPOT, path, [])[0]))
        assert len(world.client.sent) == sent


# --- how a market answered last ------------------------------------------------------------------


async def test_last_answer_tells_kind_status_and_time() -> None:
    world = World(FakeAnswer(b"{}", status=451), FakeAnswer(b"{}"))
    assert world.door.last_answers == {}
    await world.door.send(world.call(), None)
    last = world.door.last_answers[Market.SPOT]
    assert (last.kind, last.status, last.at_ms) == ("region", 451, START_MS)
    world.time.mono += 3
    await world.door.fetch(Market.SPOT, "/api/v3/time")
    last = world.door.last_answers[Market.SPOT]
    assert (last.kind, last.status, last.at_ms) == ("ok", 200, START_MS + 3000)
    assert Market.UM not in world.door.last_answers


@pytest.mark.parametrize(
    ("error", "kind"),
    [(UpstreamUnreachable("x"), "unreachable"), (UpstreamTimeout("x"), "timeout")],
)
@pytest.mark.parametrize("key", [None, ("spot", KLINES, "", "")])
async def test_failure_to_reach_a_market_is_its_last_answer(error, kind: str, key) -> None:
    world = World(error)
    with pytest.raises(type(error)):
        await world.door.send(world.call(), key)
    last = world.door.last_answers[Market.SPOT]
    assert (last.kind, last.status) == (kind, None)


async def test_refusal_for_weight_and_a_lost_call_say_nothing_about_reaching_a_market() -> None:
    world = World(FakeAnswer(b"{}"), UpstreamLost("x"), weight=4)
    await world.door.send(world.call(), None)
    with pytest.raises(UpstreamLost):
        await world.door.send(world.call(), None)
    with pytest.raises(EgressExhausted):
        await world.door.send(world.call(), None)
    assert world.door.last_answers[Market.SPOT].kind == "ok"


async def test_answer_out_of_memory_does_not_say_that_the_market_answers_now() -> None:
    world = World(FakeAnswer(b"[1]", headers=JSON), get_memory_s=60.0)
    key, _ = share_key(Market.SPOT, KLINES, [])
    await read(await world.door.send(world.call(), key))
    before = world.door.last_answers[Market.SPOT]
    world.time.mono += 5
    assert (await world.door.send(world.call(), key)).kind == "shared"
    assert world.door.last_answers[Market.SPOT] is before


async def test_failures_of_one_kind_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    world = World(*[UpstreamUnreachable("no network") for _ in range(4)])
    with caplog.at_level(logging.WARNING, "resender.gateway"):
        for pause_s in (0, 20, 20, 30):
            world.time.mono += pause_s
            with pytest.raises(UpstreamUnreachable):
                await world.door.send(world.call(), None)
    assert [record.getMessage() for record in caplog.records] == [
        "no network",
        "no network (2 more like this since the last such line)",
    ]


class FakeHops:
    """The way to the other nodes, of a front: everything goes through them."""

    def __init__(self, *answers: FakeAnswer) -> None:
        self.homes = SimpleNamespace(is_front=True, check=lambda key: None)
        self.answers = list(answers)
        self.sent: list[Call] = []

    async def send(self, call: Call) -> FakeAnswer:
        self.sent.append(call)
        return self.answers.pop(0)


async def test_front_remembers_no_answer_a_second_time_whatever_age_is_consented_to() -> None:
    world = World(get_memory_s=60.0, exchange_info_memory_s=60.0)
    hops = FakeHops(*(FakeAnswer(b"{}", headers=JSON) for _ in range(3)))
    world.door.hops = cast(Any, hops)
    for max_age_s in (None, 60.0, 60.0):
        target = "/api/v3/exchangeInfo" if max_age_s is None else "/api/v3/ticker/24hr?symbol=A"
        call = world.call(target)
        key = share_key(Market.SPOT, target, call.headers)[0]
        response = await world.door.send(call, key, max_age_s=max_age_s)
        assert await read(response) == b"{}"
        assert response.kind == ""
    assert len(hops.sent) == 3
    assert world.client.sent == []


async def test_call_of_another_node_and_own_reads_leave_from_here() -> None:
    world = World(FakeAnswer(b"{}"), FakeAnswer(b"{}"))
    hops = FakeHops()
    world.door.hops = cast(Any, hops)
    hop = world.call()
    hop.is_hop = True
    await read(await world.door.send(hop, None))
    await world.door.fetch(Market.SPOT, KLINES)
    assert hops.sent == []
    assert len(world.client.sent) == 2
