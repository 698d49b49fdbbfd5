"""What happens around a close: values that change to the end, and REST that trails behind."""

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.sandbox.config import SandboxConfig
from resender.sandbox.exchange import Exchange
from resender.sandbox.faults import Faults

CLOSE = 1_791_374_460_000  # 2026-10-07 12:01:00 UTC
MINUTE = 60_000
BUSY = [f"SIM{number:03d}USDT" for number in range(1, 40) if number % 10]
FORMS = {"is_spot": False, "is_continuous": False}


def exchange_of(**settings):
    return Exchange(SandboxConfig(clock_ms=lambda: CLOSE, **settings))


def shown(exchange, market, symbol, interval, now, **options):
    args = {"start_ms": None, "end_ms": None, "limit": 2} | options
    return orjson.loads(exchange.rest_klines(exchange.stores[market], symbol, interval, now_ms=now, **args))


# -- the last moments ------------------------------------------------------------------------


def test_rows_of_busy_symbols_change_in_the_last_quarter_of_a_second():
    store = exchange_of(um_symbols=BUSY).stores[Market.UM]
    closes = trades = 0
    for symbol in BUSY:
        before = store.kline_rows(symbol, "1m", limit=1, now_ms=CLOSE - 1)[0]
        final = store.kline_rows(symbol, "1m", limit=2, now_ms=CLOSE)[0]
        assert before != final
        assert before[:7:6] == final[:7:6]
        closes += before[4] != final[4]
        trades += before[8] < final[8]
    assert closes > len(BUSY) // 4
    assert trades > len(BUSY) // 2


def test_a_lagging_row_differs_from_the_final_one_for_a_good_part_of_the_symbols():
    exchange = exchange_of(um_symbols=BUSY)
    exchange.faults.stream(Market.UM).rest_lag_ms = 500
    rows = closes = 0
    for symbol in BUSY:
        (lagging,) = shown(exchange, Market.UM, symbol, "1m", CLOSE + 100, start_ms=CLOSE - MINUTE)
        (final,) = shown(exchange, Market.UM, symbol, "1m", CLOSE + 600, start_ms=CLOSE - MINUTE, limit=1)
        assert lagging[0] == final[0] == CLOSE - MINUTE
        rows += lagging != final
        closes += lagging[4] != final[4]
    assert rows == len(BUSY)
    assert closes > len(BUSY) // 4


# -- REST behind -----------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [0, 500, 1000])
@pytest.mark.parametrize("interval", ["1m", "5m", "1h"])
def test_rest_trails_behind_for_the_lag_after_each_close_and_never_else(lag, interval):
    exchange = exchange_of(rest_lag_ms=lag)
    store = exchange.stores[Market.UM]
    close = CLOSE // 3_600_000 * 3_600_000
    for since in (0, 100, 499, 500, 999, 1000, 30_000, 59_900):
        now = close + since
        wanted = store.kline_rows("BTCUSDT", interval, limit=2, now_ms=now - lag if since < lag else now)
        assert shown(exchange, Market.UM, "BTCUSDT", interval, now) == wanted
        assert (wanted[-1][0] == close) == (since >= lag)


def test_a_lagging_answer_does_not_have_the_new_candle_and_leaves_the_truth_alone():
    exchange = exchange_of(rest_lag_ms=1000)
    store = exchange.stores[Market.SPOT]
    truth = store.kline_rows("BTCUSDT", "1m", limit=3, now_ms=CLOSE + 200)
    assert shown(exchange, Market.SPOT, "BTCUSDT", "1m", CLOSE + 200, start_ms=CLOSE) == []
    rows = shown(exchange, Market.SPOT, "BTCUSDT", "1m", CLOSE + 200)
    assert [row[0] for row in rows] == [CLOSE - 2 * MINUTE, CLOSE - MINUTE]
    assert rows[0] == truth[0]
    assert rows[1] != truth[1]
    assert store.kline_rows("BTCUSDT", "1m", limit=3, now_ms=CLOSE + 200) == truth
    assert shown(exchange, Market.SPOT, "BTCUSDT", "1m", CLOSE + 1000, limit=3)[1] == truth[1]


def test_candles_of_another_time_zone_lag_after_their_own_closes():
    exchange = exchange_of(rest_lag_ms=1000)
    day, shift = 86_400_000, 8 * 3_600_000
    midnight = CLOSE // day * day - shift
    for offset, is_behind in ((0, False), (shift, True)):
        rows = shown(exchange, Market.SPOT, "BTCUSDT", "1d", midnight + 500, offset_ms=offset)
        assert (rows[-1][0] < midnight) == (is_behind or not offset)
        store = exchange.stores[Market.SPOT]
        now = midnight + 500 - (1000 if is_behind else 0)
        assert rows == store.kline_rows("BTCUSDT", "1d", limit=2, now_ms=now, offset_ms=offset)


def test_the_lag_is_one_markets_and_clearing_goes_back_to_the_configuration():
    config = SandboxConfig(rest_lag_ms=500, final_delay="spot")
    faults = Faults(config)
    switches = faults.stream(Market.UM)
    switches.rest_lag_ms, switches.final_delay = 0, "plain"
    assert faults.stream(Market.SPOT).rest_lag_ms == 500
    faults.clear()
    assert (switches.rest_lag_ms, switches.final_delay) == (500, "spot")
    assert (Faults().stream(Market.UM).rest_lag_ms, Faults().stream(Market.UM).final_delay) == (0, None)
