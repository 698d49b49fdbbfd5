"""What a second source says about a quiet stream: how far back it vouches, and what it contradicts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import MINI_TICKERS
from resender.core.market.book_ticker import BookTicker
from resender.market.backfill import ReadFailed
from resender.market.series import KeptTicker
from resender.market.witness import TICKER_GRACE_S, TickerWitness, TradeWitness

T0 = 1_790_000_000_000
QUIET_S = 8.0
Row = dict[str, str]


class FakeTime:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.mono = 1000.0
        self.clock = Clock(mono=lambda: self.mono)


def item(event_ms: int, symbol: str = "BTCUSDT", price: str = "1.50") -> dict[str, Any]:
    return {"e": "24hrMiniTicker", "E": event_ms, "s": symbol, "c": price, "v": "1", "q": "1"}


# -- candles ------------------------------------------------------------------------------------


class Trades:
    """A trade witness with its clock and what it told."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.told: list[tuple[str, int, str]] = []
        self.witness = TradeWitness(lambda *named: self.told.append(named), self.time.clock)

    def array(self, event_ms: int, *items: dict[str, Any]) -> bool | None:
        self.time.mono = 1000.0 + (event_ms - T0) / 1000
        return self.witness.on_frame(MINI_TICKERS, list(items) or [item(event_ms)])


def test_every_symbol_of_an_array_is_told_with_its_own_time_and_price() -> None:
    trades = Trades()
    assert trades.array(T0, item(T0 - 3), item(T0, "ETHUSDT", "2.5")) is None
    assert trades.told == [("BTCUSDT", T0 - 3, "1.50"), ("ETHUSDT", T0, "2.5")]
    assert trades.witness.since_ms == T0
    assert trades.witness.last_ms == T0


@pytest.mark.parametrize(
    ("arrays", "proven_ms", "later_ms", "vouched_ms"),
    [
        ([0, 1000, 2000], 0, 0, 1000),
        ([0, 1000, 2000], 1500, 0, 1000),  # older than what is known: the caller takes the newer
        ([0, 1000, 2000], -1, 0, None),  # from before its first array
        ([0, 1000, 2000], 0, 3000, 1000),
        ([0, 1000, 2000], 0, 3001, None),  # it has gone silent itself
        ([0, 1000, 4000], 500, 0, 3000),  # a hole it can bear
        ([0, 1000, 4001], 500, 0, None),  # an array may be missing
        ([0, 1000, 4001], 4001, 0, 3001),
        ([0, 1000, 500], 0, 0, 0),
        ([], 0, 0, None),
    ],
)
def test_it_vouches_from_its_first_array_without_a_hole_to_a_second_before_the_last(
    arrays: list[int], proven_ms: int, later_ms: int, vouched_ms: int | None
) -> None:
    trades = Trades()
    for event_ms in arrays:
        trades.array(T0 + event_ms)
    trades.time.mono += later_ms / 1000
    found = trades.witness.vouches_ms(T0 + proven_ms)
    assert found == (None if vouched_ms is None else T0 + vouched_ms)


def test_after_a_loss_nothing_from_before_is_vouched_for() -> None:
    trades = Trades()
    for event_ms in (0, 1000):
        trades.array(T0 + event_ms)
    trades.witness.on_lost([MINI_TICKERS])
    assert trades.witness.vouches_ms(T0 + 1000) is None
    trades.array(T0 + 2000)
    assert trades.witness.vouches_ms(T0 + 1000) is None
    assert trades.witness.vouches_ms(T0 + 2000) == T0 + 1000


@pytest.mark.parametrize(
    "data",
    [{}, "text", None, 7, [item(T0) | {"E": "soon"}], [item(T0) | {"c": 1.5}], [item(T0) | {"E": True}]],
)
def test_what_is_no_array_of_tickers_is_refused_and_proves_nothing(data: Any) -> None:
    trades = Trades()
    assert trades.witness.on_frame(MINI_TICKERS, data) is False
    assert trades.witness.since_ms is None
    assert not trades.told


@pytest.mark.parametrize("data", [[{"s": "BTCUSDT"}], [None], [["s"]]])
def test_items_of_another_shape_raise_what_the_link_expects(data: Any) -> None:
    with pytest.raises((KeyError, TypeError)):
        Trades().witness.on_frame(MINI_TICKERS, data)


