"""A soak: the program against an exchange on which something goes wrong all the time, every hit judged.

The sandbox's store is a function of seed and time, so a second store of the same seed tells the truth of any
moment, apart from the one that serves. What a hit may be, with `age` its own X-Resender-Age:

- candles: every row up to the newest one shown, none missing, none twice, none that never was; whatever closed
  more than BOUNDARY_MS before the call has its final numbers; the newest row stood at some moment between
  call - age - push interval - SLACK_MS and the end of the call, and no newer candle is missing for longer;
- book tickers, order books, trades and last prices: those that stood at some moment between call - age - SLACK_MS
  and the end of the call, books byte for byte those of the update they name, trades without a hole;
- what is told by consent (24 hour tickers, mark prices): that of the time it carries, which lies there too;
- `age` is never more than STREAM_QUIET_S, for a spot candle twice as much.

SOAK_SECONDS sets the length, SOAK_SEED the schedule.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from resender.core.binance.endpoints import (
    AGG_TRADES,
    CONTINUOUS_KLINES,
    DAY_TICKERS,
    PREMIUM_INDEX,
    PRICES,
    TRADES,
)
from resender.core.binance.markets import Market
from resender.sandbox import Fault, Sandbox, SandboxConfig
from resender.sandbox.market import MarketStore
from tests.support.book_judge import BookJudge, depth_target
from tests.support.cache_bench import (
    MARKETS,
    TICKERS,
    Connection,
    ExchangeClock,
    kline_target,
    small_exchange,
)
from tests.support.cache_judge import Timed, kline_problem, ticker_problem
from tests.support.market_judge import TradesJudge, day_problem, mark_problem, prices_problem
from tests.support.processes import GatewayProcess, SandboxThread

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
SILENCE_S = 2.0
QUIET_S = 3.0
# What scheduling may add. Exchange, judge and clients share one Python and two cores.
SLACK_MS = 400
RECOVERY_S = 30.0

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.alone,
    # Seen once after a minute of faults: a connection that was cut off while its owner gave it up is
    # closed by the garbage collector. It says nothing about answers, which are what is judged here.
    pytest.mark.filterwarnings("ignore:.*Connection.__del__:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(SECONDS * 1.5 + 120),
]

SYMBOLS = {
    Market.SPOT: ("BTCUSDT", "ETHUSDT", "NKNUSDT"),
    Market.UM: ("BTCUSDT", "SOLUSDT", "NKNUSDT"),
    Market.CM: ("BTCUSD_PERP", "ETHUSD_PERP"),
}
HALTED = {Market.SPOT: "ETHUSDT", Market.UM: "SOLUSDT", Market.CM: "ETHUSD_PERP"}
# The rest is kept because somebody asks for it.
PRELOAD = (
    "spot:BTCUSDT,NKNUSDT@1s,1m;um:*USDT@1m;cm:BTCUSD_PERP@1m;"
    "spot:*@bookTicker,ticker;um:*@bookTicker,ticker,markPrice;cm:*@bookTicker,ticker,markPrice;"
    "spot:BTCUSDT@depth20,aggTrade,trade;um:BTCUSDT@depth,aggTrade"
)
# How old what is told by consent may be. Units: seconds.
CONSENT_S = 5
CONSENT = (("Cache-Control", f"max-age={CONSENT_S}"),)


@dataclass
class Tally:
    """What happened."""

    hits: int = 0
    rows: int = 0
    # Hits by what they are about.
    kinds: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str]] = field(default_factory=list)
    oldest_ms: int = 0


class Truth:
    """Stores that answer as the exchange's own, asked apart from it."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.stores = {market: MarketStore(market, config, config.clock_ms()) for market in MARKETS}
        # When the exchange was held up, and for how long: it pushed so much later.
        self.stalls: deque[tuple[int, int]] = deque(maxlen=100)

    def slack_ms(self, timed: Timed) -> int:
        recent = [stall_ms for end_ms, stall_ms in list(self.stalls) if end_ms > timed.before_ms - 5000]
        return SLACK_MS + max(recent, default=0)

    def klines(self, market: Market, symbol: str, interval: str, limit: int, timed: Timed) -> str | None:
        push_ms = self.config.push_ms(market.value, interval)
        return kline_problem(
            self.stores[market], symbol, interval, limit, timed, push_ms, self.slack_ms(timed)
        )

    def ticker(self, market: Market, symbol: str, timed: Timed) -> str | None:
        return ticker_problem(
            self.stores[market], symbol, timed, self.config.book_ticker_hz, self.slack_ms(timed)
        )


