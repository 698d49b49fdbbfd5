"""Watches that poll the cache and judge every hit, and what a gateway tells of itself meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.market import freshness
from resender.sandbox import SandboxConfig
from tests.support.cache_bench import MARKETS, SYMBOL, TICKERS, Bench, kline_target, small_exchange
from tests.support.cache_judge import SLACK_MS, Timed, kline_problem, ticker_problem
from tests.support.client import call

MINUTE_MS = 60_000
# The tests do not wait as long for a silent stream as the program does.
MUTE_MS = 2500


@dataclass
class Watch:
    """Polls targets without a pause and judges every hit at once."""

    one: Bench
    slack_ms: int = SLACK_MS
    hits: int = 0
    misses: dict[str, int] = field(default_factory=dict)
    errors: int = 0
    problems: list[str] = field(default_factory=list)
    last_hit: dict[str, float] = field(default_factory=dict)
    # When the loop all share was held up, and for how long: nothing could be pushed or read then.
    _held_up: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=1000))
    _jobs: list[tuple[str, Callable[[Timed], str | None]]] = field(default_factory=list)

    def klines(self, market: Market, symbol: str, interval: str, limit: int = 5) -> str:
        store, push_ms = self.one.store(market), self.one.sandbox.config.push_ms(market.value, interval)

        def judge(timed: Timed) -> str | None:
            return kline_problem(store, symbol, interval, limit, timed, push_ms, self._slack())

        target = kline_target(market, symbol, interval, limit)
        self._jobs.append((target, judge))
        return target

    def ticker(self, market: Market, symbol: str) -> str:
        store, hz = self.one.store(market), self.one.sandbox.config.book_ticker_hz

        def judge(timed: Timed) -> str | None:
            return ticker_problem(store, symbol, timed, hz, self._slack())

        target = f"{TICKERS[market]}?symbol={quote(symbol)}"
        self._jobs.append((target, judge))
        return target

    def _slack(self) -> int:
        limit = time.monotonic() - 3.0
        return self.slack_ms + max((lag for when, lag in self._held_up if when > limit), default=0)

    async def _feel_the_loop(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            now = time.monotonic()
            if (lag_ms := int((now - begun - 0.01) * 1000)) > 20:
                self._held_up.append((now, lag_ms))

    async def ready(self) -> None:
        for target, _ in self._jobs:
            await self.one.until_hit(target)

    async def _poll(self, target: str, judge: Callable[[Timed], str | None], pause_s: float) -> None:
        while True:
            timed = await self.one.get(target)
            if timed.is_hit:
                self.hits += 1
                self.last_hit[target] = time.monotonic()
                if (problem := judge(timed)) is not None:
                    self.problems.append(problem)
            else:
                self.misses[timed.cache] = self.misses.get(timed.cache, 0) + 1
                self.errors += timed.status != 200
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def polling(self, pause_s: float = 0.015) -> AsyncIterator[Watch]:
        """Poll while the block runs; afterwards no hit may have been wrong."""
        tasks = [asyncio.create_task(self._poll(target, judge, pause_s)) for target, judge in self._jobs]
        tasks.append(asyncio.create_task(self._feel_the_loop()))
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [each for each in done if isinstance(each, Exception)]
        assert not failed, failed
        assert not self.problems, f"{len(self.problems)} of {self.hits} hits are wrong\n{self.problems[0]}"

    @property
    def targets(self) -> list[str]:
        return [target for target, _ in self._jobs]

    async def until_all_hit(self, timeout_s: float = 12.0, targets: list[str] | None = None) -> float:
        """Wait until every target (of some) has been hit after now; return the seconds it took."""
        begun = time.monotonic()
        wanted = self.targets if targets is None else targets
        while not all(self.last_hit.get(target, 0.0) > begun for target in wanted):
            assert time.monotonic() < begun + timeout_s, f"not all hit again: {self.misses}"
            await asyncio.sleep(0.02)
        return time.monotonic() - begun


def conclude_mutes_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a stream that is silent on what REST knows be mute after 2.5 s, on every market."""
    monkeypatch.setattr(freshness, "_MUTE_MS", dict.fromkeys(freshness._MUTE_MS, MUTE_MS))


