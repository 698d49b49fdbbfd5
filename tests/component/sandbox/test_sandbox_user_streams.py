"""What user streams bring of orders, balances and positions, field by field."""

import orjson
import pytest
from yarl import URL

from resender.core.binance.markets import Market
from tests.component.sandbox.accounts import QTY, SYMBOL

pytestmark = pytest.mark.component

REPORT = [
    "e", "E", "s", "c", "S", "o", "f", "q", "p", "P", "F", "g", "C", "x", "X", "r", "i", "l", "z", "L", "n",
    "N", "T", "t", "I", "w", "m", "M", "O", "Z", "Y", "Q", "V", "W",
]  # fmt: skip
FUTURES = (Market.UM, Market.CM)


# -- spot ----------------------------------------------------------------------------------


async def test_spot_order_is_told_whole_with_the_balances_after_it(trader, clock):
    session = await trader.subscribed()
    order = await trader.limit(Market.SPOT, newClientOrderId="mine", strategyId="7", strategyType="1000000")
    new = await session.event()
    assert list(new) == [*REPORT, "j", "J"]
    assert new == {
        "e": "executionReport", "E": clock(), "s": "BTCUSDT", "c": "mine", "S": "BUY", "o": "LIMIT", "f": "GTC",
        "q": "0.50000000", "p": "50000.00000000", "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "",
        "x": "NEW", "X": "NEW", "r": "NONE", "i": order["orderId"], "l": "0.00000000", "z": "0.00000000",
        "L": "0.00000000", "n": "0", "N": None, "T": clock(), "t": -1, "I": new["I"], "w": True, "m": False,
        "M": False, "O": clock(), "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000",
        "V": "EXPIRE_MAKER", "W": clock(), "j": 7, "J": 1_000_000,
    }  # fmt: skip
    assert await session.event() == {
        "e": "outboundAccountPosition", "E": clock(), "u": clock(),
        "B": [{"a": "BTC", "f": "1.00000000", "l": "0.00000000"},
              {"a": "USDT", "f": "99975000.00000000", "l": "25000.00000000"}],
    }  # fmt: skip
    clock.now_ms += 5
    trader.sandbox.exchange.fill(trader.order(Market.SPOT, order), "0.2")
    part, _ = await session.events(2)
    assert (part["x"], part["X"], part["l"], part["z"], part["L"], part["T"], part["w"]) == (
        "TRADE", "PARTIALLY_FILLED", "0.20000000", "0.20000000", "50000.00000000", clock(), True,
    )  # fmt: skip
    assert (part["n"], part["N"], part["m"], part["t"]) == ("0.00020000", "BTC", True, 1)
    row = (await trader.open_orders(Market.SPOT))[0]
    assert (row["executedQty"], row["cummulativeQuoteQty"], row["updateTime"]) == (
        part["z"],
        part["Z"],
        part["T"],
    )
    assert row["strategyId"] == 7
    query = "symbol=BTCUSDT&origClientOrderId=mine&newClientOrderId=away"
    cancelled = await trader.ask(Market.SPOT, "order", query, "DELETE")
    gone, held = await session.events(2)
    assert (gone["c"], gone["C"], gone["x"], gone["X"], gone["w"]) == (
        "away",
        "mine",
        "CANCELED",
        "CANCELED",
        False,
    )
    assert gone["W"] == new["W"]
    assert held["B"][1]["l"] == "0.00000000"
    assert (cancelled["origClientOrderId"], cancelled["clientOrderId"]) == ("mine", "away")
    row = await trader.ask(Market.SPOT, "order", f"symbol=BTCUSDT&orderId={order['orderId']}")
    assert (row["clientOrderId"], row["status"], row["isWorking"]) == ("mine", "CANCELED", True)


