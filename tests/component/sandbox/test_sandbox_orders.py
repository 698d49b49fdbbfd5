"""Keys, signatures, orders and account reads over real sockets."""

import orjson
import pytest
from yarl import URL

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, sign

pytestmark = pytest.mark.component


def base(sandbox, host="API"):
    return sandbox.urls[f"UPSTREAM_{host}"]


# -- keys and signatures -------------------------------------------------------------------


async def test_signature_may_stand_anywhere_and_covers_raw_bytes(sandbox, http, clock):
    headers = {"X-MBX-APIKEY": API_KEY}
    query = f"recvWindow=5000&timestamp={clock()}"
    good = sign(API_SECRET, query.encode())
    for target in (
        f"/api/v3/account?{query}&signature={good}",
        f"/api/v3/account?signature={good}&{query}",
        f"/api/v3/account?recvWindow=5000&signature={good}&timestamp={clock()}",
    ):
        assert (await http.call(base(sandbox), target, headers=headers))[0] == 200
    changed = f"/api/v3/account?recvWindow=5%3000&timestamp={clock()}&signature={good}"
    status, body, _ = await http.call(base(sandbox), changed, headers=headers)
    assert (status, body) == (400, {"code": -1022, "msg": "Signature for this request is not valid."})


async def test_parameters_may_be_split_between_query_and_body(sandbox, http, clock):
    query = "symbol=BTCUSDT&side=BUY"
    body = f"type=LIMIT&timeInForce=GTC&quantity=1&price=50000&timestamp={clock()}"
    signature = sign(API_SECRET, query.encode(), body.encode())
    form = {"X-MBX-APIKEY": API_KEY, "Content-Type": "application/x-www-form-urlencoded"}
    status, answer, _ = await http.call(
        base(sandbox), f"/api/v3/order?{query}", "POST", data=f"{body}&signature={signature}", headers=form
    )
    assert (status, answer["status"]) == (200, "NEW")


@pytest.mark.parametrize(
    ("key", "secret", "skew", "status", "code"),
    [
        ("", API_SECRET, 0, 401, -2014),
        ("unknown", API_SECRET, 0, 401, -2015),
        (API_KEY, "wrong", 0, 400, -1022),
        (API_KEY, API_SECRET, -5001, 400, -1021),
        (API_KEY, API_SECRET, 1000, 400, -1021),
    ],
)
async def test_bad_credentials_are_refused(sandbox, http, clock, key, secret, skew, status, code):
    query = f"timestamp={clock() + skew}"
    query += f"&signature={sign(secret, query.encode())}"
    got, body, _ = await http.call(base(sandbox), f"/api/v3/account?{query}", headers={"X-MBX-APIKEY": key})
    assert (got, body["code"]) == (status, code)


async def test_listen_keys_need_the_key_only_and_stay_the_same(sandbox, http, clock):
    target, headers = "/fapi/v1/listenKey", {"X-MBX-APIKEY": API_KEY}
    where = base(sandbox, "FAPI")
    _, first, _ = await http.call(where, target, "POST", headers=headers)
    _, again, _ = await http.call(where, target, "POST", headers=headers)
    assert first == again
    assert (await http.call(where, target, "PUT", headers=headers))[0] == 200
    clock.now_ms += 3_600_000
    _, body, _ = await http.call(where, target, "PUT", headers=headers)
    assert body["code"] == -1125
    _, fresh, _ = await http.call(where, target, "POST", headers=headers)
    assert fresh != first
    assert (await http.call(where, target, "DELETE", headers=headers))[1] == {}


# -- orders --------------------------------------------------------------------------------

SPOT_LIMIT = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.5&price=50000"


async def test_spot_limit_order_rests_until_cancelled(sandbox, http):
    where = base(sandbox)
    _, order, headers = await http.signed(
        where, "/api/v3/order", SPOT_LIMIT + "&newClientOrderId=mine", "POST"
    )
    assert (order["status"], order["clientOrderId"], order["fills"]) == ("NEW", "mine", [])
    assert order["executedQty"] == "0.00000000"
    assert (headers["x-mbx-order-count-10s"], headers["x-mbx-order-count-1d"]) == ("1", "1")
    assert headers["x-mbx-used-weight-1m"] == "0"
    reference = f"symbol=BTCUSDT&orderId={order['orderId']}"
    _, rows, _ = await http.signed(where, "/api/v3/openOrders")
    assert [row["orderId"] for row in rows] == [order["orderId"]]
    _, row, _ = await http.signed(where, "/api/v3/order", reference)
    assert row["price"] == "50000.00000000"
    _, row, _ = await http.signed(where, "/api/v3/order", "symbol=BTCUSDT&origClientOrderId=mine", "DELETE")
    assert (row["status"], row["origClientOrderId"]) == ("CANCELED", "mine")
    status, body, _ = await http.signed(where, "/api/v3/order", reference, "DELETE")
    assert (status, body["code"]) == (400, -2011)
    assert (await http.signed(where, "/api/v3/openOrders"))[1] == []


