"""The statistics of a day: keys of each market in order, figures of the same store as everything else."""

from decimal import Decimal

import pytest

from resender.core.binance.markets import Market
from resender.sandbox import tickers, trades
from resender.sandbox.config import SandboxConfig
from resender.sandbox.market import MarketStore

NOW = 1_791_374_430_500  # 2026-10-07 12:00:30.500 UTC
SYMBOL = {Market.SPOT: "BTCUSDT", Market.UM: "BTCUSDT", Market.CM: "BTCUSD_PERP"}
END = ["openPrice", "highPrice", "lowPrice", "volume", "quoteVolume", "openTime", "closeTime", "firstId", "lastId",
       "count"]  # fmt: skip
KEYS = {
    Market.SPOT: ["symbol", "priceChange", "priceChangePercent", "weightedAvgPrice", "prevClosePrice", "lastPrice",
                  "lastQty", "bidPrice", "bidQty", "askPrice", "askQty", *END],
    Market.UM: ["symbol", "priceChange", "priceChangePercent", "weightedAvgPrice", "lastPrice", "lastQty", *END],
    Market.CM: ["symbol", "pair", "priceChange", "priceChangePercent", "weightedAvgPrice", "lastPrice", "lastQty",
                *(key.replace("quoteVolume", "baseVolume") for key in END)],
}  # fmt: skip


def store_of(market):
    return MarketStore(market, SandboxConfig(clock_ms=lambda: NOW), NOW)


@pytest.mark.parametrize("market", SYMBOL)
def test_a_day_agrees_with_trades_book_and_candles(market):
    store, symbol = store_of(market), SYMBOL[market]
    for now in (NOW, NOW + 777, NOW + 61_000):
        row = tickers.day_row(store, symbol, now)
        assert list(row) == KEYS[market]
        last = trades.trade_rows(store, symbol, 1, now)[0]
        assert (row["lastPrice"], row["lastQty"], row["lastId"]) == (last["price"], last["qty"], last["id"])
        assert row["lastId"] - row["firstId"] + 1 == row["count"]
        assert Decimal(row["priceChange"]) == Decimal(row["lastPrice"]) - Decimal(row["openPrice"])
        minutes = store.kline_rows(symbol, "1m", start_ms=row["openTime"], end_ms=now, limit=1500, now_ms=now)
        assert row["openPrice"] == minutes[0][1]
        assert Decimal(row["highPrice"]) == max(Decimal(one[2]) for one in minutes)
        assert Decimal(row["volume"]) == sum(Decimal(one[5]) for one in minutes)
        assert row["count"] == sum(one[8] for one in minutes)
        if market is Market.SPOT:
            ticker = store.book_ticker(symbol, now)
            assert (row["bidPrice"], row["askQty"]) == (ticker.bid, ticker.ask_qty)


def test_change_of_price_is_that_of_the_last_trade_between_trades_too():
    store = store_of(Market.SPOT)
    untraded = 0
    for now in range(NOW - 3_600_000, NOW, 1250):
        row = tickers.day_row(store, "DOGEUSDT", now)
        assert Decimal(row["priceChange"]) == Decimal(row["lastPrice"]) - Decimal(row["openPrice"])
        untraded += Decimal(row["lastPrice"]).scaleb(5) != store.series["DOGEUSDT"].path.price_at(now)
    assert untraded > 5


def test_mini_keeps_eleven_keys_in_an_order_of_its_own():
    row = tickers.mini_row(tickers.day_row(store_of(Market.SPOT), "BTCUSDT", NOW))
    assert list(row) == ["symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume",
                         "openTime", "closeTime", "firstId", "lastId", "count"]  # fmt: skip


def test_average_price_is_weighted_over_five_minutes():
    store = store_of(Market.SPOT)
    minute = NOW // 60_000 * 60_000
    price, traded_ms = tickers.average_price(store, "BTCUSDT", minute)
    rows = store.kline_rows("BTCUSDT", "1m", start_ms=minute - 300_000, end_ms=minute - 1, now_ms=minute)
    exact = sum(Decimal(row[7]) for row in rows) / sum(Decimal(row[5]) for row in rows)
    assert 0 <= exact - Decimal(price) < Decimal("1e-8")
    assert traded_ms == trades.trade_rows(store, "BTCUSDT", 1, minute)[0]["time"]