async def test_spot_market_order_is_told_as_new_and_then_filled(trader):
    session = await trader.subscribed()
    query = "symbol=BTCUSDT&side=BUY&type=MARKET&quoteOrderQty=1000"
    order = await trader.ask(Market.SPOT, "order", query, "POST")
    new, trade, held = await session.events(3)
    assert [new["x"], trade["x"], trade["X"]] == ["NEW", "TRADE", "FILLED"]
    assert (trade["q"], trade["Q"]) == (order["origQty"], "1000.00000000")
    assert (trade["m"], trade["Z"]) == (False, order["cummulativeQuoteQty"])
    assert order["fills"][0]["commission"] == trade["n"]
    assert held["e"] == "outboundAccountPosition"
    trades = await trader.ask(Market.SPOT, "myTrades", "symbol=BTCUSDT")
    assert [(row["id"], row["price"], row["isMaker"]) for row in trades] == [(trade["t"], trade["L"], False)]


async def test_amended_spot_order_keeps_its_id_and_is_told_as_replaced(trader, clock):
    session = await trader.subscribed()
    order = await trader.limit(Market.SPOT, newClientOrderId="old")
    await session.events(2)
    clock.now_ms += 9
    query = "symbol=BTCUSDT&origClientOrderId=old&newQty={}&newClientOrderId=new"
    path = "order/amend/keepPriority"
    for qty, code in (("0.5", -2038), ("0.6", -2038), ("0", -1013)):
        body = await trader.ask(Market.SPOT, path, query.format(qty), "PUT", 400)
        assert body["code"] == code
    answer = await trader.ask(Market.SPOT, path, query.format("0.3"), "PUT")
    told, held = await session.events(2)
    assert answer == {
        "transactTime": clock(), "executionId": told["I"],
        "amendedOrder": {
            "symbol": "BTCUSDT", "orderId": order["orderId"], "orderListId": -1, "origClientOrderId": "old",
            "clientOrderId": "new", "price": "50000.00000000", "qty": "0.30000000",
            "executedQty": "0.00000000", "preventedQty": "0.00000000", "quoteOrderQty": "0.00000000",
            "cumulativeQuoteQty": "0.00000000", "status": "NEW", "timeInForce": "GTC", "type": "LIMIT",
            "side": "BUY", "workingTime": clock() - 9, "selfTradePreventionMode": "EXPIRE_MAKER",
        },
    }  # fmt: skip
    assert (told["x"], told["X"], told["c"], told["C"], told["q"], told["O"]) == (
        "REPLACED", "NEW", "new", "old", "0.30000000", clock() - 9,
    )  # fmt: skip
    assert held["B"][1]["l"] == "15000.00000000"
    row = (await trader.open_orders(Market.SPOT))[0]
    assert (row["clientOrderId"], row["origQty"], row["time"], row["updateTime"]) == (
        "new", "0.30000000", clock() - 9, clock(),
    )  # fmt: skip
    rows = await trader.ask(Market.SPOT, "order/amendments", f"symbol=BTCUSDT&orderId={order['orderId']}")
    assert [(row["origQty"], row["newQty"]) for row in rows] == [("0.50000000", "0.30000000")]


