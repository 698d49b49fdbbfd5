"""The recorded fixtures: each has its source, and every parser takes them and what the real exchange has sent."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.binance.stream_names import MINI_TICKERS, check_stream_name, read_reply
from resender.core.market.book_ticker import BookTicker, same_quote
from resender.core.market.candles import close_of, parse_continuous_event, parse_event, parse_rows
from resender.core.weights.table import read_rate_limits
from resender.market.exchange_facts import SymbolTable
from tests.support.fixtures import FOLDER, MARKETS, SYMBOL, event, raw, wire

FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json"))


# -- sources --------------------------------------------------------------------------------------


def sources() -> list[str]:
    """List the patterns of SOURCES.md."""
    return re.findall(r"(?m)^\| `([^`]+)` \|", (FOLDER / "SOURCES.md").read_text("utf-8"))


def fits(pattern: str, name: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[a-z]+"), name) is not None


def test_every_file_has_its_source_and_every_source_its_files() -> None:
    unknown = [name for name in FILES if sum(fits(pattern, name) for pattern in sources()) != 1]
    assert not unknown
    assert [pattern for pattern in sources() if not any(fits(pattern, name) for name in FILES)] == []


@pytest.mark.parametrize("name", FILES)
def test_file_is_small_and_one_line_of_json(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    assert len(data) < 8192
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")
    orjson.loads(data)


def test_every_market_has_the_same_files() -> None:
    names = Counter(name.partition("/")[2] for name in FILES)
    assert {name for name, count in names.items() if count != len(MARKETS)} == {
        "ws_continuous_kline.json", "ws_continuous_kline_final.json",
    }  # fmt: skip


def test_nothing_that_looks_like_a_key_stands_in_a_fixture() -> None:
    for name in FILES:
        assert not re.search(rb"[A-Za-z0-9]{40}", (FOLDER / name).read_bytes()), name


# -- the parsers over the fixtures ----------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
def test_final_row_of_the_stream_is_the_row_that_follows_by_rest(market: Market) -> None:
    rows = parse_rows(wire(market, "http_klines"), "1m", orjson.dumps)
    final = parse_event(event(market, "ws_kline_final"))[2]
    assert final.open_time == rows[-1].open_time
    assert final.is_news_to(rows[-1])
    assert orjson.loads(final.row)[1] == orjson.loads(rows[-1].row)[1], "one candle has one open price"
    assert close_of(final.row) == final.close_time


def test_continuous_stream_brings_the_row_of_the_plain_one() -> None:
    for name in ("kline", "kline_final"):
        pair, contract, interval, candle = parse_continuous_event(event(Market.UM, f"ws_continuous_{name}"))
        assert (pair, contract, interval) == ("BTCUSDT", "PERPETUAL", "1m")
        assert candle == parse_event(event(Market.UM, f"ws_{name}"))[2]


@pytest.mark.parametrize("market", MARKETS)
def test_book_ticker_of_the_stream_is_written_as_rest_writes_it(market: Market) -> None:
    by_rest = wire(market, "http_book_ticker")
    row = by_rest[0] if market is Market.CM else by_rest
    ticker = BookTicker(market)
    assert ticker.seed(row)
    assert ticker.body() == raw(market, "http_book_ticker")
    assert ticker.apply(event(market, "ws_book_ticker"))
    assert list(json.loads(ticker.object())) == list(row)
    assert same_quote(orjson.dumps(row), row)
    assert not same_quote(ticker.object(), row)


@pytest.mark.parametrize("market", MARKETS)
def test_tickers_of_all_symbols_hold_the_one_of_each(market: Market) -> None:
    by_symbol = {row["symbol"]: row for row in wire(market, "http_book_tickers")}
    one = wire(market, "http_book_ticker")
    assert by_symbol[SYMBOL[market]] == (one[0] if market is Market.CM else one)
    assert len(by_symbol) == 3


@pytest.mark.parametrize("market", MARKETS)
def test_limits_of_exchange_info_are_read(market: Market) -> None:
    limits = read_rate_limits(wire(market, "http_exchange_info"))
    assert ("REQUEST_WEIGHT", 60_000) in {(limit.kind, limit.window_ms) for limit in limits}
    assert len(limits) == len(wire(market, "http_exchange_info")["rateLimits"])


@pytest.mark.parametrize("market", MARKETS)
def test_replies_of_a_stream_connection_are_read(market: Market) -> None:
    done, refused = read_reply(wire(market, "ws_subscribed")), read_reply(wire(market, "ws_refused"))
    assert done is not None
    assert refused is not None
    assert (done.message_id, done.is_error) == (1, False)
    assert (refused.message_id, refused.is_error, refused.code) == (2, True, "2")


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith(("spot/ws_", "um/ws_", "cm/ws_"))]
)
def test_frames_are_of_streams_that_can_be_subscribed(name: str) -> None:
    frame = orjson.loads((FOLDER / name).read_bytes())
    if "stream" in frame:
        assert check_stream_name(frame["stream"]) == frame["stream"]
        assert isinstance(frame["data"], list) is (frame["stream"] == MINI_TICKERS)


# -- the parsers over what the real exchange has sent ---------------------------------------------


def frames(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield stream and data of the frames of a recording."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            frame = orjson.loads(line.partition(": ")[2])
            yield frame["stream"], frame["data"]


@pytest.mark.parametrize("market", MARKETS)
def test_recorded_frames_of_the_exchange_are_taken(market: Market, recorded: Path) -> None:
    (path,) = recorded.glob(f"ws_{market.value}_*.txt.gz")
    tickers: dict[str, BookTicker] = {}
    klines = 0
    for stream, data in frames(path):
        assert check_stream_name(stream) == stream
        symbol = stream.partition("@")[0].upper()
        if "kline" in stream:
            named, interval, candle = parse_event(data)
            assert (named, interval) == (symbol, stream.rpartition("_")[2])
            assert parse_rows([orjson.loads(candle.row)], interval, orjson.dumps)[0].row == candle.row
            assert candle.is_final is data["k"]["x"]
            klines += 1
        else:
            ticker = tickers.setdefault(symbol, BookTicker(market))
            assert ticker.apply(data)
            assert json.loads(ticker.object())["bidPrice"] == data["b"]
    assert klines
    assert tickers


def test_recorded_rows_of_the_exchange_are_kept_byte_for_byte(recorded: Path) -> None:
    (path,) = recorded.glob("rest_spot_klines_*.json")
    rows = orjson.loads(path.read_bytes())
    candles = parse_rows(rows, "1m", orjson.dumps)
    assert orjson.loads(b"[" + b",".join(candle.row for candle in candles) + b"]") == rows
    assert [close_of(candle.row) for candle in candles] == [row[6] for row in rows]


def test_recorded_days_of_the_exchange_are_candles_without_a_hole(recorded: Path) -> None:
    rows: list[list[Any]] = []
    for path in sorted(recorded.glob("*-1m-*.zip")):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        for t, o, h, low, c, v, end, q, n, tv, tq, _ in csv.reader(io.StringIO(text)):
            rows.append([int(t), o, h, low, c, v, int(end), q, int(n), tv, tq, "0"])
    candles = parse_rows(rows, "1m", orjson.dumps)
    assert len(candles) == 2880
    assert all(later.open_time == earlier.close_time + 1 for earlier, later in pairwise(candles))


def test_recorded_book_ticker_of_the_exchange_comes_back_unchanged(recorded: Path) -> None:
    (path,) = recorded.glob("rest_spot_bookTicker_*.json")
    row = orjson.loads(path.read_bytes())
    ticker = BookTicker(Market.SPOT)
    assert ticker.seed(row)
    assert orjson.loads(ticker.body()) == row


@pytest.mark.parametrize(("market", "count"), [(Market.SPOT, 1695), (Market.UM, 122), (Market.CM, 36)])
def test_recorded_exchange_info_is_read(market: Market, count: int, recorded: Path) -> None:
    (path,) = recorded.glob(f"rest_{market.value}_exchangeInfo_*.json.gz")
    body = gzip.decompress(path.read_bytes())
    info = orjson.loads(body)
    assert len(info["symbols"]) == count
    table = SymbolTable(market)
    assert table.load(body)
    key = "contractStatus" if market is Market.CM else "status"
    assert set(table.tradable) == {row["symbol"] for row in info["symbols"] if row[key] == "TRADING"}
    assert table.weight_limit
    assert read_rate_limits(info)