def test_empty_array_is_no_news_and_no_fault() -> None:
    trades = Trades()
    assert trades.witness.on_frame(MINI_TICKERS, []) is True
    assert trades.witness.since_ms is None


def test_it_is_subscribed_once() -> None:
    class Pool:
        def __init__(self) -> None:
            self.wanted: list[list[str]] = []

        def subscribe(self, names: list[str], listener: object) -> None:
            assert listener is trades.witness
            self.wanted.append(names)

    pool, trades = Pool(), Trades()
    for _ in range(3):
        trades.witness.start(pool)
    assert pool.wanted == [[MINI_TICKERS]]


# -- book tickers -------------------------------------------------------------------------------


def quote(bid: str = "1.10") -> Row:
    return {"bidPrice": bid, "bidQty": "2", "askPrice": "1.20", "askQty": "3"}


class Tickers:
    """A ticker witness on entries made by hand; REST reads two entries as the program does."""

    def __init__(self, *symbols: str) -> None:
        self.time = FakeTime()
        self.entries = {symbol: self._entry(symbol) for symbol in symbols}
        self.rest = {symbol: quote() for symbol in symbols}
        self.asked: list[list[str]] = []
        self.mutes: list[str] = []
        self.error: ReadFailed | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        self.tasks = Tasks()
        self.witness = TickerWitness(
            "spot",
            lambda: list(self.entries.values()),
            self._read,
            self._mute,
            quiet_s=QUIET_S,
            clock=self.time.clock,
            tasks=self.tasks,
        )

    def _entry(self, symbol: str) -> KeptTicker:
        ticker = BookTicker(Market.SPOT)
        ticker.apply({"u": 1, "s": symbol, "b": "1.10", "B": "2", "a": "1.20", "A": "3"})
        now = self.time.mono
        stream = f"{symbol.lower()}@bookTicker"
        return KeptTicker(Market.SPOT, symbol, stream, now, is_live=True, ticker=ticker, event_mono=now)

    async def _read(self, entries: list[KeptTicker]) -> tuple[float, dict[str, Row]]:
        self.asked.append([entry.symbol for entry in entries])
        sent = self.time.mono
        self.meanwhile()
        if self.error is not None:
            raise self.error
        shown = entries if len(entries) > 2 else entries[:1]
        return sent, {entry.symbol: self.rest[entry.symbol] for entry in shown}

    def _mute(self, entry: KeptTicker) -> None:
        self.mutes.append(entry.symbol)
        entry.is_mute = True

    async def after(self, seconds: float) -> bool:
        """Let time pass, verify; return whether there was a read to wait for."""
        self.time.mono += seconds
        for entry in self.entries.values():
            entry.used_mono = self.time.mono
        task = self.witness.verify()
        if task is not None:
            await task
        return task is not None


@pytest.fixture
async def three() -> AsyncIterator[Tickers]:
    tickers = Tickers("AUSDT", "BUSDT", "CUSDT")
    yield tickers
    assert not len(tickers.tasks)


async def test_one_read_proves_all_quiet_tickers_that_are_as_rest_says(three: Tickers) -> None:
    assert await three.after(QUIET_S)
    assert three.asked == [["AUSDT", "BUSDT", "CUSDT"]]
    assert all(entry.proof_mono == three.time.mono for entry in three.entries.values())
    assert three.witness.reads == 1
    assert not three.mutes


async def test_reads_are_at_least_a_second_apart_and_shared_by_all_who_ask(three: Tickers) -> None:
    three.time.mono += QUIET_S
    first = three.witness.verify()
    assert first is not None
    assert three.witness.verify() is first
    await first
    assert three.witness.verify() is None
    assert not await three.after(0.9)
    assert await three.after(0.2)
    assert three.witness.reads == 1  # all were proven a second ago: nothing to compare


@pytest.mark.parametrize(
    ("change", "is_read"),
    [
        ({}, True),
        ({"is_live": False}, False),
        ({"used_mono": 1000.0 - 61}, False),
        ({"event_mono": 1000.0 + QUIET_S - QUIET_S / 4}, False),
        ({"event_mono": 1000.0 + QUIET_S - QUIET_S / 4 - 0.1}, True),
    ],
    ids=["quiet", "not live", "nobody asks", "spoke lately", "spoke a while ago"],
)
async def test_only_quiet_tickers_somebody_asks_for_are_read(change: dict[str, Any], is_read: bool) -> None:
    tickers = Tickers("AUSDT")
    for name, value in change.items():
        setattr(tickers.entries["AUSDT"], name, value)
    tickers.time.mono += QUIET_S
    task = tickers.witness.verify()
    assert task is not None
    await task
    assert bool(tickers.asked) is is_read


