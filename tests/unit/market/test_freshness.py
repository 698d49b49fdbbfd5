"""How old the last proof of a series is, and when its stream has to be doubted."""

from __future__ import annotations

import orjson
import pytest

from resender.aio import Clock
from resender.core.binance.markets import Market
from resender.core.binance.stream_names import MINI_TICKERS
from resender.core.market.candles import parse_rows
from resender.core.market.klines import KlineSeries
from resender.market.freshness import (
    PUSH_MS,
    SPOT_SECOND_PUSH_MS,
    note_event,
    note_traded,
    push_ms,
    settle_quiet,
    trade_proof,
    was_silent,
)
from resender.market.series import KeptKlines
from resender.market.witness import TradeWitness

MINUTE = 60_000
T0 = 1_790_000_040_000 // MINUTE * MINUTE
QUIET_S = 10.0
DOUBT_MS = 2000
PRICE = "1.50"


class World:
    """One entry and the witness of its market, on a clock of the exchange."""

    def __init__(self, market: Market = Market.UM, interval: str = "1m") -> None:
        self.now_ms = T0
        self.witness = TradeWitness(self._told, Clock(mono=lambda: self.now_ms / 1000))
        self.entry = KeptKlines(market, "XUSDT", "xusdt@kline_1m", 0.0, interval=interval)
        self.entry.series = KlineSeries(interval, 60)
        self.entry.is_live = True

    def _told(self, symbol: str, event_ms: int, price: str) -> None:
        if symbol == self.entry.symbol:
            note_traded(self.entry, event_ms, price)

    def at(self, after_ms: int) -> World:
        self.now_ms = T0 + after_ms
        return self

    def array(self, after_ms: int, price: str | None = None) -> None:
        """An array arrives; with a price it names the entry's symbol."""
        self.at(after_ms)
        named = [("OTHER", "7")] + ([("XUSDT", price)] if price else [])
        items = [{"s": symbol, "E": T0 + after_ms, "c": c} for symbol, c in named]
        assert self.witness.on_frame(MINI_TICKERS, items) is None

    def quiet_arrays(self, first_ms: int, last_ms: int) -> None:
        for after_ms in range(first_ms, last_ms + 1, 1000):
            self.array(after_ms)

    def event(self, after_ms: int, price: str = PRICE) -> None:
        self.at(after_ms)
        note_event(self.entry, T0 + after_ms, price)

    def read(self, after_ms: int, trades: int = 1) -> None:
        made = self.at(after_ms).now_ms
        start = made // MINUTE * MINUTE
        row = [start, "1", PRICE, "1", PRICE, "1", start + MINUTE - 1, "1", trades, "1", "1", "0"]
        candles = parse_rows([row], "1m", orjson.dumps, made_ms=made)
        self.entry.series.apply_read(candles, made, epoch=self.entry.series.epoch, is_whole=True)

    def proof(self, after_ms: int) -> tuple[int, str, str]:
        """Return when the last proof was, of which kind, and what is wrong, "" if nothing is."""
        proof, unproven = trade_proof(self.entry, self.witness, T0 + after_ms, QUIET_S)
        return proof.at_ms - T0, proof.kind, "" if unproven is None else unproven.reason


# -- own proofs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "interval", "wanted"),
    [
        (Market.SPOT, "1m", 2000),
        (Market.SPOT, "1s", 1000),
        (Market.UM, "1m", 250),
        (Market.CM, "1d", 250),
    ],
)
def test_how_often_a_changed_candle_is_pushed(market: Market, interval: str, wanted: int) -> None:
    assert push_ms(market, interval) == wanted
    assert wanted in (SPOT_SECOND_PUSH_MS, *PUSH_MS.values())


def test_newest_own_proof_counts_an_event_before_a_read() -> None:
    world = World()
    world.read(1000)
    assert world.proof(1500) == (1000, "rest", "")
    world.event(1000)
    assert world.proof(1500) == (1000, "event", "")
    world.event(1200)
    assert world.proof(1500) == (1200, "event", "")
    world.read(1300)
    assert world.proof(1500) == (1300, "rest", "")


@pytest.mark.parametrize(
    ("market", "interval", "quiet_ms"),
    [
        (Market.UM, "1m", 10_000),
        (Market.CM, "1m", 10_000),
        (Market.SPOT, "1m", 20_000),
        (Market.SPOT, "1s", 10_000),
    ],
)
def test_without_a_witness_an_own_proof_stands_for_the_quiet_time(
    market: Market, interval: str, quiet_ms: int
) -> None:
    world = World(market, interval)
    world.event(0)
    assert world.proof(quiet_ms) == (0, "event", "")
    assert world.proof(quiet_ms + 1) == (0, "event", "stream quiet")


