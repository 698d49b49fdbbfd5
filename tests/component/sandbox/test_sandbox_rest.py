"""REST of the simulated exchange over real sockets: shapes and errors."""

import asyncio

import orjson
import pytest
from yarl import URL

from resender.core.binance.markets import Market
from tests.support.authority import client_context

pytestmark = pytest.mark.component


def base(sandbox, host="API"):
    return sandbox.urls[f"UPSTREAM_{host}"]


BAD_SPOT_CALLS = [
    ("/api/v3/klines?symbol=NOPE&interval=1m", -1121),
    ("/api/v3/klines?symbol=btcusdt&interval=1m", -1100),
    ("/api/v3/klines?symbol=BTCUSDT&interval=7m", -1120),
    ("/api/v3/klines?symbol=BTCUSDT&interval=1M&limit=x", -1100),
    ("/api/v3/klines?symbol=BTCUSDT", -1102),
    ("/api/v3/klines?interval=1m", -1102),
    ("/api/v3/klines?symbol=&interval=1m", -1105),
    ("/api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=now", -1100),
    ("/api/v3/klines?symbol=BTCUSDT&interval=1m&colour=red", -1104),
    ("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5&limit=5", -1101),
    ("/api/v3/klines?symbol=BTCUSDT&interval=1m&timeZone=99", -1100),
    ("/api/v3/ping?a=1&b=2", -1101),
    ('/api/v3/ticker/bookTicker?symbols=["BTCUSDT",%20"ETHUSDT"]', -1100),
    ('/api/v3/ticker/bookTicker?symbols=["BTCUSDT","NOPE"]', -1121),
    ('/api/v3/ticker/bookTicker?symbols=["BTCUSDT"]&symbol=BTCUSDT', -1128),
    ("/api/v3/ticker/bookTicker?symbol=BTCUSDT&symbolStatus=HALT", -1220),
]
BAD_FUTURES_CALLS = [
    ("FAPI", "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1501", -1130),
    ("FAPI", "/fapi/v1/klines?symbol=BTCUSDT&interval=1s", -1120),
    ("FAPI", "/fapi/v1/klines?symbol=NOPE&interval=1m", -1121),
    ("FAPI", "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime=20&endTime=10", -1023),
    ("FAPI", "/fapi/v1/depth?symbol=BTCUSDT&limit=7", -4021),
    ("DAPI", "/dapi/v1/klines?symbol=BTCUSD&interval=1m", -1121),
    ("DAPI", "/dapi/v1/klines?symbol=BTCUSD_PERP&interval=1m&limit=1501", -1130),
    ("DAPI", "/futures/data/openInterestHist?symbol=BTCUSDT&period=5m", -1102),
    ("EAPI", "/eapi/v1/depth?symbol=NOPE", -1121),
]


@pytest.mark.parametrize(("target", "code"), BAD_SPOT_CALLS)
async def test_bad_spot_call_is_refused_like_binance_does(sandbox, http, target, code):
    status, body, _ = await http.call(base(sandbox), target)
    assert (status, body["code"]) == (400, code)
    assert set(body) == {"code", "msg"}


@pytest.mark.parametrize(("host", "target", "code"), BAD_FUTURES_CALLS)
async def test_bad_futures_call_is_refused_like_binance_does(sandbox, http, host, target, code):
    status, body, _ = await http.call(base(sandbox, host), target)
    assert (status, body["code"]) == (400, code)


async def test_exact_error_bytes_and_unknown_paths(sandbox, http):
    async with http.session.get(base(sandbox) + "/api/v3/klines?symbol=X&interval=1m") as response:
        assert await response.read() == b'{"code":-1121,"msg":"Invalid symbol."}'
    status, body, _ = await http.call(base(sandbox, "FAPI"), "/fapi/v1/x")
    assert (status, body) == (404, {"code": -5000, "msg": "Path /fapi/v1/x, Method GET is invalid"})
    status, body, headers = await http.call(base(sandbox), "/nowhere")
    assert status == 404
    assert "html" in headers["content-type"]
    status, body, _ = await http.call(base(sandbox), "/api/v3/userDataStream", "POST")
    assert 400 <= status < 500
    assert body["code"] < 0


