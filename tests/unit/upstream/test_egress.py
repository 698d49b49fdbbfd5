"""The egresses with clients made by hand: choosing, moving on, and what is learned from answers."""

from __future__ import annotations

import asyncio
import gzip
from email.utils import formatdate

import pytest

from resender.core.binance.markets import Market
from resender.core.egress.spec import parse_pins
from resender.errors import EgressExhausted, RouteError, UpstreamLost, UpstreamTimeout, UpstreamUnreachable
from resender.upstream.connector import EgressUnusable
from resender.upstream.egress import Call, EgressPool
from tests.support.running import wait_until
from tests.unit.upstream.fakes import START_MS, FakeAnswer, FakeClient, Time, make_pool

SPOT = Market.SPOT
KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m"
ORDER = "/api/v3/order?symbol=BTCUSDT&signature=0"


class World:
    def __init__(self, egress: str = "a=127.0.0.2,b=127.0.0.3", **options) -> None:
        self.time = Time()
        self.closed = 0
        self.pool: EgressPool
        self.pool, self.clients = make_pool(self.time, egress, **options)
        self.pool.on_closed = self._closed

    def _closed(self) -> None:
        self.closed += 1

    def client(self, egress: str = "default", market: Market = SPOT) -> FakeClient:
        return self.clients[egress, market]

    def sent(self, market: Market = SPOT) -> dict[str, int]:
        return {name: len(client.sent) for (name, of), client in self.clients.items() if of is market}

    def closed_s(self, pool: str = "spot", market: Market = SPOT) -> float:
        return self.pool.governor.closed_s(market, pool, self.time.mono)


def call(target: str = KLINES, method: str = "GET", **more) -> Call:
    return Call(more.pop("market", SPOT), method, target, [], **more)


def refusal(status: int, body: bytes = b"{}", **headers: str) -> FakeAnswer:
    return FakeAnswer(
        body, status=status, headers=[(name.replace("_", "-"), value) for name, value in headers.items()]
    )


# --- choosing and moving on ----------------------------------------------------------------------


async def test_market_that_is_switched_off_is_refused_before_anything_is_sent() -> None:
    world = World("default")
    with pytest.raises(RouteError, match="options is switched off"):
        await world.pool.send(call(market=Market.OPTIONS))


async def test_each_egress_has_clients_for_its_own_markets_only() -> None:
    world = World("default;markets=um,spot=127.0.0.2;markets=spot")
    assert set(world.clients) == {("default", Market.UM), ("spot", SPOT)}


async def test_start_and_stop_reach_every_client() -> None:
    world = World()
    await world.pool.start()
    assert all(client.is_started for client in world.clients.values())
    await world.pool.stop()
    assert not any(client.is_started for client in world.clients.values())


async def test_answer_names_the_egress_it_came_through() -> None:
    world = World()
    answers = [await world.pool.send(call()) for _ in range(2)]
    assert sorted(answer.egress for answer in answers) == ["a", "b"]


async def test_call_that_was_not_sent_is_tried_on_another_egress_once_each() -> None:
    world = World()
    for name in "ab":
        world.client(name).answers = [UpstreamUnreachable("no connection")]
    with pytest.raises(UpstreamUnreachable):
        await world.pool.send(call(ORDER, "POST"))
    assert world.sent() == {"a": 1, "b": 1}
    assert world.pool.governor.moved == 1
    assert world.pool.governor.used(SPOT, "spot", world.time.mono) == 0


async def test_call_of_a_key_bound_to_one_egress_does_not_move() -> None:
    world = World(pins=parse_pins(["AAAABBBB=b"]))
    world.client("b").answers = [UpstreamUnreachable("no connection")]
    with pytest.raises(UpstreamUnreachable):
        await world.pool.send(call(ORDER, "POST", key="AAAABBBBCCCC"))
    assert world.sent() == {"a": 0, "b": 1}


async def test_calls_that_never_left_do_not_use_up_a_clients_share() -> None:
    world = World("default", weight=20, client_share=0.5, order_reserve=0.0)
    world.client().answers = [UpstreamUnreachable("no connection")] * 5
    for _ in range(5):
        with pytest.raises(UpstreamUnreachable):
            await world.pool.send(call(client="192.0.2.1"))
        world.time.mono += 1
    assert (await world.pool.send(call(client="192.0.2.1"))).status == 200


@pytest.mark.parametrize("error", [UpstreamLost("x"), UpstreamTimeout("x")])
async def test_call_that_may_have_left_is_never_sent_again(error: Exception) -> None:
    world = World()
    for name in "ab":
        world.client(name).answers = [error]
    with pytest.raises(type(error)):
        await world.pool.send(call())
    assert sum(world.sent().values()) == 1
    await world.pool.stop()


