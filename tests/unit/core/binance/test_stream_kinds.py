"""Every stream Binance documents has its kind; whatever else a client may write has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import INTERVALS, SPOT_INTERVALS, STREAM_PATHS, Market
from resender.core.binance.stream_kinds import Flow, Order, stream_kind
from resender.core.binance.stream_names import check_stream_name

SPOT, UM, CM = Market.SPOT, Market.UM, Market.CM
STATE, CANDLE, EVENT, SEQUENCE = Flow.STATE, Flow.CANDLE, Flow.EVENT, Flow.SEQUENCE

# Shape: name; flow; order; the paths that deliver it.
Row = tuple[str, Flow, Order, str]
# Source: web-socket-streams.md of 2026-07-21.
_SPOT: list[Row] = [
    ("btcusdt@aggTrade", SEQUENCE, Order.AGGREGATE_ID, ""),
    ("btcusdt@trade", SEQUENCE, Order.TRADE_ID, ""),
    ("btcusdt@blockTrade", SEQUENCE, Order.NONE, ""),
    ("btcusdt@kline_1s", CANDLE, Order.EVENT_TIME, ""),
    ("btcusdt@kline_1M", CANDLE, Order.EVENT_TIME, ""),
    ("btcusdt@kline_1d@+08:00", CANDLE, Order.EVENT_TIME, ""),
    ("币安人生usdt@kline_1m", CANDLE, Order.EVENT_TIME, ""),
    ("btcusdt@miniTicker", STATE, Order.EVENT_TIME, ""),
    ("btcusdt@ticker", STATE, Order.EVENT_TIME, ""),
    ("btcusdt@ticker_1h", STATE, Order.EVENT_TIME, ""),
    ("btcusdt@ticker_4h", STATE, Order.EVENT_TIME, ""),
    ("btcusdt@ticker_1d", STATE, Order.EVENT_TIME, ""),
    ("btcusdt@bookTicker", STATE, Order.UPDATE_ID, ""),
    ("btcusdt@avgPrice", STATE, Order.EVENT_TIME, ""),
    ("btcusdt@referencePrice", STATE, Order.EVENT_TIME, ""),
    ("btcusdt@depth5", STATE, Order.LAST_UPDATE_ID, ""),
    ("btcusdt@depth10@100ms", STATE, Order.LAST_UPDATE_ID, ""),
    ("btcusdt@depth20@1000ms", STATE, Order.LAST_UPDATE_ID, ""),
    ("btcusdt@depth", SEQUENCE, Order.DEPTH, ""),
    ("btcusdt@depth@100ms", SEQUENCE, Order.DEPTH, ""),
    ("btcusdt@depth@1000ms", SEQUENCE, Order.DEPTH, ""),
    ("!miniTicker@arr", EVENT, Order.NONE, ""),
    ("!ticker@arr", EVENT, Order.NONE, ""),
    ("!ticker_1h@arr", EVENT, Order.NONE, ""),
]
# Source: derivatives SDKs of 2026-08-21, the WebSocket notice of 2026-03-06.
_UM: list[Row] = [
    ("btcusdt@aggTrade", SEQUENCE, Order.AGGREGATE_ID, "/market"),
    ("btcusdt@trade", SEQUENCE, Order.TRADE_ID, "/public /market"),
    ("btcusdt@markPrice", STATE, Order.EVENT_TIME, "/market"),
    ("btcusdt@markPrice@1s", STATE, Order.EVENT_TIME, "/market"),
    ("!markPrice@arr", EVENT, Order.NONE, "/market"),
    ("!markPrice@arr@1s", EVENT, Order.NONE, "/market"),
    ("btcusdt@kline_1m", CANDLE, Order.EVENT_TIME, "/market"),
    ("btcusdt_perpetual@continuousKline_1m", CANDLE, Order.EVENT_TIME, "/market"),
    ("btcusdt_next_quarter@continuousKline_1s", CANDLE, Order.EVENT_TIME, "/market"),
    ("btcusdt@miniTicker", STATE, Order.EVENT_TIME, "/market"),
    ("!miniTicker@arr", EVENT, Order.NONE, "/market"),
    ("btcusdt@ticker", STATE, Order.EVENT_TIME, "/market"),
    ("!ticker@arr", EVENT, Order.NONE, "/market"),
    ("btcusdt@bookTicker", STATE, Order.UPDATE_ID, "/public"),
    ("!bookTicker", EVENT, Order.NONE, "/public"),
    ("btcusdt@forceOrder", SEQUENCE, Order.NONE, "/market"),
    ("!forceOrder@arr", SEQUENCE, Order.NONE, "/market"),
    ("btcusdt@depth5", STATE, Order.UPDATE_ID, "/public"),
    ("btcusdt@depth20@500ms", STATE, Order.UPDATE_ID, "/public"),
    ("btcusdt@depth", SEQUENCE, Order.DEPTH, "/public"),
    ("btcusdt@depth@250ms", SEQUENCE, Order.DEPTH, "/public"),
    ("btcusdt@rpiDepth@500ms", SEQUENCE, Order.DEPTH, "/public"),
    ("defiusdt@compositeIndex", STATE, Order.EVENT_TIME, "/market"),
    ("adausd@assetIndex", STATE, Order.EVENT_TIME, "/market"),
    ("!assetIndex@arr", EVENT, Order.NONE, "/market"),
    ("!contractInfo", SEQUENCE, Order.NONE, "/market"),
    ("tradingSession", SEQUENCE, Order.NONE, "/market"),
    ("btc-261225-90000-c@optionTicker", STATE, Order.EVENT_TIME, "/public"),
    ("btcusdt@optionTicker@261225", STATE, Order.EVENT_TIME, "/public"),
    ("btc-261225-90000-c@optionTrade", SEQUENCE, Order.NONE, "/public"),
    ("btcusdt@optionMarkPrice", EVENT, Order.NONE, "/market"),
    ("btcusdt@openInterest@261225", EVENT, Order.NONE, "/market"),
    ("!index@arr", EVENT, Order.NONE, "/market"),
    ("!optionSymbol", EVENT, Order.NONE, "/market"),
]
_CM: list[Row] = [
    ("btcusd_perp@aggTrade", SEQUENCE, Order.AGGREGATE_ID, ""),
    ("btcusd_perp@trade", SEQUENCE, Order.TRADE_ID, ""),
    ("btcusd@indexPrice", EVENT, Order.NONE, ""),
    ("btcusd@indexPrice@1s", EVENT, Order.NONE, ""),
    ("btcusd_perp@markPrice@1s", EVENT, Order.NONE, ""),
    ("btcusd_perp@kline_1m", CANDLE, Order.EVENT_TIME, ""),
    ("btcusd_perpetual@continuousKline_1d", CANDLE, Order.EVENT_TIME, ""),
    ("btcusd@indexPriceKline_1m", CANDLE, Order.EVENT_TIME, ""),
    ("btcusd_perp@markPriceKline_1m", CANDLE, Order.EVENT_TIME, ""),
    ("btcusd_perp@miniTicker", STATE, Order.EVENT_TIME, ""),
    ("!miniTicker@arr", EVENT, Order.NONE, ""),
    ("btcusd_perp@ticker", STATE, Order.EVENT_TIME, ""),
    ("!ticker@arr", EVENT, Order.NONE, ""),
    ("btcusd_perp@bookTicker", STATE, Order.UPDATE_ID, ""),
    ("!bookTicker", EVENT, Order.NONE, ""),
    ("btcusd_perp@forceOrder", SEQUENCE, Order.NONE, ""),
    ("!forceOrder@arr", SEQUENCE, Order.NONE, ""),
    ("!contractInfo", SEQUENCE, Order.NONE, ""),
    ("btcusd_perp@depth10@250ms", STATE, Order.UPDATE_ID, ""),
    ("btcusd_perp@depth@500ms", SEQUENCE, Order.DEPTH, ""),
]
_ALL = [(market, *row) for market, rows in ((SPOT, _SPOT), (UM, _UM), (CM, _CM)) for row in rows]


@pytest.mark.parametrize(("market", "name", "flow", "order", "paths"), _ALL)
def test_documented_stream_has_its_flow_its_order_and_its_path(
    market: Market, name: str, flow: Flow, order: Order, paths: str
) -> None:
    kind = stream_kind(market, name)
    assert kind is not None
    assert (kind.flow, kind.order, kind.paths) == (flow, order, tuple(paths.split(" ")))
    assert check_stream_name(name) == name


@pytest.mark.parametrize("market", [SPOT, UM, CM])
def test_candles_of_every_interval_of_a_market_are_streams_and_of_no_other(market: Market) -> None:
    found = [each for each in SPOT_INTERVALS if stream_kind(market, f"btcusdt@kline_{each}")]
    assert found == list(INTERVALS[market])
    for each in ("", "1", "1D", "2m", "60m", "1mo", "1m@+08:00" if market is not SPOT else "1m@+09:00"):
        assert stream_kind(market, f"btcusdt@kline_{each}") is None, each


@pytest.mark.parametrize("market", [SPOT, UM, CM])
def test_what_the_cache_listens_to_comes_over_the_path_it_takes(market: Market) -> None:
    names = {"kline": ["btcusdt@kline_1m"], "bookTicker": ["btcusdt@bookTicker"],
             "miniTicker": ["!miniTicker@arr"], "depth": ["btcusdt@depth20@100ms", "btcusdt@depth@100ms"],
             "aggTrade": ["btcusdt@aggTrade"], "trade": ["btcusdt@trade"], "ticker": ["btcusdt@ticker"],
             "markPrice": ["btcusdt@markPrice@1s"]}  # fmt: skip
    for what, path in STREAM_PATHS[market].items():
        for name in names[what]:
            kind = stream_kind(market, name)
            assert kind is not None, name
            # Single trades of USD-M come over two paths.
            both = ("/public", "/market")
            assert kind.paths == (both if (market, what) == (UM, "trade") else (path,))
            assert path in kind.paths


@pytest.mark.parametrize(("market", "name"), [row[:2] for row in _ALL])
def test_other_letters_and_anything_around_a_name_make_it_none(market: Market, name: str) -> None:
    swapped = {name.upper(), name.swapcase(), name.title()} - {name}
    for each in (
        *swapped,
        f" {name}",
        f"{name} ",
        f"{name}\n",
        f"{name}@",
        f"x/{name}",
        f"{name}/x",
        f"!{name}",
    ):
        assert stream_kind(market, each) is None, each


@pytest.mark.parametrize(
    "name",
    [
        "", "@", "!", "btcusdt", "btcusdt@", "@trade", "0", "7", "btcusdt@trades", "btcusdt@depth1",
        "btcusdt@depth5@50ms",
        "btcusdt@kline", "!ticker", "!trade", "!kline_1m@arr", "btcusdt@!ticker@arr", "btcusdt@!bookTicker",
        "btcusdt@!forceOrder@arr", "btcusdt@tradingSession", "!tradingSession", "!btcusdt@trade",
        "A" * 64, "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1",
        f"{'a' * 65}@trade", "!" + "a" * 64,
    ],
)  # fmt: skip
def test_nonsense_is_no_stream_anywhere(name: str) -> None:
    for market in Market:
        assert stream_kind(market, name) is None


@pytest.mark.parametrize("evil", [*"\"'\\ /?&%#,;:<>{}[]()\n\r\t\0\u2028$|^~`=*+", "\ud800"])
def test_no_symbol_carries_a_letter_that_leaves_its_string_or_its_url(evil: str) -> None:
    for market in Market:
        for name in (
            f"btc{evil}usdt@trade",
            f"{evil}btcusdt@trade",
            f"btcusdt{evil}@trade",
            f"btcusdt@{evil}trade",
        ):
            assert stream_kind(market, name) is None
        # Options have an expiry behind the kind.
        if evil not in ":+":
            assert stream_kind(market, f"btcusdt@optionTicker@26{evil}12") is None
        assert stream_kind(market, f"btcusdt@openInterest@26{evil}12") is None


def test_kinds_of_one_market_are_none_of_another() -> None:
    assert stream_kind(UM, "btcusdt@avgPrice") is None
    assert stream_kind(SPOT, "btcusdt@markPrice") is None
    assert stream_kind(SPOT, "btcusdt@forceOrder") is None
    assert stream_kind(SPOT, "!bookTicker") is None
    assert stream_kind(CM, "btcusd_perp@optionTicker") is None
    assert stream_kind(Market.OPTIONS, "btc-261225-90000-c@optionTicker") is None


@given(
    st.sampled_from([SPOT, UM, CM]), st.text(max_size=80) | st.from_regex(r"[!\w.@+-]{0,40}@[\w@+:!]{0,30}")
)
def test_whatever_has_a_kind_is_safe_in_a_message_and_a_url(market: Market, name: str) -> None:
    if stream_kind(market, name) is not None:
        assert not set(name) & set('"\\ /?&%#\n\r\0')
        assert "@" in name or name.startswith("!") or name == "tradingSession"
