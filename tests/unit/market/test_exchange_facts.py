"""What an exchange says of itself: its symbols, its limit and its clock, and how they are kept current."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import orjson
import pytest

from resender.core.binance.fetched import Fetched
from resender.core.binance.markets import Market
from resender.errors import EgressExhausted
from resender.market.exchange_facts import SymbolTable
from tests.support.fixtures import MARKETS, SYMBOL, raw, wire
from tests.support.market_fakes import SYMBOLS, T0, World

TIME, INFO = "/fapi/v1/time", "/fapi/v1/exchangeInfo"
HALTED = {Market.SPOT: "BNBUSDT", Market.UM: "BNBUSDT", Market.CM: "BNBUSD_PERP"}


# -- symbols --------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
def test_symbols_that_are_traded_are_taken_in_the_exchanges_order(market: Market) -> None:
    table = SymbolTable(market)
    assert table.load(raw(market, "http_exchange_info"))
    every = [row["symbol"] for row in wire(market, "http_exchange_info")["symbols"]]
    assert list(table.tradable) == [symbol for symbol in every if symbol != HALTED[market]]
    assert SYMBOL[market] in table
    assert HALTED[market] not in table


@pytest.mark.parametrize(("market", "limit"), [(Market.SPOT, 6000), (Market.UM, 2400), (Market.CM, 2400)])
def test_weight_limit_of_a_minute_is_read(market: Market, limit: int) -> None:
    table = SymbolTable(market)
    table.load(raw(market, "http_exchange_info"))
    assert table.weight_limit == limit


def test_answer_that_differs_in_its_time_only_is_not_read_again() -> None:
    table = SymbolTable(Market.SPOT)
    info = wire(Market.SPOT, "http_exchange_info")
    assert table.load(orjson.dumps(info))
    info["serverTime"] += 1000
    assert not table.load(orjson.dumps(info))


@pytest.mark.parametrize("change", ["halt", "order", "new"])
def test_change_of_the_list_is_told(change: str) -> None:
    table = SymbolTable(Market.UM)
    info = wire(Market.UM, "http_exchange_info")
    table.load(orjson.dumps(info))
    rows = info["symbols"]
    if change == "halt":
        rows[0]["status"] = "SETTLING"
    elif change == "order":
        rows[0], rows[1] = rows[1], rows[0]
    else:
        rows.append({**rows[0], "symbol": "NEWUSDT"})
    assert table.load(orjson.dumps(info))


def test_change_nobody_asks_for_is_no_change_of_the_list() -> None:
    table = SymbolTable(Market.UM)
    info = wire(Market.UM, "http_exchange_info")
    table.load(orjson.dumps(info))
    info["symbols"][0]["pricePrecision"] = 9
    assert not table.load(orjson.dumps(info))


def test_symbol_of_a_strange_name_is_left_out() -> None:
    table = SymbolTable(Market.SPOT)
    info = wire(Market.SPOT, "http_exchange_info")
    info["symbols"] += [{**info["symbols"][0], "symbol": name} for name in ("A&B", "", "币安人生USDT")]
    table.load(orjson.dumps(info))
    assert "币安人生USDT" in table
    assert not {"A&B", ""} & set(table.tradable)


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info.pop("symbols"),
        lambda info: info.pop("rateLimits"),
        lambda info: info["symbols"][0].pop("status"),
        lambda info: info.update(symbols=[1]),
        lambda info: info.update(rateLimits=None),
    ],
)
def test_answer_of_another_shape_is_refused_and_what_is_known_stays(change: Any) -> None:
    table = SymbolTable(Market.UM)
    info = wire(Market.UM, "http_exchange_info")
    table.load(orjson.dumps(info))
    known = dict(table.tradable)
    broken = copy.deepcopy(info)
    change(broken)
    with pytest.raises(ValueError, match="exchangeInfo"):
        table.load(orjson.dumps(broken))
    with pytest.raises(orjson.JSONDecodeError):
        table.load(b"<html>")
    assert table.tradable == known


@pytest.mark.parametrize("limit", [0, -1, "2400", None, 2.5])
def test_limit_that_is_none_is_not_believed(limit: Any) -> None:
    table = SymbolTable(Market.UM)
    info = wire(Market.UM, "http_exchange_info")
    for one in info["rateLimits"]:
        one["limit"] = limit
    table.load(orjson.dumps(info))
    assert table.weight_limit is None


def test_pair_and_contract_of_symbols_that_are_alone_with_them_are_known_on_usd_m_only() -> None:
    for market in MARKETS:
        table = SymbolTable(market)
        table.load(raw(market, "http_exchange_info"))
        wanted = {"BTCUSDT": ("BTCUSDT", "PERPETUAL"), "ETHUSDT": ("ETHUSDT", "PERPETUAL")}
        assert table.continuous == (wanted if market is Market.UM else {})


@pytest.mark.parametrize("key", ["pair", "contractType"])
@pytest.mark.parametrize("value", [["x"], {"a": 1}, 5, None, "BTC USDT", "X" * 80])
def test_pair_or_contract_that_can_be_in_no_name_of_a_stream_is_left_out(key: str, value: Any) -> None:
    table = SymbolTable(Market.UM)
    info = wire(Market.UM, "http_exchange_info")
    info["symbols"][0][key] = value
    table.load(orjson.dumps(info))
    assert list(table.continuous) == ["ETHUSDT"]
    assert "BTCUSDT" in table


def test_symbol_that_is_alone_with_its_pair_no_longer_is_a_change_of_the_list() -> None:
    table = SymbolTable(Market.UM)
    info = wire(Market.UM, "http_exchange_info")
    table.load(orjson.dumps(info))
    info["symbols"][0]["pair"] = info["symbols"][1]["pair"]
    assert table.load(orjson.dumps(info))
    assert table.continuous == {}


# -- followed -------------------------------------------------------------------------------------


async def test_clock_and_symbols_are_known_after_the_start_and_told(world: World) -> None:
    told: list[Any] = []
    facts = world.facts(
        on_symbols=lambda: told.append("symbols"), on_limit=lambda market, limit: told.append((market, limit))
    )
    assert not facts.is_started
    assert facts.latest_ms() is None
    facts.start()
    facts.start()
    await world.settle()
    assert facts.is_ready
    assert facts.now_ms() == T0
    assert list(facts.symbols.tradable) == list(SYMBOLS)
    assert told == [(Market.UM, 2400), "symbols"]
    assert len(world.tasks) == 1
    await facts.stop()


async def test_time_is_asked_for_on_a_connection_that_is_open_already(world: World) -> None:
    facts = world.facts()
    facts.start()
    await world.settle()
    assert world.door.targets == [TIME, TIME, INFO]


async def test_symbols_are_read_again_and_again_and_told_only_when_they_changed(world: World) -> None:
    told: list[list[str]] = []
    facts = world.facts(on_symbols=lambda: told.append(list(facts.symbols.tradable)))
    facts.start()
    await world.until(190_000)
    assert len(world.door.asked(INFO)) == 4
    world.door.symbols.append("NEWUSDT")
    await world.until(250_000)
    assert told == [list(SYMBOLS), [*SYMBOLS, "NEWUSDT"]]


async def test_clock_is_set_anew_every_ten_minutes(world: World) -> None:
    facts = world.facts()
    facts.start()
    await world.until(590_000)
    assert len(world.door.asked(TIME)) == 2
    await world.until(700_000)
    assert len(world.door.asked(TIME)) == 4


async def test_doubt_about_the_time_has_it_asked_for_soon_but_not_all_the_time(world: World) -> None:
    facts = world.facts()
    facts.start()
    await world.until(1000)
    for _ in range(100):
        facts.doubt_time()
        await asyncio.sleep(0.1)
    await world.until(20_000)
    assert 4 <= len(world.door.asked(TIME)) <= 8


async def test_failed_reads_are_tried_again_with_growing_pauses(world: World) -> None:
    good = world.door.answers[INFO]
    world.door.answers[INFO] = lambda *_: Fetched(500, {}, b"")
    facts = world.facts()
    facts.start()
    await world.until(60_000)
    assert not facts.is_ready
    assert 5 <= len(world.door.asked(INFO)) <= 12
    world.door.answers[INFO] = good
    await world.until(80_000)
    assert facts.is_ready


async def test_want_of_weight_is_waited_out_and_no_failure(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    good = world.door.answers[INFO]
    world.door.answers[INFO] = lambda *_: EgressExhausted("no weight", retry_after_s=30.0)
    facts = world.facts()
    facts.start()
    await world.until(10_000)
    world.door.answers[INFO] = good
    await world.until(29_000)
    assert len(world.door.asked(INFO)) == 1
    await world.until(31_000)
    assert facts.is_ready
    assert [record.levelname for record in caplog.records] in ([], ["WARNING"])


@pytest.mark.parametrize(
    "answer", [{}, {"serverTime": "1"}, {"serverTime": None}, [], b"x", {"serverTime": True}]
)
async def test_time_of_a_wrong_shape_is_not_taken(world: World, answer: Any) -> None:
    world.door.answers[TIME] = lambda *_: answer
    facts = world.facts()
    facts.start()
    await world.until(500)
    assert not facts.server.is_set


async def test_slow_answer_does_not_replace_a_clock_that_is_set(world: World) -> None:
    facts = world.facts()
    facts.start()
    await world.until(1000)
    world.door.held.clear()
    await world.until(605_000)
    world.door.answers[TIME] = lambda *_: {"serverTime": T0}
    world.door.held.set()
    await world.settle()
    assert facts.now_ms() == pytest.approx(world.now_ms, abs=200)


async def test_no_message_is_believed_from_beyond_the_latest_possible_time(world: World) -> None:
    facts = world.facts()
    facts.start()
    await world.settle()
    latest = facts.latest_ms()
    assert latest is not None
    assert T0 + 2000 <= latest <= T0 + 2010


# -- while candles close ------------------------------------------------------------------------


async def test_symbols_are_not_read_again_while_candles_close_and_first_ones_are(world: World) -> None:
    begins, ends = [0, 58_000], [15_000, 70_000]

    def pause_s() -> float:
        left = [end - (world.now_ms - T0) for begin, end in zip(begins, ends, strict=True)
                if begin <= world.now_ms - T0 < end]  # fmt: skip
        return max(left, default=0) / 1000

    facts = world.facts(pause_s=pause_s)
    facts.start()
    await world.until(1000)
    assert facts.is_ready, "without them nothing can be kept"
    await world.until(69_900)
    assert len(world.door.asked(INFO)) == 1
    await world.until(70_100)
    assert len(world.door.asked(INFO)) == 2
    await world.until(129_000)
    assert len(world.door.asked(INFO)) == 2
    await world.until(131_000)
    assert len(world.door.asked(INFO)) == 3, "a minute after the last time"


async def test_time_is_asked_for_while_candles_close(world: World) -> None:
    facts = world.facts(pause_s=lambda: 1000.0)
    facts.start()
    await world.until(10_000)
    asked = len(world.door.asked(TIME))
    facts.doubt_time()
    await world.until(20_000)
    assert len(world.door.asked(TIME)) > asked


async def test_time_in_doubt_is_asked_for_while_the_symbols_wait(world: World) -> None:
    facts = world.facts(pause_s=lambda: max(0, T0 + 90_000 - world.now_ms) / 1000)
    facts.start()
    await world.until(60_500)
    asked = len(world.door.asked("/fapi/v1/time"))
    for at_ms in range(60_600, 66_000, 100):
        facts.doubt_time()
        await world.until(at_ms)
    more = len(world.door.asked("/fapi/v1/time")) - asked
    assert 2 <= more <= 6, "two calls a time, every few seconds at most"
    assert len(world.door.asked("/fapi/v1/exchangeInfo")) == 1