async def test_egress_that_failed_as_a_whole_is_left_alone_by_every_market() -> None:
    world = World()
    world.client("a").answers = world.client("b").answers = [EgressUnusable("its proxy is gone")]
    await world.pool.send(call())
    failed = next(name for name in "ab" if world.pool.governor.is_failed(name, world.time.mono))
    for _ in range(3):
        await world.pool.send(call("/fapi/v1/time", market=Market.UM))
    assert world.sent(Market.UM)[failed] == 0


async def test_egress_that_was_only_silent_is_left_alone_by_that_market_only() -> None:
    """A proxy that says nothing may be waiting for this one host."""
    world = World()
    silent = EgressUnusable("its proxy did not answer in time")
    silent.is_certain = False
    for name in "ab":
        world.client(name).answers = [silent]
    with pytest.raises(EgressUnusable):
        await world.pool.send(call())
    assert not any(world.pool.governor.is_failed(name, world.time.mono) for name in "ab")
    for _ in range(4):
        await world.pool.send(call("/fapi/v1/time", market=Market.UM))
    assert world.sent(Market.UM) == {"a": 2, "b": 2}


async def test_egress_that_lost_a_call_is_pinged_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resender.upstream.egress._PING_FIRST_S", 0.001)
    world = World("a=127.0.0.2,b=127.0.0.3")
    world.client("a").answers = [UpstreamLost("gone"), UpstreamTimeout("still")]
    world.client("b").answers = [UpstreamLost("gone"), UpstreamTimeout("still")]
    with pytest.raises(UpstreamLost):
        await world.pool.send(call())
    lost = next(name for name, count in world.sent().items() if count)
    egress = world.pool.governor.by_name[lost]
    assert egress.suspect == {SPOT}
    await wait_until(lambda: not egress.suspect)
    assert world.client(lost).targets == [KLINES, "/api/v3/ping", "/api/v3/ping"]
    assert not egress.down
    await world.pool.stop()


async def test_only_egress_is_never_put_in_doubt() -> None:
    world = World("default")
    world.client().answers = [UpstreamLost("gone")]
    with pytest.raises(UpstreamLost):
        await world.pool.send(call())
    await world.pool.send(call())
    assert world.client().targets == [KLINES, KLINES]


async def test_only_egress_whose_streams_fail_is_still_called_through() -> None:
    world = World("default")
    world.pool.governor.note_failed("default", world.time.mono, world.time.mono)
    assert not world.pool.governor.is_failed("default", world.time.mono)
    assert (await world.pool.send(call())).status == 200


async def test_call_that_is_given_up_counts_as_used() -> None:
    world = World("default")
    world.client().gate = asyncio.Event()
    task = asyncio.ensure_future(world.pool.send(call()))
    await wait_until(lambda: world.client().sent)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.pool.governor.used(SPOT, "spot", world.time.mono) == 2


# --- what an answer's head tells ------------------------------------------------------------------


async def test_used_weight_is_taken_from_the_answer_and_told_once_for_each_market() -> None:
    world = World("default")
    told: list[Market] = []
    world.pool.on_metered = told.append
    world.client().answers = [
        FakeAnswer(headers=[("X-MBX-USED-WEIGHT-1M", "120")]),
        FakeAnswer(headers=[("x-mbx-used-weight-1m", "130")]),
    ]
    await world.pool.send(call())
    await world.pool.send(call())
    assert world.pool.used_weight == {"spot": "130"}
    assert told == [SPOT]


@pytest.mark.parametrize("value", ["", "x", "-1", "9" * 10, "1.5"])
async def test_used_weight_that_is_no_number_is_not_believed(value: str) -> None:
    world = World("default")
    world.client().answers = [FakeAnswer(headers=[("x-mbx-used-weight-1m", value)])]
    await world.pool.send(call())
    assert world.pool.used_weight == {}


@pytest.mark.parametrize("word", ["hit", "shared"])
async def test_weight_in_an_answer_out_of_another_gateways_memory_is_used_by_nobody(word: str) -> None:
    world = World("default")
    headers = [("x-mbx-used-weight-1m", "5000"), ("X-Resender-Cache", word)]
    world.client().answers = [FakeAnswer(headers=headers)]
    await world.pool.send(call())
    assert world.pool.governor.used(SPOT, "spot", world.time.mono) == 2


