"""Order lists of spot: OCO, OTO and OTOCO, their answers, events and ends."""

import pytest

from resender.core.binance.markets import Market

pytestmark = pytest.mark.component

OCO = ("symbol=BTCUSDT&side=SELL&quantity=0.2&aboveType=LIMIT_MAKER&abovePrice=150000&belowType=STOP_LOSS_LIMIT"
       "&belowStopPrice=60000&belowPrice=59000&belowTimeInForce=GTC")  # fmt: skip
OTO = ("symbol=BTCUSDT&workingType=LIMIT&workingSide=BUY&workingPrice=50000&workingQuantity=0.2"
       "&workingTimeInForce=GTC&pendingType=LIMIT&pendingSide=SELL&pendingPrice=150000&pendingQuantity=0.1"
       "&pendingTimeInForce=GTC")  # fmt: skip
OTOCO = ("symbol=BTCUSDT&workingType=LIMIT&workingSide=BUY&workingPrice=50000&workingQuantity=0.2"
         "&workingTimeInForce=GTC&pendingSide=SELL&pendingQuantity=0.1&pendingAboveType=LIMIT_MAKER"
         "&pendingAbovePrice=150000&pendingBelowType=STOP_LOSS&pendingBelowStopPrice=60000")  # fmt: skip


async def place(trader, query, kind, status=200):
    return await trader.ask(Market.SPOT, f"orderList/{kind}", query, "POST", status)


def states(trader):
    book = trader.sandbox.exchange.desk.book(Market.SPOT, trader.key).values()
    return [(order.type, order.status) for order in book]


async def test_oco_answers_with_its_orders_and_is_told_as_a_list(trader, clock):
    session = await trader.subscribed()
    answer = await place(trader, OCO + "&listClientOrderId=pair&aboveClientOrderId=up", "oco")
    reports = answer.pop("orderReports")
    above, below = answer["orders"]
    assert answer == {
        "orderListId": 1, "contingencyType": "OCO", "listStatusType": "EXEC_STARTED",
        "listOrderStatus": "EXECUTING", "listClientOrderId": "pair", "transactionTime": clock(),
        "symbol": "BTCUSDT", "orders": [above, below],
    }  # fmt: skip
    assert above == {"symbol": "BTCUSDT", "orderId": reports[0]["orderId"], "clientOrderId": "up"}
    assert [report["orderListId"] for report in reports] == [1, 1]
    assert (reports[0]["workingTime"], reports[1]["workingTime"]) == (clock(), -1)
    assert (reports[1]["stopPrice"], reports[1]["status"]) == ("60000.00000000", "NEW")
    first, *told = [await session.event() for _ in range(4)]
    assert first == {
        "e": "listStatus", "E": clock(), "s": "BTCUSDT", "g": 1, "c": "OCO", "l": "EXEC_STARTED",
        "L": "EXECUTING", "r": "NONE", "C": "pair", "T": clock(),
        "O": [{"s": "BTCUSDT", "i": one["orderId"], "c": one["clientOrderId"]} for one in (above, below)],
    }  # fmt: skip
    assert [(one["e"], one.get("g"), one.get("w")) for one in told] == [
        ("executionReport", 1, True), ("outboundAccountPosition", None, None), ("executionReport", 1, False),
    ]  # fmt: skip
    rows = await trader.open_orders(Market.SPOT)
    assert [(row["orderListId"], row["isWorking"], row["workingTime"]) for row in rows] == [
        (1, True, clock()), (1, False, -1),
    ]  # fmt: skip
    balances = (await trader.ask(Market.SPOT, "account"))["balances"]
    assert balances[0] == {"asset": "BTC", "free": "0.80000000", "locked": "0.20000000"}
    lists = await trader.ask(Market.SPOT, "openOrderList")
    assert [one["orderListId"] for one in lists] == [1]


@pytest.mark.parametrize("qty", [None, "0.05"])
async def test_a_fill_of_the_limit_leg_ends_the_stop_leg(trader, qty):
    session = await trader.subscribed()
    answer = await place(trader, OCO, "oco")
    await session.events(4)
    trader.sandbox.exchange.fill(trader.order(Market.SPOT, answer["orders"][0]), qty)
    events = await session.events(3 if qty else 4)
    assert [(one["e"], one.get("x"), one.get("X")) for one in events] == [
        ("executionReport", "TRADE", "PARTIALLY_FILLED" if qty else "FILLED"),
        ("outboundAccountPosition", None, None),
        ("executionReport", "EXPIRED", "EXPIRED"),
        ("listStatus", None, None),
    ][: len(events)]
    if not qty:
        assert (events[3]["l"], events[3]["L"]) == ("ALL_DONE", "ALL_DONE")
        assert (await trader.ask(Market.SPOT, "orderList", "orderListId=1"))["listOrderStatus"] == "ALL_DONE"
        assert await trader.ask(Market.SPOT, "openOrderList") == []