async def test_contradicted_ticker_is_mute_only_after_the_grace(three: Tickers) -> None:
    three.rest["BUSDT"] = quote("1.15")
    await three.after(QUIET_S)
    entry, unheard = three.entries["BUSDT"], three.time.mono
    assert entry.unheard_mono == unheard
    assert entry.proof_mono == unheard - QUIET_S
    await three.after(TICKER_GRACE_S / 2)
    await three.after(TICKER_GRACE_S / 2)
    assert not three.mutes
    await three.after(1.0)
    assert three.mutes == ["BUSDT"]
    assert all(three.entries[symbol].unheard_mono is None for symbol in ("AUSDT", "CUSDT"))


async def test_rest_that_agrees_again_takes_the_doubt_back(three: Tickers) -> None:
    three.rest["BUSDT"] = quote("1.15")
    await three.after(QUIET_S)
    three.rest["BUSDT"] = quote()
    await three.after(1.0)
    assert three.entries["BUSDT"].unheard_mono is None
    assert three.entries["BUSDT"].proof_mono == three.time.mono
    assert not three.mutes


async def test_times_and_ids_of_a_row_prove_and_contradict_nothing(three: Tickers) -> None:
    three.rest["AUSDT"] = quote() | {"time": "17", "lastUpdateId": "4"}
    await three.after(QUIET_S)
    assert three.entries["AUSDT"].unheard_mono is None


def speak(tickers: Tickers) -> None:
    tickers.entries["BUSDT"].event_mono = tickers.time.mono


def lose(tickers: Tickers) -> None:
    tickers.entries["BUSDT"].epoch += 1


def drop(tickers: Tickers) -> None:
    tickers.entries["BUSDT"].is_dropped = True


def invalidate(tickers: Tickers) -> None:
    tickers.entries["BUSDT"].ticker.lose()


@pytest.mark.parametrize("happen", [speak, lose, drop, invalidate])
async def test_what_happened_during_the_read_outranks_it(
    three: Tickers, happen: Callable[[Tickers], None]
) -> None:
    three.rest["BUSDT"] = quote("1.15")
    three.meanwhile = lambda: happen(three)
    for seconds in (QUIET_S, 1.5, 1.5, 1.5):
        await three.after(seconds)
    assert three.entries["BUSDT"].unheard_mono is None
    assert three.entries["BUSDT"].seeded_mono < 0
    assert not three.mutes


async def test_symbol_that_rest_does_not_show_stays_unproven(three: Tickers) -> None:
    shown = three.rest.copy()
    await three.after(QUIET_S)
    proven = three.entries["CUSDT"].proof_mono

    async def without(entries: list[KeptTicker]) -> tuple[float, dict[str, Row]]:
        return three.time.mono, {s: row for s, row in shown.items() if s != "CUSDT"}

    three.witness._read = without
    await three.after(QUIET_S)
    assert three.entries["CUSDT"].proof_mono == proven
    assert three.entries["AUSDT"].proof_mono == three.time.mono
    assert not three.mutes


async def test_failed_read_proves_nothing_and_the_next_one_comes_a_second_later(three: Tickers) -> None:
    three.error = ReadFailed("HTTP 500")
    await three.after(QUIET_S)
    assert all(entry.proof_mono < three.time.mono for entry in three.entries.values())
    assert three.witness.reads == 0
    three.error = None
    assert not await three.after(0.5)
    assert await three.after(0.6)
    assert three.witness.reads == 1


async def test_two_quiet_tickers_are_both_proven(three: Tickers) -> None:
    del three.entries["CUSDT"]
    for _ in range(8):
        await three.after(QUIET_S / 8)
    for entry in three.entries.values():
        assert three.time.mono - entry.proof_mono <= QUIET_S / 2


async def test_mute_ticker_does_not_take_the_read_from_another(three: Tickers) -> None:
    del three.entries["CUSDT"]
    three.rest["AUSDT"] = quote("1.15")
    for _ in range(20):
        await three.after(1.1)
    assert three.mutes
    assert three.time.mono - three.entries["BUSDT"].proof_mono < QUIET_S
