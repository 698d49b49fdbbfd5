"""Which names are streams, and on which path of which market."""

import pytest

from resender.core.binance.markets import Market
from resender.sandbox.stream_names import parse_stream, parse_url


@pytest.mark.parametrize(
    ("market", "name", "kind"),
    [
        (Market.SPOT, "btcusdt@kline_1m", "kline"),
        (Market.SPOT, "btcusdt@kline_1M", "kline"),
        (Market.SPOT, "btcusdt@kline_1s", "kline"),
        (Market.UM, "btcusdt@kline_1s", None),
        (Market.SPOT, "btcusdt@kline_1d@+08:00", "kline"),
        (Market.UM, "btcusdt@kline_1d@+08:00", None),
        (Market.UM, "BTCUSDT@kline_1m", None),
        (Market.UM, "btcusdt@kline_7m", None),
        (Market.UM, "币安人生usdt@bookTicker", "bookTicker"),
        (Market.UM, "btcusdt@bookticker", None),
        (Market.UM, "btcusdt_perpetual@continuousKline_1m", "continuousKline"),
        (Market.SPOT, "!bookTicker", None),
        (Market.UM, "!bookTicker", "allBookTicker"),
        (Market.UM, "btcusdt@depth5@250ms", None),
        (Market.UM, "nonsense", None),
    ],
)
def test_stream_names_are_case_sensitive_and_per_market(market, name, kind):
    found = parse_stream(name, market)
    assert (found.kind if found else None) == kind


def test_um_paths_split_the_streams():
    everything = {"public", "market", "private"}
    assert parse_url("/ws/a@b", Market.UM).access == {"public"}
    assert parse_url("/stream?streams=a", Market.UM).access == {"public"}
    assert parse_url("/market/ws/a", Market.UM).access == {"market"}
    assert parse_url("/public/stream?streams=a/b", Market.UM).names == ("a", "b")
    assert parse_url("/ws/a", Market.CM).access == everything
    assert parse_url("/market/ws/a", Market.CM) is None
    assert parse_url("/", Market.SPOT) is None
    url = parse_url("/stream?streams=btcusdt@kline_1d@%2B08:00", Market.SPOT)
    assert (url.is_combined, url.names) == (True, ("btcusdt@kline_1d@+08:00",))
    assert parse_url("/private/ws?listenKey=abc&events=X", Market.UM).listen_key == "abc"
