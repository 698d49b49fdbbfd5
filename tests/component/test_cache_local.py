"""The gateway's own endpoints under /local: answered from the cache or not at all."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio

from resender.core.binance.markets import Market
from resender.sandbox import Fault
from tests.support.cache_bench import (
    KLINES,
    MARKETS,
    SYMBOL,
    TICKERS,
    Bench,
    ExchangeClock,
    bench,
    gateway_on,
    kline_target,
    small_exchange,
    tickers_of,
)
from tests.support.cache_judge import Timed, ticker_body
from tests.support.client import call
from tests.support.running import make_config, running, wait_until
from tests.support.upstream import RawUpstream

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module")]

PRELOAD = (
    "spot:BTCUSDT,ETHUSDT@1m,1s,bookTicker;um:BTCUSDT,ETHUSDT,币安人生USDT@1m,bookTicker;"
    "cm:BTCUSD_PERP,ETHUSD_PERP@1m,bookTicker"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A gateway whose preloaded series are all live, far from a close of a minute."""
    exchange = small_exchange(ExchangeClock.before_close(45.0))
    async with bench(tmp_path_factory.mktemp("local"), exchange, preload=PRELOAD, kline_depth=200) as made:
        lines = made.cache.states.values()
        await wait_until(lambda: all(line.facts.is_ready for line in lines), 10)
        await wait_until(lambda: all(e.state == "live" for line in lines for e in line.entries()), 15)
        yield made


def assert_not_ready(timed: Timed) -> None:
    assert timed.status == 503, timed.body
    assert orjson.loads(timed.body)["code"] == -10
    assert int(timed.header("retry-after") or 0) >= 1
    assert timed.header("x-resender-error") == "not_ready"
    assert timed.header("x-resender-cache") is None


async def until_ready(one: Bench, target: str, timeout_s: float = 15) -> None:
    """Ask again until the answer is there; until then it must be the one for it."""
    deadline = time.monotonic() + timeout_s
    while (timed := await one.get(target)).status != 200:
        assert_not_ready(timed)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_first_call_starts_the_series_and_none_of_them_costs_a_forwarded_call(tmp_path: Path) -> None:
    async with bench(tmp_path) as fresh:
        for target in (
            "/local/um/klines?symbol=SOLUSDT&interval=1m&limit=5",
            "/local/spot/bookTicker?symbol=BNBUSDT",
            '/local/cm/klines?symbols=["ETHUSD_PERP"]&interval=1m&limit=5',
        ):
            assert_not_ready(await fresh.get(target))
            await until_ready(fresh, target)
        assert fresh.calls() == fresh.own_calls()
        # What was started is there for Binance's own paths too.
        assert (await fresh.klines(Market.UM, "SOLUSDT", "1m")).is_hit


@pytest.mark.parametrize("market", MARKETS)
async def test_klines_of_one_symbol_have_the_body_of_binance(one: Bench, market: Market) -> None:
    for limit in (1, 5, 200):
        mark = one.mark()
        timed = await one.get(f"/local/{market}/klines?symbol={SYMBOL[market]}&interval=1m&limit={limit}")
        assert timed.status == 200
        one.check(timed, market, SYMBOL[market], "1m", limit)
        assert len(timed.rows) == limit
        assert 0 <= timed.age_ms < 2000
        assert timed.header("x-resender-cache") is None
        assert timed.header("content-type") == "application/json;charset=UTF-8"
        assert not one.calls(since=mark)
    packed = await one.get(
        f"/local/{market}/klines?symbol={SYMBOL[market]}&interval=1m&limit=200", ("Accept-Encoding", "gzip")
    )
    assert packed.header("content-encoding") == "gzip"
    one.check(packed, market, SYMBOL[market], "1m", 200)


async def test_answer_deeper_than_what_is_held_is_not_ready_and_nothing_is_sent(one: Bench) -> None:
    mark = one.mark()
    assert_not_ready(await one.get("/local/um/klines?symbol=BTCUSDT&interval=1m"))
    assert_not_ready(await one.get("/local/um/klines?symbols=[%22BTCUSDT%22]&interval=1m&limit=1000"))
    assert not one.calls(since=mark)