async def test_the_stop_leg_ends_the_limit_leg_when_it_is_triggered(trader):
    session = await trader.subscribed()
    answer = await place(trader, OCO, "oco")
    await session.events(4)
    stop = trader.order(Market.SPOT, answer["orders"][1])
    trader.sandbox.exchange.desk.trigger(stop, trader.sandbox.exchange.now())
    told = [one for one in await session.events(5) if one["e"] == "executionReport"]
    assert [(one["i"], one["x"], one["w"]) for one in told[:2]] == [
        (stop.order_id, "NEW", True), (answer["orders"][0]["orderId"], "EXPIRED", False),
    ]  # fmt: skip
    balances = (await trader.ask(Market.SPOT, "account"))["balances"]
    assert balances[0]["locked"] == "0.00000000"
    assert trader.truth(Market.SPOT) == []


async def test_cancelling_a_leg_or_the_list_or_the_symbol_ends_both(trader):
    answer = await place(trader, OCO, "oco")
    reference = f"symbol=BTCUSDT&orderId={answer['orders'][0]['orderId']}"
    body = await trader.ask(Market.SPOT, "order", reference, "DELETE")
    assert [report["status"] for report in body["orderReports"]] == ["CANCELED", "CANCELED"]
    answer = await place(trader, OCO + "&listClientOrderId=second", "oco")
    body = await trader.ask(Market.SPOT, "orderList", "symbol=BTCUSDT&listClientOrderId=second", "DELETE")
    assert (body["listStatusType"], body["orderListId"]) == ("ALL_DONE", 2)
    assert {report["status"] for report in body["orderReports"]} == {"CANCELED"}
    again = await trader.ask(Market.SPOT, "orderList", "symbol=BTCUSDT&orderListId=2", "DELETE", 400)
    assert again["code"] == -2011
    await place(trader, OCO, "oco")
    single = await trader.limit(Market.SPOT)
    rows = await trader.ask(Market.SPOT, "openOrders", "symbol=BTCUSDT", "DELETE")
    assert [("orderReports" in row, row.get("orderId")) for row in rows] == [
        (True, None),
        (False, single["orderId"]),
    ]
    assert trader.truth(Market.SPOT) == []
    held = trader.sandbox.accounts.of(trader.key).balance("BTC")
    assert (held.free, held.locked) == (1, 0)


async def test_pending_leg_waits_for_the_whole_working_order(trader, clock):
    session = await trader.subscribed()
    answer = await place(trader, OTO, "oto")
    assert answer["contingencyType"] == "OTO"
    assert [report["status"] for report in answer["orderReports"]] == ["NEW", "PENDING_NEW"]
    rows = await trader.open_orders(Market.SPOT)
    assert [(row["status"], row["isWorking"], row["workingTime"]) for row in rows] == [
        ("NEW", True, clock()), ("PENDING_NEW", False, -1),
    ]  # fmt: skip
    started, pending, new, _ = await session.events(4)
    assert started["e"] == "listStatus"
    assert (pending["x"], pending["X"], pending["w"], "W" in pending) == ("NEW", "PENDING_NEW", False, False)
    assert new["X"] == "NEW"
    working = trader.order(Market.SPOT, answer["orders"][0])
    trader.sandbox.exchange.fill(working, "0.1")
    assert sorted(states(trader)) == [("LIMIT", "PARTIALLY_FILLED"), ("LIMIT", "PENDING_NEW")]
    clock.now_ms += 6
    trader.sandbox.exchange.fill(working)
    assert sorted(states(trader)) == [("LIMIT", "FILLED"), ("LIMIT", "NEW")]
    events = await session.events(6)
    assert (events[-2]["x"], events[-2]["X"], events[-2]["W"]) == ("NEW", "NEW", clock())
    row = (await trader.open_orders(Market.SPOT))[0]
    assert (row["status"], row["workingTime"], row["updateTime"]) == ("NEW", clock(), clock())
    trader.sandbox.exchange.fill(trader.order(Market.SPOT, answer["orders"][1]))
    assert (await session.events(3))[-1]["l"] == "ALL_DONE"


