"""What a client sees of the market cache: hits are Binance's bytes, all else is Binance's own answer."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, API_SECRET, Sandbox, sign
from tests.support.authority import client_context
from tests.support.cache_bench import (
    KLINES,
    MARKETS,
    PREFIX,
    SYMBOL,
    TICKERS,
    Bench,
    ExchangeClock,
    bench,
    gateway_on,
    kline_target,
    small_exchange,
)
from tests.support.cache_judge import split_rows, ticker_body
from tests.support.client import call
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module")]

MINUTE_MS = 60_000
DAY_MS = 86_400_000
HOST_PORT = {Market.SPOT: "UPSTREAM_API", Market.UM: "UPSTREAM_FAPI", Market.CM: "UPSTREAM_DAPI"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A gateway that holds 1,500 candles of 1m and the tickers of all markets, 30 s before a close."""
    clock = ExchangeClock.before_close(45.0)
    exchange = small_exchange(clock, book_ticker_hz=2.0)
    preload = "spot:BTCUSDT,ETHUSDT@1m,1d,bookTicker;um:BTCUSDT,币安人生USDT@1m,bookTicker;cm:BTCUSD_PERP@1m,bookTicker"
    folder = tmp_path_factory.mktemp("answers")
    async with bench(folder, exchange, kline_depth=1500, preload=preload) as made:
        cache = made.cache
        await wait_until(lambda: all(line.facts.is_ready for line in cache.states.values()), 10)
        await wait_until(
            lambda: all(e.state == "live" for line in cache.states.values() for e in line.entries()), 15
        )
        yield made


def closed_base(one: Bench, interval_ms: int = MINUTE_MS) -> int:
    """Return the open time of a candle 300 intervals ago."""
    return one.clock() // interval_ms * interval_ms - 300 * interval_ms


async def direct(sandbox: Sandbox, market: Market, target: str, method: str = "GET"):
    """Make the same call at the exchange itself."""
    port = int(sandbox.urls[HOST_PORT[market]].rpartition(":")[2])
    return await call(port, method, target, context=client_context())


@pytest.mark.parametrize("market", MARKETS)
async def test_both_shapes_of_the_address_are_answered_from_the_cache(one: Bench, market: Market) -> None:
    for target in (kline_target(market, SYMBOL[market], "1m"), f"{TICKERS[market]}?symbol={SYMBOL[market]}"):
        for prefix in ("", PREFIX[market]):
            timed = await one.get(prefix + target)
            assert timed.is_hit, timed.cache
            assert timed.status == 200
            if "klines" in target:
                one.check(timed, market, SYMBOL[market], "1m")
            else:
                one.check_ticker(timed, market, SYMBOL[market])


@pytest.mark.parametrize("market", MARKETS)
async def test_hit_has_the_bytes_and_the_type_of_the_forwarded_answer(one: Bench, market: Market) -> None:
    base = closed_base(one)
    target = (
        f"{kline_target(market, SYMBOL[market], '1m', 40)}&startTime={base}&endTime={base + 39 * MINUTE_MS}"
    )
    hit = await one.get(target)
    forwarded = await one.get(target, ("Cache-Control", "no-cache"))
    assert hit.is_hit
    assert forwarded.cache == "miss; no-cache"
    assert hit.body == forwarded.body
    assert len(hit.rows) == 40
    assert hit.header("content-type") == forwarded.header("content-type") == "application/json;charset=UTF-8"
    assert hit.header("content-length") == str(len(hit.body))
    row = hit.rows[0]
    assert [type(value) for value in row] == [int, *[str] * 5, int, str, int, str, str, str]


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("limit", "rows"), [(None, 500), (1, 1), (2, 2), (499, 499), (1000, 1000)])
async def test_limit_gives_the_latest_rows_with_the_open_one_last(
    one: Bench, market: Market, limit: int | None, rows: int
) -> None:
    target = f"{KLINES[market]}?symbol={SYMBOL[market]}&interval=1m"
    timed = await one.get(target if limit is None else f"{target}&limit={limit}")
    assert timed.is_hit
    assert len(timed.rows) == rows
    one.check(timed, market, SYMBOL[market], "1m", rows)
    assert timed.rows[-1][6] > timed.before_ms