async def test_spot_clamps_the_limit_and_um_takes_up_to_1500(sandbox, http):
    _, rows, _ = await http.call(base(sandbox), "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1500")
    assert len(rows) == 1000
    target = "/fapi/v1/klines?symbol=btcusdt&interval=1m&limit=1500&unknown=1"
    status, rows, _ = await http.call(base(sandbox, "FAPI"), target)
    assert (status, len(rows)) == (200, 1500)


async def test_rest_rows_are_the_rows_of_the_store(sandbox, http, clock):
    for market, host, target in [
        (Market.SPOT, "API", "/api/v3/klines?symbol=BTCUSDT&interval=5m&limit=20"),
        (Market.UM, "FAPI", "/fapi/v1/klines?symbol=BTCUSDT&interval=5m&limit=20"),
        (Market.CM, "DAPI", "/dapi/v1/klines?symbol=BTCUSD_PERP&interval=5m&limit=20"),
    ]:
        symbol = "BTCUSD_PERP" if market is Market.CM else "BTCUSDT"
        _, rows, _ = await http.call(base(sandbox, host), target)
        assert rows == sandbox.market(market).kline_rows(symbol, "5m", limit=20)
        assert rows[-1][6] > clock()


async def test_both_futures_hosts_know_both_kinds_of_symbols(sandbox, http):
    _, here, _ = await http.call(base(sandbox, "DAPI"), "/dapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=3")
    _, there, _ = await http.call(base(sandbox, "FAPI"), "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=3")
    assert here == there


async def test_book_tickers_have_each_markets_shape(sandbox, http):
    _, spot, _ = await http.call(base(sandbox), "/api/v3/ticker/bookTicker?symbol=BTCUSDT")
    assert list(spot) == ["symbol", "bidPrice", "bidQty", "askPrice", "askQty"]
    _, um, _ = await http.call(base(sandbox, "FAPI"), "/fapi/v1/ticker/bookTicker?symbol=BTCUSDT")
    assert list(um) == [*spot, "time"]
    _, cm, _ = await http.call(base(sandbox, "DAPI"), "/dapi/v1/ticker/bookTicker?symbol=BTCUSD_PERP")
    assert isinstance(cm, list)
    assert set(cm[0]) == {*um, "lastUpdateId", "pair"}
    truth = sandbox.market(Market.UM).book_ticker("BTCUSDT")
    assert (um["bidPrice"], um["askQty"], um["time"]) == (truth.bid, truth.ask_qty, truth.time_ms)
    target = "/api/v3/ticker/bookTicker?symbols=%5B%22ETHUSDT%22,%22BTCUSDT%22%5D"
    _, two, _ = await http.call(base(sandbox), target)
    assert [row["symbol"] for row in two] == ["ETHUSDT", "BTCUSDT"]


async def test_symbol_outside_ascii_works_when_percent_encoded(sandbox, http):
    query = URL.build(query={"symbol": "币安人生USDT"}).raw_query_string
    assert query.isascii()
    status, body, _ = await http.call(base(sandbox, "FAPI"), f"/fapi/v1/ticker/bookTicker?{query}")
    assert (status, body["symbol"]) == (200, "币安人生USDT")


@pytest.mark.parametrize(
    ("host", "target", "key"),
    [
        ("API", "/api/v3/exchangeInfo", "symbols"),
        ("FAPI", "/fapi/v1/exchangeInfo", "symbols"),
        ("DAPI", "/dapi/v1/exchangeInfo", "symbols"),
        ("EAPI", "/eapi/v1/exchangeInfo", "optionSymbols"),
    ],
)
async def test_exchange_info_shows_symbols_and_the_enforced_limits(sandbox_with, http, host, target, key):
    limits = {"spot": 101, "futures": 102, "options": 103}
    sandbox = await sandbox_with(weight_limits=limits)
    _, info, _ = await http.call(base(sandbox, host), target)
    pool = {"API": "spot", "EAPI": "options"}.get(host, "futures")
    assert info["rateLimits"][0]["limit"] == limits[pool]
    assert info[key]
    status_key = "contractStatus" if host == "DAPI" else "status"
    assert {row[status_key] for row in info[key]} == {"TRADING"}


