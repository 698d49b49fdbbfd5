"""Answers for whoever consents to an age: true of the time they tell, never older than consented, else forwarded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest

from resender.core.binance.endpoints import DAY_TICKERS, PREMIUM_INDEX
from resender.core.binance.markets import Market
from tests.support.cache_bench import MARKETS, SYMBOL, Bench, bench, small_exchange
from tests.support.cache_judge import Timed
from tests.support.row_watch import RowWatch, day_problem, day_target, mark_problem, mark_target
from tests.support.running import wait_until

pytestmark = pytest.mark.component

PRELOAD = "spot:*@ticker;um:*@ticker,markPrice;cm:*@ticker,markPrice"
FUTURES = (Market.UM, Market.CM)
AGE_MS = 3000
CONSENT = (f"ticker/24hr={AGE_MS}", f"premiumIndex={AGE_MS}")


def names(one: Bench, market: Market) -> list[str]:
    return [spec.symbol for spec in one.store(market).symbols]


def wanted(one: Bench) -> list[tuple[str, Market, list[str], str]]:
    """List what is polled: target, market, symbols, and "MINI", "day" or "mark"."""
    listed = quote('["ETHUSDT","BTCUSDT"]')
    spot = Market.SPOT
    found = [
        (day_target(spot, f"?symbols={listed}"), spot, ["ETHUSDT", "BTCUSDT"], "day"),
        (day_target(spot, "?type=MINI"), spot, names(one, spot), "MINI"),
        (day_target(spot, "?symbol=BTCUSDT&type=MINI"), spot, ["BTCUSDT"], "MINI"),
        (day_target(spot, f"?symbols={listed}&type=FULL"), spot, ["ETHUSDT", "BTCUSDT"], "day"),
    ]
    for market in MARKETS:
        found.append((day_target(market, ""), market, names(one, market), "day"))
        found.append((day_target(market, f"?symbol={SYMBOL[market]}"), market, [SYMBOL[market]], "day"))
    for market in FUTURES:
        found.append((mark_target(market, ""), market, names(one, market), "mark"))
        found.append((mark_target(market, f"?symbol={SYMBOL[market]}"), market, [SYMBOL[market]], "mark"))
    return found


def problem(watched: RowWatch, timed: Timed, market: Market, symbols: list[str], form: str) -> str | None:
    if form == "mark":
        return mark_problem(watched, market, timed, symbols)
    return day_problem(watched, market, timed, symbols, form)


async def test_what_is_told_is_true_of_its_time_and_never_older_than_consented(tmp_path: Path) -> None:
    async with bench(tmp_path, small_exchange(), preload=PRELOAD, consent_max_age_ms=CONSENT) as one:
        watched = RowWatch(one)
        ages: list[int] = []

        for target, market, symbols, form in wanted(one):

            def judge(
                timed: Timed, market: Market = market, symbols: list[str] = symbols, form: str = form
            ) -> str | None:
                ages.append(timed.age_ms)
                if timed.age_ms > AGE_MS:
                    return f"older than consented: {timed.age_ms}"
                return problem(watched, timed, market, symbols, form)

            watched._jobs.append((target, judge))
        async with watched.polling(0.1):
            await watched.until_all_hit()
            for market in MARKETS:
                one.sandbox.faults.drop_streams(market)
            await watched.until_all_hit()
            for market in MARKETS:
                one.sandbox.faults.mute(market, "ticker|markPrice", everywhere=True)
            await asyncio.sleep(AGE_MS / 1000 + 0.3)
            for market in MARKETS:
                one.sandbox.faults.unmute(market)
            await watched.until_all_hit()
        assert watched.errors == 0
        assert max(ages) > 1000, "they do age"


async def test_whoever_does_not_consent_is_forwarded_and_the_header_comes_before_the_setting(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, small_exchange(), preload="um:BTCUSDT@ticker,markPrice") as one:
        for path in (DAY_TICKERS[Market.UM], PREMIUM_INDEX[Market.UM]):
            target = f"{path}?symbol=BTCUSDT"
            consent = ("Cache-Control", "max-age=2")
            for _ in range(100):
                if (timed := await one.get(target, consent)).is_hit:
                    break
                await asyncio.sleep(0.05)
            assert timed.is_hit
            assert timed.age_ms <= 2000
            for headers in (
                (),
                (("Cache-Control", "no-cache"),),
                (("Cache-Control", "no-store"),),
                (("Cache-Control", "max-age=0"),),
                (("Cache-Control", "max-age=-5"),),
                (("Cache-Control", "max-age=x"),),
                (("X-Mbx-Time-Unit", "MICROSECOND"), consent),
            ):
                begun = one.mark()
                timed = await one.get(target, *headers)
                assert not timed.is_hit
                assert timed.header("x-resender-cache") not in ("shared", "hit")
                assert len(one.calls(path, begun)) == 1, headers
            begun = one.mark()
            assert (await one.get(target, ("cache-control", "public, MAX-AGE=10"))).is_hit
            assert one.calls(path, begun) == []


async def test_setting_counts_for_its_market_and_path_only(tmp_path: Path) -> None:
    settings = {
        "preload": "um:BTCUSDT@ticker;spot:BTCUSDT@ticker",
        "consent_max_age_ms": ("um:ticker/24hr=3000",),
    }
    async with bench(tmp_path, small_exchange(), **settings) as one:
        await one.until_hit(day_target(Market.UM, "?symbol=BTCUSDT"))
        for target in (day_target(Market.SPOT, "?symbol=BTCUSDT"), mark_target(Market.UM, "?symbol=BTCUSDT")):
            for _ in range(5):
                assert not (await one.get(target)).is_hit
                await asyncio.sleep(0.05)


async def test_paths_without_a_stream_are_shared_for_as_long_and_keyed_calls_are_not(tmp_path: Path) -> None:
    target = "/fapi/v1/openInterest?symbol=BTCUSDT"
    async with bench(tmp_path, small_exchange(), consent_max_age_ms=("openInterest=700",)) as one:
        first = await one.get(target)
        begun = one.mark()
        again = await one.get(target)
        assert again.cache == "shared"
        assert again.body == first.body
        assert 0 <= again.age_ms <= 700
        assert one.calls("/fapi/v1/openInterest", begun) == []
        for headers in (
            (("X-MBX-APIKEY", "sandbox-key"),),
            (("Cache-Control", "no-cache"),),
            (("Cache-Control", "max-age=0"),),
        ):
            begun = one.mark()
            timed = await one.get(target, *headers)
            assert timed.cache != "shared", headers
            assert len(one.calls("/fapi/v1/openInterest", begun)) == 1, headers
        await asyncio.sleep(0.8)
        begun = one.mark()
        timed = await one.get(target)
        assert timed.cache != "shared", "it is too old by now"
        assert len(one.calls("/fapi/v1/openInterest", begun)) == 1
        # Who consents to more than the setting says may have an older one.
        await asyncio.sleep(0.3)
        assert (await one.get(target, ("Cache-Control", "max-age=5"))).age_ms >= 300


async def test_keyed_call_is_answered_out_of_what_is_kept_like_any_other(
    tmp_path: Path,
) -> None:
    target = day_target(Market.UM, "?symbol=BTCUSDT")
    async with bench(tmp_path, small_exchange(), consent_max_age_ms=CONSENT) as one:
        watched = RowWatch(one)
        for _ in range(200):
            timed = await one.get(target, ("X-MBX-APIKEY", "sandbox-key"))
            if timed.is_hit:
                break
            await asyncio.sleep(0.03)
        assert timed.is_hit
        assert day_problem(watched, Market.UM, timed, ["BTCUSDT"]) is None


async def test_symbol_that_is_listed_is_not_left_out_of_all(tmp_path: Path) -> None:
    settings = {"preload": PRELOAD, "consent_max_age_ms": CONSENT, "symbol_refresh_s": 1}
    async with bench(tmp_path, small_exchange(), **settings) as one:
        target = mark_target(Market.UM, "")
        await one.until_hit(target)
        one.sandbox.list_symbol(Market.UM, "FRESHUSDT")
        state = one.cache.states[Market.UM]
        await wait_until(
            lambda: ("FRESHUSDT", "markPrice") in {(e.symbol, e.what) for e in state.entries()}, 10
        )
        for _ in range(20):
            timed = await one.get(target)
            # What is shared may be as old as consented: from before it was listed.
            assert timed.cache == "shared" or [row["symbol"] for row in timed.rows] == names(one, Market.UM)
            await asyncio.sleep(0.05)
        assert [row["symbol"] for row in (await one.until_hit(target)).rows] == names(one, Market.UM)