async def test_whole_market_comes_in_one_object(one: Bench) -> None:
    mark = one.mark()
    timed = await one.get("/local/um/klines?symbols=all&interval=1m&limit=50")
    assert timed.status == 200
    assert timed.header("x-resender-missing") is None
    found = timed.rows
    assert set(found) == {"BTCUSDT", "ETHUSDT", "币安人生USDT"}
    for symbol, rows in found.items():
        part = Timed(timed.reply, timed.before_ms, timed.after_ms)
        part.reply = type(timed.reply)(b"", 200, timed.reply.headers, orjson.dumps(rows), True)
        one.check(part, Market.UM, symbol, "1m", 50)
    assert timed.body == orjson.dumps(found)
    assert not one.calls(since=mark)


async def test_whole_market_is_packed_for_a_client_that_takes_gzip(one: Bench) -> None:
    target = "/local/um/klines?symbols=all&interval=1m&limit=200"
    packed = await one.get(target, ("Accept-Encoding", "gzip"))
    assert packed.header("content-encoding") == "gzip"
    assert set(orjson.loads(gzip.decompress(packed.reply.body))) == {"BTCUSDT", "ETHUSDT", "币安人生USDT"}
    assert (await one.get(target)).header("content-encoding") is None


async def test_named_list_keeps_its_order_and_is_refused_unless_all_are_live(one: Bench) -> None:
    for names in (["ETHUSDT", "BTCUSDT"], ["币安人生USDT", "BTCUSDT"]):
        written = quote(orjson.dumps(names).decode())
        timed = await one.get(f"/local/um/klines?symbols={written}&interval=1m&limit=3")
        assert timed.status == 200
        assert list(timed.rows) == names
        assert timed.header("x-resender-missing") is None
    fault = one.sandbox.faults.add(Fault("status", match="klines", times=None, status=503))
    try:
        assert_not_ready(await one.get('/local/um/klines?symbols=["BTCUSDT","SOLUSDT"]&interval=1m&limit=3'))
    finally:
        one.sandbox.faults.remove(fault)


async def test_all_gives_the_live_ones_and_names_the_others(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="um:BTCUSDT,ETHUSDT@1m;um:BTCUSDT@bookTicker") as fresh:
        await fresh.until_hit(kline_target(Market.UM, "BTCUSDT", "1m"))
        await fresh.until_hit(kline_target(Market.UM, "ETHUSDT", "1m"))
        fault = fresh.sandbox.faults.add(Fault("delay", match="klines", times=None, seconds=3))
        fresh_symbol = "/local/um/klines?symbol=币安人生USDT&interval=1m&limit=3".replace(
            "币安人生USDT", quote("币安人生USDT")
        )
        assert_not_ready(await fresh.get(fresh_symbol))
        timed = await fresh.get("/local/um/klines?symbols=all&interval=1m&limit=3")
        assert timed.status == 200
        assert set(timed.rows) == {"BTCUSDT", "ETHUSDT"}
        assert timed.header("x-resender-missing") == "\\u5e01\\u5b89\\u4eba\\u751fUSDT"
        fresh.sandbox.faults.remove(fault)
        # Nothing of the kind is held: an empty object, not an error.
        assert (await fresh.get("/local/um/klines?symbols=all&interval=4h&limit=3")).body == b"{}"
        assert (await fresh.get("/local/cm/klines?symbols=all&interval=1m&limit=3")).body == b"{}"
        assert (await fresh.get("/local/cm/bookTicker")).body == b"[]"