async def test_spot_limit_above_the_maximum_is_clamped_and_a_futures_one_is_binances_error(
    one: Bench,
) -> None:
    for limit in (1001, 1500, 100_000):
        timed = await one.get(kline_target(Market.SPOT, "BTCUSDT", "1m", limit))
        assert timed.is_hit
        one.check(timed, Market.SPOT, "BTCUSDT", "1m", 1000)
        assert len(timed.rows) == 1000
    for market in (Market.UM, Market.CM):
        most = await one.get(kline_target(market, SYMBOL[market], "1m", 1500))
        assert most.is_hit
        assert len(most.rows) == 1500
        one.check(most, market, SYMBOL[market], "1m", 1500)
        over = await one.get(kline_target(market, SYMBOL[market], "1m", 1501))
        assert (over.status, over.cache) == (400, "miss; limit")
        assert orjson.loads(over.body)["code"] == -1130


# Offsets in minutes from a candle 300 minutes ago; a fraction is a time inside a candle.
RANGES = [
    (0, None, 10),
    (0.5, None, 10),
    (None, 0, 10),
    (None, 0.5, 10),
    (None, 299, 500),
    (0, 9, 500),
    (0, 9, 5),
    (0.2, 8.9, 500),
    (0, 0, 500),
    (0.1, 0.9, 500),
    (-0.001, 0.999, 500),
    (0, 1000, 500),
    (290, None, 500),
    (290, 2000, 3),
    (None, 5000, 7),
]


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize(("start", "end", "limit"), RANGES)
async def test_range_follows_the_rule_of_its_market(
    one: Bench, market: Market, start: float | None, end: float | None, limit: int
) -> None:
    base, symbol, store = closed_base(one), SYMBOL[market], one.store(market)
    start_ms = None if start is None else base + int(start * MINUTE_MS)
    end_ms = None if end is None else base + int(end * MINUTE_MS)
    target = kline_target(market, symbol, "1m", limit)
    target += f"&startTime={start_ms}" if start_ms is not None else ""
    target += f"&endTime={end_ms}" if end_ms is not None else ""
    timed = await one.get(target)
    assert timed.is_hit, timed.cache
    first = timed.before_ms - timed.age_ms - 1500
    # The open candle, if it is asked for, may be any of the last second.
    times = [*range(timed.after_ms, first, -125)]
    assert timed.body in {store.kline_bytes(symbol, "1m", start_ms, end_ms, limit, t) for t in times}


@pytest.mark.parametrize("market", MARKETS)
async def test_range_that_is_not_held_or_makes_no_sense_is_forwarded(one: Bench, market: Market) -> None:
    now = one.clock()
    far = now - 3000 * MINUTE_MS
    target = kline_target(market, SYMBOL[market], "1m", 10)
    # COIN-M answers a start alone with the newest rows of the 200 days after it, which are held.
    for extra in (
        f"&startTime={far - 300 * DAY_MS}",
        f"&endTime={far}",
        f"&startTime={far}&endTime={far + 5 * MINUTE_MS}",
        f"&startTime={now + 600_000}",
        f"&startTime={now}&endTime={now - 1000}",
        "&startTime=0",
    ):
        mark = one.mark()
        timed = await one.get(target + extra)
        assert timed.cache.startswith("miss; "), extra
        assert [c.target for c in one.calls(KLINES[market], mark)] == [target + extra]
        answer = await direct(one.sandbox, market, target + extra)
        assert (timed.status, timed.body) == (answer.status, answer.body)


async def test_coin_m_range_of_more_than_200_days_is_forwarded(one: Bench) -> None:
    now = one.clock()
    target = kline_target(Market.CM, "BTCUSD_PERP", "1m", 10)
    long = await one.get(f"{target}&startTime={now - 201 * DAY_MS}&endTime={now}")
    assert not long.is_hit
    newest = await one.get(f"{target}&startTime={now - 100 * MINUTE_MS}&endTime={now - 10 * MINUTE_MS}")
    assert newest.is_hit
    assert newest.rows[-1][0] == (now - 10 * MINUTE_MS) // MINUTE_MS * MINUTE_MS