async def test_end_of_the_working_order_ends_what_waits_for_it(trader):
    answer = await place(trader, OTOCO, "otoco")
    assert len(answer["orders"]) == 3
    reference = f"symbol=BTCUSDT&orderId={answer['orders'][0]['orderId']}"
    body = await trader.ask(Market.SPOT, "order", reference, "DELETE")
    assert {report["status"] for report in body["orderReports"]} == {"CANCELED"}
    assert trader.truth(Market.SPOT) == []


async def test_otoco_opens_its_pair_which_then_lives_as_an_oco(trader):
    answer = await place(trader, OTOCO, "otoco")
    working, above, below = (trader.order(Market.SPOT, one) for one in answer["orders"])
    assert above.status == below.status == "PENDING_NEW"
    trader.sandbox.exchange.fill(working)
    assert (above.status, below.status, below.is_waiting) == ("NEW", "NEW", True)
    assert trader.sandbox.accounts.of(trader.key).balance("BTC").locked == above.qty
    trader.sandbox.exchange.fill(below)
    assert (above.status, below.status) == ("EXPIRED", "FILLED")
    assert trader.sandbox.accounts.of(trader.key).balance("BTC").locked == 0


async def test_pending_leg_without_balance_is_rejected_when_its_time_comes(sandbox_with, trader_of):
    balances = {"spot": {"USDT": "100000"}}
    trader = trader_of(await sandbox_with(balances=balances))
    query = OTO.replace("pendingQuantity=0.1", "pendingQuantity=3")
    answer = await place(trader, query, "oto")
    trader.sandbox.exchange.fill(trader.order(Market.SPOT, answer["orders"][0]))
    assert sorted(states(trader)) == [("LIMIT", "FILLED"), ("LIMIT", "REJECTED")]
    assert trader.truth(Market.SPOT) == []


async def test_legacy_oco_is_the_same_by_other_names(trader):
    query = ("symbol=BTCUSDT&side=SELL&quantity=0.2&price=150000&stopPrice=60000&stopLimitPrice=59000"
             "&stopLimitTimeInForce=GTC&limitClientOrderId=up")  # fmt: skip
    answer = await trader.ask(Market.SPOT, "order/oco", query, "POST")
    assert [report["type"] for report in answer["orderReports"]] == ["LIMIT_MAKER", "STOP_LOSS_LIMIT"]
    assert answer["orders"][0]["clientOrderId"] == "up"


async def test_amending_one_leg_amends_both(trader):
    session = await trader.subscribed()
    answer = await place(trader, OCO, "oco")
    await session.events(4)
    query = f"symbol=BTCUSDT&orderId={answer['orders'][0]['orderId']}&newQty=0.1"
    body = await trader.ask(Market.SPOT, "order/amend/keepPriority", query, "PUT")
    assert body["listStatus"]["orderListId"] == 1
    assert [row["origQty"] for row in await trader.open_orders(Market.SPOT)] == ["0.10000000"] * 2
    told = await session.events(4)
    assert [one.get("x", one.get("l")) for one in told] == ["REPLACED", None, "REPLACED", "UPDATED"]


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        (("aboveType=LIMIT_MAKER", "aboveType=STOP_LOSS"), "oco", -1102),
        (("abovePrice=150000", "abovePrice=50000"), "oco", -2010),
        (("abovePrice=150000", "abovePrice=61000"), "oco", -2010),
        (("belowStopPrice=60000", "belowStopPrice=140000"), "oco", -2010),
        (("quantity=0.2", "quantity=20"), "oco", -2010),
        (("&belowType=STOP_LOSS_LIMIT", ""), "oco", -1102),
        (("workingType=LIMIT", "workingType=MARKET"), "oto", -1165),
        (("workingQuantity=0.2", "workingQuantity=9000"), "oto", -2010),
        (("pendingSide=SELL", "pendingSide=HOLD"), "otoco", -1117),
    ],
)
async def test_bad_lists_are_refused_whole(trader, change, kind, code):
    query = {"oco": OCO, "oto": OTO, "otoco": OTOCO}[kind]
    assert change[0] in query
    session = await trader.subscribed()
    body = await place(trader, query.replace(*change), kind, 400)
    assert body["code"] == code
    assert trader.truth(Market.SPOT) == []
    assert [o.error_code for o in trader.sandbox.orders] == [code]
    held = trader.sandbox.accounts.of(trader.key).balance("BTC")
    assert (held.free, held.locked) == (1, 0)
    assert await session.is_silent(0.1)
