"""Every endpoint below /local beside klines and bookTicker: one symbol, lists, all, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio

from resender.core.binance.markets import Market
from resender.web.client.local_kinds import LOCAL_KINDS
from tests.support.cache_bench import Bench, ExchangeClock, bench, small_exchange
from tests.support.row_watch import RowWatch, day_problem, mark_problem
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.asyncio(loop_scope="module")]

SYMBOLS = {
    Market.SPOT: ("BTCUSDT", "ETHUSDT"),
    Market.UM: ("BTCUSDT", "ETHUSDT"),
    Market.CM: ("BTCUSD_PERP", "ETHUSD_PERP"),
}
EVERY = [(market, what) for what, kind in LOCAL_KINDS.items() for market in kind.paths]
SHARED = "depth,aggTrade,ticker"
FUTURES = f"{SHARED},markPrice,fundingRate"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """A gateway on which a rule keeps everything of two symbols of each market, far from a close or a funding."""
    exchange = small_exchange(
        ExchangeClock.before_close(1845, "1h"), weight_limits={"spot": 10**6, "futures": 10**6}
    )
    rules = f"spot:BTCUSDT,ETHUSDT@{SHARED},trade;um:BTCUSDT,ETHUSDT@{FUTURES};cm:BTCUSD_PERP,ETHUSD_PERP@{FUTURES}"
    async with bench(tmp_path_factory.mktemp("local"), exchange, preload=rules) as made:
        lines = made.cache.states.values()
        await wait_until(lambda: all(line.facts.is_ready for line in lines), 10)
        yield made


def local(market: Market, what: str, query: str) -> str:
    return f"/local/{market}/{what}?{query}"


async def ready(one: Bench, target: str) -> object:
    """Ask until each part is there."""
    for _ in range(200):
        timed = await one.get(target)
        if timed.status == 200 and timed.header("x-resender-missing") is None:
            return timed
        assert timed.status in (200, 503), timed.body
        await asyncio.sleep(0.03)
    raise AssertionError(
        f"{target} is never ready: {timed.status} {timed.reply.headers} {timed.body[:200]!r}"
    )


@pytest.mark.parametrize(("market", "what"), EVERY)
async def test_one_a_list_and_all_hold_the_same_rows(one: Bench, market: Market, what: str) -> None:
    kind, names = LOCAL_KINDS[what], SYMBOLS[market]
    single = await ready(one, local(market, what, f"symbol={names[0]}"))
    listed = await ready(one, local(market, what, f"symbols={quote(orjson.dumps(names[::-1]).decode())}"))
    every = await ready(one, local(market, what, "symbols=all"))
    shape = type(single.rows[0] if isinstance(single.rows, list) else single.rows)
    for answer, wanted in ((listed, names[::-1]), (every, names)):
        rows = answer.rows
        if kind.is_object:
            assert sorted(rows) == sorted(wanted)
            assert list(rows) == list(wanted) or answer is every
            assert all(type(each) is type(single.rows) for each in rows.values())
        else:
            assert sorted(row["symbol"] for row in rows) == sorted(wanted)
            assert [row["symbol"] for row in rows] == list(wanted) or answer is every
            assert all(type(row) is shape is dict for row in rows)
        assert answer.header("x-resender-cache") is None


async def test_rows_that_age_are_true_of_their_time_and_no_older_than_asked(one: Bench) -> None:
    watched = RowWatch(one)
    for market in SYMBOLS:
        for what, judge in (("ticker", day_problem), ("premiumIndex", mark_problem)):
            if market not in LOCAL_KINDS[what].paths:
                continue
            target = local(market, what, f"symbol={SYMBOLS[market][0]}&maxAge=2500")
            timed = await ready(one, target)
            assert timed.age_ms <= 2500
            assert judge(watched, market, timed, [SYMBOLS[market][0]]) is None


async def test_forwarded_call_is_never_made_for_it(one: Bench) -> None:
    for market, what in EVERY:
        await ready(one, local(market, what, f"symbol={SYMBOLS[market][0]}"))
    begun = one.mark()
    for market, what in EVERY:
        for query in (f"symbol={SYMBOLS[market][0]}", "symbols=all"):
            await one.get(local(market, what, query))
    assert one.calls(since=begun) == one.own_calls(since=begun)


BAD = (
    "", "symbol=", "symbol=btcusdt", "symbol=GONEUSDT", "symbols=[]", "symbols=ALL", "symbols=x", "limit=5",
    "symbol={0}&symbols=all", "symbol={0}&symbol={0}", "symbol={0}&limit=0", "symbol={0}&limit=x",
    "symbol={0}&limit=99999", "symbol={0}&x=1", "symbol={0}&startTime=1790000000000", "symbol={0}&maxAge=0",
    "symbol={0}&maxAge=x", "symbols=%5B%22{0}%22,%22{0}%22%5D", "symbols=%5B%22{0}%22,%20%22GONE%22%5D",
)  # fmt: skip


@pytest.mark.parametrize(("market", "what"), EVERY)
async def test_wrong_parameters_are_refused_in_json(one: Bench, market: Market, what: str) -> None:
    begun = one.mark()
    for query in BAD:
        timed = await one.get(local(market, what, query.format(SYMBOLS[market][0])))
        assert timed.status == 400, (query, timed.body)
        assert set(orjson.loads(timed.body)) >= {"code", "msg"}
        assert (timed.header("content-type") or "").startswith("application/json")
        assert timed.header("x-resender-error")
    assert one.calls(since=begun) == one.own_calls(since=begun)


async def test_endpoint_that_is_none_is_refused_in_json(one: Bench) -> None:
    for path in ("spot/premiumIndex", "spot/fundingRate", "um/nothing", "options/depth"):
        timed = await one.get(f"/local/{path}?symbol=BTCUSDT")
        assert timed.status == 404, timed.body
        assert "Local endpoints are" in orjson.loads(timed.body)["msg"]