Judge = Callable[[Timed], list[str | None]]


@dataclass(frozen=True)
class Job:
    """What is polled, as what it is counted, and who judges it."""

    kind: str
    target: str
    judge: Judge
    headers: tuple[tuple[str, str], ...] = ()

    def is_told(self, timed: Timed) -> bool:
        """Tell whether an answer is the gateway's own."""
        return timed.is_hit or (self.target.startswith("/local/") and timed.status == 200)


def part_of(timed: Timed, value: Any) -> Timed:
    """Return a part of an answer as an answer of its own."""
    headers = [(n, v) for n, v in timed.reply.headers if n.lower() != "content-encoding"]
    return replace(timed, reply=replace(timed.reply, headers=headers, body=orjson.dumps(value)))


def targets(truth: Truth) -> list[Job]:
    """List what is polled, each with its judge."""
    found: list[Job] = []

    def add(kind: str, target: str, judge: Callable[[Timed], str | None]) -> None:
        found.append(Job(kind, target, lambda timed: [judge(timed)]))

    def add_depth(market: Market, symbol: str) -> None:
        judge = BookJudge(truth.stores[market], symbol)
        for limit in (5, 20, 100):
            problem = partial(lambda limit, timed: judge.problem(limit, timed, truth.slack_ms(timed)), limit)
            add("depth", depth_target(market, symbol, limit), problem)

    def add_trades(market: Market, symbol: str) -> None:
        for kind, paths in (("aggTrades", AGG_TRADES), ("trades", TRADES)):
            if market not in paths:
                continue
            judge = TradesJudge(truth.stores[market], symbol, is_single=kind == "trades")
            for limit in (1, 300):
                problem = partial(
                    lambda judge, limit, timed: judge.problem(limit, timed, truth.slack_ms(timed)),
                    judge,
                    limit,
                )
                add(kind, f"{paths[market]}?symbol={symbol}&limit={limit}", problem)

    def add_prices(*symbols: str) -> None:
        names = quote(orjson.dumps(symbols).decode())
        query = f"symbol={symbols[0]}" if len(symbols) == 1 else f"symbols={names}"
        store = truth.stores[Market.SPOT]

        def judge(timed: Timed) -> str | None:
            return prices_problem(store, symbols, timed, truth.slack_ms(timed))

        add("ticker/price", f"{PRICES[Market.SPOT]}?{query}", judge)

    def add_continuous(market: Market, symbol: str) -> None:
        pair = truth.stores[market].series[symbol].spec.pair
        query = f"pair={pair}&contractType=PERPETUAL&interval=1m&limit=30"

        def judge(timed: Timed) -> str | None:
            return truth.klines(market, symbol, "1m", 30, timed)

        add("continuousKlines", f"{CONTINUOUS_KLINES[market]}?{query}", judge)

    def add_consented(market: Market) -> None:
        store = truth.stores[market]
        for paths, problem in ((DAY_TICKERS, day_problem), (PREMIUM_INDEX, mark_problem)):
            if market not in paths:
                continue

            def judge(timed: Timed, problem: Any = problem) -> list[str | None]:
                if timed.age_ms > CONSENT_S * 1000:
                    return [f"older than consented to: {timed.age_ms}"]
                rows = timed.rows if isinstance(timed.rows, list) else [timed.rows]
                rows = [row for row in rows if row["symbol"] != HALTED[market]]
                return [problem(store, row, timed, truth.slack_ms(timed)) for row in rows]

            kind, symbol = paths[market].split("/", 3)[3], SYMBOLS[market][0]
            found.append(Job(kind, f"{paths[market]}?symbol={symbol}", judge, CONSENT))
            found.append(Job(f"{kind} of all", paths[market], judge, CONSENT))

    def add_klines(market: Market, symbol: str, interval: str, limit: int) -> None:
        def judge(timed: Timed) -> list[str | None]:
            return [truth.klines(market, symbol, interval, limit, timed)]

        found.append(Job("klines", kline_target(market, symbol, interval, limit), judge))
        local = f"/local/{market}/klines?symbol={quote(symbol)}&interval={interval}&limit={limit}"
        found.append(Job("klines", local, judge))

    def add_ticker(market: Market, symbol: str) -> None:
        def judge(timed: Timed) -> list[str | None]:
            return [truth.ticker(market, symbol, timed)]

        found.append(Job("bookTicker", f"{TICKERS[market]}?symbol={quote(symbol)}", judge))

    def add_whole(market: Market) -> None:
        def judge_rows(timed: Timed) -> list[str | None]:
            return [truth.klines(market, s, "1m", 20, part_of(timed, rows)) for s, rows in timed.rows.items()]

        def judge_tickers(timed: Timed) -> list[str | None]:
            parts = [(row["symbol"], [row] if market is Market.CM else row) for row in timed.rows]
            return [truth.ticker(market, s, part_of(timed, p)) for s, p in parts if s != HALTED[market]]

        def judge_all(timed: Timed) -> list[str | None]:
            names = [row["symbol"] for row in timed.rows]
            lacking = (
                None if names == list(truth.stores[market].series) else f"not all in their order: {names}"
            )
            return [*judge_tickers(timed), lacking]

        found.append(
            Job("klines of all", f"/local/{market}/klines?symbols=all&interval=1m&limit=20", judge_rows)
        )
        found.append(Job("bookTicker of all", f"/local/{market}/bookTicker", judge_tickers))
        found.append(Job("bookTicker of all", TICKERS[market], judge_all))

    for market in MARKETS:
        for symbol in SYMBOLS[market]:
            add_klines(market, symbol, "1m", 30)
            if symbol != HALTED[market]:
                add_ticker(market, symbol)
                add_depth(market, symbol)
                add_trades(market, symbol)
                if market is not Market.SPOT:
                    add_continuous(market, symbol)
        add_consented(market)
        add_klines(market, SYMBOLS[market][0], "5m", 3)
        add_whole(market)
    add_klines(Market.SPOT, "BTCUSDT", "1s", 50)
    add_klines(Market.SPOT, "NKNUSDT", "1s", 2)
    add_prices("BTCUSDT")
    add_prices("NKNUSDT")
    add_prices("NKNUSDT", "BTCUSDT")
    return found