async def test_cancel_replace_tells_what_went_through(trader):
    path = "order/cancelReplace"
    fields = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.1&cancelReplaceMode="
    order = await trader.limit(Market.SPOT)
    query = f"{fields}STOP_ON_FAILURE&price=40000&cancelOrderId={order['orderId']}"
    done = await trader.ask(Market.SPOT, path, query, "POST")
    assert (done["cancelResult"], done["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert done["cancelResponse"]["status"] == "CANCELED"
    assert [row["orderId"] for row in trader.truth(Market.SPOT)] == [done["newOrderResponse"]["orderId"]]
    body = await trader.ask(Market.SPOT, path, query, "POST", 400)
    assert (body["code"], body["data"]) == (
        -2022,
        {"cancelResult": "FAILURE", "newOrderResult": "NOT_ATTEMPTED",
         "cancelResponse": {"code": -2011, "msg": "Unknown order sent."}, "newOrderResponse": None},
    )  # fmt: skip
    body = await trader.ask(Market.SPOT, path, query.replace("STOP_ON", "ALLOW"), "POST", 409)
    assert (body["code"], body["data"]["newOrderResult"]) == (-2021, "SUCCESS")
    assert len(trader.truth(Market.SPOT)) == 2
    rich = query.replace("STOP_ON", "ALLOW").replace("quantity=0.1", "quantity=9000")
    body = await trader.ask(Market.SPOT, path, rich, "POST", 400)
    assert (body["code"], body["data"]["newOrderResponse"]["code"]) == (-2022, -2010)
    again = await trader.limit(Market.SPOT)
    rich = rich.replace(f"cancelOrderId={order['orderId']}", f"cancelOrderId={again['orderId']}")
    body = await trader.ask(Market.SPOT, path, rich, "POST", 409)
    assert (body["code"], body["data"]["cancelResult"]) == (-2021, "SUCCESS")


async def test_account_shows_what_orders_hold_and_leaves_zeros_out_when_asked(trader):
    trader.sandbox.exchange.deposit(trader.key, "XRP", "0")
    await trader.limit(Market.SPOT)
    whole = await trader.ask(Market.SPOT, "account")
    assert whole["balances"][-2:] == [
        {"asset": "USDT", "free": "99975000.00000000", "locked": "25000.00000000"},
        {"asset": "XRP", "free": "0.00000000", "locked": "0.00000000"},
    ]
    short = await trader.ask(Market.SPOT, "account", "omitZeroBalances=true")
    assert [row["asset"] for row in short["balances"]] == ["BTC", "ETH", "BNB", "USDT"]


# -- futures -------------------------------------------------------------------------------

UPDATE = [
    "s", "c", "S", "o", "f", "q", "p", "ap", "sp", "x", "X", "i", "l", "z", "L", "T", "t", "b", "a", "m", "R",
    "wt", "ot", "ps", "cp", "rp", "pP", "si", "ss", "V", "pm", "gtd", "er",
]  # fmt: skip


@pytest.mark.parametrize("market", FUTURES)
async def test_futures_order_is_told_whole_in_plain_texts(trader, clock, market):
    _, ear = await trader.listen(market)
    order = await trader.limit(market, price="50000.1", newClientOrderId="mine")
    new = await ear.next()
    assert list(new) == (["e", "E", "T", "i", "o"] if market is Market.CM else ["e", "E", "T", "o"])
    assert [name for name in new["o"] if name != "ma"] == UPDATE
    wanted = {"s": SYMBOL[market], "c": "mine", "i": order["orderId"], "p": "50000.1", "ap": "0", "sp": "0",
              "q": QTY[market], "z": "0", "x": "NEW", "X": "NEW", "T": clock(), "ot": "LIMIT"}  # fmt: skip
    assert {name: new["o"][name] for name in wanted} == wanted
    clock.now_ms += 3
    filled = trader.order(market, order)
    trader.sandbox.exchange.fill(filled, "0.2" if market is Market.UM else "2", "50000.1")
    names = ["TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"][market is Market.CM :]
    events = [await ear.next() for _ in names]
    assert [event["e"] for event in events] == names
    trade, update = events[-1]["o"], events[-2]["a"]
    assert (trade["x"], trade["X"], trade["ap"], trade["L"]) == (
        "TRADE",
        "PARTIALLY_FILLED",
        "50000.1",
        "50000.1",
    )
    assert (trade["N"], trade["m"]) == ("BTC" if market is Market.CM else "USDT", True)
    assert update["m"] == "ORDER"
    assert update["P"][0]["pa"] == trade["z"]
    if market is Market.UM:
        assert {name: events[0][name] for name in ("s", "q", "p", "c", "l", "i")} == {
            "s": "BTCUSDT", "q": "0.5", "p": "50000.1", "c": "mine", "l": "0.2", "i": order["orderId"],
        }  # fmt: skip
    row = (await trader.open_orders(market))[0]
    padded = {"price": "50000.1", "avgPrice": "50000.1", "stopPrice": "0.0"}
    assert {name: row[name] for name in padded} == padded
    assert row["origQty"] == ("0.500" if market is Market.UM else "5")
    assert row["executedQty"] == ("0.200" if market is Market.UM else "2")
    if market is Market.UM:
        assert (row["cumQuote"], row["goodTillDate"]) == ("10000.02000", 0)
    else:
        assert (row["cumBase"], row["pair"], "goodTillDate" in row) == ("0.00399999", "BTCUSD", False)
    await trader.ask(market, "order", f"symbol={SYMBOL[market]}&orderId={order['orderId']}", "DELETE")
    gone = (await ear.next())["o"]
    assert (gone["x"], gone["X"], gone["c"]) == ("CANCELED", "CANCELED", "mine")
    assert await ear.is_silent(0.1)


async def test_plain_texts_make_rest_look_like_the_events(sandbox_with, trader_of):
    trader = trader_of(await sandbox_with(futures_texts="plain"))
    await trader.limit(Market.UM, price="50000")
    row = (await trader.open_orders(Market.UM))[0]
    assert [row[name] for name in ("price", "avgPrice", "origQty", "executedQty", "cumQuote", "stopPrice")] == [
        "50000", "0", "0.5", "0", "0", "0",
    ]  # fmt: skip


@pytest.mark.parametrize("market", FUTURES)
async def test_batches_and_mass_cancels_are_told_one_by_one(trader, market):
    def batch(items):
        return str(URL.build(query={"batchOrders": orjson.dumps(items).decode()}).raw_query_string)

    _, ear = await trader.listen(market)
    order = {"symbol": SYMBOL[market], "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
             "quantity": QTY[market], "price": "50000"}  # fmt: skip
    rows = await trader.ask(market, "batchOrders", batch([order, order | {"price": "0"}, order]), "POST")
    assert [row.get("code", row.get("status")) for row in rows] == ["NEW", -4001, "NEW"]
    changed = [order | {"orderId": rows[0]["orderId"], "price": "49000"}, order | {"orderId": 5}]
    answer = await trader.ask(market, "batchOrders", batch(changed), "PUT")
    assert (float(answer[0]["price"]), answer[1]["code"]) == (49000, -2013)
    done = await trader.ask(market, "allOpenOrders", f"symbol={SYMBOL[market]}", "DELETE")
    assert done["code"] == 200
    told = [(await ear.next())["o"] for _ in range(5)]
    assert [one["x"] for one in told] == ["NEW", "NEW", "AMENDMENT", "CANCELED", "CANCELED"]
    assert [one["i"] for one in told[-2:]] == [rows[0]["orderId"], rows[2]["orderId"]]
    assert await trader.open_orders(market) == []


async def test_countdown_cancels_what_is_open_then(trader, clock, wait_until):
    await trader.limit(Market.UM)
    answer = await trader.ask(Market.UM, "countdownCancelAll", "symbol=BTCUSDT&countdownTime=3000", "POST")
    assert answer == {"symbol": "BTCUSDT", "countdownTime": "3000"}
    clock.now_ms += 2999
    trader.sandbox.exchange.match()
    assert trader.truth(Market.UM)
    clock.now_ms += 1
    await wait_until(lambda: not trader.truth(Market.UM))
    await trader.limit(Market.UM)
    await trader.ask(Market.UM, "countdownCancelAll", "symbol=BTCUSDT&countdownTime=3000", "POST")
    await trader.ask(Market.UM, "countdownCancelAll", "symbol=BTCUSDT&countdownTime=0", "POST")
    clock.now_ms += 9000
    trader.sandbox.exchange.match()
    assert trader.truth(Market.UM)


async def test_conditional_order_triggers_and_becomes_a_normal_one(trader, clock):
    _, ear = await trader.listen(Market.UM)
    query = "symbol=BTCUSDT&side=SELL&type=STOP&quantity=0.1&price=70000&timeInForce=GTC&algoType=CONDITIONAL"
    late = await trader.ask(Market.UM, "algoOrder", f"{query}&triggerPrice=900000", "POST", 400)
    assert late["code"] == -2021
    algo = await trader.ask(Market.UM, "algoOrder", f"{query}&triggerPrice=60000&clientAlgoId=mine", "POST")
    told = await ear.next()
    assert list(told["o"]) == [
        "caid", "aid", "at", "o", "s", "S", "ps", "f", "q", "X", "ai", "tp", "p", "V", "wt", "pm", "cp", "pP", "R",
        "tt", "gtd", "rm",
    ]  # fmt: skip
    assert (told["o"]["caid"], told["o"]["X"], told["o"]["ai"], told["o"]["tp"]) == (
        "mine",
        "NEW",
        "",
        "60000",
    )
    rows = await trader.ask(Market.UM, "openAlgoOrders")
    assert rows == [algo]
    assert (algo["actualOrderId"], algo["triggerPrice"], algo["createTime"]) == ("", "60000.0", clock())
    assert await trader.open_orders(Market.UM) == []
    clock.now_ms += 4
    trader.sandbox.exchange.trigger(algo["algoId"])
    first, second = await ear.next(), await ear.next()
    assert (first["o"]["X"], second["o"]["X"], second["o"]["act"]) == ("TRIGGERING", "TRIGGERED", "LIMIT")
    events = [await ear.next() for _ in range(5)]
    assert [event["e"] for event in events] == [
        "ORDER_TRADE_UPDATE", "TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE", "ALGO_UPDATE",
    ]  # fmt: skip
    assert {str(events[0]["o"]["i"]), second["o"]["ai"]} == {second["o"]["ai"]}
    assert (events[-1]["o"]["X"], events[-1]["o"]["aq"]) == ("FINISHED", "0.1")
    row = await trader.ask(Market.UM, "algoOrder", "clientAlgoId=mine")
    assert (row["algoStatus"], row["actualOrderId"], row["triggerTime"]) == (
        "FINISHED",
        second["o"]["ai"],
        clock(),
    )
    assert await trader.ask(Market.UM, "openAlgoOrders") == []


async def test_conditional_order_refused_at_its_trigger_is_told(trader):
    _, ear = await trader.listen(Market.UM)
    query = "symbol=BTCUSDT&side=SELL&type=STOP_MARKET&closePosition=true&triggerPrice=60000"
    algo = await trader.ask(Market.UM, "algoOrder", query, "POST")
    trader.sandbox.exchange.trigger(algo["algoId"])
    events = [await ear.next() for _ in range(4)]
    assert [event.get("o", {}).get("X") for event in events] == ["NEW", "TRIGGERING", "REJECTED", None]
    assert events[2]["o"]["rm"] == "ReduceOnly Order is rejected."
    assert events[3]["e"] == "CONDITIONAL_ORDER_TRIGGER_REJECT"
    assert events[3]["or"] == {"s": "BTCUSDT", "i": algo["algoId"], "r": "ReduceOnly Order is rejected."}
    assert await trader.open_orders(Market.UM) == []


async def test_mass_cancels_of_normal_and_conditional_orders_leave_each_other_alone(trader):
    query = "symbol=BTCUSDT&side=SELL&type=STOP_MARKET&quantity=0.1&triggerPrice=60000"
    for _ in range(2):
        await trader.ask(Market.UM, "algoOrder", query, "POST")
    await trader.limit(Market.UM)
    await trader.ask(Market.UM, "allOpenOrders", "symbol=BTCUSDT", "DELETE")
    assert len(await trader.ask(Market.UM, "openAlgoOrders", "symbol=BTCUSDT")) == 2
    await trader.limit(Market.UM)
    await trader.ask(Market.UM, "algoOpenOrders", "symbol=BTCUSDT", "DELETE")
    assert await trader.ask(Market.UM, "openAlgoOrders") == []
    assert len(await trader.open_orders(Market.UM)) == 1
    rows = await trader.ask(Market.UM, "allAlgoOrders", "symbol=BTCUSDT")
    assert [row["algoStatus"] for row in rows] == ["CANCELED", "CANCELED"]


@pytest.mark.parametrize("market", FUTURES)
async def test_settings_of_the_account_are_told(trader, market):
    _, ear = await trader.listen(market)
    await trader.ask(market, "leverage", f"symbol={SYMBOL[market]}&leverage=7", "POST")
    event = await ear.next()
    assert (event["e"], event["ac"]) == ("ACCOUNT_CONFIG_UPDATE", {"s": SYMBOL[market], "l": 7})
    await trader.ask(market, "marginType", f"symbol={SYMBOL[market]}&marginType=ISOLATED", "POST")
    event = await ear.next()
    assert (event["a"]["m"], event["a"]["P"][0]["mt"]) == ("MARGIN_TYPE_CHANGE", "isolated")
    trader.sandbox.exchange.deposit(trader.key, "BNB", "3", market)
    assert (await ear.next())["a"]["m"] == "DEPOSIT"


async def test_position_and_wallet_are_seen_by_rest_as_events_told_them(trader):
    _, ear = await trader.listen(Market.UM)
    await trader.ask(Market.UM, "order", "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.4", "POST")
    update = (await ear.until(lambda event: event["e"] == "ACCOUNT_UPDATE"))["a"]
    rows = await trader.ask(Market.UM, "/fapi/v3/positionRisk")
    assert [(row["positionAmt"], row["entryPrice"]) for row in rows] == [
        (update["P"][0]["pa"], update["P"][0]["ep"])
    ]
    balance = (await trader.ask(Market.UM, "/fapi/v3/balance"))[0]
    assert float(balance["balance"]) == float(update["B"][0]["wb"]) < 100_000


# -- where events come ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/private/ws?listenKey={}", "/private/ws?listenKey={}&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE",
     "/private/ws/{}", "/ws/{}", "/private/stream?listenKey={}", "/stream?streams={}"],
)  # fmt: skip
async def test_every_url_of_a_user_stream_brings_its_events(trader, path):
    _, ear = await trader.listen(Market.UM, path)
    await trader.limit(Market.UM)
    event = await ear.next()
    assert ("stream" in event) is ("stream?" in path)
    assert event.get("data", event)["o"]["X"] == "NEW"


