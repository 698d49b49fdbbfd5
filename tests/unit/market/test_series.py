"""What is kept of a series or a ticker: its key, the word for how it is doing, and who waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.book_ticker import BookTicker
from resender.core.market.candles import parse_rows
from resender.core.market.klines import KlineSeries
from resender.core.market.words import BOOK_TICKER
from resender.market.series import KeptKlines, KeptTicker
from tests.support.fixtures import wire
from tests.support.market_fakes import MINUTE, T0, row


def klines(**values: Any) -> KeptKlines:
    series = KlineSeries("1m", 60)
    return KeptKlines(Market.UM, "BTCUSDT", "btcusdt@kline_1m", 0.0, interval="1m", series=series, **values)


def ticker() -> KeptTicker:
    return KeptTicker(Market.UM, "BTCUSDT", "btcusdt@bookTicker", 0.0, ticker=BookTicker(Market.UM))


def fill(kept: KeptKlines) -> None:
    rows = [row(T0 - n * MINUTE, 5) for n in (2, 1, 0)]
    candles = parse_rows(rows, "1m", orjson.dumps, made_ms=T0 + 5000)
    kept.series.apply_read(candles, T0 + 5000, epoch=kept.series.epoch)


def test_key_is_market_symbol_and_the_word_a_rule_has_for_it() -> None:
    assert klines().key == (Market.UM, "BTCUSDT", "1m")
    assert ticker().key == (Market.UM, "BTCUSDT", BOOK_TICKER)


def test_series_goes_from_connecting_to_live() -> None:
    kept = klines()
    states = [kept.state]
    kept.is_live = True
    states.append(kept.state)
    fill(kept)
    states.append(kept.state)
    kept.is_filled = True
    states.append(kept.state)
    assert states == ["connecting", "syncing", "filling", "live"]


def test_mute_stream_is_told_before_what_is_held_and_a_lost_one_before_that() -> None:
    for kept in (klines(), ticker()):
        kept.is_mute = kept.is_live = True
        assert kept.state == "mute"
        kept.is_live = False
        assert kept.state == "connecting"


def test_series_tells_how_many_rows_it_holds_and_which_is_the_newest() -> None:
    kept = klines()
    assert (kept.rows, kept.last_open) == (0, None)
    fill(kept)
    assert (kept.rows, kept.last_open) == (3, T0)


def test_ticker_is_one_row_once_it_has_a_value() -> None:
    kept = ticker()
    assert (kept.rows, kept.last_open) == (0, None)
    kept.is_live = True
    assert kept.state == "syncing"
    kept.ticker.seed(wire(Market.UM, "http_book_ticker"))
    assert (kept.rows, kept.state) == (1, "live")


def test_newest_of_event_and_read_proves_a_ticker() -> None:
    kept = ticker()
    kept.seeded_mono = 5.0
    assert kept.proof_mono == 5.0
    kept.event_mono = 7.0
    assert kept.proof_mono == 7.0


async def test_all_who_wait_are_woken_once_and_those_who_left_are_no_trouble() -> None:
    kept = klines()
    loop = asyncio.get_running_loop()
    waiting, gone, done = (loop.create_future() for _ in range(3))
    kept.waiters += [waiting, gone, done]
    gone.cancel()
    done.set_result(None)
    kept.wake()
    assert waiting.done()
    assert kept.waiters == []
    kept.wake()


def test_series_of_two_entries_are_two() -> None:
    one, other = KeptKlines(Market.UM, "A", "a", 0.0), KeptKlines(Market.UM, "B", "b", 0.0)
    assert one.series is not other.series
    assert one.identity is not other.identity
    assert one.waiters is not other.waiters


@pytest.mark.parametrize("kept", [klines(), ticker()])
def test_nothing_was_asked_for_yet(kept: KeptKlines | KeptTicker) -> None:
    assert (kept.hits, kept.misses.total(), kept.read, kept.mutes) == (0, 0, None, 0)