async def test_spot_time_zone_zero_is_a_hit_and_others_are_forwarded(one: Bench) -> None:
    target = kline_target(Market.SPOT, "BTCUSDT", "1d", 20)
    plain, zero = await one.get(target), await one.get(f"{target}&timeZone=0")
    assert zero.is_hit
    assert split_rows(zero.body)[:-1] == split_rows(plain.body)[:-1]
    for zone in ("-1:00", "05:45", "00", "+0", "0:00", "-0"):
        mark = one.mark()
        timed = await one.get(f"{target}&timeZone={zone}")
        assert timed.cache == "miss; odd parameter"
        assert [c.target for c in one.calls(since=mark)] == [f"{target}&timeZone={zone}"]
    shifted = await one.until_hit(f"{target}&timeZone=8")
    assert {row[0] % 86_400_000 for row in shifted.rows} == {16 * 3_600_000}


ODD_SPOT = [
    "symbol=BTCUSDT&interval=1m&foo=1",
    "symbol=BTCUSDT&interval=1m&symbol=BTCUSDT",
    "symbol=BTCUSDT&interval=1m&limit=5&limit=5",
    "symbol=BTCUSDT&interval=1m&limit=",
    "symbol=BTCUSDT&interval=1m&limit",
    "symbol=&interval=1m",
    "interval=1m",
    "symbol=BTCUSDT",
    "symbol=btcusdt&interval=1m",
    "symbol=BTCUSDT&interval=1M%20",
    "symbol=BTCUSDT&interval=7m",
    "symbol=NOSUCHUSDT&interval=1m",
    "symbol=BTCUSDT&interval=1m&limit=0",
    "symbol=BTCUSDT&interval=1m&limit=-1",
    "symbol=BTCUSDT&interval=1m&limit=05",
    "symbol=BTCUSDT&interval=1m&limit=5.0",
    "symbol=BTCUSDT&interval=1m&limit=%2B5",
    "symbol=BTCUSDT&interval=1m&limit=5%20",
    "symbol=BTCUSDT&interval=1m&startTime=abc",
    "symbol=BTCUSDT&interval=1m&startTime=-1",
    "symbol=BTCUSDT&interval=1m&startTime=1790000000000000",
    "symbol=BTCUSDT&interval=1m&&limit=5",
    "symbol=BTCUSDT&interval=1m&",
    "&symbol=BTCUSDT&interval=1m",
    "symbol=BTCUSDT;interval=1m",
    "symbol=BTCUSDT&interval=1m&timestamp=1790000000000",
    "symbol=BTCUSDT%00&interval=1m",
    "symbol=BTC/USDT&interval=1m",
    "symbol=btcusdt@kline_1m/ethusdt&interval=1m",
    "symbol=%E0%A4%A&interval=1m",
    "symbol=%FF%FE&interval=1m",
    "",
]


@pytest.mark.parametrize("query", ODD_SPOT)
async def test_odd_spot_kline_call_is_binances_to_answer(one: Bench, query: str) -> None:
    target = f"/api/v3/klines?{query}" if query else "/api/v3/klines"
    await assert_forwarded(one, Market.SPOT, target)


ODD_UM = [
    "symbol=BTCUSDT&interval=1m&foo=1",
    "symbol=btcusdt&interval=1m",
    "symbol=BTCUSDT&interval=1s",
    "symbol=BTCUSDT&interval=1m&timeZone=0",
    "symbol=BTCUSDT&interval=1m&limit=1501",
    "symbol=BTCUSDT&interval=1m&startTime=1790000000000&endTime=1780000000000",
    "symbol=BTCUSD_PERP&interval=1m",
]


@pytest.mark.parametrize("query", ODD_UM)
async def test_odd_usd_m_kline_call_is_binances_to_answer(one: Bench, query: str) -> None:
    await assert_forwarded(one, Market.UM, f"/fapi/v1/klines?{query}")


