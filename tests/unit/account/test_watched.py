"""A watched account: what it answers out of memory, and when it will not."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from resender.account.ports import AccountOptions
from resender.account.state import LIVE, SYNCING, WAITING
from resender.account.watched import Answer, Lacking, WatchedAccount
from resender.aio import Clock
from resender.core.account.calls import Change, SignedRead, read_signed
from resender.core.account.lore import Lore
from resender.core.account.spec import AccountMarket, AccountSpec, Mode
from resender.core.account.writes import SUSPECT_S
from resender.core.binance.exchange_clock import ExchangeClock

NOW_MS = 1_796_000_000_000
SIGNED = f"timestamp={NOW_MS}&signature=" + "0" * 64


def read_of(path: str, **params: Any) -> SignedRead:
    query = "&".join([*(f"{name}={value}" for name, value in params.items()), SIGNED])
    read = read_signed(AccountMarket.SPOT.host, path, query)
    assert isinstance(read, SignedRead)
    return read


OPEN_ORDERS = read_of("/api/v3/openOrders")
OF_BTC = read_of("/api/v3/openOrders", symbol="BTCUSDT")
OF_ETH = read_of("/api/v3/openOrders", symbol="ETHUSDT")
ACCOUNT = read_of("/api/v3/account")


def row_of(number: int, at_ms: int, **more: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT", "orderId": number, "orderListId": -1, "clientOrderId": f"mine-{number}",
        "price": "9000.00000000", "origQty": "1.00000000", "executedQty": "0.00000000",
        "cummulativeQuoteQty": "0.00000000", "status": "NEW", "timeInForce": "GTC", "type": "LIMIT", "side": "BUY",
        "stopPrice": "0.00000000", "icebergQty": "0.00000000", "time": at_ms, "updateTime": at_ms,
        "isWorking": True, "workingTime": at_ms, "origQuoteOrderQty": "0.00000000",
        "selfTradePreventionMode": "NONE", **more,
    }  # fmt: skip


class World:
    """One spot account with a clock that stands still until it is moved."""

    def __init__(self, market: AccountMarket = AccountMarket.SPOT, mode: Mode = Mode.SIGNED, **options: Any):
        self.mono = 1000.0
        lores: dict[Any, Lore] = {}
        self.account = WatchedAccount(
            AccountSpec(1, "desk", market, mode),
            AccountOptions(**{"wait_ms": 50, **options}),
            lambda dialect: lores.setdefault(dialect, Lore(dialect)),
            clock=Clock(now_ms=lambda: self.now_ms, mono=lambda: self.mono),
            exchange_clock=ExchangeClock.guess(NOW_MS, self.mono),
        )
        self.restarts = 0
        self.account.on_restart = self._restart

    def _restart(self) -> None:
        self.restarts += 1

    @property
    def now_ms(self) -> int:
        return NOW_MS + int((self.mono - 1000.0) * 1000)

    def move(self, seconds: float) -> None:
        self.mono += seconds
        self.account.heard()

    def snapshot(self, *rows: dict[str, Any], read: SignedRead = OPEN_ORDERS) -> None:
        self.account.take(read, orjson.dumps(rows), self.mono, self.now_ms)

    def prove(self, *rows: dict[str, Any]) -> None:
        """Open the stream and take the two snapshots an answer rests on."""
        self.account.opened()
        self.move(1)
        self.snapshot(*rows)
        self.move(6)
        self.snapshot(*rows)

    def event(self, number: int, status: str = "NEW", **more: Any) -> None:
        at_ms = self.now_ms
        self.account.message({
            "e": "executionReport", "E": at_ms, "s": "BTCUSDT", "c": f"mine-{number}", "S": "BUY", "o": "LIMIT",
            "f": "GTC", "q": "1.00000000", "p": "9000.00000000", "P": "0.00000000", "F": "0.00000000", "g": -1,
            "C": "", "x": status, "X": status, "i": number, "l": "0.00000000", "z": "0.00000000",
            "L": "0.00000000", "T": at_ms, "t": -1, "w": True, "O": at_ms, "Z": "0.00000000", "Q": "0.00000000",
            "W": at_ms, "V": "NONE", **more,
        })  # fmt: skip

    def place(self, number: int, status: int = 200, **more: Any) -> None:
        body = {"symbol": "BTCUSDT", "orderId": number, "status": "NEW", "transactTime": self.now_ms, **more}
        params = {"symbol": "BTCUSDT", "side": "BUY"}
        self.account.written(Change.ORDERS, params, status, orjson.dumps(body), self.mono)

    def rows(self, read: SignedRead = OPEN_ORDERS) -> list[dict[str, Any]]:
        found = self.account.answer(read)
        assert isinstance(found, Answer), found
        return list(orjson.loads(found.body))

    def lack(self, read: SignedRead = OPEN_ORDERS) -> str:
        found = self.account.answer(read)
        assert isinstance(found, Lacking), found
        return found.reason


# --- answers --------------------------------------------------------------------------------------


def test_answer_needs_a_stream_and_two_snapshots_five_seconds_apart() -> None:
    world = World()
    row = row_of(7, NOW_MS - 90_000)
    assert world.lack() == "no stream"
    world.account.opened()
    assert (world.lack(), world.account.phase) == ("no snapshot yet", SYNCING)
    world.snapshot(row)
    assert world.lack() == "second snapshot needed"
    world.move(5.5)
    world.snapshot(row)
    assert (world.rows(), world.account.phase) == ([row], LIVE)
    world.account.closed("upstream lost")
    assert (world.lack(), world.account.phase) == ("upstream lost", WAITING)


def test_snapshot_asked_before_the_stream_was_there_counts_nothing() -> None:
    world = World()
    world.account.opened()
    world.account.take(OPEN_ORDERS, b"[]", world.mono - 0.1, world.now_ms)
    assert world.lack() == "no snapshot yet"


def test_silent_stream_answers_nothing_and_its_age_is_told() -> None:
    world = World()
    world.prove()
    world.mono += 2.5
    found = world.account.answer(OPEN_ORDERS)
    assert isinstance(found, Answer)
    assert (found.body, found.age_ms) == (b"[]", 2500)
    world.mono += 1
    assert world.lack() == "stream silent"
    world.account.heard()
    assert world.rows() == []


def test_events_make_and_end_orders() -> None:
    world = World()
    world.prove()
    world.event(8)
    assert [row["orderId"] for row in world.rows(OF_BTC)] == [8]
    one = read_of("/api/v3/order", symbol="BTCUSDT", orderId=8)
    found = world.account.answer(one)
    assert isinstance(found, Answer)
    assert orjson.loads(found.body)["clientOrderId"] == "mine-8"
    world.move(1)
    world.event(8, "CANCELED")
    assert world.rows(OF_BTC) == []


def test_orders_and_symbols_nobody_told_of_are_left_to_rest() -> None:
    world = World()
    world.prove()
    assert world.lack(OF_ETH) == "order not known whole"
    assert world.lack(read_of("/api/v3/order", symbol="BTCUSDT", orderId=99)) == "order not known"


# --- read your own writes -------------------------------------------------------------------------


def test_own_order_holds_answers_back_until_its_event_has_come() -> None:
    world = World()
    world.prove(row_of(7, NOW_MS - 90_000))
    world.place(8)
    found = world.account.answer(OPEN_ORDERS)
    assert found == Lacking("own order not told yet", may_come=True)
    world.event(8)
    assert [row["orderId"] for row in world.rows()] == [7, 8]


def test_refused_order_holds_nothing_back() -> None:
    world = World()
    world.prove()
    body = b'{"code":-2010,"msg":"Account has insufficient balance."}'
    world.account.written(Change.ORDERS, {"symbol": "BTCUSDT"}, 400, body, world.mono)
    assert world.rows() == []


@pytest.mark.parametrize("how", ["no answer", "unknown outcome"])
def test_order_whose_outcome_nobody_knows_costs_the_proof(how: str) -> None:
    world = World()
    world.prove()
    if how == "no answer":
        world.account.outcome_unknown(Change.ORDERS)
    else:
        world.place(8, status=503)
    assert world.lack().startswith("an order call")
    assert world.account.phase == SYNCING
    assert world.restarts == 0, "the stream itself is good"


def test_event_that_never_comes_restarts_the_stream() -> None:
    world = World()
    world.prove()
    world.place(8)
    world.move(SUSPECT_S - 0.1)
    world.account.tick()
    assert world.restarts == 0
    world.move(0.5)
    world.account.tick()
    assert (world.restarts, world.account.difference_count) == (1, 1)
    assert world.lack() == "no event came of an order that Binance accepted"


def test_order_that_only_rest_shows_restarts_the_stream_all_the_same() -> None:
    world = World()
    world.prove()
    world.place(8)
    world.snapshot(row_of(8, world.now_ms))
    world.account.tick()
    assert not world.account.writes.is_pending(None)
    world.move(SUSPECT_S - 0.1)
    world.account.tick()
    assert world.restarts == 0
    world.move(0.5)
    world.account.tick()
    assert (world.restarts, world.account.difference_count) == (1, 1)
    assert world.lack() == "no event came of an order that Binance accepted"


def test_event_that_came_before_the_answer_is_enough() -> None:
    world = World()
    world.prove()
    sent = world.mono
    world.move(0.1)
    world.event(8)
    world.move(0.1)
    told = {"symbol": "BTCUSDT", "orderId": 8, "status": "NEW", "executedQty": "0"}
    world.account.written(Change.ORDERS, {}, 200, orjson.dumps(told), sent)
    world.move(SUSPECT_S + 1)
    world.account.tick()
    assert world.restarts == 0


async def test_waiting_ends_with_the_event_or_with_the_time() -> None:
    world = World()
    world.prove()
    world.place(8)
    waiting = asyncio.create_task(world.account.wait_for(OF_BTC))
    await asyncio.sleep(0)
    world.event(8)
    found = await asyncio.wait_for(waiting, 1)
    assert isinstance(found, Answer)
    assert orjson.loads(found.body)[0]["orderId"] == 8

    world.place(9)
    waiting = asyncio.create_task(world.account.wait_for(OF_BTC))
    await asyncio.sleep(0)
    world.move(0.06)
    world.account._wake()
    assert await asyncio.wait_for(waiting, 1) == Lacking("own order not told yet", may_come=True)


# --- comparing, misfits ---------------------------------------------------------------------------


def test_now_and_then_one_call_is_sent_on_to_be_compared() -> None:
    world = World(reconcile_s=60.0)
    world.prove()
    assert world.rows() == []
    world.move(61)
    assert world.lack() == "compared with REST"
    assert world.rows() == [], "one at a time"
    world.move(31)
    assert world.lack() == "compared with REST", "the last one has brought nothing"
    world.move(1)
    world.snapshot()
    world.move(31)
    assert world.rows() == []


def test_account_that_reads_by_itself_sends_no_call_on() -> None:
    world = World(mode=Mode.SECRET, reconcile_s=60.0)
    world.account.signer = object()  # type: ignore[assignment]
    world.prove()
    world.move(61)
    assert world.rows() == []


def test_event_that_does_not_fit_costs_the_proof_until_new_snapshots() -> None:
    world = World()
    world.prove()
    world.move(1)
    world.event(8, "CANCELED")
    assert world.lack() == "an order nobody told of: CANCELED"
    assert [words for _, words in world.account.differences] == ["an order nobody told of: CANCELED"]
    world.move(1)
    world.snapshot()
    world.move(6)
    world.snapshot()
    assert world.rows() == []


def test_snapshot_with_an_order_of_which_no_event_told_is_a_difference() -> None:
    world = World()
    world.prove()
    world.move(20)
    world.snapshot(row_of(7, NOW_MS - 90_000))
    assert world.lack() == "differed from REST"
    assert (world.account.difference_count, world.restarts) == (1, 0)


@pytest.mark.parametrize("order", [{"i": "seven"}, {"T": "soon"}, {"z": "much"}])
def test_event_that_cannot_be_read_costs_the_proof(order: dict[str, Any]) -> None:
    world = World()
    world.prove()
    world.event(8, **order)
    assert world.lack().startswith("an event that cannot be read")


def test_events_of_an_unknown_kind_are_counted_and_change_nothing() -> None:
    world = World()
    world.prove()
    for kind in ("somethingNew", "somethingNew", "listStatus"):
        world.account.message({"e": kind})
    assert dict(world.account.unknown_events) == {"somethingNew": 2}
    assert world.account.events["listStatus"] == 1
    assert world.rows() == []


# --- balances -------------------------------------------------------------------------------------


def test_balances_are_answered_after_rest_gave_them_until_something_is_under_way() -> None:
    world = World()
    world.prove()
    assert world.lack(ACCOUNT) == "no answer yet"
    told = {
        "makerCommission": 10, "updateTime": world.now_ms,
        "balances": [{"asset": "BTC", "free": "1.00000000", "locked": "0.00000000"}],
    }  # fmt: skip
    world.account.take(ACCOUNT, orjson.dumps(told), world.mono, world.now_ms)
    found = world.account.answer(ACCOUNT)
    assert isinstance(found, Answer)
    assert orjson.loads(found.body) == told
    world.move(1)
    world.event(8)
    assert world.account.answer(ACCOUNT) == Lacking("balances not told yet", may_come=True)
    held = {"a": "BTC", "f": "0.50000000", "l": "0.50000000"}
    world.account.message({"e": "outboundAccountPosition", "u": world.now_ms, "B": [held]})
    found = world.account.answer(ACCOUNT)
    assert isinstance(found, Answer)
    assert orjson.loads(found.body)["balances"][0]["locked"] == "0.50000000"
    world.account.written(Change.BALANCES, {}, 200, b"{}", world.mono)
    assert world.lack(ACCOUNT) == "no answer yet"


def test_balances_asked_too_soon_after_the_opening_do_not_count() -> None:
    world = World()
    world.account.opened()
    world.move(4)
    world.account.take(ACCOUNT, b'{"updateTime":1,"balances":[]}', world.mono, world.now_ms)
    assert not world.account.spot.has_answer


def test_balances_asked_before_money_was_moved_do_not_count() -> None:
    world = World()
    world.prove()
    asked, asked_ms = world.mono, world.now_ms
    world.move(0.1)
    world.account.written(Change.BALANCES, {}, 200, b"{}", asked)
    told = b'{"updateTime":1,"balances":[]}'
    world.account.take(ACCOUNT, told, asked, asked_ms)
    assert not world.account.spot.has_answer
    world.account.take(ACCOUNT, told, world.mono, world.now_ms)
    assert world.account.spot.has_answer
    world.account.outcome_unknown(Change.BALANCES)
    assert not world.account.spot.has_answer


def test_listeners_are_told_of_orders_and_snapshots() -> None:
    world = World()
    told: list[dict[str, Any]] = []
    world.account.listeners.add(told.append)
    world.prove()
    assert [message["e"] for message in told] == ["state", "snapshot", "state", "snapshot"]
    world.event(8)
    assert (told[-1]["e"], told[-1]["kind"], told[-1]["order"]["orderId"]) == ("order", "spot", 8)