@dataclass
class AgedWatch(Watch):
    """A watch that keeps when which age was told of each target."""

    ages: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def klines(self, market: Market, symbol: str, interval: str, limit: int = 5) -> str:
        return self._noting(super().klines(market, symbol, interval, limit))

    def ticker(self, market: Market, symbol: str) -> str:
        return self._noting(super().ticker(market, symbol))

    def _noting(self, target: str) -> str:
        _, judge = self._jobs.pop()
        ages = self.ages.setdefault(target, [])

        def noted(timed: Timed) -> str | None:
            ages.append((time.monotonic(), timed.age_ms))
            return judge(timed)

        self._jobs.append((target, noted))
        return target

    def oldest_ms(self, target: str, since: float = 0.0) -> int:
        """Return the greatest age told of a target."""
        return max((age for when, age in self.ages[target] if when >= since), default=0)

    def hits_of(self, target: str, since: float = 0.0, until: float = float("inf")) -> int:
        return sum(since <= when < until for when, _ in self.ages[target])


def age_fell_without_a_proof(ages: list[tuple[float, int]], since: float, slack_ms: int = 400) -> str | None:
    """Tell where an age grew less than time passed; None if it never did after `since`."""
    known = [(when, age) for when, age in ages if when >= since]
    for (before, younger), (after, older) in pairwise(known):
        passed_ms = (after - before) * 1000
        if older < younger + passed_ms - slack_ms:
            return f"age {older} ms, {passed_ms:.0f} ms after an age of {younger} ms"
    return None


async def status_of(one: Bench) -> dict[tuple[Market, str, str], dict[str, Any]]:
    """Return what `/local/status` tells of each series."""
    body = orjson.loads((await one.get("/local/status")).body)
    return {(Market(each["market"]), each["symbol"], each["interval"]): each for each in body["series"]}


async def metric(one: Bench, name: str, market: Market) -> float:
    """Return one number of `/metrics`."""
    reply = await call(one.run.port, "GET", "/metrics")
    wanted = f'{name}{{market="{market.value}"}} '
    (line,) = [line for line in reply.body.decode().splitlines() if line.startswith(wanted)]
    return float(line.removeprefix(wanted))


class Subscriptions:
    """Counts the stream names that were subscribed on an exchange, and its handshakes, from now on."""

    def __init__(self, one: Bench) -> None:
        self._one = one
        self.names: dict[Market, Counter[str]] = {}
        self._accepted = dict(one.sandbox.stream_accepted)
        for market, hub in one.sandbox._hubs.items():
            self.names[market] = Counter()
            hub._subscribe = self._counting(hub._subscribe, self.names[market])  # type: ignore[method-assign]

    @staticmethod
    def _counting(subscribe: Callable[..., bool], names: Counter[str]) -> Callable[..., bool]:
        def counted(connection: Any, wanted: list[str]) -> bool:
            names.update(wanted)
            return subscribe(connection, wanted)

        return counted

    def handshakes(self, market: Market) -> int:
        return self._one.sandbox.stream_accepted[market.value] - self._accepted[market.value]


def entries(one: Bench, market: Market) -> dict[tuple[str, str], Any]:
    """Return what is kept of a market by symbol and interval or "bookTicker"."""
    return {(entry.symbol, entry.key[2]): entry for entry in one.cache.states[market].entries()}


def quiet_names(market: Market) -> list[str]:
    """Return the names of symbols that are traded in one minute of eight."""
    end = "USD_PERP" if market is Market.CM else "USDT"
    return [f"Q{letter}{other}{end}" for letter in "ABCDEFGHIJKLMNOP" for other in "XYZ"]


def quiet_exchange(clock: Callable[[], int], **options: Any) -> SandboxConfig:
    """Build the config of an exchange with one busy symbol for each market and forty-eight quiet ones."""
    names = {market: quiet_names(market) for market in MARKETS}
    return small_exchange(
        clock,
        **{
            "spot_symbols": [SYMBOL[Market.SPOT], *names[Market.SPOT]],
            "um_symbols": [SYMBOL[Market.UM], *names[Market.UM]],
            "cm_symbols": [SYMBOL[Market.CM], *names[Market.CM]],
            "quiet_symbols": [*names[Market.UM], *names[Market.CM]],
            **options,
        },
    )


def silent_symbols(one: Bench, market: Market, for_ms: int) -> list[str]:
    """Return the quiet symbols of a market that are not traded for so long from now on."""
    now, series = one.clock(), one.store(market).series
    return [name for name in quiet_names(market) if not series[name].has_traded(now - 1000, now + for_ms)]


def next_close(one: Bench) -> int:
    return (one.clock() // MINUTE_MS + 1) * MINUTE_MS


async def until_ms(one: Bench, moment_ms: int) -> None:
    """Wait until the exchange's clock shows a time."""
    while (left_ms := moment_ms - one.clock()) > 0:
        await asyncio.sleep(max(0.001, left_ms / 1000))
