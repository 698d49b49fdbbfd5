"""The books of one connection to the WebSocket API: what each request costs and what its answer tells."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.egress.state import Limits
from resender.core.weights.rules import Charge
from resender.core.weights.table import FUTURES_POOL, SPOT_POOL, WS_UM_POOL
from tests.unit.upstream.fakes import START_MS
from tests.unit.upstream.streams.test_relays import TWO, make

__all__ = ["make"]
SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM

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


# --- another node keeps the books -----------------------------------------------------------------


def test_requests_that_leave_from_another_node_are_charged_there_and_their_answers_found_here(
    make: Any,
) -> None:
    world = make()
    desk = world.relays.desk(SPOT, None, "10.0.0.1")
    assert desk.admit(request("order.place", "a", symbol="BTCUSDT")) is None
    assert desk.admit(request("ping", "b")) is None
    assert world.used() == 0
    assert desk.note(answer("b")).method == "ping"
    assert desk.unanswered == ["order.place"]
    assert desk.note(answer("a", 429)).status == 429
    assert world.governor.egresses[0].closure(SPOT_POOL, world.time.mono) is None, (
        "of this node nothing is known"
    )
    assert desk.end() == []


async def test_no_room_is_asked_for_what_another_node_charges(make: Any) -> None:
    world = make()
    desk = world.relays.desk(SPOT, None, "10.0.0.1")
    assert not await desk.has_more_room(request("ping"))


def test_end_tells_what_another_node_has_not_answered(make: Any) -> None:
    world = make()
    desk = world.relays.desk(SPOT, None, "10.0.0.1")
    desk.admit(request("order.place", 3, symbol="BTCUSDT"))
    assert desk.end() == ["order.place"]