async def test_spot_market_order_fills_at_once_at_the_book_ticker(sandbox, http):
    where = base(sandbox)
    query = "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.5"
    _, order, _ = await http.signed(where, "/api/v3/order", query, "POST")
    ticker = sandbox.market(Market.SPOT).book_ticker("BTCUSDT")
    assert (order["status"], order["fills"][0]["price"]) == ("FILLED", ticker.ask)
    query = "symbol=BTCUSDT&side=SELL&type=MARKET&quoteOrderQty=1000&newOrderRespType=RESULT"
    _, order, _ = await http.signed(where, "/api/v3/order", query, "POST")
    assert 990 < float(order["cummulativeQuoteQty"]) <= 1000
    _, trades, _ = await http.signed(where, "/api/v3/myTrades", "symbol=BTCUSDT")
    assert len(trades) == 2


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (SPOT_LIMIT.replace("0.5", "99000000"), -1013),
        (SPOT_LIMIT.replace("0.5", "0"), -1013),
        (SPOT_LIMIT.replace("0.5", "0.0000001"), -1013),
        (SPOT_LIMIT.replace("BUY", "HOLD"), -1117),
        (SPOT_LIMIT.replace("LIMIT", "WISH"), -1116),
        (SPOT_LIMIT.replace("&price=50000", ""), -1102),
        (SPOT_LIMIT.replace("BTCUSDT", "NOPE"), -1121),
        (SPOT_LIMIT + "&colour=red", -1104),
    ],
)
async def test_bad_spot_order_is_refused_and_still_recorded(sandbox, http, query, code):
    status, body, _ = await http.signed(base(sandbox), "/api/v3/order", query, "POST")
    assert (status, body["code"]) == (400, code)
    assert [(o.order_id, o.error_code) for o in sandbox.orders] == [(None, code)]
    assert sandbox.weight("127.0.0.1", "spot") == 1


async def test_repeated_client_order_id_is_refused_while_the_first_is_open(sandbox, http):
    query = SPOT_LIMIT + "&newClientOrderId=once"
    assert (await http.signed(base(sandbox), "/api/v3/order", query, "POST"))[0] == 200
    status, body, _ = await http.signed(base(sandbox), "/api/v3/order", query, "POST")
    assert (status, body) == (400, {"code": -2010, "msg": "Duplicate order sent."})
    assert [order.error_code for order in sandbox.orders] == [None, -2010]


async def test_order_test_checks_but_books_nothing(sandbox, http):
    assert (await http.signed(base(sandbox), "/api/v3/order/test", SPOT_LIMIT, "POST"))[1] == {}
    assert (await http.signed(base(sandbox), "/api/v3/openOrders"))[1] == []


async def test_spot_lists_and_mass_cancel(sandbox, http):
    where = base(sandbox)
    for _ in range(2):
        await http.signed(where, "/api/v3/order", SPOT_LIMIT, "POST")
    _, rows, _ = await http.signed(where, "/api/v3/openOrders", "symbol=BTCUSDT", "DELETE")
    assert [row["status"] for row in rows] == ["CANCELED", "CANCELED"]
    _status, body, _ = await http.signed(where, "/api/v3/openOrders", "symbol=BTCUSDT", "DELETE")
    assert body["code"] == -2011
    _, rows, _ = await http.signed(where, "/api/v3/allOrders", "symbol=BTCUSDT")
    assert len(rows) == 2
    _, body, _ = await http.signed(where, "/api/v3/order", "symbol=BTCUSDT&orderId=1")
    assert body["code"] == -2013


@pytest.mark.parametrize(
    ("host", "symbol", "qty"), [("fapi", "BTCUSDT", "0.5"), ("dapi", "BTCUSD_PERP", "5")]
)
async def test_futures_orders_follow_the_same_life(sandbox, http, host, symbol, qty):
    where = base(sandbox, host.upper())
    query = f"symbol={symbol}&side=BUY&type=LIMIT&timeInForce=GTC&quantity={qty}&price=50000"
    _, order, headers = await http.signed(where, f"/{host}/v1/order", query, "POST")
    assert order["status"] == "NEW"
    assert "avgPrice" not in order
    assert ("pair" in order) == (host == "dapi")
    assert headers["x-mbx-order-count-1m"] == "1"
    assert headers["x-mbx-used-weight-1m"] == "0"
    reference = f"symbol={symbol}&orderId={order['orderId']}"
    _, row, _ = await http.signed(where, f"/{host}/v1/order", reference)
    assert ("cumBase" if host == "dapi" else "cumQuote") in row
    status, body, _ = await http.signed(where, f"/{host}/v1/order", reference + "&price=51000", "PUT")
    assert (status, body["code"]) == (400, -1102)
    change = f"{reference}&side=BUY&price=51000&quantity={qty}"
    _, row, _ = await http.signed(where, f"/{host}/v1/order", change, "PUT")
    assert row["price"] == "51000.0"
    assert len((await http.signed(where, f"/{host}/v1/openOrders"))[1]) == 1
    _, body, _ = await http.signed(where, f"/{host}/v1/allOpenOrders", f"symbol={symbol}", "DELETE")
    assert body["code"] == 200
    _, body, _ = await http.signed(where, f"/{host}/v1/order", reference, "DELETE")
    assert body["code"] == -2011
    market = f"symbol={symbol}&side=SELL&type=MARKET&quantity={qty}&newOrderRespType=RESULT"
    _, order, _ = await http.signed(where, f"/{host}/v1/order", market, "POST")
    assert order["status"] == "FILLED"
    _, rows, _ = await http.signed(where, f"/{host}/v1/positionRisk", f"symbol={symbol}")
    assert rows[0]["positionAmt"] == f"-{qty}"