@pytest.mark.parametrize("market", MARKETS)
async def test_book_ticker_is_an_object_for_one_symbol_and_an_array_otherwise(
    one: Bench, market: Market
) -> None:
    symbol = SYMBOL[market]
    mark = one.mark()
    single = await one.get(f"/local/{market}/bookTicker?symbol={symbol}")
    assert single.status == 200
    one.check_ticker(single, market, symbol)
    assert isinstance(single.rows, list) == (market is Market.CM)
    held = set(tickers_of(one.cache.states[market]))
    for query in ("", "?symbols=all"):
        every = await one.get(f"/local/{market}/bookTicker{query}")
        assert isinstance(every.rows, list)
        assert {row["symbol"] for row in every.rows} == held
        assert every.header("x-resender-missing") is None
    other = "ETHUSD_PERP" if market is Market.CM else "ETHUSDT"
    listed = await one.get(
        f"/local/{market}/bookTicker?symbols={quote(orjson.dumps([other, symbol]).decode())}"
    )
    assert [row["symbol"] for row in listed.rows] == [other, symbol]
    moments = range(listed.after_ms, listed.before_ms - listed.age_ms - 400, -20)
    truths = {ticker_body(one.store(market), symbol, moment).strip(b"[]") for moment in moments}
    assert orjson.dumps(listed.rows[1]) in truths
    assert not one.calls(since=mark)


BAD = [
    "/local/um/klines?symbol=BTCUSDT",
    "/local/um/klines?interval=1m",
    "/local/um/klines?symbol=BTCUSDT&interval=7m",
    "/local/um/klines?symbol=BTCUSDT&interval=1s",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=0",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=-1",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=x",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=1501",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=%C2%B2",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=%D9%A3",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&startTime=1790000000000",
    "/local/um/klines?symbol=BTCUSDT&interval=1m&symbol=ETHUSDT",
    "/local/um/klines?symbol=NOSUCHUSDT&interval=1m",
    "/local/um/klines?symbol=btcusdt&interval=1m",
    "/local/um/klines?symbol=BTCUSDT@kline_1m&interval=1m",
    '/local/um/klines?symbol=BTCUSDT&symbols=["BTCUSDT"]&interval=1m',
    '/local/um/klines?symbols=["BTCUSDT",%20"ETHUSDT"]&interval=1m',
    '/local/um/klines?symbols=["BTCUSDT","NOSUCHUSDT"]&interval=1m',
    '/local/um/klines?symbols=["BTCUSDT","BTCUSDT"]&interval=1m',
    "/local/um/klines?symbols=[]&interval=1m",
    "/local/um/klines?symbols=ALL&interval=1m",
    "/local/um/bookTicker?symbol=NOSUCHUSDT",
    "/local/um/bookTicker?symbol=btcusdt",
    "/local/um/bookTicker?foo=1",
    "/local/um/bookTicker?symbol=",
    '/local/um/bookTicker?symbol=BTCUSDT&symbols=["BTCUSDT"]',
    '/local/um/bookTicker?symbols=["NOSUCHUSDT"]',
    "/local/cm/bookTicker?pair=BTCUSD",
]


@pytest.mark.parametrize("target", BAD)
async def test_bad_parameter_is_refused_and_nothing_is_sent(one: Bench, target: str) -> None:
    mark, held = one.mark(), len(one.cache.states[Market.UM].entries())
    timed = await one.get(target)
    assert timed.status == 400, timed.body
    assert orjson.loads(timed.body)["code"] == -4
    assert timed.header("x-resender-error") == "bad_request"
    assert not one.calls(since=mark)
    assert len(one.cache.states[Market.UM].entries()) == held


@pytest.mark.parametrize("target", ["/local/", "/local/um", "/local/um/", "/local/um/uiKlines", "/local/x/klines",
                                    "/local/um/klines/", "/local/options/klines", "/local/STATUS"])  # fmt: skip
async def test_unknown_local_path_is_not_found_and_goes_nowhere(one: Bench, target: str) -> None:
    mark = one.mark()
    timed = await one.get(target)
    assert timed.status == 404
    assert orjson.loads(timed.body)["code"] == -3
    assert not one.calls(since=mark)


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE"])
async def test_local_endpoints_answer_get_only_but_klines_that_take_a_post(one: Bench, method: str) -> None:
    mark = one.mark()
    for target in ("/local/status", "/local/um/bookTicker", "/local/um/klines?symbol=BTCUSDT&interval=1m"):
        reply = await call(one.run.port, method, target)
        takes_post = "/klines" in target
        assert reply.status == (400 if takes_post and method == "POST" else 405)
        if reply.status == 405:
            assert reply.header("allow") == ("GET, POST" if takes_post else "GET")
    assert not one.calls(since=mark)


