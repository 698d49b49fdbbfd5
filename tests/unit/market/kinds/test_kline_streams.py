"""Which stream carries a series, and what is done when two that ought to say the same do not."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.market.exchange_facts import SymbolTable
from resender.market.kinds.kline_streams import SAMPLE, KlineStreams
from resender.market.series import KeptKlines
from tests.support.market_fakes import MINUTE, T0, kline_event

PLAIN, CONTINUOUS = "btcusdt@kline_1m", "btcusdt_perpetual@continuousKline_1m"


def table(*rows: dict[str, str], market: Market = Market.UM) -> SymbolTable:
    """Load symbols, each a perpetual of its own pair unless said otherwise."""
    made = SymbolTable(market)
    known = [
        {"status": "TRADING", "contractStatus": "TRADING", "pair": row["symbol"], "contractType": "PERPETUAL"}
        | row
        for row in rows
    ]
    made.load(orjson.dumps({"symbols": known, "rateLimits": []}))
    return made


class FakeFeed:
    """A feed that notes who listens to what beside the series' own stream."""

    def __init__(self) -> None:
        self.listeners: dict[str, Any] = {}

    def subscribe(self, names: list[str], listener: Any) -> None:
        for name in names:
            assert name not in self.listeners
            self.listeners[name] = listener

    def unsubscribe(self, names: list[str], listener: Any) -> None:
        for name in names:
            assert self.listeners.pop(name) is listener


class Streams:
    """The streams of a market and its series."""

    def __init__(self, *symbols: str, wanted: str = "continuous", market: Market = Market.UM) -> None:
        self.feed = FakeFeed()
        self.symbols = table(*({"symbol": symbol} for symbol in symbols or ("BTCUSDT",)), market=market)
        self.streams = KlineStreams(market, self.symbols, self.feed, wanted)  # type: ignore[arg-type]

    def kept(self, symbol: str = "BTCUSDT", interval: str = "1m") -> KeptKlines:
        stream, contract = self.streams.choose(symbol, interval, 0.0)
        return KeptKlines(Market.UM, symbol, stream, 0.0, interval=interval, contract=contract)

    def plain(self, symbol: str = "BTCUSDT", **options: Any) -> None:
        """The plain stream of a series under comparison brings a final event."""
        name = f"{symbol.lower()}@kline_1m"
        self.feed.listeners[name].on_frame(
            name, kline_event(T0, T0 + MINUTE + 20, symbol, final=True, **options), b""
        )

    def own(self, kept: KeptKlines, **options: Any) -> None:
        """Its continuous stream does."""
        self.streams.note_own(kept, self.streams.parse(kept, continuous(kept.symbol, **options)))


def continuous(symbol: str = "BTCUSDT", **options: Any) -> dict[str, Any]:
    """Make the event of a continuous stream that says what the plain one does."""
    data = copy.deepcopy(kline_event(T0, T0 + MINUTE + 20, symbol, final=True, **options))
    del data["s"], data["k"]["s"]
    return data | {"e": "continuous_kline", "ps": symbol, "ct": "PERPETUAL"}


# -- which ----------------------------------------------------------------------------------------


def test_perpetual_alone_with_its_pair_has_the_continuous_stream() -> None:
    one = Streams()
    assert one.streams.choose("BTCUSDT", "1m", 0.0) == (CONTINUOUS, ("BTCUSDT", "PERPETUAL"))
    assert one.streams.choose("ETHUSDT", "1m", 0.0) == ("ethusdt@kline_1m", None)


@pytest.mark.parametrize(
    ("wanted", "market"), [("plain", Market.UM), ("continuous", Market.SPOT), ("continuous", Market.CM)]
)
def test_elsewhere_and_where_it_is_not_wanted_the_plain_stream_is_used(wanted: str, market: Market) -> None:
    assert Streams(wanted=wanted, market=market).streams.choose("BTCUSDT", "1m", 0.0) == (PLAIN, None)


@pytest.mark.parametrize(
    "rows",
    [
        [{"symbol": "BTCUSDT"}, {"symbol": "BTCUSDT2", "pair": "BTCUSDT"}],
        [{"symbol": "BTCUSDT", "contractType": "CURRENT_QUARTER"}],
        [{"symbol": "BTCUSDT", "contractType": ""}],
    ],
)
def test_pair_with_two_symbols_or_another_contract_has_the_plain_stream(rows: list[dict[str, str]]) -> None:
    streams = KlineStreams(Market.UM, table(*rows), FakeFeed(), "continuous")  # type: ignore[arg-type]
    assert streams.choose("BTCUSDT", "1m", 0.0) == (PLAIN, None)


def test_twin_that_is_not_traded_any_more_does_not_count() -> None:
    rows = [{"symbol": "BTCUSDT"}, {"symbol": "BTCUSDT2", "pair": "BTCUSDT", "status": "SETTLING"}]
    streams = KlineStreams(Market.UM, table(*rows), FakeFeed(), "continuous")  # type: ignore[arg-type]
    assert streams.choose("BTCUSDT", "1m", 0.0)[0] == CONTINUOUS


def test_mute_continuous_stream_is_left_for_an_hour() -> None:
    one = Streams()
    assert one.streams.leave(one.kept(), 100.0)
    assert one.streams.choose("BTCUSDT", "5m", 3699.0)[1] is None, "at all intervals"
    assert one.streams.choose("BTCUSDT", "1m", 3700.0)[0] == CONTINUOUS


def test_plain_stream_cannot_be_left() -> None:
    one = Streams(wanted="plain")
    assert not one.streams.leave(one.kept(), 100.0)


# -- frames ---------------------------------------------------------------------------------------


