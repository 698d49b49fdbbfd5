"""The gateway's own paths below /local: what may be asked for, and how many answers become one."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from resender.aio import Tasks
from resender.core.binance.markets import Market
from resender.core.market.requests import BookTickerRequest, KlineRequest, Miss
from resender.errors import BadRequest, NotReady, RouteError
from resender.market import BookTickers, Hit, Klines
from resender.market.joined import JoinedAnswers
from resender.web.client.local import _SLICE_S, _resolve_all, answer_local
from tests.unit.web.serving import make_services


class Symbols:
    is_loaded = True

    def __contains__(self, symbol: str) -> bool:
        return symbol in ("BTCUSDT", "ETHUSDT", "币USDT")


def kind_of(kept: list[tuple[str, str]]) -> Any:
    """Return a kind that keeps these."""
    return SimpleNamespace(
        kept=dict.fromkeys(kept),
        symbols_of=lambda interval: tuple(symbol for symbol, each in kept if each == interval),
        use=lambda names: None,
    )


class FakeCache:
    """Keeps three series and two tickers of USD-M; `missing` are not ready."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.joined = JoinedAnswers(Tasks())
        self.asked: list[Any] = []
        self.states = {
            market: SimpleNamespace(symbols=Symbols()) for market in (Market.SPOT, Market.UM, Market.CM)
        }

    def kind(self, wanted: type, market: Market) -> Any:
        kept = {
            Klines: [("BTCUSDT", "1m"), ("ETHUSDT", "1m"), ("BTCUSDT", "1h")],
            BookTickers: [("BTCUSDT", "bookTicker"), ("ETHUSDT", "bookTicker")],
        }[wanted]
        return kind_of(kept)

    def answer(self, path: str, request: Any, *, packed: bool) -> Any:
        self.asked.append((path, request, packed))
        symbol = request.symbol if isinstance(request, KlineRequest) else request.symbols[0]
        if symbol in self.missing:
            return Miss("gap")
        if isinstance(request, KlineRequest):
            body = json.dumps([[symbol, request.limit]]).encode()
            if request.is_part:
                return Hit(b"", None, len(symbol), parts=[body])
            return Hit(body, None, len(symbol))
        return Hit(json.dumps({"symbol": symbol}).encode(), None, 5)


@pytest.fixture
def cache() -> FakeCache:
    return FakeCache()


async def ask(
    cache: FakeCache | None, path: str, query: str = "", **options: Any
) -> tuple[Any, dict[str, str], Hit]:
    """Return the answer as parsed, its further headers, and itself."""
    services = make_services(cache=cache, **options.pop("settings", {}))
    hit, extra = await answer_local(services, f"/local/{path}", query, packed=options.get("packed", False))
    body = gzip.decompress(hit.packed) if hit.packed is not None else hit.body
    return json.loads(body), dict(extra), hit


# --- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "um", "um/", "um/uiKlines", "options/klines", "UM/klines", "nowhere/bookTicker", "um/klines/x",
        "spot/fundingRate", "cm/markPrice", "spot/premiumIndex", "um/Depth", "um/depth/", "options/depth",
        "um/bookTicker/x",
    ],
)  # fmt: skip
async def test_path_that_is_none_is_refused_with_those_there_are(cache: FakeCache, path: str) -> None:
    with pytest.raises(RouteError, match="Local endpoints are"):
        await ask(cache, path)


async def test_without_a_cache_there_is_only_the_status() -> None:
    with pytest.raises(RouteError, match="switched off"):
        await ask(None, "um/klines", "symbol=BTCUSDT&interval=1m")
    status, extra, _ = await ask(None, "status", "whatever=1")
    assert status.pop("streams")["upstream_streams"] == 0
    empty = {
        "series": [],
        "connections": [],
        "backfill": [],
        "closes": [],
        "loop": [],
        "weights": [],
        "saved_today": {},
        "accounts": [],
        "nodes": [],
        "workers": [],
    }
    assert status == empty
    assert extra == {}


async def test_market_that_is_off_is_refused(cache: FakeCache) -> None:
    with pytest.raises(RouteError, match="The market um is switched off"):
        await ask(cache, "um/klines", "symbol=BTCUSDT&interval=1m", settings={"upstream_fapi": "off"})


