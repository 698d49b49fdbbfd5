"""Orders over the WebSocket API: which accounts learn of, and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import parse_qs

import orjson
import pytest

from resender.core.account.calls import Change, change_of
from resender.core.binance.markets import Market
from resender.web.client import relay_writes as module
from resender.web.client.relay_writes import RelayWrites


class Passing:
    def __init__(self) -> None:
        self.told: list[Any] = []

    def answered(self, status: int, body: bytes) -> None:
        self.told.append((status, orjson.loads(body)))

    def unanswered(self, *, is_sent: bool) -> None:
        self.told.append(is_sent)


class World:
    def __init__(self, market: Market = Market.SPOT, *, learns: bool = True) -> None:
        self.watched: list[tuple[Any, ...]] = []
        self.proofs: set[bool] = set()
        self.passing: list[Passing] = []
        self._learns = learns
        self.writes = RelayWrites(cast(Any, SimpleNamespace(accounts=self)), market, "127.0.0.1")

    def watch(self, *call: Any, is_proof: bool = True) -> Passing | None:
        self.watched.append(call)
        self.proofs.add(is_proof)
        if not self._learns:
            return None
        self.passing.append(Passing())
        return self.passing[-1]

    def place(self, number: Any = 1, method: str = "order.place", **params: Any) -> None:
        self.writes.sent({"id": number, "method": method, "params": {"apiKey": "key", **params}})

    def logon(self, key: str, number: Any = 0) -> None:
        self.writes.sent({"id": number, "method": "session.logon", "params": {"apiKey": key}})

    def came(self, **answer: Any) -> None:
        self.writes.came(orjson.dumps(answer).decode())


@pytest.mark.parametrize(
    ("market", "path"),
    [(Market.SPOT, "/api/v3/order"), (Market.UM, "/fapi/v1/order"), (Market.CM, "/dapi/v1/order")],
)
def test_order_is_watched_as_the_rest_call_it_stands_for(market: Market, path: str) -> None:
    world = World(market)
    world.place(symbol="BTCUSDT", newClientOrderId="a&b c", quantity=1)
    (call,) = world.watched
    assert call[:3] == (market, "POST", path)
    assert parse_qs(call[3])["newClientOrderId"] == ["a&b c"]
    assert call[4:] == (b"", "key", "127.0.0.1")


@pytest.mark.parametrize("method", sorted(module._METHODS.keys() - {"userDataStream.stop"}))
def test_every_method_stands_for_a_call_that_changes_orders(method: str) -> None:
    how, name = module._METHODS[method]
    market = Market.UM if method.startswith("algo") else Market.SPOT
    assert change_of(market, how, module._ROOTS[market] + name) in (Change.ORDERS, Change.ALGO)


@pytest.mark.parametrize(
    "method", ["order.test", "openOrders.status", "account.status", "time", "session.status"]
)
def test_requests_that_change_nothing_are_left_alone(method: str) -> None:
    world = World()
    world.place(method=method)
    assert world.watched == []


def test_no_order_proves_whose_key_it_is() -> None:
    world = World()
    world.place()
    world.logon("mine")
    world.came(id=0, status=200, result={})
    world.writes.sent({"id": 3, "method": "order.place"})
    world.place(4, "userDataStream.stop")
    assert len(world.watched) == 3
    assert world.proofs == {False}


def test_orders_without_a_key_are_those_of_the_session() -> None:
    world = World()
    world.writes.sent({"id": 1, "method": "order.place", "params": {"symbol": "A"}})
    world.logon("mine")
    world.writes.sent({"id": 3, "method": "order.place"})  # sent before the log-on has its answer
    world.came(id=0, status=200, result={"apiKey": "mine"})
    world.writes.sent({"id": 4, "method": "order.place"})
    world.place(5)
    assert [call[5] for call in world.watched] == [None, "mine", "mine", "key"]


def test_logon_that_binance_refuses_leaves_the_session_whose_it_was() -> None:
    world = World()
    world.logon("mine")
    world.came(id=0, status=200, result={"apiKey": "mine"})
    world.logon("of a victim")
    world.writes.sent({"id": 3, "method": "order.place"})
    world.came(id=0, status=400, error={"code": -1022, "msg": "no"})
    world.writes.sent({"id": 4, "method": "order.place"})
    world.logon("another", number="x")
    world.came(id="x", status=200, result={"apiKey": "another"})
    world.writes.sent({"id": 5, "method": "order.place"})
    assert [call[5] for call in world.watched] == ["mine", "mine", "another"]


@pytest.mark.parametrize("number", [7, "seven", None])
def test_answer_is_told_once_to_the_order_of_its_number(number: Any) -> None:
    world = World()
    world.place(number)
    world.place("other")
    for _ in range(2):
        world.came(id=number, status=200, result={"orderId": 9})
    assert [each.told for each in world.passing] == [[(200, {"orderId": 9})], []]


def test_number_and_text_are_different_names() -> None:
    world = World()
    world.place(7)
    world.came(id="7", status=200, result={})
    assert world.passing[0].told == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": 400, "error": {"code": -2010, "msg": "no"}}, (400, {"code": -2010, "msg": "no"})),
        (
            {"status": 409, "error": {"code": -2021, "data": {"a": 1}}},
            (409, {"code": -2021, "data": {"a": 1}}),
        ),
        ({"status": 200, "result": [{"orderId": 1}]}, (200, [{"orderId": 1}])),
        ({"status": 503}, (503, {})),
    ],
)
def test_result_or_error_is_told_as_rest_would(answer: dict[str, Any], told: Any) -> None:
    world = World()
    world.place()
    world.came(id=1, **answer)
    assert world.passing[0].told == [told]


@pytest.mark.parametrize("message", ["no json", "[1]", '{"e":"executionReport"}', '{"id":1,"result":{}}', ""])
def test_messages_that_are_no_answers_are_passed_over(message: str) -> None:
    world = World()
    world.place()
    world.writes.came(message)
    assert world.passing[0].told == []
    world.came(id=1, status=200, result={})
    assert len(world.passing[0].told) == 1


def test_orders_without_an_answer_at_the_end_are_unknown() -> None:
    world = World()
    for number in (1, 2):
        world.place(number)
    world.came(id=1, status=200, result={})
    world.writes.end()
    world.writes.end()
    assert [each.told for each in world.passing] == [[(200, {})], [True]]


def test_requests_of_one_number_have_their_answers_one_by_one() -> None:
    world = World()
    for _ in range(3):
        world.place(1)
    world.came(id=1, status=200, result={"orderId": 5})
    world.came(id=1, status=200, result={"orderId": 6})
    world.writes.end()
    assert [each.told for each in world.passing] == [
        [(200, {"orderId": 5})], [(200, {"orderId": 6})], [True],
    ]  # fmt: skip
    assert world.writes._passing == {}


def test_nothing_is_kept_of_what_no_account_learns_from() -> None:
    stranger = World(learns=False)
    stranger.place()
    assert stranger.writes._passing == {}


def test_outcome_of_an_order_beyond_the_limit_is_unknown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_UNANSWERED", 2)
    world = World()
    for number in range(3):
        world.place(number)
    assert [each.told for each in world.passing] == [[], [], [True]]
    world.came(id=0, status=200, result={})
    world.place(3)
    assert world.passing[-1].told == []
    for number in range(5):
        world.logon("key", f"logon-{number}")
    assert len(world.writes._logons) == 2