async def test_exchange_info_of_spot_can_be_narrowed(sandbox, http):
    _, one, _ = await http.call(base(sandbox), "/api/v3/exchangeInfo?symbol=BTCUSDT")
    assert [row["symbol"] for row in one["symbols"]] == ["BTCUSDT"]
    _, bare, _ = await http.call(
        base(sandbox), "/api/v3/exchangeInfo?showPermissionSets=false&permissions=SPOT"
    )
    assert all(row["permissionSets"] == [] for row in bare["symbols"])


async def test_symbols_can_be_listed_halted_and_delisted_while_running(sandbox, http):
    async def status_of(symbol):
        _, info, _ = await http.call(base(sandbox), "/api/v3/exchangeInfo")
        return {row["symbol"]: row["status"] for row in info["symbols"]}.get(symbol)

    sandbox.list_symbol(Market.SPOT, "FRESHUSDT")
    assert await status_of("FRESHUSDT") == "TRADING"
    _, rows, _ = await http.call(base(sandbox), "/api/v3/klines?symbol=FRESHUSDT&interval=1m")
    assert len(rows) == 1
    sandbox.halt(Market.SPOT, "ETHUSDT")
    assert await status_of("ETHUSDT") == "HALT"
    sandbox.resume(Market.SPOT, "ETHUSDT")
    assert await status_of("ETHUSDT") == "TRADING"
    sandbox.delist(Market.SPOT, "ETHUSDT")
    assert await status_of("ETHUSDT") is None
    _, body, _ = await http.call(base(sandbox), "/api/v3/ticker/bookTicker?symbol=ETHUSDT")
    assert body["code"] == -1121


async def test_every_listed_market_path_answers(sandbox, http):
    calls = {
        "API": ["ping", "time", "ticker/price", "ticker/24hr?symbol=BTCUSDT", "depth?symbol=BTCUSDT",
                "trades?symbol=BTCUSDT&limit=5", "aggTrades?symbol=BTCUSDT&limit=5",
                "avgPrice?symbol=BTCUSDT", "uiKlines?symbol=BTCUSDT&interval=1h"],
        "FAPI": ["ping", "time", "ticker/price", "ticker/24hr?symbol=BTCUSDT", "depth?symbol=BTCUSDT&limit=5",
                 "trades?symbol=BTCUSDT&limit=5", "aggTrades?symbol=BTCUSDT&limit=5", "premiumIndex",
                 "fundingRate?symbol=BTCUSDT", "markPriceKlines?symbol=BTCUSDT&interval=1m",
                 "continuousKlines?pair=BTCUSDT&contractType=PERPETUAL&interval=1m"],
        "DAPI": ["ping", "time", "ticker/price", "ticker/24hr?symbol=BTCUSD_PERP", "premiumIndex",
                 "depth?symbol=BTCUSD_PERP&limit=5", "trades?symbol=BTCUSD_PERP&limit=5",
                 "aggTrades?symbol=BTCUSD_PERP&limit=5", "indexPriceKlines?pair=BTCUSD&interval=1m",
                 "continuousKlines?pair=BTCUSD&contractType=CURRENT_QUARTER&interval=1m"],
        "EAPI": ["ping", "time", "ticker", "mark", "index?underlying=BTCUSDT"],
        "PAPI": ["ping"],
    }  # fmt: skip
    version = {"API": "v3"}
    for host, paths in calls.items():
        for path in paths:
            target = f"/{host.lower()}/{version.get(host, 'v1')}/{path}"
            status, body, headers = await http.call(base(sandbox, host), target)
            assert status == 200, (target, body)
            if "fundingRate" not in target:
                assert int(headers["x-mbx-used-weight-1m"]) > 0
    for host, query in (("FAPI", "symbol=BTCUSDT"), ("DAPI", "pair=BTCUSD")):
        target = f"/futures/data/openInterestHist?{query}&period=5m&limit=3"
        _, rows, _ = await http.call(base(sandbox, host), target)
        assert len(rows) == 3
    _, body, headers = await http.call(base(sandbox), "/sapi/v1/system/status")
    assert body["status"] == 0
    assert headers["x-sapi-used-ip-weight-1m"] == "1"