ODD_TICKERS = [
    (Market.SPOT, ""),
    (Market.SPOT, "symbolStatus=TRADING"),
    (Market.SPOT, "symbol=BTCUSDT&symbolStatus=TRADING"),
    (Market.SPOT, "symbol=BTCUSDT&symbolStatus=HALT"),
    (Market.SPOT, 'symbols=["BTCUSDT","ETHUSDT"]&symbolStatus=TRADING'),
    (Market.SPOT, 'symbol=BTCUSDT&symbols=["BTCUSDT"]'),
    (Market.SPOT, 'symbols=["BTCUSDT",%20"ETHUSDT"]'),
    (Market.SPOT, 'symbols=["BTCUSDT","BTCUSDT"]'),
    (Market.SPOT, 'symbols=["btcusdt"]'),
    (Market.SPOT, 'symbols=["BTCUSDT","NOSUCHUSDT"]'),
    (Market.SPOT, "symbols=[]"),
    (Market.SPOT, "symbols=BTCUSDT"),
    (Market.SPOT, 'symbols=["BTCUSDT"'),
    (Market.SPOT, "symbols="),
    (Market.SPOT, "symbol=btcusdt"),
    (Market.SPOT, "symbol=NOSUCHUSDT"),
    (Market.UM, ""),
    (Market.UM, "symbol=btcusdt"),
    (Market.UM, 'symbols=["BTCUSDT","ETHUSDT"]'),
    (Market.CM, ""),
    (Market.CM, "pair=BTCUSD"),
    (Market.CM, "symbol=BTCUSD_PERP&pair=BTCUSD"),
]


@pytest.mark.parametrize(("market", "query"), ODD_TICKERS)
async def test_odd_book_ticker_call_is_binances_to_answer(one: Bench, market: Market, query: str) -> None:
    await assert_forwarded(one, market, f"{TICKERS[market]}?{query}" if query else TICKERS[market])


async def assert_forwarded(one: Bench, market: Market, target: str) -> None:
    """Assert that a call arrives as it is and Binance's own answer comes back."""
    for prefix in ("", PREFIX[market]):
        mark = one.mark()
        truth = [(await direct(one.sandbox, market, target)).body]
        timed = await one.get(prefix + target)
        answer = await direct(one.sandbox, market, target)
        truth.append(answer.body)
        arrived = [c.target for c in one.calls(since=mark) if c.header("user-agent") == "client/1"]
        assert arrived == [target]
        assert timed.cache.startswith("miss; "), timed.cache
        assert timed.header("x-resender-age") is None
        assert timed.status == answer.status
        assert timed.body in truth


OTHER_PATHS = [
    "/api/v3/avgPrice?symbol=BTCUSDT",
    "/fapi/v1/trades?symbol=BTCUSDT",
    "/fapi/v1/ticker/price?symbol=BTCUSDT",
    "/fapi/v2/ticker/price?symbol=BTCUSDT",
    "/dapi/v1/openInterest?symbol=BTCUSD_PERP",
    "/fapi/v1/fundingInfo",
    "/api/v3/ticker/bookTicker/?symbol=BTCUSDT",
    "/api/v3/klines/?symbol=BTCUSDT&interval=1m",
    "/api/v3//klines?symbol=BTCUSDT&interval=1m",
    "/api/v3/KLINES?symbol=BTCUSDT&interval=1m",
    "/fapi/v2/klines?symbol=BTCUSDT&interval=1m",
    "/api/v1/klines?symbol=BTCUSDT&interval=1m",
    "/fapi/v1/depth/?symbol=BTCUSDT",
    "/fapi/v1/rpiDepth?symbol=BTCUSDT",
]


@pytest.mark.parametrize("target", OTHER_PATHS)
async def test_other_path_is_never_answered_from_the_cache(one: Bench, target: str) -> None:
    mark = one.mark()
    timed = await one.get(target)
    assert [c.target for c in one.calls(since=mark)] == [target]
    assert timed.cache == ""
    assert timed.header("x-resender-age") is None


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("shape", ["", "/api"])
async def test_other_method_on_a_cached_path_arrives_at_the_exchange(
    one: Bench, method: str, shape: str
) -> None:
    for target in (kline_target(Market.SPOT, "BTCUSDT", "1m"), "/api/v3/ticker/bookTicker?symbol=BTCUSDT"):
        mark = one.mark()
        reply = await call(one.run.port, method, shape + target)
        assert [(c.method, c.target) for c in one.calls(since=mark)] == [(method, target)]
        assert reply.header("x-resender-cache") != "hit"
        assert reply.header("x-resender-age") is None


