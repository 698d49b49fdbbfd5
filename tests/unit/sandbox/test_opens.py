"""What happens to a candle that has just opened: silent streams, empty candles, rows that come late."""

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.sandbox.config import SandboxConfig
from resender.sandbox.exchange import Exchange
from resender.sandbox.faults import Faults, StreamFaults
from resender.sandbox.opens import late_row_ms, silent_ms, zero_push_ms
from resender.sandbox.stream_feed import StreamFeed
from resender.sandbox.stream_names import parse_stream

T = 1_791_374_460_000  # 2026-10-07 12:01:00 UTC
MINUTE = 60_000
BUSY = [f"SIM{number:03d}USDT" for number in range(1, 200) if number % 10]


def drawn(make, seed=1):
    return [make(seed, symbol, T) for symbol in map(str, range(4000))]


def share(values, least):
    return sum(each >= least for each in values) / len(values)


def test_shares_are_those_that_were_measured():
    silent = drawn(silent_ms)
    assert 0.17 < share(silent, 10_000) < 0.21
    assert 0.045 < share(silent, 60_000) < 0.065
    assert 0.79 < sum(each == 0 for each in silent) / len(silent) < 0.83
    zero = drawn(zero_push_ms)
    assert min(zero) >= 2000
    assert 0.77 < 1 - share(zero, 3701) < 0.83
    assert max(zero) <= 10_000
    late = drawn(late_row_ms)
    assert 3000 <= min(late) < 3200
    assert 24_800 < max(late) <= 25_000


@pytest.mark.parametrize("make", [silent_ms, zero_push_ms, late_row_ms])
def test_same_symbol_and_time_give_the_same(make):
    assert drawn(make) == drawn(make)
    assert drawn(make) != drawn(make, seed=2)
    assert len({make(1, "BTCUSDT", T + minute * MINUTE) for minute in range(60)}) > 3


def pushed(market, symbols, until_ms, **settings):
    """Return what the streams of some symbols bring of the candle that opened at T."""
    config = SandboxConfig(
        clock_ms=lambda: T - 1000, um_symbols=BUSY, kline_push_ms={"um": 250, "spot": 500}, **settings
    )
    exchange, frames = Exchange(config), []
    faults = Faults(config)
    feed = StreamFeed(
        exchange, market, faults.stream(market), lambda name, text: frames.append(orjson.loads(text))
    )
    for symbol in symbols:
        feed.add(parse_stream(f"{symbol.lower()}@kline_1m", market), T - 1000)
    for now in range(T - 1000, until_ms, 250):
        feed.tick(now, now / 1000)
    return [frame for frame in frames if frame["k"]["t"] == T], exchange


def test_some_usd_m_streams_are_silent_although_rest_shows_trades():
    heard, exchange = pushed(Market.UM, BUSY, T + 10_000, measured=True)
    silent = set(BUSY) - {frame["s"] for frame in heard}
    assert 0.1 < len(silent) / len(BUSY) < 0.3
    store = exchange.stores[Market.UM]
    traded = [name for name in silent if store.kline_rows(name, "1m", limit=1, now_ms=T + 10_000)[0][8]]
    assert len(traded) > len(silent) / 2
    assert len({frame["s"] for frame in pushed(Market.UM, BUSY, T + 10_000)[0]}) == len(BUSY)


def test_spot_streams_bring_candles_without_a_trade_after_some_seconds():
    names = ["NKNUSDT", "CTKUSDT"]
    heard, _ = pushed(Market.SPOT, names, T + 12_000, measured=True)
    empty = [frame for frame in heard if not frame["k"]["n"]]
    assert {frame["s"] for frame in empty} == set(names)
    assert all(frame["E"] >= T + 2000 for frame in empty)
    assert all((frame["k"]["f"], frame["k"]["L"], frame["k"]["x"]) == (-1, -1, False) for frame in empty)
    assert not [frame for frame in pushed(Market.SPOT, names, T + 12_000)[0] if not frame["k"]["n"]]


def test_usd_m_rest_shows_a_candle_without_a_trade_late():
    exchange = Exchange(SandboxConfig(clock_ms=lambda: T, measured=True))
    store = exchange.stores[Market.UM]

    def newest(now_ms):
        rows = exchange.rest_klines(store, "CTKUSDT", "1m", None, None, 1, now_ms)
        return orjson.loads(rows)[0]

    start = next(
        start
        for start in range(T, T + 600 * MINUTE, MINUTE)
        if not store.kline_rows("CTKUSDT", "1m", limit=1, now_ms=start + 30_000)[0][8]
    )
    late = late_row_ms(1, "CTKUSDT", start)
    assert newest(start + late - 1)[0] == start - MINUTE
    assert newest(start + late)[0] == start
    assert newest(start + late)[8] == 0


def test_switches_are_off_unless_closes_go_as_measured():
    plain = Faults(SandboxConfig()).stream(Market.UM)
    assert plain == StreamFaults()
    measured = Faults(SandboxConfig(measured=True)).stream(Market.UM)
    assert (measured.silent_open, measured.zero_open, measured.late_row) == (True, True, True)
    assert measured.final_delay == "measured"
    assert Faults(SandboxConfig(measured=True, final_delay="plain")).stream(Market.UM).final_delay == "plain"