async def test_um_conditional_orders_have_moved_to_algo_order(sandbox, http):
    where = base(sandbox, "FAPI")
    query = "symbol=BTCUSDT&side=SELL&type=STOP_MARKET&quantity=0.1&stopPrice=50000"
    _, body, _ = await http.signed(where, "/fapi/v1/order", query, "POST")
    assert body["code"] == -4120
    query = "symbol=BTCUSDT&side=SELL&type=STOP_MARKET&algoType=CONDITIONAL&quantity=0.1&triggerPrice=50000"
    _, algo, _ = await http.signed(where, "/fapi/v1/algoOrder", query, "POST")
    assert (await http.signed(where, "/fapi/v1/openOrders"))[1] == []
    _, rows, _ = await http.signed(where, "/fapi/v1/openAlgoOrders")
    assert [row["algoId"] for row in rows] == [algo["algoId"]]
    await http.signed(where, "/fapi/v1/algoOrder", f"algoId={algo['algoId']}", "DELETE")
    assert (await http.signed(where, "/fapi/v1/openAlgoOrders"))[1] == []


async def test_um_batch_orders_answer_one_by_one(sandbox, http):
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "1",
             "price": "50000"}  # fmt: skip
    batch = orjson.dumps([order, order | {"quantity": "99000000"}]).decode()
    query = str(URL.build(query={"batchOrders": batch}).raw_query_string)
    _, rows, _ = await http.signed(base(sandbox, "FAPI"), "/fapi/v1/batchOrders", query, "POST")
    assert rows[0]["status"] == "NEW"
    assert rows[1]["code"] == -4005
    assert [o.error_code for o in sandbox.orders] == [None, -4005]


@pytest.mark.parametrize(("host", "symbol"), [("FAPI", "BTCUSDT"), ("DAPI", "BTCUSD_PERP")])
@pytest.mark.parametrize("spelling", [str, str.lower])
async def test_batches_are_cancelled_by_either_id_in_either_spelling(sandbox, http, host, symbol, spelling):
    where, root = base(sandbox, host), f"/{host.lower()}/v1"
    placed = []
    for number in range(4):
        query = f"symbol={symbol}&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=50000"
        query += f"&newClientOrderId=mine{number}"
        _, row, _ = await http.signed(where, f"{root}/order", query, "POST")
        placed.append(row["orderId"])
    lists = {"orderIdList": [placed[0], placed[1], 7], "origClientOrderIdList": ["mine2", "mine3", "none"]}
    for name, references in lists.items():
        wanted = orjson.dumps(references).decode()
        query = str(URL.build(query={"symbol": symbol, spelling(name): wanted}).raw_query_string)
        assert "%22" in query or name == "orderIdList"
        status, rows, _ = await http.signed(where, f"{root}/batchOrders", query, "DELETE")
        assert status == 200
        assert [row.get("status", row.get("code")) for row in rows] == ["CANCELED", "CANCELED", -2011]
    assert (await http.signed(where, f"{root}/openOrders"))[1] == []
    status, body, _ = await http.signed(where, f"{root}/batchOrders", f"symbol={symbol}", "DELETE")
    assert (status, body["code"]) == (400, -1130)


async def test_signed_reads_answer_on_every_host(sandbox, http):
    targets = [
        ("API", "/sapi/v1/capital/config/getall"), ("API", "/sapi/v1/asset/tradeFee"),
        ("FAPI", "/fapi/v2/account"), ("FAPI", "/fapi/v3/account"), ("FAPI", "/fapi/v2/balance"),
        ("FAPI", "/fapi/v3/balance"), ("FAPI", "/fapi/v2/positionRisk"), ("FAPI", "/fapi/v3/positionRisk"),
        ("FAPI", "/fapi/v1/positionSide/dual"), ("DAPI", "/dapi/v1/account"), ("DAPI", "/dapi/v1/balance"),
        ("EAPI", "/eapi/v1/account"), ("EAPI", "/eapi/v1/openOrders"), ("PAPI", "/papi/v1/account"),
        ("PAPI", "/papi/v1/balance"), ("PAPI", "/papi/v1/um/openOrders"),
    ]  # fmt: skip
    for host, target in targets:
        status, body, _ = await http.signed(base(sandbox, host), target)
        assert status == 200, (target, body)
    leverage = await http.signed(
        base(sandbox, "FAPI"), "/fapi/v1/leverage", "symbol=BTCUSDT&leverage=5", "POST"
    )
    assert leverage[1]["leverage"] == 5
    order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=50000"
    assert (await http.signed(base(sandbox, "PAPI"), "/papi/v1/um/order", order, "POST"))[0] == 200