async def test_signed_call_and_call_with_a_body_arrive_unchanged(one: Bench) -> None:
    query = f"symbol=BTCUSDT&interval=1m&limit=5&timestamp={one.clock()}"
    target = f"/api/v3/klines?{query}&signature={sign(API_SECRET, query.encode())}"
    mark = one.mark()
    timed = await one.get(target, ("X-MBX-APIKEY", API_KEY))
    assert [c.target for c in one.calls(since=mark)] == [target]
    assert not timed.is_hit
    mark = one.mark()
    reply = await call(one.run.port, "GET", kline_target(Market.UM, "BTCUSDT", "1m"), body=b"symbol=ETHUSDT")
    assert [c.body for c in one.calls(since=mark)] == [b"symbol=ETHUSDT"]
    assert reply.header("x-resender-cache") == "miss; body"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Cache-Control", "no-cache"),
        ("cache-control", "max-age=0, No-Cache"),
        ("X-MBX-TIME-UNIT", "MICROSECOND"),
        ("x-mbx-time-unit", "microsecond"),
        ("X-MBX-TIME-UNIT", "MILLISECOND"),
        ("X-MBX-SBE", "3:0"),
        ("Accept", "application/sbe"),
    ],
)
async def test_header_that_asks_for_something_else_goes_past_the_cache(
    one: Bench, name: str, value: str
) -> None:
    for target in (kline_target(Market.SPOT, "BTCUSDT", "1m"), "/api/v3/ticker/bookTicker?symbol=BTCUSDT"):
        mark = one.mark()
        timed = await one.get(target, (name, value))
        assert timed.cache.startswith("miss; ")
        (arrived,) = one.calls(since=mark)
        assert arrived.target == target
        assert arrived.header(name) == value
    if value.lower() == "microsecond":
        klines = await one.get(kline_target(Market.SPOT, "BTCUSDT", "1m"), (name, value))
        assert klines.rows[0][0] > 10**15


async def test_key_of_a_client_changes_nothing_about_a_hit(one: Bench) -> None:
    mark = one.mark()
    timed = await one.get(kline_target(Market.UM, "BTCUSDT", "1m"), ("X-MBX-APIKEY", API_KEY))
    assert timed.is_hit
    assert not one.calls(since=mark)


@pytest.mark.parametrize("market", MARKETS)
async def test_gzip_hit_is_the_plain_body_packed(one: Bench, market: Market) -> None:
    base = closed_base(one)
    closed = f"{kline_target(market, SYMBOL[market], '1m', 200)}&endTime={base}"
    plain = await one.get(closed)
    for accepted in ("gzip", "gzip, deflate, br", "deflate, GZIP;q=0.5", "br;q=1.0, gzip;q=0.8, *;q=0.1"):
        packed = await one.get(closed, ("Accept-Encoding", accepted))
        assert packed.is_hit
        assert packed.header("content-encoding") == "gzip"
        assert len(packed.reply.body) < len(plain.body) / 2
        assert gzip.decompress(packed.reply.body) == plain.body
    for refused in ("identity", "gzip;q=0", "gzip; q=0.000", "br"):
        assert (await one.get(closed, ("Accept-Encoding", refused))).header("content-encoding") is None
    # With the open candle, again and again while it changes: one member, nothing behind it.
    for limit in (30, 31, 500, 30):
        packed = await one.get(kline_target(market, SYMBOL[market], "1m", limit), ("Accept-Encoding", "gzip"))
        unpacker = zlib.decompressobj(31)
        assert unpacker.decompress(packed.reply.body) == packed.body
        assert unpacker.eof
        assert not unpacker.unused_data
        one.check(packed, market, SYMBOL[market], "1m", limit)
    small = await one.get(kline_target(market, SYMBOL[market], "1m", 1), ("Accept-Encoding", "gzip"))
    one.check(small, market, SYMBOL[market], "1m", 1)