# -- faults ---------------------------------------------------------------------------------------


class Mischief:
    """Plays faults by a schedule that follows from the seed; runs on the sandbox's own thread."""

    def __init__(self, sandbox: Sandbox, pid: int, truth: Truth, tally: Tally) -> None:
        self.sandbox = sandbox
        self.pid = pid
        self.truth = truth
        self.tally = tally
        self.random = random.Random(SEED)
        self.is_over = False
        self.diary: list[tuple[int, str]] = []

    def explain(self) -> str:
        """Tell what was wrong, and what was played before the first of it."""
        tally = self.tally
        first_ms = tally.problems[0][0]
        played = [f"{ms - first_ms} ms {text}" for ms, text in self.diary if 0 < first_ms - ms < 8000]
        lines = [f"{ms}: {text}" for ms, text in tally.problems[:5]]
        return "\n".join(
            [f"{len(tally.problems)} of {tally.rows} are wrong:", *lines, "played before:", *played]
        )

    async def _listen_to_heart(self) -> None:
        """Note when the exchange itself was held up, by a busy machine or by this Python."""
        while not self.is_over:
            begun = time.monotonic()
            await asyncio.sleep(0.02)
            stall_ms = int((time.monotonic() - begun) * 1000) - 20
            if stall_ms > 50:
                self.truth.stalls.append((self.sandbox.config.clock_ms(), stall_ms))

    async def run(self) -> None:
        running: set[asyncio.Task[None]] = set()
        heart = asyncio.create_task(self._listen_to_heart())
        deck: list[tuple[str, Callable[[Market], Awaitable[None]], Market]] = []
        while not self.is_over:
            if not deck:
                # Each fault on each market once, in an order of its own every time.
                deck = [(name, act, market) for name, act in self._choices() for market in MARKETS]
                self.random.shuffle(deck)
            name, act, market = deck.pop()
            self.tally.faults[name] += 1
            self.diary.append((self.sandbox.config.clock_ms(), f"{market} {name}"))
            task = asyncio.create_task(act(market))
            running.add(task)
            task.add_done_callback(running.discard)
            # Mostly one at a time, now and then several, sometimes none.
            await asyncio.sleep(self.random.choice((0.0, 0.1, 0.4, 0.8, 1.2, 2.0)))
        await asyncio.wait({heart, *running})

    def _choices(self) -> Iterator[tuple[str, Callable[[Market], Awaitable[None]]]]:
        faults = self.sandbox.faults

        def once(strike: Callable[[Market], object]) -> Callable[[Market], Awaitable[None]]:
            async def act(market: Market) -> None:
                strike(market)

            return act

        def switch(
            name: str, value: Any, longest_s: float, shortest_s: float = 0.2
        ) -> Callable[[Market], Awaitable[None]]:
            async def act(market: Market) -> None:
                kept = faults.stream(market)
                off = type(kept)()
                setattr(kept, name, value)
                await asyncio.sleep(self.random.uniform(shortest_s, longest_s))
                setattr(kept, name, getattr(off, name))

            return act

        def lose(market: Market) -> None:
            # Of a symbol that goes on at once: the next event shows the hole.
            busy = SYMBOLS[market][0].lower()
            faults.stream(market).lose_next = {
                f"{busy}@{what}": 1 for what in ("depth@100ms", "depth20@100ms", "aggTrade", "trade")
            }

        async def stopped(market: Market) -> None:
            # As a virtual machine that is held up: everything arrives at once afterwards.
            os.kill(self.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(self.random.uniform(0.2, SILENCE_S + 1))
            finally:
                os.kill(self.pid, signal.SIGCONT)

        def rest(kind: Any, match: str, **options: Any) -> Callable[[Market], Awaitable[None]]:
            async def act(market: Market) -> None:
                host = {Market.SPOT: "api", Market.UM: "fapi", Market.CM: "dapi"}[market]
                fault = faults.add(Fault(kind, match=match, host=host, times=None, **options))
                await asyncio.sleep(self.random.uniform(0.3, 2.0))
                faults.remove(fault)

            return act

        async def refused(market: Market) -> None:
            faults.refuse_streams(market, status=self.random.choice((0, 503)))
            faults.drop_streams(market)
            await asyncio.sleep(self.random.uniform(0.2, 1.5))
            faults.refuse_streams(market, on=False)

        async def restart(market: Market) -> None:
            services = {Market.SPOT: ("api", "stream_spot"), Market.UM: ("fapi", "stream_um"),
                        Market.CM: ("dapi", "stream_cm")}[market]  # fmt: skip
            for service in services:
                await self.sandbox.stop_listening(service)
            await asyncio.sleep(self.random.uniform(0.1, 1.5))
            for service in services:
                await self.sandbox.start_listening(service)

        async def burst(market: Market) -> None:
            # A symbol nobody judges: a burst is the one thing that is no function of time.
            await self.sandbox.burst(market, HALTED[market], 3000, 0.5)

        async def halt(market: Market) -> None:
            symbol, store = HALTED[market], self.sandbox.market(market)
            if store.series[symbol].spec.status != "TRADING":
                return
            other = self.truth.stores[market]
            now = self.sandbox.config.clock_ms()
            store.halt(symbol, now)
            other.halt(symbol, now)
            await asyncio.sleep(self.random.uniform(0.5, 6.0))
            now = self.sandbox.config.clock_ms()
            store.resume(symbol, now)
            other.resume(symbol, now)

        yield "reset", once(faults.drop_streams)
        yield "closed", once(lambda market: faults.drop_streams(market, 1001))
        yield "refused", refused
        # What the sandbox does not send while silent is lost, which TCP does only to a dead connection:
        # so it stays silent until the gateway has noticed.
        yield "silent", switch("silent", True, SILENCE_S + 2.5, SILENCE_S + 0.7)
        yield "gateway held up", stopped
        yield "duplicate", switch("duplicate", True, 3.0)
        yield "reorder", switch("reorder", True, 3.0)
        yield "final swallowed", switch("swallow_final", True, 6.0)
        yield "final late", switch("late_final_s", self.random.uniform(0.1, 3.0), 6.0)
        yield "next before final", switch("next_before_final", True, 6.0)
        yield "garbage", once(lambda market: faults.send_raw(market, "{garbage"))
        yield "lost", once(lose)
        yield "binary", once(lambda market: faults.send_raw(market, b"\x00\xff"))
        yield "truncated", once(faults.send_truncated)
        yield "wrong types", once(faults.send_wrong_types)
        yield "huge", once(faults.send_huge)
        yield "shutdown notice", once(faults.server_shutdown)
        yield "restart", restart
        yield "burst", burst
        yield "halt", halt
        data = "[kK]lines|ticker|depth|[tT]rades|premiumIndex"
        yield "REST 500", rest("status", data, status=500)
        yield "REST 429", rest("status", "klines|depth", status=429, headers={"retry-after": "1"}, body="{}")
        yield "REST slow", rest("delay", f"{data}|time", seconds=0.4)
        yield "REST late", rest("delay", f"{data}|time", seconds=0.4, after=True)
        yield "REST cut", rest("reset_mid_body", f"{data}|exchangeInfo")
        yield "REST damaged", rest("truncated_gzip", f"{data}|exchangeInfo")
        yield "REST HTML", rest("html", data)


# -- clients --------------------------------------------------------------------------------------


async def poll(
    number: int, port: int, jobs: list[Job], truth: Truth, tally: Tally, done: asyncio.Event
) -> None:
    """Ask for one thing after the other, judge what comes out of the cache."""
    source = random.Random(f"{SEED}:{number}")
    connection = Connection(port)
    try:
        while not done.is_set():
            job = source.choice(jobs)
            headers = job.headers + ((("Accept-Encoding", "gzip"),) if source.random() < 0.5 else ())
            try:
                timed = await connection.get(job.target, headers, truth.config.clock_ms)
            except (asyncio.IncompleteReadError, ConnectionError):
                # A forwarded answer that breaks off at the exchange breaks off at the client too.
                await connection.close()
                tally.others["broken off"] += 1
                continue
            if job.is_told(timed):
                tally.hits += 1
                tally.kinds[job.kind] += 1
                tally.oldest_ms = max(tally.oldest_ms, timed.age_ms)
                found = job.judge(timed)
                tally.rows += len(found)
                tally.problems += [
                    (timed.after_ms, f"{job.target}: {text}") for text in found if text is not None
                ]
            else:
                kind = timed.cache.partition(" ")[2] or timed.header("x-resender-error") or "other"
                tally.others[f"{timed.status} {kind}"] += 1
            await asyncio.sleep(source.uniform(0.0, 0.02))
    finally:
        await connection.close()


async def until_hit(port: int, jobs: list[Job], truth: Truth, timeout_s: float) -> float:
    """Wait until everything is a hit; return the seconds it took."""
    begun = time.monotonic()
    connection = Connection(port)
    left = list(jobs)
    try:
        while left:
            for job in list(left):
                timed = await connection.get(job.target, job.headers, truth.config.clock_ms)
                if timed.status == 200 and job.is_told(timed):
                    left.remove(job)
                    continue
                assert time.monotonic() < begun + timeout_s, (
                    f"{job.target} and {len(left) - 1} more: {timed.status} {timed.cache} {timed.body[:200]}"
                )
            await asyncio.sleep(0.05)
    finally:
        await connection.close()
    return time.monotonic() - begun


def make_config() -> SandboxConfig:
    """Build an exchange with the true pace of pushes and the true message limits."""
    return small_exchange(
        ExchangeClock.before_close(20),  # a minute ends while everything goes wrong
        kline_push_ms={},
        spot_message_rate=5,
        book_ticker_hz=5.0,
        weight_limits={"spot": 10**7, "futures": 10**7},
        connection_limit=10**6,
    )


async def test_every_hit_is_the_truth_while_everything_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config()
    truth, tally = Truth(config), Tally()
    jobs = targets(truth)
    with SandboxThread(config) as exchange:
        program = await asyncio.to_thread(
            GatewayProcess, tmp_path, **exchange.settings(), PRELOAD=PRELOAD, KLINE_DEPTH=300,
            STREAM_SILENCE_S=SILENCE_S, STREAM_QUIET_S=QUIET_S, SYMBOL_REFRESH_S=2, LOG_LEVEL="INFO",
        )  # fmt: skip
        try:
            await until_hit(program.port, jobs, truth, RECOVERY_S)
            mischief = Mischief(exchange.sandbox, program.process.pid, truth, tally)
            playing = asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(mischief.run(), exchange._loop)  # type: ignore[arg-type]
            )
            done = asyncio.Event()
            clients = [
                asyncio.create_task(poll(number, program.port, jobs, truth, tally, done))
                for number in range(6)
            ]
            await asyncio.wait([playing, *clients], timeout=SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            mischief.is_over = True
            await playing
            exchange.ask(lambda sandbox: sandbox.faults.clear())
            recovered_s = await until_hit(program.port, jobs, truth, RECOVERY_S)
            done.set()
            await asyncio.gather(*clients)
            violations = exchange.ask(lambda sandbox: len(sandbox.violations))
        except BaseException:
            program.kill()
            raise
        await asyncio.to_thread(program.stop)
    asked = tally.hits + sum(tally.others.values())

    def listed(counts: Counter[str], most: int | None = None) -> str:
        return ", ".join(f"{count} {name}" for name, count in counts.most_common(most))

    with capsys.disabled():
        print(
            f"\nsoak of {SECONDS:g} s, seed {SEED}: {asked} answers, {tally.hits} hits ({tally.hits / asked:.0%}) with "
            f"{tally.rows} series judged, {len(tally.problems)} wrong; oldest proof {tally.oldest_ms} ms; "
            f"all hit again {recovered_s:.1f} s after the last fault\n"
            f"  hits: {listed(tally.kinds)}\n  {sum(tally.faults.values())} faults: {listed(tally.faults)}\n"
            f"  not from the cache: {listed(tally.others, 12)}"
        )
    assert not tally.problems, mischief.explain()
    assert tally.oldest_ms <= 2 * QUIET_S * 1000 + SLACK_MS
    assert not violations
    assert set(tally.kinds) == {job.kind for job in jobs}
    assert tally.hits > SECONDS * 10
    assert tally.hits / asked > 0.3
