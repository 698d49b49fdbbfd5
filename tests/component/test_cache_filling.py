"""How the cache is filled: on demand, by rules, within its share of the weight, over a restart."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from resender.core.market.preload import parse_preload, parse_rule
from resender.market import cache as cache_module
from resender.market.candle_files import SUFFIX, CandleFiles
from resender.sandbox import Fault, Gap, Sandbox
from resender.sandbox import intervals as iv
from resender.store import open_repository
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
    series_of,
    small_exchange,
    subscribed,
    tickers_of,
)
from tests.support.running import wait_until

pytestmark = pytest.mark.component

MINUTE_MS = 60_000
FAR = 45.0  # seconds to the next close of a minute: none happens during such a test


def is_live(one: Bench, market: Market, symbol: str, what: str = "1m") -> bool:
    line = one.cache.states[market]
    entry = tickers_of(line).get(symbol) if what == "bookTicker" else series_of(line).get((symbol, what))
    return entry is not None and entry.state == "live"


def limits(calls: list[Any]) -> list[int]:
    return [int(dict(pair.split("=") for pair in call.query.split("&"))["limit"]) for call in calls]


async def until_live(
    one: Bench, market: Market, symbol: str, what: str = "1m", timeout_s: float = 12
) -> None:
    await wait_until(lambda: is_live(one, market, symbol, what), timeout_s)


# -- on demand ------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
async def test_first_call_is_forwarded_at_once_and_the_next_ones_become_hits(
    tmp_path: Path, market: Market
) -> None:
    async with bench(tmp_path) as one:
        # Whatever the gateway wants to know by itself is slow.
        slow = one.sandbox.faults.add(Fault("delay", match="/time$|exchangeInfo", times=None, seconds=0.6))
        begun = time.monotonic()
        for target in (
            kline_target(market, SYMBOL[market], "1m"),
            f"{TICKERS[market]}?symbol={SYMBOL[market]}",
        ):
            first = await one.get(target)
            assert first.cache == "miss; starting"
            assert first.status == 200
        assert time.monotonic() - begun < 0.5
        one.sandbox.faults.remove(slow)
        kline = await one.until_hit(kline_target(market, SYMBOL[market], "1m"))
        one.check(kline, market, SYMBOL[market], "1m")
        ticker = await one.until_hit(f"{TICKERS[market]}?symbol={SYMBOL[market]}")
        one.check_ticker(ticker, market, SYMBOL[market])


async def test_no_more_series_than_allowed_are_started_on_demand(tmp_path: Path) -> None:
    wanted = [("BTCUSDT", "1m"), ("BTCUSDT", "5m"), ("ETHUSDT", "1m"), ("SOLUSDT", "1h"), ("NKNUSDT", "1d")]
    async with bench(tmp_path, max_on_demand_series=3, preload="cm:BTCUSD_PERP@1m,1h,bookTicker") as one:
        # Also when all of them ask before the symbols are known, klines and tickers together.
        await asyncio.gather(*(one.klines(Market.UM, *each) for each in wanted))
        await one.book_ticker(Market.UM, "BTCUSDT")
        await until_live(one, Market.CM, "BTCUSD_PERP")
        await wait_until(lambda: sum(len(line.entries()) for line in one.cache.states.values()) == 6)
        await one.until_hit(kline_target(Market.UM, "BTCUSDT", "1m"))
        for _ in range(3):
            for each in (*wanted[3:], ("BTCUSDT", "1w")):
                assert (await one.klines(Market.UM, *each)).cache == "miss; too many series"
            assert (await one.book_ticker(Market.SPOT, "BTCUSDT")).cache in (
                "miss; too many series",
                "miss; starting",
            )
        assert sum(not e.is_preload for line in one.cache.states.values() for e in line.entries()) == 3
        assert sum(map(len, subscribed(one))) == 3
        assert not any(one.sandbox.subscriptions(Market.SPOT))


async def test_zero_series_on_demand_means_rules_only(tmp_path: Path) -> None:
    async with bench(tmp_path, max_on_demand_series=0, preload="um:BTCUSDT@1m") as one:
        for _ in range(3):
            assert not (await one.klines(Market.UM, "ETHUSDT", "1m")).is_hit
        await one.until_hit(kline_target(Market.UM, "BTCUSDT", "1m"))
        assert [e.symbol for e in one.cache.states[Market.UM].entries()] == ["BTCUSDT"]


async def test_what_nobody_asks_for_is_dropped_unless_a_rule_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_SWEEP_S", 0.1)
    async with bench(tmp_path, preload="um:BTCUSDT@1m") as one:
        one.cache.options = replace(one.cache.options, idle_minutes=0.8 / 60)
        target = kline_target(Market.UM, "ETHUSDT", "1m")
        await one.until_hit(target)
        await one.until_hit(f"{TICKERS[Market.UM]}?symbol=ETHUSDT")
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            assert (await one.get(target)).is_hit  # what is used stays
            await asyncio.sleep(0.05)
        await wait_until(lambda: "ETHUSDT" not in tickers_of(one.cache.states[Market.UM]))
        await wait_until(lambda: len(one.cache.states[Market.UM].entries()) == 1)
        await wait_until(lambda: subscribed(one) == [["btcusdt@kline_1m"]])
        assert (await one.klines(Market.UM, "BTCUSDT", "1m")).is_hit
        timed = await one.get(target)
        assert timed.cache == "miss; not held yet"
        one.check(await one.until_hit(target), Market.UM, "ETHUSDT", "1m")


async def test_unknown_symbol_opens_no_stream(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.until_hit(kline_target(Market.UM, "BTCUSDT", "1m"))
        for symbol in ("NOSUCHUSDT", "BTCUSD_PERP"):
            for _ in range(2):
                assert (await one.klines(Market.UM, symbol, "1m")).cache == "miss; unknown symbol"
                assert (await one.book_ticker(Market.UM, symbol)).cache == "miss; unknown symbol"
        assert subscribed(one) == [["btcusdt@kline_1m"]]


# -- rules ----------------------------------------------------------------------------------------


async def test_preloaded_series_are_live_without_any_call(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="spot:BTC*,ETHUSDT@1m,1s,bookTicker;cm:*@1h") as one:
        for what in ("1m", "1s", "bookTicker"):
            await until_live(one, Market.SPOT, "BTCUSDT", what)
            await until_live(one, Market.SPOT, "ETHUSDT", what)
        await until_live(one, Market.CM, "BTCUSD_PERP", "1h")
        await until_live(one, Market.CM, "ETHUSD_PERP", "1h")
        assert not one.cache.states[Market.UM].is_started
        assert one.calls() == one.own_calls()
        for symbol in ("BTCUSDT", "ETHUSDT"):
            assert (await one.klines(Market.SPOT, symbol, "1m")).is_hit
            assert (await one.book_ticker(Market.SPOT, symbol)).is_hit
        assert one.calls() == one.own_calls()
        for symbol in ("BTCUSDT", "ETHUSDT"):
            # The row that was the newest when the series was read closed within a second: a read made
            # so soon after a close is no last word.
            timed = await one.until_hit(kline_target(Market.SPOT, symbol, "1s"))
            one.check(timed, Market.SPOT, symbol, "1s")


async def test_series_of_seconds_comes_alive_without_anybody_asking(tmp_path: Path) -> None:
    # What closed right before its first read has no final event any more: it is read again.
    async with bench(tmp_path, preload="spot:BTCUSDT@1s") as one:
        await until_live(one, Market.SPOT, "BTCUSDT", "1s")
        series = series_of(one.cache.states[Market.SPOT])["BTCUSDT", "1s"].series
        begun_ms = one.clock()
        await wait_until(lambda: series.last_close > begun_ms + 3000, 25)
        assert one.calls() == one.own_calls()


async def test_rules_of_the_database_are_followed_while_it_runs(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        database = one.run.gateway.config.database

        def change(action: Any) -> Any:
            with open_repository(database) as repository:
                return action(repository)

        row = await asyncio.to_thread(
            change, lambda r: r.preload_add(parse_rule("um", "ETHUSDT,BTC*", "1m,bookTicker"))
        )
        await until_live(one, Market.UM, "BTCUSDT")
        await until_live(one, Market.UM, "ETHUSDT", "bookTicker")
        await asyncio.to_thread(change, lambda r: r.preload_update(row.id, parse_rule("um", "ETHUSDT", "1m")))
        kept = one.cache.states[Market.UM]
        await wait_until(lambda: {e.symbol for e in kept.entries() if e.is_preload} == {"ETHUSDT"})
        assert not any(e.is_preload for e in tickers_of(kept).values())
        assert series_of(one.cache.states[Market.UM])["ETHUSDT", "1m"].is_preload
        assert (await one.klines(Market.UM, "ETHUSDT", "1m")).is_hit
        await asyncio.to_thread(change, lambda r: r.preload_remove(row.id))
        await wait_until(lambda: not any(e.is_preload for e in kept.entries()))


async def test_glob_follows_a_listing_a_halt_and_a_delisting(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="um:*USDT@1m,bookTicker", symbol_refresh_s=1) as one:
        sandbox = one.sandbox
        await until_live(one, Market.UM, "SOLUSDT")
        sandbox.list_symbol(Market.UM, "FRESHUSDT")
        sandbox.list_symbol(Market.UM, "FRESHUSDC")
        await until_live(one, Market.UM, "FRESHUSDT")
        await until_live(one, Market.UM, "FRESHUSDT", "bookTicker")
        assert ("FRESHUSDC", "1m") not in series_of(one.cache.states[Market.UM])
        fresh = await one.klines(Market.UM, "FRESHUSDT", "1m", 500)
        assert fresh.is_hit
        assert 1 <= len(fresh.rows) <= 3  # all there is: it was listed now
        one.check(fresh, Market.UM, "FRESHUSDT", "1m", 500)
        sandbox.halt(Market.UM, "SOLUSDT")
        sandbox.delist(Market.UM, "ETHUSDT")
        await wait_until(lambda: not {"SOLUSDT", "ETHUSDT"} & set(tickers_of(one.cache.states[Market.UM])))
        assert (await one.klines(Market.UM, "SOLUSDT", "1m")).cache == "miss; unknown symbol"
        gone = await one.klines(Market.UM, "ETHUSDT", "1m")
        assert (gone.status, gone.cache) == (400, "miss; unknown symbol")
        assert b"-1121" in gone.body
        sandbox.resume(Market.UM, "SOLUSDT")
        await until_live(one, Market.UM, "SOLUSDT")
        one.check(await one.klines(Market.UM, "SOLUSDT", "1m"), Market.UM, "SOLUSDT", "1m")


# -- backfill -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "pieces", "weight"),
    [(Market.SPOT, [1000, 500], 4), (Market.UM, [499, 499, 499, 3], 7), (Market.CM, [499, 499, 499, 3], 7)],
)
async def test_depth_is_reached_in_the_cheapest_pieces(
    tmp_path: Path, market: Market, pieces: list[int], weight: int
) -> None:
    exchange = small_exchange(ExchangeClock.before_close(FAR))
    async with bench(tmp_path, exchange, preload=f"{market}:{SYMBOL[market]}@1m", kline_depth=1500) as one:
        await until_live(one, market, SYMBOL[market])
        assert limits(one.own_calls(KLINES[market])) == pieces
        timed = await one.klines(market, SYMBOL[market], "1m", 1500)
        assert timed.is_hit
        one.check(timed, market, SYMBOL[market], "1m", 1000 if market is Market.SPOT else 1500)
        # The other reads are the time, the list of symbols and what the answer to them costs.
        others = {"/api/v3/exchangeInfo": 20}
        costs = sum(others.get(c.path, 1) for c in one.own_calls() if c.path != KLINES[market])
        assert (
            one.sandbox.weight("127.0.0.1", "spot" if market is Market.SPOT else "futures") == costs + weight
        )


async def test_young_symbol_is_known_to_have_no_older_candles(tmp_path: Path) -> None:
    clock = ExchangeClock.before_close(FAR)
    listed = clock() // MINUTE_MS * MINUTE_MS - 30 * MINUTE_MS
    exchange = small_exchange(clock, listings={"SOLUSDT": listed, "BTCUSDT": listed, "BTCUSD_PERP": listed})
    async with bench(tmp_path, exchange, preload="spot:BTCUSDT@1m;um:SOLUSDT@1m;cm:BTCUSD_PERP@1m") as one:
        for market, symbol in ((Market.SPOT, "BTCUSDT"), (Market.UM, "SOLUSDT"), (Market.CM, "BTCUSD_PERP")):
            await until_live(one, market, symbol)
            for extra in ("", f"&startTime={listed - MINUTE_MS * 10}", f"&startTime={listed}"):
                timed = await one.get(kline_target(market, symbol, "1m", 1000) + extra)
                assert timed.is_hit, (extra, timed.cache)
                assert len(timed.rows) == 31
                one.check(timed, market, symbol, "1m", 1000)
            before = await one.get(kline_target(market, symbol, "1m", 1000) + f"&endTime={listed - 1}")
            assert before.body == b"[]"


@pytest.mark.parametrize("interval", ["1d", "1w", "1M"])
async def test_coin_m_series_longer_than_200_days_is_read_window_by_window(
    tmp_path: Path, interval: str
) -> None:
    exchange = small_exchange(ExchangeClock.before_close(FAR))
    async with bench(tmp_path, exchange, preload=f"cm:BTCUSD_PERP@{interval}", kline_depth=500) as one:
        await until_live(one, Market.CM, "BTCUSD_PERP", interval)
        store = one.store(Market.CM)
        held = series_of(one.cache.states[Market.CM])["BTCUSD_PERP", interval].series
        truth = store.kline_bytes("BTCUSD_PERP", interval, limit=len(held))
        assert len(held) >= (500 if interval == "1d" else 20)
        timed = await one.klines(Market.CM, "BTCUSD_PERP", interval, len(held))
        assert timed.is_hit
        one.check(timed, Market.CM, "BTCUSD_PERP", interval, len(held))
        assert timed.body.count(b"],[") == truth.count(b"],[")
        if held.is_whole:
            assert len(held) == len(store.kline_rows("BTCUSD_PERP", interval, limit=1500))


async def test_real_holes_of_history_are_shown_as_binance_shows_them(tmp_path: Path) -> None:
    clock = ExchangeClock.before_close(FAR)
    now = clock() // MINUTE_MS * MINUTE_MS
    gaps = [
        Gap("um", "BTCUSDT", now - 100 * MINUTE_MS, now - 90 * MINUTE_MS),
        Gap("um", "BTCUSDT", now - 2 * MINUTE_MS, now - MINUTE_MS),
        Gap("um", "BTCUSDT", now - 520 * MINUTE_MS, now - 500 * MINUTE_MS),
    ]
    exchange = small_exchange(clock, gaps=gaps)
    async with Sandbox(exchange) as sandbox:
        for _ in range(2):  # the second time from the file
            async with gateway_on(tmp_path, sandbox, preload="um:BTCUSDT@1m", kline_depth=600) as one:
                await until_live(one, Market.UM, "BTCUSDT")
                store = one.store(Market.UM)
                for limit in (1, 2, 5, 95, 120, 600):
                    timed = await one.klines(Market.UM, "BTCUSDT", "1m", limit)
                    assert timed.is_hit
                    one.check(timed, Market.UM, "BTCUSDT", "1m", limit)
                for start in (
                    now - 100 * MINUTE_MS,
                    now - 95 * MINUTE_MS,
                    now - 90 * MINUTE_MS,
                    now - 102 * MINUTE_MS,
                ):
                    for extra, end in (
                        ("", None),
                        (f"&endTime={now - 88 * MINUTE_MS}", now - 88 * MINUTE_MS),
                    ):
                        timed = await one.get(
                            kline_target(Market.UM, "BTCUSDT", "1m", 5) + f"&startTime={start}{extra}"
                        )
                        assert timed.is_hit
                        assert timed.body == store.kline_bytes("BTCUSDT", "1m", start, end, 5)


async def test_share_of_the_weight_is_kept_and_filling_goes_on_in_the_next_minute(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(5.0), um_symbols=60, weight_limits={"futures": 200})
    async with bench(tmp_path, exchange, preload="um:*@1h", kline_depth=499) as one:
        sandbox = one.sandbox

        def used() -> int:
            return sandbox.weight("127.0.0.1", "futures")

        minute = one.clock() // MINUTE_MS
        most = 0
        while one.clock() // MINUTE_MS == minute:
            most = max(most, used())
            await asyncio.sleep(0.02)
        assert 70 <= most <= 100
        first = len(one.own_calls(KLINES[Market.UM]))
        status = (await one.get("/local/status")).rows
        assert {row["state"] for row in status["series"]} >= {"live", "syncing"}
        queued = {row["pool"]: row["queued"] for row in status["backfill"]}
        assert queued["futures"] == sum(row["state"] != "live" for row in status["series"]) > 0
        await wait_until(lambda: len(one.own_calls(KLINES[Market.UM])) > first + 10, 10)
        assert used() <= 104  # reads under way at the turn of the minute
        assert not sandbox.violations
        # A client's call for what is not there yet goes first, and is forwarded meanwhile.
        assert (await one.klines(Market.UM, "BTCUSDT", "1d")).status == 200


async def test_most_wanted_series_are_filled_first(tmp_path: Path) -> None:
    exchange = small_exchange(ExchangeClock.before_close(FAR), um_symbols=60, weight_limits={"futures": 120})
    async with bench(tmp_path, exchange, kline_depth=499) as one:
        # So slow that the share of the weight is not used up before anybody has asked.
        one.sandbox.faults.add(Fault("delay", match="/klines", host="fapi", times=None, seconds=0.2))
        one.cache.set_rules(parse_preload("um:*@1h"))
        line = one.cache.states[Market.UM]
        await wait_until(lambda: any(e.state == "live" for e in line.entries()))
        wanted = [e.symbol for e in line.entries() if e.state != "live"][-1]
        # Asked for once each: more calls would use up the weight both they and the own reads need.
        for symbol, interval in ((wanted, "1h"), ("BTCUSDT", "4h")):
            await one.get(kline_target(Market.UM, symbol, interval))
            await wait_until(
                lambda symbol=symbol, interval=interval: is_live(one, Market.UM, symbol, interval), 12
            )
            assert (await one.klines(Market.UM, symbol, interval)).is_hit
        assert one.cache.backfills["futures"].queued() > 0


@pytest.mark.parametrize("status", [429, 418])
async def test_own_reads_pause_until_retry_after(tmp_path: Path, status: int) -> None:
    exchange = small_exchange(ExchangeClock.before_close(FAR), um_symbols=30, cm_symbols=["BTCUSD_PERP"])
    async with bench(
        tmp_path, exchange, preload="um:*@1h;cm:*@1h", kline_depth=1500, symbol_refresh_s=1
    ) as one:
        sandbox = one.sandbox
        await wait_until(lambda: len(one.own_calls(KLINES[Market.UM])) >= 5)
        fault = sandbox.faults.add(
            Fault("status", match="/klines", host="fapi", status=status, times=None, headers={"retry-after": "2"},
                  body='{"code":-1003,"msg":"Way too many requests"}')
        )  # fmt: skip
        await wait_until(lambda: fault.hits)
        sandbox.faults.remove(fault)
        await asyncio.sleep(0.3)  # what was under way together with the refused one
        begun, mark = time.monotonic(), one.mark()
        while one.mark() == mark:
            assert time.monotonic() < begun + 6
            await asyncio.sleep(0.01)
        # USD-M and COIN-M share the pool, so nothing at all may come, not even the list of symbols.
        assert time.monotonic() - begun > 1.3
        await until_live(one, Market.CM, "BTCUSD_PERP", "1h")
        await wait_until(lambda: one.cache.backfills["futures"].queued() == 0, 10)


@pytest.mark.parametrize("machine_h", [1, -1])
async def test_refusal_a_client_met_pauses_own_reads_whatever_the_machines_clock_says(
    tmp_path: Path, machine_h: int
) -> None:
    async with bench(tmp_path, machine_ms=machine_h * 3_600_000) as one:
        fault = one.sandbox.faults.add(
            Fault("status", match="/ping", status=418, times=1, headers={"retry-after": "2"}, body="{}")
        )
        begun = time.monotonic()
        assert (await one.get("/fapi/v1/ping")).status == 418
        assert fault.hits == 1
        await one.klines(Market.UM, "BTCUSDT", "1m")
        await wait_until(lambda: one.own_calls(), 8)
        assert 1.5 < time.monotonic() - begun < 4
        one.check(await one.until_hit(kline_target(Market.UM, "BTCUSDT", "1m")), Market.UM, "BTCUSDT", "1m")


async def test_pool_closed_by_clients_gets_no_own_read(tmp_path: Path) -> None:
    exchange = small_exchange(
        ExchangeClock.before_close(4.0), um_symbols=50, weight_limits={"futures": 150}, ban_after=99
    )
    async with bench(tmp_path, exchange, preload="um:*@1h", kline_depth=99) as one:
        await wait_until(lambda: len(one.own_calls(KLINES[Market.UM])) >= 3)
        for _ in range(20):  # weight 10 each
            last = await one.get("/fapi/v1/premiumIndex")
        assert last.status == 429
        minute = one.clock() // MINUTE_MS
        await wait_until(lambda: one.clock() // MINUTE_MS > minute, 6)
        await wait_until(lambda: one.cache.backfills["futures"].queued() == 0, 10)
        own = [v.call for v in one.sandbox.violations if v.call in one.own_calls()]
        # Reads that were under way at the very moment cannot be held back.
        assert len(own) <= 4
        assert all(v.call.received_ms // MINUTE_MS == minute for v in one.sandbox.violations)


async def test_rest_errors_during_backfill_are_tried_again(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="um:*@1m", kline_depth=1500) as one:
        faults = [
            one.sandbox.faults.add(Fault("status", match="/klines", times=1, status=500)),
            one.sandbox.faults.add(Fault("html", match="/klines", times=1)),
            one.sandbox.faults.add(Fault("reset_mid_body", match="/klines", times=1)),
            one.sandbox.faults.add(Fault("truncated_gzip", match="/klines", times=1)),
            one.sandbox.faults.add(Fault("status", match="/klines", times=1, status=200, body="[[1,2]]")),
            one.sandbox.faults.add(Fault("status", match="/klines", times=1, status=200, body="{}")),
        ]
        for symbol in list(one.store(Market.UM).series):
            await until_live(one, Market.UM, symbol, timeout_s=25)
        assert all(fault.hits == fault.times for fault in faults)
        for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
            timed = await one.klines(Market.UM, symbol, "1m", 1500)
            assert timed.is_hit
            one.check(timed, Market.UM, symbol, "1m", 1500)


# -- restart --------------------------------------------------------------------------------------

WARM = "spot:BTCUSDT@1m;um:BTCUSDT,ETHUSDT,币安人生USDT@1m;cm:BTCUSD_PERP@1m"


async def filled(one: Bench) -> None:
    lines = one.cache.states.values()
    await wait_until(lambda: sum(e.state == "live" for line in lines for e in line.entries()) == 5, 15)


async def check_all(one: Bench, limit: int = 1000) -> None:
    for market, symbol in ((Market.SPOT, "BTCUSDT"), (Market.UM, "ETHUSDT"), (Market.UM, "币安人生USDT"),
                           (Market.CM, "BTCUSD_PERP")):  # fmt: skip
        timed = await one.klines(market, symbol, "1m", limit)
        assert timed.is_hit, timed.cache
        assert len(timed.rows) == limit
        one.check(timed, market, symbol, "1m", limit)


@pytest.mark.parametrize("disk_s", [0.0, 0.8])
async def test_restart_reads_only_the_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_s: float
) -> None:
    async with Sandbox(small_exchange(ExchangeClock.before_close(FAR))) as sandbox:
        async with gateway_on(tmp_path, sandbox, preload=WARM, kline_depth=1500) as one:
            await filled(one)
            await check_all(one)
        assert len(list((tmp_path / "candles").rglob(f"*{SUFFIX}"))) == 5
        original = CandleFiles.load_one

        def slow(self: CandleFiles, *key: Any) -> Any:
            time.sleep(disk_s)
            return original(self, *key)

        # Also when the stream is faster than the disk.
        monkeypatch.setattr(CandleFiles, "load_one", slow)
        mark, before = len(sandbox.calls), sandbox.weight("127.0.0.1", "futures")
        async with gateway_on(tmp_path, sandbox, preload=WARM, kline_depth=1500) as one:
            await filled(one)
            reads = one.own_calls(since=mark)
            assert sum(b.rows_read for b in one.cache.backfills.values()) <= 5 * 4
            assert max(limits([c for c in reads if c.path in KLINES.values()])) <= 5
            assert sandbox.weight("127.0.0.1", "futures") - before <= 4 + len(reads)
            await check_all(one)
            timed = await one.klines(Market.UM, "BTCUSDT", "1m", 1500)
            assert timed.is_hit
            one.check(timed, Market.UM, "BTCUSDT", "1m", 1500)


async def test_restart_after_a_while_reads_as_much_as_was_missed(tmp_path: Path) -> None:
    clock = ExchangeClock.before_close(FAR)
    async with Sandbox(small_exchange(clock)) as sandbox:
        async with gateway_on(tmp_path, sandbox, preload=WARM, kline_depth=1500) as one:
            await filled(one)
        clock.shift_ms += 30 * MINUTE_MS
        mark = len(sandbox.calls)
        async with gateway_on(tmp_path, sandbox, preload=WARM, kline_depth=1500) as one:
            await filled(one)
            assert set(limits(one.own_calls(KLINES[Market.UM], mark))) <= {33, 34, 35}
            await check_all(one)


@pytest.mark.parametrize("days", [3, 400])
async def test_candles_too_old_to_be_joined_are_given_up(tmp_path: Path, days: int) -> None:
    clock = ExchangeClock.before_close(FAR)
    async with Sandbox(small_exchange(clock)) as sandbox:
        async with gateway_on(tmp_path, sandbox, preload=WARM, kline_depth=1500) as one:
            await filled(one)
        clock.shift_ms += days * 1440 * MINUTE_MS
        async with gateway_on(tmp_path, sandbox, preload=WARM, kline_depth=1500) as one:
            await filled(one)
            await check_all(one)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text", "folder"])
async def test_damaged_file_is_left_out_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Sandbox(small_exchange(ExchangeClock.before_close(FAR))) as sandbox:
        async with gateway_on(tmp_path, sandbox, preload="um:BTCUSDT@1m", kline_depth=300) as one:
            await until_live(one, Market.UM, "BTCUSDT")
        (path,) = (tmp_path / "candles").rglob(f"*{SUFFIX}")
        data = path.read_bytes()
        if damage == "folder":
            path.unlink()
            path.mkdir()
        else:
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            path.write_bytes({"flipped": flipped, "cut": data[:-40], "empty": b"", "text": b"{}"}[damage])
        mark = len(sandbox.calls)
        async with gateway_on(tmp_path, sandbox, preload="um:BTCUSDT@1m", kline_depth=300) as one:
            await until_live(one, Market.UM, "BTCUSDT")
            assert "are not used" in caplog.text
            assert limits(one.own_calls(KLINES[Market.UM], mark)) == [300]
            timed = await one.klines(Market.UM, "BTCUSDT", "1m", 300)
            assert timed.is_hit
            one.check(timed, Market.UM, "BTCUSDT", "1m", 300)
            if damage == "folder":
                path.rmdir()


async def test_series_that_starts_over_after_a_long_loss_packs_its_new_rows(tmp_path: Path) -> None:
    """Nothing of the time before may be in a compressed answer."""
    exchange = small_exchange(quiet_symbols=["BNBUSDT"])
    async with bench(tmp_path, exchange, preload="spot:BNBUSDT@1s", kline_depth=100) as one:
        await until_live(one, Market.SPOT, "BNBUSDT", "1s")
        target = kline_target(Market.SPOT, "BNBUSDT", "1s", 90)
        entry = series_of(one.cache.states[Market.SPOT])["BNBUSDT", "1s"]
        for _ in range(4):
            packed = await one.until_hit_packed(target)
            one.check(packed, Market.SPOT, "BNBUSDT", "1s", 90)
            # As after a loss longer than one read can bridge.
            one.cache.backfills["spot"]._widen(entry, 1000)
            one.cache.backfills["spot"].wake()
            await wait_until(lambda: entry.state == "live")


async def test_interval_of_every_length_is_kept_right(tmp_path: Path) -> None:
    every = ",".join(iv.FIXED_MS) + ",1M"
    exchange = small_exchange(ExchangeClock.before_close(FAR))
    async with bench(tmp_path, exchange, preload=f"spot:BTCUSDT@{every}", kline_depth=50) as one:
        for interval in every.split(","):
            await until_live(one, Market.SPOT, "BTCUSDT", interval)
            timed = await one.until_hit(kline_target(Market.SPOT, "BTCUSDT", interval, 50))
            one.check(timed, Market.SPOT, "BTCUSDT", interval, 50)