@pytest.mark.parametrize("query", ["symbol=", "symbol", "symbol=A&symbol=B", "symbol=%FF", "a+b=c+d"])
async def test_malformed_query_is_refused(cache: FakeCache, query: str) -> None:
    with pytest.raises(BadRequest, match="empty, repeated or malformed"):
        await ask(cache, "um/bookTicker", query)


# --- klines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("symbol=BTCUSDT", "`interval` must be one of 1m, 3m"),
        ("symbol=BTCUSDT&interval=1s", "`interval` must be one of"),
        ("symbol=BTCUSDT&interval=1m&limit=0", "from 1 to 1500"),
        ("symbol=BTCUSDT&interval=1m&limit=1501", "from 1 to 1500"),
        ("symbol=BTCUSDT&interval=1m&limit=%D9%A1", "from 1 to 1500"),
        ("symbol=BTCUSDT&interval=1m&limit=1e3", "from 1 to 1500"),
        ("interval=1m", "Give either"),
        ("symbol=BTCUSDT&symbols=all&interval=1m", "Give either"),
        ("symbols=BTCUSDT&interval=1m", "compact JSON"),
        ('symbols=["BTCUSDT",%20"ETHUSDT"]&interval=1m', "compact JSON"),
        ("symbol=XRPUSDT&interval=1m", "'XRPUSDT' cannot be traded on um"),
        ("symbol=btcusdt&interval=1m", "'btcusdt' cannot be traded on um"),
        ('symbols=["BTCUSDT","XRPUSDT"]&interval=1m', "'XRPUSDT' cannot be traded"),
        ("symbol=BTCUSDT&interval=1m&startTime=1", "Unknown parameter 'startTime'"),
    ],
)
async def test_kline_query_that_cannot_be_answered_is_refused_in_words(
    cache: FakeCache, query: str, words: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        await ask(cache, "um/klines", query)
    assert words in caught.value.msg
    assert cache.asked == []


async def test_one_symbol_is_answered_as_binance_does(cache: FakeCache) -> None:
    body, extra, _ = await ask(cache, "um/klines", "symbol=BTCUSDT&interval=1m", packed=True)
    assert (body, extra) == ([["BTCUSDT", 500]], {})
    assert cache.asked == [
        ("/fapi/v1/klines", KlineRequest(Market.UM, "BTCUSDT", "1m", 500, None, None), True)
    ]


async def test_spot_takes_a_limit_above_its_own_for_its_own(cache: FakeCache) -> None:
    body, _, _ = await ask(cache, "spot/klines", "symbol=BTCUSDT&interval=1s&limit=1500")
    assert body == [["BTCUSDT", 1000]]


async def test_several_symbols_become_an_object(cache: FakeCache) -> None:
    body, _, hit = await ask(
        cache, "um/klines", 'symbols=["币USDT","BTCUSDT"]&interval=1m&limit=2'.encode().decode("latin-1")
    )
    assert body == {"币USDT": [["币USDT", 2]], "BTCUSDT": [["BTCUSDT", 2]]}
    assert list(body) == ["币USDT", "BTCUSDT"]
    assert len("BTCUSDT") <= hit.age_ms < 1000, "the oldest part, and the time it took"


async def test_all_are_those_kept_with_the_interval_and_what_is_not_ready_is_named(cache: FakeCache) -> None:
    cache.missing = {"ETHUSDT"}
    body, extra, _ = await ask(cache, "um/klines", "symbols=all&interval=1m")
    assert list(body) == ["BTCUSDT"]
    assert extra == {"X-Resender-Missing": "ETHUSDT"}
    body, extra, _ = await ask(cache, "um/klines", "symbols=all&interval=5m")
    assert (body, extra) == ({}, {})


async def test_named_symbol_that_is_not_ready_refuses_the_whole_call(cache: FakeCache) -> None:
    cache.missing = {"ETHUSDT"}
    with pytest.raises(NotReady, match="Not ready: ETHUSDT"):
        await ask(cache, "um/klines", 'symbols=["BTCUSDT","ETHUSDT"]&interval=1m')
    with pytest.raises(NotReady, match="ETHUSDT 1m is not ready: gap"):
        await ask(cache, "um/klines", "symbol=ETHUSDT&interval=1m")


# --- book tickers ---------------------------------------------------------------------------------


async def test_book_tickers_become_an_array_and_all_is_the_default(cache: FakeCache) -> None:
    for query in ("", "symbols=all"):
        body, extra, _ = await ask(cache, "um/bookTicker", query)
        assert body == [{"symbol": "BTCUSDT"}, {"symbol": "ETHUSDT"}]
        assert extra == {}
    assert cache.asked[0] == (
        "/fapi/v1/ticker/bookTicker",
        BookTickerRequest(Market.UM, ("BTCUSDT",), False),
        False,
    )
    body, _, _ = await ask(cache, "um/bookTicker", "symbol=BTCUSDT")
    assert body == {"symbol": "BTCUSDT"}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("symbol=BTCUSDT&symbols=all", "either `symbol` or `symbols`"),
        ("interval=1m", "Unknown parameter 'interval'"),
        ("symbols=[]", "compact JSON"),
        ("symbol=XRPUSDT", "cannot be traded"),
    ],
)
async def test_book_ticker_query_that_cannot_be_answered_is_refused(
    cache: FakeCache, query: str, words: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        await ask(cache, "um/bookTicker", query)
    assert words in caught.value.msg


# --- many -----------------------------------------------------------------------------------------


async def test_large_answer_is_packed_for_who_takes_that(
    cache: FakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = json.dumps([["1.0"] * 10_000]).encode()
    monkeypatch.setattr(cache, "answer", lambda path, request, packed: Hit(b"", None, 0, parts=[big]))
    body, _, hit = await ask(cache, "um/klines", "symbols=all&interval=1m", packed=True)
    assert hit.packed is not None
    assert json.loads(gzip.decompress(hit.packed)) == body
    assert (await ask(cache, "um/klines", "symbols=all&interval=1m"))[2].packed is None


async def test_names_of_what_is_missing_stay_a_header(
    cache: FakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [(f"{number}币USDT", "1m") for number in range(1000)]
    monkeypatch.setattr(cache, "kind", lambda wanted, market: kind_of(names))
    monkeypatch.setattr(Symbols, "is_loaded", False)
    monkeypatch.setattr(cache, "answer", lambda path, request, packed: Miss("gap"))
    _, extra, _ = await ask(cache, "um/klines", "symbols=all&interval=1m")
    text = extra["X-Resender-Missing"]
    assert text.isascii()
    assert len(text) <= 4010
    assert text.startswith("0\\u5e01USDT,1\\u5e01USDT,")
    assert text.endswith("USDT,...")


async def test_part_that_was_there_at_once_ages_by_the_wait_for_the_slowest(
    cache: FakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow() -> Hit:
        await asyncio.sleep(0.05)
        return Hit(b"", None, 3, parts=[b"[]"])

    monkeypatch.setattr(
        cache,
        "answer",
        lambda path, request, packed: (
            slow() if request.symbol == "ETHUSDT" else Hit(b"", None, 10, parts=[b"[]"])
        ),
    )
    body, _, hit = await ask(cache, "um/klines", "symbols=all&interval=1m")
    assert list(body) == ["BTCUSDT", "ETHUSDT"]
    assert 10 + 40 <= hit.age_ms < 1000


async def test_other_work_gets_its_turn_while_a_whole_market_is_asked_for() -> None:
    names = [str(number) for number in range(200)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def late() -> Hit:
        return Hit(b"", None, 3)

    def ask(name: str) -> Any:
        until = time.monotonic() + _SLICE_S / 4
        while time.monotonic() < until:
            pass
        return late() if int(name) % 2 else Miss("gap")

    counting = asyncio.create_task(count())
    found = await _resolve_all(ask, names)
    counting.cancel()
    assert [isinstance(each, Hit) for each, _ in found] == [bool(number % 2) for number in range(200)]
    assert turns >= 200 // 8


async def test_client_that_leaves_leaves_nothing_behind() -> None:
    started = asyncio.Event()

    async def wait() -> Hit:
        started.set()
        await asyncio.sleep(60)
        return Hit(b"", None, 3)

    asking = asyncio.create_task(_resolve_all(lambda name: wait(), [str(number) for number in range(100)]))
    await started.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gc.collect()  # a coroutine that was never awaited would be a warning, and so an error
