"""Order books over TLS against the sandbox: every hit is the exchange's own book of its update id."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.core.market.words import BOOK, PARTIAL_BOOK
from resender.market.kinds.books import Books
from resender.sandbox import Fault, SandboxConfig
from tests.support.book_judge import BookWatch, depth_target
from tests.support.cache_bench import (
    MARKETS,
    SYMBOL,
    Bench,
    ExchangeClock,
    bench,
    side_by_side,
    small_exchange,
)
from tests.support.running import wait_until

# They judge moments.
pytestmark = [pytest.mark.component, pytest.mark.alone]

LIMITS = (5, 20, 100, 1000)
STILL = {Market.SPOT: "NKNUSDT", Market.UM: "NKNUSDT", Market.CM: "ETHUSD_PERP"}
PAUSE_S = 0.04


def exchange(**options: object) -> SandboxConfig:
    values = {"weight_limits": dict.fromkeys(("spot", "futures"), 1_000_000), **options}
    return small_exchange(ExchangeClock.before_close(50), **values)


def watch(one: Bench, *limits: int) -> BookWatch:
    made = BookWatch(one)
    for market in MARKETS:
        made.depth(market, SYMBOL[market], *limits)
    return made


def gaps(one: Bench) -> int:
    return sum(one.cache.kind(Books, market).gaps for market in MARKETS)


async def test_no_hit_is_ever_wrong_whatever_becomes_of_its_stream(tmp_path: Path) -> None:
    async with bench(tmp_path, exchange()) as one:
        watched = watch(one, *LIMITS)
        faults = one.sandbox.faults
        switches = [faults.stream(market) for market in MARKETS]
        async with watched.polling(PAUSE_S):  # from the first moment
            await watched.until_all_hit()
            assert gaps(one) == 0
            for each in switches:
                each.repeat_once = "@depth@"
            await asyncio.sleep(0.3)
            await watched.until_all_hit()
            assert gaps(one) == 0, "what is repeated is no gap"
            for kind in ("lose_once", "swap_once"):
                for each in switches:
                    setattr(each, kind, "@depth@")
                await wait_until(lambda kind=kind: not any(getattr(each, kind) for each in switches), 5)
                await asyncio.sleep(0.3)
                await watched.until_all_hit()
                assert gaps(one) > 0
            for market in MARKETS:
                faults.drop_streams(market)
                faults.stream(market).depth_lag_ms = 400  # snapshots are older than what waits for them
            slow = faults.add(Fault("delay", match="depth", seconds=0.5, times=None))
            await watched.until_all_hit()
            faults.remove(slow)
            for market in MARKETS:
                faults.stream(market).depth_lag_ms = 0
                one.store(market).restart_book(SYMBOL[market], one.clock())
            await watched.until_all_hit()
        assert slow.hits
    assert watched.errors == 0
    assert all(watched.hits_of[target] > 5 for target in watched.targets)


async def _fall_mute(data_dir: Path) -> None:
    async with bench(data_dir, exchange(), stream_quiet_s=2.0) as one:
        watched = watch(one, 20, 100)
        async with watched.polling(PAUSE_S):
            await watched.until_all_hit()
            for market in MARKETS:
                assert one.sandbox.faults.mute(market, "depth")
            states = one.cache.states
            await wait_until(lambda: all(states[market].mutes for market in MARKETS), 12)
            await watched.until_all_hit()
    assert watched.errors == 0
    assert max(watched.ages.values()) <= 2000 + 100


async def _never_begin(data_dir: Path) -> None:
    async with bench(data_dir, exchange(), stream_quiet_s=2.0) as one:
        watched = watch(one, 20, 100)
        for market in MARKETS:
            one.sandbox.faults.never_start(market, "depth")
        async with watched.polling(PAUSE_S):
            states = one.cache.states
            await wait_until(lambda: all(states[market].mutes >= 2 for market in MARKETS), 12)
            for market in MARKETS:
                one.sandbox.faults.never_start(market, "depth", on=False)
    assert watched.errors == 0


async def test_acknowledged_stream_that_is_silent_is_moved_and_no_hit_was_older_than_told(
    tmp_path: Path,
) -> None:
    await side_by_side(_fall_mute(tmp_path / "a"), _never_begin(tmp_path / "b"))


async def test_quiet_book_is_answered_with_few_reads_and_its_one_change_at_once(tmp_path: Path) -> None:
    config = exchange(still_symbols=sorted(set(STILL.values())), partial_on_change=True)
    async with bench(tmp_path, config, stream_quiet_s=2.0) as one:
        watched = BookWatch(one)
        for market in MARKETS:
            watched.depth(market, STILL[market], *LIMITS)
        async with watched.polling(PAUSE_S):
            await watched.until_all_hit()
            begun = one.mark()
            await asyncio.sleep(2.5)
            for market in MARKETS:
                one.store(market).next_update(STILL[market], one.clock())
            await asyncio.sleep(0.5)
            await watched.until_all_hit()
            reads = [call for call in one.own_calls(since=begun) if call.path.endswith("/depth")]
            for market in MARKETS:
                found = await one.get(depth_target(market, STILL[market], 5))
                assert found.is_hit
                assert found.rows["lastUpdateId"] == one.store(market).update_id(STILL[market])
            kept = [each for state in one.cache.states.values() for each in state.entries()]
            assert {each.what for each in kept if each.symbol in STILL.values()} == {BOOK, PARTIAL_BOOK}
        assert 0 < len(reads) <= 6 * len(MARKETS)
    assert watched.errors == 0