@pytest.mark.parametrize(
    ("more", "is_believed"),
    [((), True), ((("X-Resender-Error", "busy"),), False), ((("X-Resender-Cache", "hit"),), False)],
)
async def test_date_of_binance_sets_the_clock_and_that_of_a_gateway_does_not(more, is_believed: bool) -> None:
    world = World("default")
    clock, mono = world.pool.governor.clock, world.time.mono
    width = clock.high_ms(mono) - clock.low_ms(mono)
    date = formatdate(START_MS // 1000, usegmt=True)
    world.client().answers = [FakeAnswer(headers=[("Date", date), *more])]
    await world.pool.send(call())
    assert (clock.high_ms(mono) - clock.low_ms(mono) < width) is is_believed


@pytest.mark.parametrize("date", ["yesterday", "", "Thu, 99 Foo 2026 00:00:00 GMT"])
async def test_date_that_cannot_be_read_harms_nothing(date: str) -> None:
    world = World("default")
    world.client().answers = [FakeAnswer(b"x", headers=[("Date", date)])]
    assert await (await world.pool.send(call())).next_chunk() == b"x"


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "wait_s"), [(429, 33), (418, 33)])
async def test_pool_is_closed_for_as_long_as_the_answer_says(status: int, wait_s: int) -> None:
    world = World("default")
    world.client().answers = [refusal(status, Retry_After=str(wait_s))]
    assert (await world.pool.send(call())).status == status
    assert world.closed_s() == wait_s
    with pytest.raises(EgressExhausted) as caught:
        await world.pool.send(call())
    assert caught.value.retry_after_s == wait_s
    assert world.closed == 1
    assert len(world.client().sent) == 1


async def test_429_without_a_time_closes_to_the_end_of_the_minute() -> None:
    world = World("default")
    world.client().answers = [refusal(429)]
    await world.pool.send(call())
    assert 57 < world.closed_s() < 60.5


@pytest.mark.parametrize("pack", [lambda body: body, gzip.compress])
async def test_ban_lasts_until_the_time_its_text_names(pack) -> None:
    world = World("default")
    text = b'{"code":-1003,"msg":"Way too much request weight used; IP banned until %d."}' % (
        START_MS + 40_000
    )
    world.client().answers = [refusal(418, pack(text))]
    await world.pool.send(call())
    assert 39 < world.closed_s() < 42


@pytest.mark.parametrize("body", [b"", b"<html>", b"\x1f\x8bbroken"])
async def test_ban_without_a_time_lasts_two_minutes(body: bytes) -> None:
    world = World("default")
    world.client().answers = [refusal(418, body)]
    await world.pool.send(call())
    assert world.closed_s() == 120


@pytest.mark.parametrize(
    "wait",
    [
        "9999999999",
        "999999999",
    ],
)
async def test_no_pause_is_longer_than_four_days(wait: str) -> None:
    world = World("default")
    world.client().answers = [refusal(418, Retry_After=wait)]
    await world.pool.send(call())
    assert world.closed_s() <= 4 * 86_400


async def test_429_at_one_egress_leaves_the_others_open() -> None:
    world = World()
    for name in "ab":
        world.client(name).answers = [refusal(429, Retry_After="30")]
    await world.pool.send(call())
    assert world.closed_s() == 0
    await world.pool.send(call())
    assert world.closed_s() == 30


async def test_too_many_orders_pauses_the_account_and_not_the_address() -> None:
    world = World("default")
    body = b'{"code":-1015,"msg":"Too many new orders."}'
    world.client().answers = [refusal(429, body, Retry_After="10")]
    await world.pool.send(call(ORDER, "POST", key="one"))
    with pytest.raises(EgressExhausted):
        await world.pool.send(call(ORDER, "POST", key="one"))
    assert (await world.pool.send(call(ORDER, "POST", key="two"))).status == 200
    assert (await world.pool.send(call(key="one"))).status == 200


async def test_429_of_another_gateway_fills_its_egress_and_closes_nothing() -> None:
    world = World("default")
    world.client().answers = [refusal(429, X_Resender_Error="no_weight", Retry_After="9")]
    await world.pool.send(call())
    assert world.closed_s() == 0
    assert world.closed == 0
    with pytest.raises(EgressExhausted):
        await world.pool.send(call())
    assert (await world.pool.send(call(ORDER, "POST"))).status == 200


async def test_gateway_that_does_not_know_this_machine_is_told_as_its_problem() -> None:
    world = World("there=resender://127.0.0.1:8000")
    world.client("there").answers = [refusal(403, X_Resender_Error="forbidden"), FakeAnswer(b"{}")]
    egress = world.pool.governor.by_name["there"]
    await world.pool.send(call())
    assert egress.problems == {SPOT: "not_whitelisted"}
    await world.pool.send(call())
    assert egress.problems == {}


async def test_region_block_and_firewall_are_told_as_problems_of_the_egress() -> None:
    world = World("default")
    egress = world.pool.governor.by_name["default"]
    for status, problem in ((451, "region"), (403, "waf")):
        world.client().answers = [refusal(status)]
        await world.pool.send(call())
        assert egress.problems == {SPOT: problem}
        assert world.closed_s() == 0
