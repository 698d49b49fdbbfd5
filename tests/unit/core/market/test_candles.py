"""One candle, read from an event or a row: what is taken, what is refused, which state is the later one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.candles import Candle, close_of, parse_continuous_event, parse_event, parse_rows
from tests.support.fixtures import MARKETS, SYMBOL, event, raw, wire

MINUTE = 60_000


def parse(data: Any) -> Candle:
    return parse_event(data)[2]


def changed(market: Market = Market.SPOT, name: str = "ws_kline", **changes: Any) -> Any:
    """Return a recorded event with other values, `k_x=True` being one of its candle."""
    data = copy.deepcopy(event(market, name))
    for key, value in changes.items():
        place = data["k"] if key.startswith("k_") else data
        place[key.removeprefix("k_")] = value
    return data


# -- events ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
def test_event_becomes_the_row_that_rest_would_send(market: Market) -> None:
    data = event(market, "ws_kline")
    symbol, interval, candle = parse_event(data)
    k = data["k"]
    assert (symbol, interval) == (SYMBOL[market], "1m")
    assert orjson.loads(candle.row) == [
        k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], "0",
    ]  # fmt: skip
    assert (candle.open_time, candle.close_time, candle.trades) == (k["t"], k["T"], k["n"])
    assert (candle.is_final, candle.seen_ms) == (False, data["E"])


@pytest.mark.parametrize("market", MARKETS)
def test_row_of_an_event_is_written_as_the_exchange_writes_rows(market: Market) -> None:
    rows = wire(market, "http_klines")
    assert orjson.dumps(rows) == raw(market, "http_klines")
    row = orjson.loads(parse(event(market, "ws_kline_final")).row)
    assert [type(value) for value in row] == [type(value) for value in rows[0]]


@pytest.mark.parametrize("market", MARKETS)
def test_closing_event_is_final(market: Market) -> None:
    assert parse(event(market, "ws_kline_final")).is_final


def test_closing_event_from_before_the_close_is_not_final() -> None:
    data = event(Market.UM, "ws_kline_final")
    assert not parse(changed(Market.UM, "ws_kline_final", E=data["k"]["T"])).is_final
    assert parse(changed(Market.UM, "ws_kline_final", E=data["k"]["T"] + 1)).is_final


def test_candle_may_close_early_and_open_off_the_grid() -> None:
    data = event(Market.SPOT, "ws_kline")
    start, end = data["k"]["t"], data["k"]["T"]
    assert parse(changed(k_T=end - 7000)).close_time == end - 7000
    assert parse(changed(k_t=start + 1234)).open_time == start + 1234


@pytest.mark.parametrize(
    "changes",
    [
        {"k_o": "1e5"},
        {"k_c": '1","x'},
        {"k_v": ""},
        {"k_q": "-1"},
        {"k_n": -1},
        {"k_n": "7"},
        {"k_n": True},
        {"k_t": 1.5},
        {"k_x": 1},
        {"k_x": None},
        {"E": "1"},
        {"E": None},
        {"s": "ETHUSDT"},
        {"k_s": "ETHUSDT"},
        {"k_i": "1h2"},
        {"k_T": 0},
        {"k_T": 10**14},
        {"k": None},
        {"k_o": 5},
    ],
)
def test_event_that_is_not_sound_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse(changed(**changes))


@pytest.mark.parametrize("missing", ["E", "s", "k"])
def test_event_that_lacks_something_is_refused(missing: str) -> None:
    data = changed()
    del data[missing]
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse(data)


def test_field_nobody_knows_yet_is_passed_over() -> None:
    assert parse(changed(st=2, k_new=[1])) == parse(changed())


# -- continuous events ----------------------------------------------------------------------------


def test_continuous_event_is_the_candle_of_the_one_contract_of_its_pair() -> None:
    pair, contract, interval, candle = parse_continuous_event(event(Market.UM, "ws_continuous_kline_final"))
    assert (pair, contract, interval) == ("BTCUSDT", "PERPETUAL", "1m")
    assert candle == parse(event(Market.UM, "ws_kline_final"))
    assert candle.is_final


@pytest.mark.parametrize(
    "changes", [{"ps": None}, {"ct": 5}, {"E": "1"}, {"k_o": "1e5"}, {"k_n": -1}, {"k_T": 0}, {"k_i": "9m"}]
)
def test_continuous_event_that_is_not_sound_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        parse_continuous_event(changed(Market.UM, "ws_continuous_kline", **changes))


def test_plain_and_continuous_events_are_not_taken_for_each_other() -> None:
    with pytest.raises(KeyError):
        parse_continuous_event(event(Market.UM, "ws_kline"))
    with pytest.raises(KeyError):
        parse_event(event(Market.UM, "ws_continuous_kline"))


# -- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
def test_rows_are_kept_byte_for_byte(market: Market) -> None:
    body = raw(market, "http_klines")
    candles = parse_rows(orjson.loads(body), "1m", orjson.dumps, made_ms=5)
    assert b"[" + b",".join(candle.row for candle in candles) + b"]" == body
    assert {(candle.is_final, candle.seen_ms) for candle in candles} == {(False, 5)}


@pytest.mark.parametrize("market", MARKETS)
def test_close_time_is_read_out_of_the_bytes_of_a_row(market: Market) -> None:
    for row in wire(market, "http_klines"):
        assert close_of(orjson.dumps(row)) == row[6]


def test_no_rows_are_an_answer_too() -> None:
    assert parse_rows([], "1m", orjson.dumps) == []


def broken(change: Callable[[list[Any]], Any]) -> Any:
    rows = wire(Market.SPOT, "http_klines")
    result = change(rows)
    return rows if result is None else result


def put(row: int, column: int, value: Any) -> Callable[[list[Any]], None]:
    def change(rows: list[Any]) -> None:
        rows[row][column] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: {"code": -1121, "msg": "Invalid symbol."},
        lambda rows: rows[0].append("0"),
        lambda rows: rows[0].pop() and None,
        lambda rows: rows.reverse(),
        lambda rows: rows.append(rows[-1]),
        lambda rows: rows.append("x"),
        put(1, 0, "1791374220000"),
        put(1, 1, 99846.0),
        put(1, 8, "90"),
        put(1, 8, -1),
        put(1, 6, 10**14),
        put(1, 6, 5),
    ],
)
def test_rows_that_are_not_sound_are_refused(change: Callable[[list[Any]], Any]) -> None:
    with pytest.raises(ValueError, match="kline"):
        parse_rows(broken(change), "1m", orjson.dumps)


def test_rows_of_a_longer_interval_are_refused() -> None:
    rows = wire(Market.SPOT, "http_klines")
    assert parse_rows(rows, "3m", orjson.dumps), "shorter ones may be candles that closed early"
    rows[0][6] = rows[0][0] + 3 * MINUTE - 1
    with pytest.raises(ValueError, match="another interval"):
        parse_rows(rows[:1], "1m", orjson.dumps)


# -- which is newer -------------------------------------------------------------------------------


def candle(trades: int = 5, *, final: bool = False, seen_ms: int = 10, row: bytes = b"[1]") -> Candle:
    return Candle(0, MINUTE - 1, row, trades, final, seen_ms)


@pytest.mark.parametrize(
    ("one", "known", "is_news"),
    [
        (candle(6), candle(5), True),
        (candle(5), candle(6), False),
        (candle(4, final=True), candle(5), True),
        (candle(9), candle(5, final=True), False),
        (candle(9, final=True), candle(5, final=True), False),
        # REST may show a price of the same trade count in another form: the later word counts.
        (candle(seen_ms=11, row=b"[2]"), candle(), True),
        (candle(seen_ms=9, row=b"[2]"), candle(), False),
        (candle(seen_ms=11), candle(), False),
    ],
)
def test_later_state_of_a_candle_is_news(one: Candle, known: Candle, is_news: bool) -> None:
    assert one.is_news_to(known) is is_news