async def test_only_wanted_events_come_where_they_are_named(trader):
    _, ear = await trader.listen(Market.UM, "/private/ws?listenKey={}&events=ACCOUNT_UPDATE")
    await trader.ask(Market.UM, "order", "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.4", "POST")
    assert (await ear.next())["e"] == "ACCOUNT_UPDATE"
    assert await ear.is_silent(0.1)


async def test_portfolio_margin_brings_both_markets_and_names_them(trader):
    _, ear = await trader.listen(Market.PM)
    await trader.ask(Market.PM, "um/order", "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=50000",
                     "POST")  # fmt: skip
    await trader.limit(Market.CM)
    told = [await ear.next(), await ear.next()]
    assert sorted(event["fs"] for event in told) == ["CM", "UM"]
    rows = await trader.ask(Market.PM, "um/openOrders")
    assert len(rows) == 1
    assert not {"stopPrice", "closePosition", "workingType", "priceProtect"} & rows[0].keys()
    assert len(await trader.ask(Market.PM, "cm/openOrders")) == 1
    reference = f"symbol=BTCUSDT&orderId={rows[0]['orderId']}"
    assert (await trader.ask(Market.PM, "um/order", reference, "DELETE"))["status"] == "CANCELED"


async def test_events_come_after_the_answer_and_in_order(trader):
    session = await trader.subscribed()
    params = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.001",
              "price": "50000"}  # fmt: skip
    answer = await session.ask("order.place", session.signed(**params))
    assert (answer["status"], session.kept) == (200, [])
    for _ in range(50):
        await trader.limit(Market.SPOT)
    await trader.ask(Market.SPOT, "openOrders", "symbol=BTCUSDT", "DELETE")
    numbers = [event["I"] for event in await session.events(2 * 102) if event["e"] == "executionReport"]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 102
