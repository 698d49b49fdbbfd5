"""Stream connections over TLS: whatever spoils a handshake or a line, hits are back in time.

REST goes another way here, so every call is answered meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.core.binance.stream_pacing import StreamLimits
from resender.sandbox import Sandbox
from resender.sandbox.config import system_clock_ms
from tests.support.cache_bench import (
    MARKETS,
    SYMBOL,
    Bench,
    gateway_on,
    kline_target,
    series_of,
    side_by_side,
    small_exchange,
)
from tests.support.handshake_breaker import Fault, HandshakeBreaker, Harm, Phase
from tests.support.running import wait_until

pytestmark = [
    pytest.mark.component,
    pytest.mark.alone,
    pytest.mark.asyncio(loop_factories=["uvloop"]),  # the one the program runs on
]

STREAMS = {Market.SPOT: "stream_spot", Market.UM: "stream_um", Market.CM: "stream_cm"}
BACK_S = 30.0
PHASES = list(Phase)


@dataclass
class Lines:
    """A gateway on a sandbox, with a front before the streams of each market."""

    bench: Bench
    fronts: dict[Market, HandshakeBreaker]

    def spoil(self, faults: dict[Market, Fault] | None) -> None:
        for market, front in self.fronts.items():
            front.fault = faults[market] if faults is not None else None

    async def until_struck(self, count: int) -> None:
        """Wait until each market has lost so many handshakes, and all calls are answered meanwhile."""
        before = {market: front.struck for market, front in self.fronts.items()}

        async def one(market: Market) -> None:
            deadline = time.monotonic() + BACK_S
            while self.fronts[market].struck - before[market] < count:
                assert time.monotonic() < deadline, f"{market} does not try any more"
                assert (await self.bench.get(self.target(market))).status == 200
                await asyncio.sleep(0.02)

        await side_by_side(*(one(market) for market in self.fronts))

    async def until_back(self) -> None:
        """Wait for a true hit on each market."""

        async def one(market: Market) -> None:
            timed = await self.bench.until_hit(self.target(market), BACK_S)
            self.bench.check(timed, market, SYMBOL[market], "1m")

        await side_by_side(*(one(market) for market in self.fronts))

    def target(self, market: Market) -> str:
        return kline_target(market, SYMBOL[market], "1m")

    def is_live(self, market: Market) -> bool:
        entry = series_of(self.bench.cache.states[market]).get((SYMBOL[market], "1m"))
        return entry is not None and entry.state == "live"


@asynccontextmanager
async def lines_on(data_dir: Path, faults: dict[Market, Fault] | None = None) -> AsyncIterator[Lines]:
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(small_exchange(system_clock_ms)))
        fronts = {}
        for market, name in STREAMS.items():
            port = int(sandbox.urls[name.upper()].rpartition(":")[2])
            fronts[market] = await stack.enter_async_context(HandshakeBreaker(port))
            fronts[market].fault = faults[market] if faults is not None else None
        urls = {name: f"wss://127.0.0.1:{fronts[market].port}" for market, name in STREAMS.items()}
        one = await stack.enter_async_context(gateway_on(data_dir, sandbox, **urls))
        yield Lines(one, fronts)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a silent handshake given up after a second."""
    monkeypatch.setattr(
        "resender.upstream.streams.feeds.StreamLimits", functools.partial(StreamLimits, connect_timeout_s=1.0)
    )


@pytest.mark.parametrize("phase", PHASES, ids=str)
@pytest.mark.usefixtures("impatient")
async def test_stream_handshakes_that_break_are_made_again_until_hits_are_back(
    tmp_path: Path, phase: Phase, caplog: pytest.LogCaptureFixture
) -> None:
    harms = list(Harm)
    offset = PHASES.index(phase)

    def faults(turn: int) -> dict[Market, Fault]:
        return {market: Fault(harms[(offset + turn + n) % 4], phase) for n, market in enumerate(MARKETS)}

    # At the start: no handshake has ever been made.
    async with lines_on(tmp_path, faults(0)) as lines:
        await lines.until_struck(2)
        assert not any(lines.is_live(market) for market in MARKETS)
        lines.spoil(None)
        await lines.until_back()
        # Later: the lines end, and the handshakes that are to replace them break.
        lines.spoil(faults(2))
        for front in lines.fronts.values():
            assert front.cut(Harm.RESET) > 0
        await lines.until_struck(2)
        lines.spoil(None)
        await lines.until_back()
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text


@pytest.mark.parametrize("harm", Harm, ids=str)
async def test_stream_line_that_breaks_in_the_middle_is_replaced_and_hits_are_back(
    tmp_path: Path, harm: Harm, caplog: pytest.LogCaptureFixture
) -> None:
    async with lines_on(tmp_path) as lines:
        for market in MARKETS:
            assert (await lines.bench.get(lines.target(market))).status == 200
        await lines.until_back()
        for _ in range(2):
            for market, front in lines.fronts.items():
                assert front.cut(harm) > 0, market
            # What was carried is lost at once or when the silence is noticed, and then subscribed again.
            await wait_until(lambda: not any(lines.is_live(market) for market in MARKETS), 10.0)
            await lines.until_back()
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text


async def test_exchange_that_restarts_with_another_key_is_subscribed_again(tmp_path: Path) -> None:
    async with lines_on(tmp_path) as lines:
        for market in MARKETS:
            await lines.bench.get(lines.target(market))
        await lines.until_back()
        # The tickets of the old exchange are worth nothing with the new one.
        for front in lines.fronts.values():
            front.fault = Fault(Harm.CLOSE, Phase.HELLO)
            front.cut(Harm.CLOSE)
        await lines.until_struck(1)
        async with Sandbox(small_exchange(system_clock_ms)) as other:
            for market, name in STREAMS.items():
                lines.fronts[market].server_port = int(other.urls[name.upper()].rpartition(":")[2])
            lines.spoil(None)
            await wait_until(lambda: all(lines.is_live(market) for market in MARKETS), BACK_S)


@pytest.mark.slow
async def test_silent_stream_handshake_is_given_up_in_time_with_the_real_limits(tmp_path: Path) -> None:
    phases = dict(zip(MARKETS, (Phase.HELLO, Phase.SERVER_HELLO, Phase.REQUEST), strict=True))
    async with lines_on(tmp_path) as lines:
        for market in MARKETS:
            await lines.bench.get(lines.target(market))
        await lines.until_back()
        lines.spoil({market: Fault(Harm.SILENCE, phases[market]) for market in MARKETS})
        for front in lines.fronts.values():
            front.cut(Harm.RESET)
        await lines.until_struck(1)
        lines.spoil(None)
        begun = time.monotonic()
        await lines.until_back()
        assert time.monotonic() - begun < BACK_S