async def test_hit_costs_no_call_and_no_weight_and_says_the_last_weight_known(one: Bench) -> None:
    for market in MARKETS:
        pool = "spot" if market is Market.SPOT else "futures"
        ping = {Market.SPOT: "/api/v3/ping", Market.UM: "/fapi/v1/ping", Market.CM: "/dapi/v1/ping"}[market]
        known = (await one.get(ping)).header("x-mbx-used-weight-1m")
        mark, weight = one.mark(), one.sandbox.weight("127.0.0.1", pool)
        for _ in range(20):
            for target in (
                kline_target(market, SYMBOL[market], "1m", 500),
                f"{TICKERS[market]}?symbol={SYMBOL[market]}",
            ):
                timed = await one.get(target)
                assert timed.is_hit
                # What the gateway counts, which for unknown paths may be more than was told.
                assert int(timed.header("x-mbx-used-weight-1m") or 0) >= int(known or 0)
                assert 0 <= timed.age_ms < 2000
                assert "x-resender-missing" not in {name.lower() for name, _ in timed.reply.headers}
        assert not one.calls(since=mark)
        assert one.sandbox.weight("127.0.0.1", pool) in (weight, 0)


async def test_list_of_spot_symbols_is_an_array_in_the_order_asked(one: Bench) -> None:
    store = one.store(Market.SPOT)
    for symbols in (["BTCUSDT", "ETHUSDT"], ["ETHUSDT", "BTCUSDT"], ["ETHUSDT"]):
        text = orjson.dumps(symbols).decode()
        for written in (text, quote(text), quote(text, safe="")):
            timed = await one.get(f"/api/v3/ticker/bookTicker?symbols={written}")
            assert timed.is_hit, written
            moments = range(timed.after_ms, timed.before_ms - timed.age_ms - 400, -100)
            for index, symbol in enumerate(symbols):
                shown = orjson.dumps(timed.rows[index])
                assert shown in {ticker_body(store, symbol, moment) for moment in moments}
            assert timed.body == orjson.dumps(timed.rows)
            assert len(timed.rows) == len(symbols)


async def test_symbol_beyond_ascii_is_a_hit_however_it_is_encoded(one: Bench) -> None:
    symbol = "币安人生USDT"
    for written in (quote(symbol), quote(symbol).lower().replace("usdt", "USDT")):
        timed = await one.get(f"/fapi/v1/klines?symbol={written}&interval=1m&limit=5")
        assert timed.is_hit
        one.check(timed, Market.UM, symbol, "1m")
        ticker = await one.get(f"/fapi/v1/ticker/bookTicker?symbol={written}")
        assert ticker.is_hit
        one.check_ticker(ticker, Market.UM, symbol)


async def test_keep_alive_pipelined_and_http_1_0_clients_get_hits(one: Bench) -> None:
    from tests.support.client import build, exchange, parse

    target = kline_target(Market.UM, "BTCUSDT", "1m", 3)
    raw = await exchange(one.run.port, build("GET", target, close=False) * 3 + build("GET", target))
    assert raw.count(b"HTTP/1.1 200 OK") == 4
    assert raw.count(b"X-Resender-Cache: hit") == 4
    old = parse(await exchange(one.run.port, build("GET", target, version="1.0")))
    assert old.complete
    assert old.header("x-resender-cache") == "hit"


async def test_answer_too_deep_for_the_cache_is_forwarded_at_once(one: Bench, tmp_path) -> None:
    async with gateway_on(tmp_path, one.sandbox, kline_depth=50, preload="um:ETHUSDT@1m") as shallow:
        await shallow.until_hit(kline_target(Market.UM, "ETHUSDT", "1m", 50))
        timed = await shallow.get(kline_target(Market.UM, "ETHUSDT", "1m", 300))
        assert timed.cache == "miss; range not held"
        assert len(timed.rows) == 300


async def test_cache_that_is_switched_off_forwards_without_a_word(one: Bench, tmp_path) -> None:
    async with gateway_on(tmp_path, one.sandbox, cache_enabled=False) as off:
        timed = await off.get(kline_target(Market.UM, "BTCUSDT", "1m", 3))
        assert timed.status == 200
        assert timed.header("x-resender-cache") is None
        local = await off.get("/local/um/klines?symbol=BTCUSDT&interval=1m")
        assert local.status == 404
