"""Two faults of old: quiet series of seconds that had to wait, and what was lost in a silence, told all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.market import Klines
from resender.market.series import KeptKlines
from tests.support.cache_bench import (
    KLINES,
    Bench,
    ExchangeClock,
    bench,
    kline_target,
    series_of,
    small_exchange,
)
from tests.support.running import wait_until

pytestmark = [pytest.mark.component, pytest.mark.alone]

UM, SPOT = Market.UM, Market.SPOT
NAMES = [f"S{letter}{other}USDT" for letter in "ABCDEF" for other in "UVWXYZ"]
MUTE_S = 1.6  # more than three pushes, less than what makes a connection a dead one here
SLACK_S = 0.06


async def test_quiet_series_of_seconds_is_answered_as_soon_as_it_has_been_read(tmp_path: Path) -> None:
    names = [f"Q{letter}{other}USDT" for letter in "ABCD" for other in "XYZ"]
    exchange = small_exchange(holes_1s=True, spot_symbols=["BTCUSDT", *names], quiet_symbols=names)
    async with bench(tmp_path, exchange) as one:
        await one.until_hit(kline_target(SPOT, "BTCUSDT", "1s"))
        now = one.clock()
        series = one.store(SPOT).series
        quiet = [name for name in names if not series[name].has_traded(now - 2000, now + 8000)]
        assert quiet, "one that is not traded for some seconds"
        target = kline_target(SPOT, quiet[0], "1s")
        reasons: list[str] = []
        kept: KeptKlines | None = None
        while not (timed := await one.get(target)).is_hit:
            kept = series_of(one.cache.states[SPOT]).get((quiet[0], "1s"))
            is_read = kept is not None and kept.series.is_synced
            reasons.append(f"{timed.cache} {'read' if is_read else ''}")
            assert one.clock() < now + 8000, reasons
            await asyncio.sleep(0.02)
        one.check(timed, SPOT, quiet[0], "1s")
        assert kept is not None
        assert not kept.event_ms, "its stream has not said a word"
        # A first read of all rows, and one of the newest before an answer: not one for each second.
        reads = [call for call in one.own_calls(KLINES[SPOT]) if quiet[0] in call.query]
        assert len(reads) <= 3
        assert sum(reason.endswith("read") for reason in reasons) <= 2, reasons


async def _poll(one: Bench, name: str, resumed: list[float], told: list[tuple[str, float, float]]) -> None:
    """Ask for one series all the time; note the hits of the time after a silence, and how old their proof is."""
    kind = one.cache.states[UM].kind(Klines)
    while True:
        goes_on = resumed[-1] if resumed else float("inf")
        heard = kind._event_mono > goes_on
        timed = await one.get(kline_target(UM, name, "1m"))
        if timed.is_hit and heard and goes_on == (resumed[-1] if resumed else 0.0):
            told.append((name, time.monotonic(), timed.age_ms / 1000))
        await asyncio.sleep(0.01)


async def test_series_whose_events_were_lost_in_a_silence_is_told_only_when_something_proves_it(
    tmp_path: Path,
) -> None:
    exchange = small_exchange(ExchangeClock.before_close(40), measured=True, um_symbols=NAMES)
    rules = f"um:{','.join(NAMES)}@1m"
    async with bench(tmp_path, exchange, preload=rules) as one:
        # Pushes of all kinds of moments are wanted, no other oddity: a stream that is moved is alone afterwards.
        switches = one.sandbox.faults.stream(UM)
        switches.silent_open = switches.late_row = False
        polled = NAMES[:10]
        for name in NAMES:
            await one.until_hit(kline_target(UM, name, "1m"))
        state = one.cache.states[UM]
        await asyncio.sleep(1.0)  # it is a busy connection
        resumed: list[float] = []
        told: list[tuple[str, float, float]] = []
        polls = [asyncio.create_task(_poll(one, name, resumed, told)) for name in polled]
        try:
            for _ in range(3):
                resumed.clear()
                told.clear()
                assert one.sandbox.faults.mute(UM, "")  # the witness' stream, too
                await asyncio.sleep(MUTE_S)
                one.sandbox.faults.unmute(UM)
                resumed.append(time.monotonic())
                await asyncio.sleep(1.0)
                await wait_until(lambda: {name for name, _, _ in told} == set(polled), 12)
                old = [(name, age) for name, at, age in told if at - age < resumed[0] - SLACK_S]
                assert not old, "proven by nothing that came after the silence"
        finally:
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)
        assert not state.mutes
