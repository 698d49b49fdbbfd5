"""Names of streams, batches, replies: values in, values out."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import SPOT_INTERVALS
from resender.core.binance.stream_names import (
    Reply,
    book_ticker_stream,
    check_stream_name,
    continuous_stream,
    control_message,
    fitting,
    kline_stream,
    read_reply,
    symbol_stream,
)


@pytest.mark.parametrize(
    ("symbol", "interval", "name"),
    [
        ("BTCUSDT", "1m", "btcusdt@kline_1m"),
        ("BTCUSDT", "1M", "btcusdt@kline_1M"),
        ("btcusdt", "1s", "btcusdt@kline_1s"),
        ("BTCUSD_PERP", "3d", "btcusd_perp@kline_3d"),
        ("BTC-261225-90000-C", "1h", "btc-261225-90000-c@kline_1h"),
        ("币安人生USDT", "1w", "币安人生usdt@kline_1w"),
        ("1000SHIBUSDT", "12h", "1000shibusdt@kline_12h"),
    ],
)
def test_kline_name_lowers_only_the_symbol(symbol: str, interval: str, name: str) -> None:
    assert kline_stream(symbol, interval) == name
    assert check_stream_name(name) == name


def test_book_ticker_name_keeps_its_capital() -> None:
    assert book_ticker_stream("ETHUSDT") == "ethusdt@bookTicker"
    assert book_ticker_stream("我踏马来了USDT") == "我踏马来了usdt@bookTicker"


@pytest.mark.parametrize(
    ("symbol", "what", "name"),
    [
        ("BTCUSDT", "aggTrade", "btcusdt@aggTrade"),
        ("btcusdt", "trade", "btcusdt@trade"),
        ("BTCUSD_PERP", "depth20@100ms", "btcusd_perp@depth20@100ms"),
        ("币安人生USDT", "depth@100ms", "币安人生usdt@depth@100ms"),
        ("ETHUSDT", "markPrice", "ethusdt@markPrice"),
    ],
)
def test_name_of_any_stream_of_a_symbol_lowers_only_the_symbol(symbol: str, what: str, name: str) -> None:
    assert symbol_stream(symbol, what) == name


@pytest.mark.parametrize(
    "what", ["", "aggtrade", "depth20@1s", "depth@100ms/ethusdt@trade", "kline_2m", 'trade"']
)
def test_what_is_in_no_table_of_streams_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="no stream name"):
        symbol_stream("BTCUSDT", what)


@pytest.mark.parametrize(
    "symbol",
    [
        "", " ", "BTC USDT", 'BTC"USDT', "BTC\\USDT", "BTC/USDT", "BTC?x=1", "BTC&x", "BTC#", "BTC%2F",
        "BTC@trade", "!BTC", "BTC\n", "BTC\x00", "A" * 65, "BTC,ETH", "BTC'", "BTC\u2028", "\ud800", "İ",
    ],
)  # fmt: skip
def test_symbol_that_could_break_a_message_is_refused(symbol: str) -> None:
    with pytest.raises(ValueError):
        kline_stream(symbol, "1m")
    with pytest.raises(ValueError):
        book_ticker_stream(symbol)
    with pytest.raises(ValueError):
        symbol_stream(symbol, "trade")


@pytest.mark.parametrize("interval", ["", "1", "1D", "2M", "1m/ethusdt@trade", "1m ", "60m", '1m"', "１m"])
def test_interval_that_is_none_is_refused(interval: str) -> None:
    with pytest.raises(ValueError):
        kline_stream("BTCUSDT", interval)


@pytest.mark.parametrize(
    "name",
    [
        "", "btcusdt", "@kline_1m", "BTCUSDT@kline_1m", "btcusdt@KLINE_1m", "btcusdt@kline_1H", "!ticker",
        "btcusdt@kline_1m@+09:00", "btcusdt@bookticker", "btcusdt@kline_1m\n", "btcusdt@kline_1m/ethusdt@trade",
    ],
)  # fmt: skip
def test_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        check_stream_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "btcusdt@kline_1d@+08:00",
        "btcusdt_perpetual@continuousKline_1M",
        "btcusdt@markPrice@1s",
        "btcusdt@depth5",
    ],
)
def test_other_streams_of_one_symbol_are_names_too(name: str) -> None:
    assert check_stream_name(name) == name


@given(st.text(max_size=70), st.sampled_from(SPOT_INTERVALS))
def test_any_text_gives_a_harmless_name_or_none(symbol: str, interval: str) -> None:
    try:
        name = kline_stream(symbol, interval)
    except ValueError:
        return
    assert name.endswith(f"@kline_{interval}")
    assert not set(name) & set(" \"'\\/?&#%,<>[]{}\r\n\t\0")
    assert orjson.loads(control_message("SUBSCRIBE", [name], 1))["params"] == [name]
    assert check_stream_name(name) == name


NAMES = st.lists(st.from_regex(r"[a-z0-9币_]{1,40}@bookTicker", fullmatch=True), max_size=300, unique=True)


@given(NAMES, st.integers(512, 4096), st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE"]))
def test_batches_carry_every_name_once_and_stay_below_the_limit(names: list[str], limit: int, method) -> None:
    rest, sent = list(names), []
    while rest:
        batch = fitting(rest, limit)
        assert batch
        assert len(control_message(method, batch, 2**31 - 1)) < limit
        sent += batch
        rest = rest[len(batch) :]
    assert sent == names


def test_batch_is_not_smaller_than_it_must_be() -> None:
    names = [f"s{number:04d}usdt@bookTicker" for number in range(1000)]
    batch = fitting(names, 4096)
    longer = names[: len(batch) + 2]
    assert len(control_message("UNSUBSCRIBE", longer, 2**31 - 1)) >= 4096


@pytest.mark.parametrize(
    ("frame", "reply"),
    [
        ({"result": None, "id": 7}, Reply(7, False)),
        ({"result": ["a"], "id": 7}, Reply(7, False)),
        ({"code": 2, "msg": "Invalid request", "id": 7}, Reply(7, True, "2")),
        ({"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 7}, Reply(7, True, "4")),
        ({"error": {"code": 4, "msg": "Too many subscriptions"}}, Reply(0, True, "4")),
        ({"code": 3, "msg": "Invalid JSON", "id": None}, Reply(0, True, "3")),
        ({"error": "odd", "id": 1}, Reply(1, True, "None")),
        ({"e": "serverShutdown", "E": 1790000000000}, None),
    ],
)
def test_reply_is_read_in_both_shapes(frame: dict[str, object], reply: Reply | None) -> None:
    assert read_reply(frame) == reply


@pytest.mark.parametrize(
    "frame",
    [[], 5, "x", None, True, {}, {"id": 7}, {"result": None}, {"e": "kline"}, {"result": None, "id": "7"}],
)
def test_frame_that_is_no_reply_is_refused(frame: object) -> None:
    with pytest.raises(ValueError):
        read_reply(frame)


@pytest.mark.parametrize(
    ("pair", "contract", "name"),
    [
        ("BTCUSDT", "PERPETUAL", "btcusdt_perpetual@continuousKline_1m"),
        ("TSLAUSDT", "TRADIFI_PERPETUAL", "tslausdt_tradifi_perpetual@continuousKline_1m"),
        ("币安人生USDT", "PERPETUAL", "币安人生usdt_perpetual@continuousKline_1m"),
    ],
)
def test_continuous_name_is_of_pair_and_contract_type(pair: str, contract: str, name: str) -> None:
    assert continuous_stream(pair, contract, "1m") == name


@pytest.mark.parametrize(
    ("pair", "contract", "interval"),
    [
        ("BTC USDT", "PERPETUAL", "1m"),
        ("BTCUSDT", "a/b", "1m"),
        ("BTCUSDT", "PERPETUAL", "2m"),
        ("X" * 60, "PERPETUAL", "1m"),
    ],
)
def test_continuous_name_that_cannot_be_one_is_refused(pair: str, contract: str, interval: str) -> None:
    with pytest.raises(ValueError):
        continuous_stream(pair, contract, interval)