async def test_echo_returns_target_headers_and_body_byte_for_byte(sandbox, http):
    target = b"/api/v3/echo?a=%5B%22B%22%2C&&b=&a=2&c=%e5%b8%81&d=@x&"
    body = bytes(range(256))
    url = URL(base(sandbox))
    reader, writer = await asyncio.open_connection(url.host, url.port, ssl=client_context())
    writer.write(
        b"DELETE " + target + b" HTTP/1.1\r\nHost: x\r\nx-MiXed: Value \r\nContent-Length: 256\r\n\r\n" + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    seen = orjson.loads(await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    assert seen["target"].encode() == target
    assert seen["body"].encode("latin-1") == body
    assert ["x-MiXed", "Value"] in seen["headers"]
    assert (seen["method"], seen["host"]) == ("DELETE", "api")
    assert b"\r\nx-mbx-used-weight-1m: 1\r\n" in head
    call = sandbox.calls[-1]
    assert (call.target.encode(), call.body, call.connection) == (target, body, 1)
    for path in ("/sapi/v1/echo", "/sapi/v1/some/echo"):
        async with http.session.post(base(sandbox) + path) as response:
            assert (await response.json())["method"] == "POST"


async def test_gzip_is_used_for_large_bodies_when_accepted(sandbox_with, http):
    sandbox = await sandbox_with()
    target = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=100"
    sizes = {}
    for encoding in ("gzip", "identity"):
        async with http.session.get(
            base(sandbox) + target, headers={"Accept-Encoding": encoding}
        ) as response:
            sizes[encoding] = int(response.headers["content-length"])
            assert response.headers.get("content-encoding") == ("gzip" if encoding == "gzip" else None)
            assert len(await response.json()) == 100
    assert sizes["gzip"] < sizes["identity"] / 2
    plain = await sandbox_with(gzip=False)
    async with http.session.get(base(plain) + target) as response:
        assert "content-encoding" not in response.headers


async def test_microsecond_header_is_honoured_on_spot(sandbox, http, clock):
    headers = {"X-MBX-TIME-UNIT": "microsecond"}
    _, body, _ = await http.call(base(sandbox), "/api/v3/time", headers=headers)
    assert body["serverTime"] == clock() * 1000
    target = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1"
    _, rows, _ = await http.call(base(sandbox), target, headers=headers)
    assert rows[0][6] - rows[0][0] == 59_999_999


@pytest.mark.parametrize(
    ("host", "path", "pair", "contract", "symbol"),
    [("FAPI", "/fapi/v1", "BTCUSDT", "PERPETUAL", "BTCUSDT"),
     ("FAPI", "/fapi/v1", "TSLAUSDT", "TRADIFI_PERPETUAL", "TSLAUSDT"),
     ("DAPI", "/dapi/v1", "BTCUSD", "CURRENT_QUARTER", "BTCUSD_261225")],
)  # fmt: skip
async def test_continuous_klines_are_the_rows_of_their_contract(
    sandbox, http, host, path, pair, contract, symbol
):
    query = f"continuousKlines?pair={pair}&contractType={contract}&interval=5m"
    _, rows, _ = await http.call(base(sandbox, host), f"{path}/{query}")
    _, plain, _ = await http.call(base(sandbox, host), f"{path}/klines?symbol={symbol}&interval=5m")
    assert len(rows) == 500
    assert rows == plain


@pytest.mark.parametrize("is_modified", [True, False])
async def test_ui_klines_are_klines_or_modified(sandbox_with, http, is_modified):
    sandbox = await sandbox_with(ui_klines_modified=is_modified)
    query = "symbol=BTCUSDT&interval=1d&timeZone=8&limit=20"
    _, rows, _ = await http.call(base(sandbox), f"/api/v3/uiKlines?{query}")
    _, plain, _ = await http.call(base(sandbox), f"/api/v3/klines?{query}")
    assert {row[0] % 86_400_000 for row in plain} == {57_600_000}
    assert (rows == plain) is not is_modified