def test_event_that_arrives_late_does_not_make_the_proof_older() -> None:
    world = World()
    world.event(5000)
    world.event(3000, "9")
    assert world.proof(5100) == (5000, "event", "")
    assert world.entry.price == PRICE


# -- the witness --------------------------------------------------------------------------------


def test_witness_stands_in_while_its_arrays_do_not_name_the_symbol() -> None:
    world = World()
    world.quiet_arrays(0, 1000)
    world.event(1500)
    world.quiet_arrays(2000, 60_000)
    assert world.proof(60_300) == (59_000, "witness", "")
    # It falls silent itself: what it said is of no use any more.
    assert world.proof(60_300)[1] == "witness"
    world.at(63_001)
    assert world.proof(63_001) == (1500, "event", "stream quiet")


def test_witness_that_came_later_vouches_only_after_a_read() -> None:
    world = World()
    world.event(0)
    world.quiet_arrays(1000, 12_000)
    assert world.proof(9000) == (0, "event", "")
    assert world.proof(10_001) == (0, "event", "stream quiet")
    world.read(12_100)
    world.quiet_arrays(13_000, 40_000)
    assert world.proof(40_000) == (39_000, "witness", "")


def test_array_never_makes_a_proof_older_than_the_own_one() -> None:
    world = World()
    world.quiet_arrays(0, 2000)
    world.event(1900)
    assert world.proof(2000) == (1900, "event", "")


@pytest.mark.parametrize(
    ("event_ms", "price", "is_doubt"),
    [
        (2000, PRICE, False),  # the event is as new as the array
        (2100, "9", False),
        (1999, PRICE, False),  # within the second the array covers, and of the same price
        (1000, PRICE, False),
        (999, PRICE, True),
        (1999, "9", True),
        (0, PRICE, True),
    ],
)
def test_array_that_tells_more_than_the_stream_is_a_doubt(event_ms: int, price: str, is_doubt: bool) -> None:
    world = World()
    world.array(-1000)
    world.event(event_ms, price)
    world.array(2000, PRICE)
    assert bool(world.entry.doubt_ms) is is_doubt
    assert world.entry.named_ms == T0 + 2000


def test_read_within_its_lag_proves_nothing_about_a_trade() -> None:
    world = World()
    world.array(0)
    world.event(0, "9")
    world.read(1500)
    world.array(2000, PRICE)
    assert world.entry.doubt_ms == T0 + 2000
    world.read(3999)
    assert world.proof(4250)[1:] == ("rest", "")
    assert world.proof(4251)[1:] == ("rest", "stream quiet")
    world.read(4300)
    world.array(5000)
    assert world.proof(5400)[1:] == ("rest", "")


@pytest.mark.parametrize("market", [Market.SPOT, Market.UM])
def test_doubt_is_given_the_time_of_a_push_and_more(market: Market) -> None:
    world = World(market)
    world.array(0)
    world.event(0)
    world.array(2000, "2.5")
    limit = 2000 + PUSH_MS[market] + DOUBT_MS
    # Its age goes on from the own event, whatever else the arrays say.
    assert world.proof(limit) == (0, "event", "")
    assert world.proof(limit + 1) == (0, "event", "stream quiet")


@pytest.mark.parametrize(
    ("event_ms", "price", "is_cleared"),
    [
        (2000, "9", True),
        (2500, "9", True),
        (1500, "2.5", True),
        (1500, "9", False),
        (999, "2.5", False),
    ],
)
def test_event_ends_a_doubt_if_it_tells_what_the_array_told(
    event_ms: int, price: str, is_cleared: bool
) -> None:
    world = World()
    world.array(0)
    world.event(0)
    world.array(2000, "2.5")
    assert world.entry.doubt_ms
    world.event(event_ms, price)
    assert (not world.entry.doubt_ms) is is_cleared


def test_first_doubt_stands_while_the_arrays_go_on_naming() -> None:
    world = World()
    world.array(0)
    world.event(0)
    for after_ms in range(1000, 9000, 1000):
        world.array(after_ms, str(after_ms))
    assert world.entry.doubt_ms == T0 + 1000
    assert world.entry.named_ms == T0 + 8000


