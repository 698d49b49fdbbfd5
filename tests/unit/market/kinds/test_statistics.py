"""Statistics: what was told of periods that are over is told again, everything else goes up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from resender.core.binance.markets import Market
from resender.core.market.requests import Miss, StatisticsRequest, parse_statistics
from resender.market.kinds.base import Hit, Wanting
from resender.market.kinds.statistics import Statistics
from tests.support.market_fakes import T0, World

NAME, STEP_MS = "openInterestHist", 300_000
BASE = T0 // STEP_MS * STEP_MS


def rows(first: int, count: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"symbol": "BTCUSDT", "v": str(n), "timestamp": BASE + n * STEP_MS} | changes
        for n in range(first, first + count)
    ]


@pytest_asyncio.fixture
async def kind() -> AsyncIterator[Statistics]:
    world = World(Market.UM)
    made = Statistics(world.tools("kline"))
    word = f"{NAME}_5m"
    made.kept["BTCUSDT", word] = made.make("BTCUSDT", word, 0.0, is_preload=False)
    yield made
    await world.end()


def ask(kind: Statistics, query: str) -> Hit | Miss:
    request = parse_statistics(Market.UM, NAME, f"symbol=BTCUSDT&period=5m{query}")
    assert isinstance(request, StatisticsRequest)
    found = kind.answer(request, packed=False)
    assert isinstance(found, Hit | Miss)
    return found


def teach(kind: Statistics, told: list[dict[str, Any]], limit: int = 30) -> None:
    found = ask(kind, f"&limit={limit}")
    assert isinstance(found, Wanting)
    found.take(orjson.dumps(told))


def span(first: int, last: int, limit: int = 30) -> str:
    return f"&startTime={BASE + first * STEP_MS}&endTime={BASE + last * STEP_MS}&limit={limit}"


async def test_span_that_is_over_and_held_is_told_as_it_was(kind: Statistics) -> None:
    teach(kind, rows(0, 30))
    hit = ask(kind, span(3, 8))
    assert isinstance(hit, Hit)
    assert hit.body == orjson.dumps(rows(3, 6))


async def test_newest_rows_always_go_up(kind: Statistics) -> None:
    teach(kind, rows(0, 30))
    assert isinstance(ask(kind, ""), Wanting)
    assert isinstance(ask(kind, "&limit=5"), Wanting)


@pytest.mark.parametrize(
    "query",
    [
        span(-1, 5),  # begins before what is held
        span(20, 29),  # reaches the newest row, which may not be final
        span(0, 10, limit=5),  # which five of eleven is not known
        f"&startTime={BASE}",
        f"&endTime={BASE + 5 * STEP_MS}",
    ],
)
async def test_span_that_is_not_held_for_certain_goes_up(kind: Statistics, query: str) -> None:
    teach(kind, rows(0, 30))
    found = ask(kind, query)
    assert isinstance(found, Miss)
    assert found.reason == "range not held"
    assert not isinstance(found, Wanting), "an answer about a span says nothing of what lies around it"


async def test_answers_that_overlap_join_and_others_take_the_place(kind: Statistics) -> None:
    teach(kind, rows(0, 30))
    teach(kind, rows(25, 30))
    assert isinstance(ask(kind, span(0, 29)), Hit)
    teach(kind, rows(100, 30))
    assert isinstance(ask(kind, span(0, 29)), Miss)
    assert isinstance(ask(kind, span(100, 120)), Hit)


async def test_newest_row_that_was_unfinished_is_replaced_without_a_word(
    kind: Statistics, caplog: pytest.LogCaptureFixture
) -> None:
    told = rows(0, 30)
    told[-1]["v"] = "unfinished"
    teach(kind, told)
    teach(kind, rows(10, 30))
    hit = ask(kind, span(28, 30))
    assert isinstance(hit, Hit)
    assert hit.body == orjson.dumps(rows(28, 3))
    assert not caplog.records


async def test_row_of_an_ended_period_that_changes_is_a_warning_and_the_new_one_counts(
    kind: Statistics, caplog: pytest.LogCaptureFixture
) -> None:
    teach(kind, rows(0, 30))
    teach(kind, rows(10, 30, v="other"))
    assert "has changed" in caplog.text
    hit = ask(kind, span(12, 13))
    assert isinstance(hit, Hit)
    assert hit.body == orjson.dumps(rows(12, 2, v="other"))
    assert isinstance(ask(kind, span(2, 3)), Miss), "what was held beside it is not believed any more"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'[{"timestamp":"1"}]', b'[{"timestamp":2},{"timestamp":1}]', b"[]"]
)
async def test_answer_of_a_wrong_shape_is_not_taken(kind: Statistics, body: bytes) -> None:
    teach(kind, rows(0, 30))
    found = ask(kind, "")
    assert isinstance(found, Wanting)
    found.take(body)
    assert isinstance(ask(kind, span(3, 8)), Hit)


@pytest.mark.parametrize(
    ("name", "query", "word"),
    [
        ("basis", "pair=BTCUSDT&contractType=PERPETUAL&period=1h", "basis_1h@PERPETUAL"),
        ("takerlongshortRatio", "symbol=BTCUSDT&period=1d&limit=500", "takerlongshortRatio_1d"),
    ],
)
async def test_call_is_read(name: str, query: str, word: str) -> None:
    found = parse_statistics(Market.UM, name, query)
    assert isinstance(found, StatisticsRequest)
    assert (found.symbol, found.word) == ("BTCUSDT", word)
    assert word in Statistics.words(Market.UM)


@pytest.mark.parametrize(
    ("name", "query", "word"),
    [
        ("openInterestHist", "pair=BTCUSD&contractType=ALL&period=1h", "openInterestHist_1h@ALL"),
        ("topLongShortPositionRatio", "pair=BTCUSD&period=5m", "topLongShortPositionRatio_5m"),
        ("basis", "pair=BTCUSD&contractType=PERPETUAL&period=1d", "basis_1d@PERPETUAL"),
    ],
)
async def test_coin_m_takes_pairs(name: str, query: str, word: str) -> None:
    found = parse_statistics(Market.CM, name, query)
    assert isinstance(found, StatisticsRequest)
    assert (found.symbol, found.word) == ("BTCUSD", word)
    assert isinstance(parse_statistics(Market.CM, name, query.replace("pair", "symbol")), Miss)


async def test_rows_of_a_pair_are_kept_under_its_perpetual_contract() -> None:
    world = World(Market.CM)
    kind = Statistics(world.tools("kline"))
    kind.facts.symbols.contracts["BTCUSD", "PERPETUAL"] = "BTCUSD_PERP"
    request = parse_statistics(Market.CM, "basis", "pair=BTCUSD&contractType=PERPETUAL&period=5m")
    assert isinstance(request, StatisticsRequest)
    assert kind.answer(request, packed=False) == Miss("not held yet")
    assert world.desk.begun == [(Market.CM, "BTCUSD_PERP", "basis_5m@PERPETUAL")]
    await world.end()


@pytest.mark.parametrize(
    "query",
    [
        "symbol=BTCUSDT",
        "symbol=BTCUSDT&period=7m",
        "symbol=btcusdt&period=5m",
        "symbol=BTCUSDT&period=5m&limit=501",
        "symbol=BTCUSDT&period=5m&limit=0",
        "symbol=BTCUSDT&period=5m&contractType=PERPETUAL",
        "symbol=BTCUSDT&period=5m&startTime=1",
        "symbol=BTCUSDT&period=5m&x=1",
        f"symbol=BTCUSDT&period=5m&startTime={BASE}&endTime={BASE - 1}",
    ],
)
async def test_odd_call_goes_up(query: str) -> None:
    assert isinstance(parse_statistics(Market.UM, NAME, query), Miss)
