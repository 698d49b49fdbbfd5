"""Candles of marks, indices and premiums agree with the marks of each second and with the streams."""

import json
from collections import defaultdict
from decimal import Decimal

import pytest

from resender.core.binance.markets import Market
from resender.sandbox.config import SandboxConfig
from resender.sandbox.exchange import Exchange
from resender.sandbox.marks import mark_at
from resender.sandbox.price_klines import KINDS
from resender.sandbox.stream_feed import StreamFeed
from resender.sandbox.stream_names import parse_stream

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
SYMBOL = {Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}


def exchange_of(**options):
    return Exchange(SandboxConfig(clock_ms=lambda: NOW, **options))


def rows_of(exchange, market, kind, symbol=None, now=NOW, limit=50):
    store = exchange.stores[market]
    return json.loads(
        exchange.rest_klines(store, symbol or SYMBOL[market], "1m", None, None, limit, now, kind=kind)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("market", SYMBOL)
def test_rows_are_candles_without_volume(market, kind):
    rows = rows_of(exchange_of(), market, kind)
    plain = rows_of(exchange_of(), market, "")
    assert [(row[0], row[6]) for row in rows] == [(row[0], row[6]) for row in plain]
    for row in rows:
        o, h, low, c = map(Decimal, row[1:5])
        assert low <= min(o, c) <= max(o, c) <= h
        assert all(len(text.partition(".")[2]) == 8 for text in row[1:5])
        assert (row[5], row[7], *row[9:]) == ("0", "0", "0", "0", "0")
    assert [row[8] for row in rows] == [60] * 49 + [30]
    assert len({row[4] for row in rows}) > 30


@pytest.mark.parametrize("market", SYMBOL)
def test_close_of_a_candle_is_the_mark_of_its_last_second(market):
    exchange = exchange_of()
    for now in range(NOW // 1000 * 1000, NOW + 90_000, 1000):
        mark = mark_at(exchange.stores[market], SYMBOL[market], now)
        if now % 60_000:
            assert rows_of(exchange, market, "mark", now=now, limit=1)[0][4] == mark.mark
            assert rows_of(exchange, market, "index", now=now, limit=1)[0][4] == mark.index_price


def test_all_contracts_of_a_pair_have_one_index():
    store = exchange_of().stores[Market.CM]
    names = [spec.symbol for spec in store.symbols if spec.pair == "BTCUSD"]
    assert len(names) == 3
    assert len({mark_at(store, name, NOW).index_price for name in names}) == 1
    assert len({mark_at(store, name, NOW).mark for name in names}) == 3


@pytest.mark.parametrize(
    ("name", "kind", "event", "inner"),
    [("btcusd@indexPriceKline_1m", "index", "indexPrice_kline", "0"),
     ("btcusd_perp@markPriceKline_1m", "mark", "markPrice_kline", "BTCUSD_PERP"),
     ("etcusd_perp@markPriceKline_1m", "mark", "markPrice_kline", "ETCUSD_PERP")],
)  # fmt: skip
def test_streams_of_coin_m_are_the_rows_of_rest(name, kind, event, inner):
    exchange, events, now = exchange_of(quiet_symbols=["ETCUSD_PERP"]), defaultdict(list), NOW
    faults = exchange.faults.stream(Market.CM)
    feed = StreamFeed(exchange, Market.CM, faults, lambda one, text: events[one].append(json.loads(text)))
    feed.add(parse_stream(name, Market.CM), now)
    while now < NOW + 130_000:
        now += 250
        feed.tick(now, now / 1000)
    symbol = "BTCUSD_PERP" if inner == "0" else inner
    rows = {row[0]: row for row in rows_of(exchange, Market.CM, kind, symbol, now)}
    finals = [one for one in events[name] if one["k"]["x"]]
    assert len(finals) == 2
    for one in finals:
        k = one["k"]
        assert rows[k["t"]] == [
            k["t"],
            k["o"],
            k["h"],
            k["l"],
            k["c"],
            "0",
            k["T"],
            "0",
            k["n"],
            "0",
            "0",
            "0",
        ]
        assert (one["e"], one["ps"], k["s"]) == (event, symbol.partition("_")[0], inner)
    assert len(events[name]) > 400
    assert parse_stream(name, Market.UM) is None