def test_read_after_a_doubt_is_the_proof_and_the_next_array_a_new_doubt() -> None:
    world = World()
    world.array(0)
    world.event(0)
    world.array(2000, "2.5")
    world.read(4500)
    assert world.proof(4600) == (4500, "rest", "")
    world.quiet_arrays(5000, 8000)
    assert world.proof(8000) == (7000, "witness", "")
    world.array(9000, "2.6")
    assert world.entry.doubt_ms == T0 + 9000
    assert world.proof(9100) == (4500, "rest", "")


def test_trade_at_the_same_price_is_not_vouched_for() -> None:
    world = World()
    world.array(0)
    world.event(100)
    # Traded again at 500, at the same price, and the stream has died just then.
    world.array(1000, PRICE)
    world.quiet_arrays(2000, 8000)
    assert world.proof(8050) == (100, "event", "")
    assert world.proof(10_101) == (100, "event", "stream quiet")
    world.read(10_200)
    world.quiet_arrays(9000, 14_000)
    assert world.proof(14_000) == (13_000, "witness", "")


# -- REST knows more ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("market", "mute_ms"), [(Market.SPOT, 6000), (Market.UM, 10_000), (Market.CM, 10_000)]
)
def test_stream_silent_on_what_rest_knows_is_mute(market: Market, mute_ms: int) -> None:
    world = World(market)
    world.event(0)
    world.read(4000, trades=5)
    world.entry.unheard_ms = T0 + 4000
    assert world.proof(4900) == (4000, "rest", "")
    assert world.proof(5000) == (4000, "rest", "")
    assert world.proof(5001) == (4000, "rest", "stream quiet")
    world.read(4000 + mute_ms)
    assert world.proof(4000 + mute_ms) == (4000 + mute_ms, "rest", "")
    _, unproven = trade_proof(world.entry, world.witness, T0 + 4001 + mute_ms, QUIET_S)
    assert unproven is not None
    assert unproven.is_mute
    assert unproven.reason == "stream mute"


def test_any_event_of_its_own_shows_that_a_stream_is_not_mute() -> None:
    world = World()
    world.entry.unheard_ms = T0
    world.event(9000)
    assert not world.entry.unheard_ms
    assert world.proof(9100) == (9000, "event", "")


@pytest.mark.parametrize(
    ("market", "interval"), [(Market.SPOT, "1m"), (Market.SPOT, "1s"), (Market.UM, "1m")]
)
def test_stream_is_silent_when_a_push_is_overdue(market: Market, interval: str) -> None:
    world = World(market, interval)
    world.event(0)
    limit = push_ms(market, interval) + DOUBT_MS
    assert not was_silent(world.entry, T0 + limit)
    assert was_silent(world.entry, T0 + limit + 1)


# -- candles that end in silence ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("named_ms", "read_ms", "last_array_ms", "is_final"),
    [
        (10_000, 12_000, MINUTE + 1000, True),
        (10_000, 11_999, MINUTE + 1000, False),  # REST may have lagged behind the last trade
        (10_000, 12_000, MINUTE, False),  # a trade just before the close may be named a second later
        (59_000, 50_000, MINUTE + 1000, False),  # traded after it was seen
        (None, 12_000, MINUTE + 1000, True),
        (None, 1_999, MINUTE + 1000, False),  # seen before the witness was there
    ],
)
def test_candle_is_settled_by_silence_only_if_it_was_seen_after_the_last_trade(
    named_ms: int | None, read_ms: int, last_array_ms: int, is_final: bool
) -> None:
    world = World()
    for after_ms in range(0, last_array_ms + 1, 1000):
        world.array(after_ms, PRICE if after_ms == named_ms else None)
        if after_ms <= read_ms < after_ms + 1000:
            world.read(read_ms)
    settle_quiet(world.entry, world.witness)
    assert (world.entry.series.last_final == T0) is is_final


@pytest.mark.parametrize("loss", ["lost", "silent"])
def test_witness_that_is_gone_settles_nothing(loss: str) -> None:
    world = World()
    world.quiet_arrays(0, 4000)
    world.read(4500)
    world.quiet_arrays(5000, MINUTE)
    if loss == "lost":
        world.witness.on_lost([MINI_TICKERS])
    else:
        world.at(MINUTE + 3001)
    settle_quiet(world.entry, world.witness)
    assert world.entry.series.last_final is None
