"""Faults of every kind of this folder, one after the other and at once, at random: no hit is ever wrong."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.market import market_state as market_line
from resender.sandbox import Sandbox
from tests.support.cache_bench import MARKETS, SYMBOL, ExchangeClock, bench
from tests.support.cache_judge import SLACK_MS
from tests.support.cache_watch import AgedWatch, conclude_mutes_quickly, quiet_exchange, quiet_names

pytestmark = [pytest.mark.component, pytest.mark.waits]

PATTERNS = (
    "",
    "^[^!]",
    "@kline_1m$",
    "@kline",
    "@bookTicker",
    "^!mini",
    "^btcusd",
    "^qa",
    "^q.*_5m$",
    "^[a-m]",
)
LASTS_S = 20.0


def strike(chance: random.Random, sandbox: Sandbox, market: Market) -> str:
    """Do one thing to a market, or take one back; return what it was."""
    faults, switches = sandbox.faults, sandbox.faults.stream(market)
    pattern = chance.choice(PATTERNS)
    what = chance.choice(["mute"] * 6 + ["unmute"] * 3 + ["everywhere", "never", "started", "drop", "finals"])
    if what in ("mute", "everywhere"):
        faults.mute(market, pattern, everywhere=what == "everywhere")
    elif what == "unmute":
        faults.unmute(market)
    elif what == "never":
        faults.never_start(market, pattern)
    elif what == "started":
        switches.never_start.clear()
    elif what == "drop":
        faults.drop_streams(market)
    else:
        switches.final_delay = chance.choice([None, "plain", 2000.0])
        switches.swallow_final = chance.random() < 0.3
        switches.late_final_s = chance.choice([0.0, 0.0, 4.0])
        switches.next_before_final = chance.random() < 0.3
    return f"{market} {what} {pattern}"


@pytest.mark.parametrize(("seed", "lag_ms"), [(1, 0), (2, 1000)])
async def test_no_hit_is_wrong_whatever_falls_mute_or_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, lag_ms: int
) -> None:
    conclude_mutes_quickly(monkeypatch)
    monkeypatch.setattr(market_line, "_MUTE_PAUSE_S", 2.0)
    chance, done = random.Random(seed), []
    exchange = quiet_exchange(ExchangeClock.before_close(14), rest_lag_ms=lag_ms)
    async with bench(tmp_path, exchange, stream_quiet_s=3) as one:
        # An open candle may be as old as REST is behind; a closed one is judged as ever.
        watch = AgedWatch(one, slack_ms=SLACK_MS + lag_ms)
        for market in MARKETS:
            for symbol in (SYMBOL[market], *quiet_names(market)[:3]):
                watch.klines(market, symbol, "1m")
                watch.ticker(market, symbol)
            watch.klines(market, SYMBOL[market], "5m")
        await watch.ready()
        async with watch.polling(0.4):
            end = time.monotonic() + LASTS_S
            while time.monotonic() < end:
                done.append(strike(chance, one.sandbox, chance.choice(MARKETS)))
                await asyncio.sleep(chance.uniform(0.2, 2.0))
                assert not watch.problems, f"after {done[-6:]}: {watch.problems[0]}"
            one.sandbox.faults.clear()
            one.sandbox.faults.stream(Market.UM).rest_lag_ms = lag_ms
            await watch.until_all_hit(40)
        assert watch.hits > 500
        assert not watch.errors