def test_both_streams_make_the_same_row_of_the_same_candle() -> None:
    one = Streams()
    kept = one.kept()
    plain = Streams(wanted="plain").kept()
    event = kline_event(T0, T0 + MINUTE + 20, final=True)
    assert one.streams.parse(kept, continuous()) == one.streams.parse(plain, event)


@pytest.mark.parametrize(
    "change",
    [{"ps": "ETHUSDT"}, {"ct": "CURRENT_QUARTER"}, {"ps": None}, {"ct": 5}, {"k": None}],
)
def test_continuous_frame_of_another_series_is_refused(change: dict[str, Any]) -> None:
    one = Streams()
    with pytest.raises((ValueError, TypeError)):
        one.streams.parse(one.kept(), continuous() | change)


def test_frame_of_the_other_kind_is_refused() -> None:
    one = Streams()
    with pytest.raises(KeyError):
        one.streams.parse(one.kept(), kline_event(T0, T0 + 1000))
    with pytest.raises(KeyError):
        one.streams.parse(Streams(wanted="plain").kept(), continuous())


def test_frame_of_another_interval_is_refused() -> None:
    one = Streams()
    with pytest.raises(ValueError, match="another series"):
        one.streams.parse(one.kept(interval="5m"), continuous())


# -- whether they say the same --------------------------------------------------------------------


@pytest.mark.parametrize("is_plain_first", [True, False])
def test_same_row_on_both_streams_is_counted_and_nothing_else(
    is_plain_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one = Streams()
    kept = one.kept()
    one.streams.sample([kept], 0.0)
    if is_plain_first:
        one.plain()
    one.own(kept)
    if not is_plain_first:
        one.plain()
    assert (one.streams.compared, one.streams.differing) == (1, 0)
    assert not caplog.records


def test_row_that_differs_ends_the_use_of_the_continuous_stream_for_good(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = Streams("BTCUSDT", "ETHUSDT")
    kept, other = one.kept(), one.kept("ETHUSDT")
    one.streams.sample([kept, other], 0.0)
    one.plain()
    one.own(kept, c="9.99")
    assert (one.streams.compared, one.streams.differing) == (1, 1)
    assert one.streams.choose("BTCUSDT", "1m", 1e12) == (PLAIN, None)
    assert one.streams.choose("ETHUSDT", "1m", 1e12)[1] is not None
    assert PLAIN not in one.feed.listeners
    assert "disagree about the candle" in caplog.text


def test_final_that_the_same_stream_says_twice_is_not_compared_with_itself() -> None:
    """While a connection is renewed both of them bring every event."""
    one = Streams()
    kept = one.kept()
    one.streams.sample([kept], 0.0)
    one.own(kept)
    one.own(kept)
    assert (one.streams.compared, one.streams.differing) == (0, 0)
    one.plain(c="9.99")
    assert (one.streams.compared, one.streams.differing) == (1, 1)


def test_stream_whose_rows_differed_is_not_tried_again_because_it_was_mute_too() -> None:
    one = Streams()
    kept = one.kept()
    one.streams.sample([kept], 0.0)
    one.plain()
    one.own(kept, c="9.99")
    assert one.streams.leave(kept, 100.0)
    assert one.streams.choose("BTCUSDT", "1m", 1e12) == (PLAIN, None)


def test_only_final_rows_are_compared() -> None:
    one = Streams()
    kept = one.kept()
    one.streams.sample([kept], 0.0)
    one.feed.listeners[PLAIN].on_frame(PLAIN, kline_event(T0, T0 + 30_000), b"")
    one.own(kept)
    assert one.streams.compared == 0


def test_few_series_are_held_on_both_streams_at_once() -> None:
    symbols = [f"S{number}USDT" for number in range(20)]
    one = Streams(*symbols)
    every = [one.kept(symbol) for symbol in symbols]
    for mono in (0.0, 5.0, 10.0):
        one.streams.sample(every, mono)
        assert len(one.feed.listeners) == SAMPLE


def test_every_series_has_its_turn() -> None:
    symbols = [f"S{number}USDT" for number in range(7)]
    one = Streams(*symbols)
    every = [one.kept(symbol) for symbol in symbols]
    seen: set[str] = set()
    for turn in range(10):
        one.streams.sample(every, turn * 1000.0)
        seen |= set(one.feed.listeners)
    assert len(seen) == len(symbols)


@pytest.mark.parametrize("end", ["dropped", "plain"])
def test_series_that_is_dropped_or_plain_now_is_compared_no_longer(end: str) -> None:
    one = Streams()
    kept = one.kept()
    one.streams.sample([kept], 0.0)
    if end == "dropped":
        kept.is_dropped = True
    else:
        kept.contract = None
    one.streams.sample([], 5.0)
    assert one.feed.listeners == {}


def test_series_that_closes_too_seldom_to_be_compared_is_not() -> None:
    one = Streams()
    one.streams.sample([one.kept(interval="1h"), Streams(wanted="plain").kept()], 0.0)
    assert one.feed.listeners == {}


def test_what_was_seen_before_a_loss_is_not_compared() -> None:
    one = Streams()
    kept = one.kept()
    one.streams.sample([kept], 0.0)
    one.plain()
    one.feed.listeners[PLAIN].on_lost([PLAIN])
    one.own(kept)
    assert one.streams.compared == 0


def test_rows_of_a_stream_that_brings_nothing_do_not_pile_up() -> None:
    one = Streams()
    kept = one.kept()
    one.streams.sample([kept], 0.0)
    for number in range(100):
        at = T0 + number * MINUTE
        event = kline_event(at, at + MINUTE + 20, final=True)
        one.feed.listeners[PLAIN].on_frame(PLAIN, event, b"")
    assert len(one.feed.listeners[PLAIN].firsts) <= 8