async def test_stranger_sees_nothing_of_it(tmp_path: Path) -> None:
    async with RawUpstream() as upstream:
        async with running(make_config(tmp_path, upstream.url, whitelist="203.0.113.5")) as run:
            for target in (
                "/local/status",
                "/local/um/klines?symbol=BTCUSDT&interval=1m",
                "/local/um/bookTicker",
                "/fapi/v1/klines?symbol=BTCUSDT&interval=1m",
            ):
                assert (await call(run.port, "GET", target)).status == 403
            assert run.gateway.cache is not None
            assert not any(line.is_started for line in run.gateway.cache.states.values())
        assert not upstream.requests


async def test_status_tells_series_connections_and_progress(one: Bench) -> None:
    await one.get(kline_target(Market.UM, "BTCUSDT", "1m"))
    await one.get(kline_target(Market.UM, "BTCUSDT", "1m", 1200))
    timed = await one.get("/local/status")
    assert timed.status == 200
    status = timed.rows
    rows = {(row["market"], row["symbol"], row["interval"]): row for row in status["series"]}
    for key in (("um", "BTCUSDT", "1m"), ("spot", "ETHUSDT", "1s"), ("cm", "ETHUSD_PERP", "bookTicker")):
        row = rows[key]
        assert set(row) >= {
            "market",
            "symbol",
            "interval",
            "state",
            "last_open",
            "age_ms",
            "rows",
            "hits",
            "misses",
        }
        assert row["state"] == "live"
        assert 0 <= row["age_ms"] < 3000
    btc = rows["um", "BTCUSDT", "1m"]
    # Minutes are far from their close here, and REST is asked for as many rows as are to be kept.
    assert btc["last_open"] == one.clock() // 60_000 * 60_000
    assert 200 <= btc["rows"] <= 264
    assert btc["hits"] > 0
    assert btc["misses"]["range not held"] > 0
    assert rows["cm", "ETHUSD_PERP", "bookTicker"]["last_open"] is None
    assert {c["market"] for c in status["connections"]} == {"spot", "um", "cm"}
    for connection in status["connections"]:
        assert set(connection) >= {"market", "streams", "age_s", "last_frame_ms", "reconnects"}
        assert connection["streams"] > 0
        assert connection["reconnects"] == 0
        assert connection["last_frame_ms"] is None or 0 <= connection["last_frame_ms"] < 3000
    # USD-M needs one connection for candles and one for tickers, and one for their witness.
    assert sum(c["market"] == "um" for c in status["connections"]) == 3
    assert sum(c["last_frame_ms"] is not None for c in status["connections"]) >= 3
    for series in status["series"]:
        assert series["proof"] in ("event", "rest", "witness")
        assert series["mutes"] == 0


async def test_status_of_a_gateway_nobody_has_used_is_empty(tmp_path: Path, one: Bench) -> None:
    async with gateway_on(tmp_path, one.sandbox) as fresh:
        mark = one.mark()
        status = (await fresh.get("/local/status")).rows
        assert status["series"] == []
        assert status["connections"] == []
        assert not one.calls(since=mark)


async def test_local_call_before_anything_is_known_of_the_market_is_not_ready(tmp_path: Path) -> None:
    exchange = small_exchange()
    async with bench(tmp_path, exchange) as fresh:
        await fresh.sandbox.stop_listening("fapi")
        assert_not_ready(await fresh.get("/local/um/klines?symbol=BTCUSDT&interval=1m&limit=2"))
        assert_not_ready(await fresh.get("/local/um/bookTicker?symbol=NOSUCHUSDT"))
        await fresh.sandbox.start_listening("fapi")
        await until_ready(fresh, "/local/um/klines?symbol=BTCUSDT&interval=1m&limit=2")
        # It could not be judged before; now it is known not to exist.
        assert (await fresh.get("/local/um/bookTicker?symbol=NOSUCHUSDT")).status == 400
        assert not fresh.calls(KLINES[Market.UM]) or fresh.calls(KLINES[Market.UM]) == fresh.own_calls(
            KLINES[Market.UM]
        )
        assert not [c for c in fresh.calls(TICKERS[Market.UM]) if "NOSUCH" in c.query]
