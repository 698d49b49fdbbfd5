"""Answers out of memory: which calls are asked for at all, and the bytes a hit is written with."""

from __future__ import annotations

import re
from typing import Any, cast

import pytest
from tornado.httputil import HTTPHeaders

from resender.core.binance.markets import Market
from resender.core.binance.routing import resolve
from resender.core.market.requests import (
    BookTickerRequest,
    DepthRequest,
    KlineRequest,
    Miss,
    SymbolsRequest,
    TradesRequest,
)
from resender.market import PATHS, Hit, MarketCache
from resender.market import cache as cache_module
from resender.web.client import cached
from resender.web.client.cached import (
    DateText,
    accepts_gzip,
    ask_cache,
    cached_path,
    saved_weight,
    write_hit,
)
from tests.unit.web.serving import FakeConnection

HIT = Hit(b"[1]", None, 40)


class FakeCache:
    """Answers everything with `outcome`; keeps what it was asked and what was missed."""

    def __init__(self) -> None:
        self.outcome: Any = HIT
        self.asked: list[tuple[str, Any, bool]] = []
        self.ages: list[int] = []
        self.missed: list[str] = []

    ask = MarketCache.ask

    def answer(self, path: str, request: Any, *, packed: bool, max_age_ms: int = 0) -> Any:
        """Answer a call that the real reader of the path's queries has understood."""
        self.asked.append((path, request, packed))
        self.ages.append(max_age_ms)
        return self.outcome

    def count_miss(self, reason: str) -> None:
        self.missed.append(reason)


def ask(cache: FakeCache, target: str, consent: dict[str, int] | None = None, **headers: str) -> Any:
    given = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
    route = resolve(target)
    path = cached_path(route.market, route.path)
    assert path is not None
    return ask_cache(cast(Any, cache), path, route, given, consent or {})


# --- asking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "is_in"),
    [
        ("/api/v3/klines", True),
        ("/fapi/v1/klines", True),
        ("/dapi/v1/ticker/bookTicker", True),
        ("/api/v3/depth", True),
        ("/dapi/v1/depth", True),
        ("/fapi/v1/aggTrades", True),
        ("/api/v3/trades", True),
        ("/api/v3/ticker/price", True),
        ("/api/v3/ticker/24hr", True),
        ("/fapi/v1/premiumIndex", True),
        ("/api/v3/avgPrice", False),
        ("/fapi/v1/trades", False),
        ("/fapi/v1/ticker/price", False),
        ("/api/v3/historicalTrades", False),
        ("/fapi/v1/rpiDepth", False),
        ("/api/v3/uiKlines", True),
        ("/dapi/v1/markPriceKlines", True),
        ("/futures/data/openInterestHist", True),
        ("/api/v3/klines/", False),
    ],
)
def test_only_the_paths_of_kinds_are_answered_from_memory(path: str, is_in: bool) -> None:
    assert (path in PATHS) is is_in
    markets = [PATHS[path].market] if is_in else []
    assert [market for market in Market if cached_path(market, path) == path] == markets


def test_path_that_both_futures_markets_have_leads_to_the_kind_of_its_own() -> None:
    path = "/futures/data/basis"
    assert (cached_path(Market.UM, path), cached_path(Market.CM, path)) == (path, f"/dapi{path}")
    assert [cached_path(market, path) for market in (Market.SPOT, Market.OPTIONS, Market.PM)] == [None] * 3
    assert PATHS[path].market is Market.UM
    assert PATHS[f"/dapi{path}"].market is Market.CM
    assert cached_path(Market.CM, "/futures/data/takerlongshortRatio") is None, "a path of USD-M only"


def test_query_that_is_understood_is_asked_for() -> None:
    cache = FakeCache()
    assert ask(cache, "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5", Accept_Encoding="gzip") is HIT
    assert ask(cache, "/api/v3/ticker/bookTicker?symbol=BTCUSDT") is HIT
    assert cache.asked == [
        ("/fapi/v1/klines", KlineRequest(Market.UM, "BTCUSDT", "1m", 5, None, None), True),
        ("/api/v3/ticker/bookTicker", BookTickerRequest(Market.SPOT, ("BTCUSDT",), False), False),
    ]
    cache.asked.clear()
    assert ask(cache, "/dapi/v1/depth?symbol=BTCUSD_PERP&limit=20") is HIT
    assert ask(cache, "/api/v3/aggTrades?symbol=BTCUSDT&limit=7") is HIT
    assert ask(cache, "/api/v3/trades?symbol=BTCUSDT") is HIT
    assert ask(cache, '/api/v3/ticker/price?symbols=["BTCUSDT"]') is HIT
    assert cache.asked == [
        ("/dapi/v1/depth", DepthRequest(Market.CM, "BTCUSD_PERP", 20), False),
        ("/api/v3/aggTrades", TradesRequest(Market.SPOT, "BTCUSDT", 7), False),
        ("/api/v3/trades", TradesRequest(Market.SPOT, "BTCUSDT", 500), False),
        ("/api/v3/ticker/price", SymbolsRequest(Market.SPOT, ("BTCUSDT",), True), False),
    ]
    assert cache.missed == []


@pytest.mark.parametrize(
    ("query", "headers", "reason"),
    [
        ("symbol=BTCUSDT&interval=2m", {}, "odd parameter"),
        ("symbol=BTCUSDT&interval=1m&x=1", {}, "odd parameter"),
        ("symbol=BTCUSDT&interval=1m&limit=1501", {}, "limit"),
        ("symbol=BTCUSDT&interval=1m", {"Cache_Control": "no-cache"}, "no-cache"),
        ("symbol=BTCUSDT&interval=1m", {"X_Mbx_Time_Unit": "MICROSECOND"}, "other format"),
    ],
)
def test_what_is_not_understood_is_a_counted_miss_and_not_asked_for(
    query: str, headers: dict[str, str], reason: str
) -> None:
    cache = FakeCache()
    assert ask(cache, f"/fapi/v1/klines?{query}", **headers) == Miss(reason)
    assert cache.missed == [reason]
    assert cache.asked == []


@pytest.mark.parametrize(
    ("path", "headers", "age_ms"),
    [
        ("/fapi/v1/premiumIndex", {}, 1500),
        ("/fapi/v1/premiumIndex", {"Cache_Control": "max-age=3"}, 3000),
        ("/fapi/v1/premiumIndex", {"Cache_Control": "max-age=0"}, 0),
        ("/fapi/v1/ticker/24hr", {}, 0),
        ("/fapi/v1/ticker/24hr", {"Cache_Control": "max-age=3"}, 3000),
        ("/fapi/v1/depth", {"Cache_Control": "max-age=3"}, 0),
    ],
)
def test_answer_may_be_as_old_as_somebody_consents_to(
    path: str, headers: dict[str, str], age_ms: int
) -> None:
    cache = FakeCache()
    consent = {"/fapi/v1/premiumIndex": 1500}
    assert ask(cache, f"{path}?symbol=BTCUSDT", consent, **headers) is HIT
    assert cache.ages == [age_ms]


def test_long_and_signed_queries_are_read_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: list[str] = []

    def remember(parse: Any, market: Market, query: str) -> Any:
        remembered.append(query)
        return parse(market, query)

    monkeypatch.setattr(cache_module, "_remembered", remember)
    cache = FakeCache()
    short = "symbol=BTCUSDT&interval=1m"
    for query in (short, f"{short}&signature=ab", f"symbol={'B' * 40}&interval=1m" + "&x=1" * 50):
        ask(cache, f"/api/v3/klines?{query}")
    assert remembered == [short]


@pytest.mark.parametrize(
    ("accepted", "is_taken"),
    [
        (None, False), ("", False), ("gzip", True), ("GZIP", True), ("x-gzip", True), ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False), ("gzip; q=0.000", False), ("gzip;q = 0.", False), ("gzip;q=0.001", True),
        ("deflate, br", False), ("gzipped", False), ("*", False),
    ],
)  # fmt: skip
def test_gzip_is_sent_to_who_takes_it(accepted: str | None, is_taken: bool) -> None:
    headers = HTTPHeaders({} if accepted is None else {"Accept-Encoding": accepted})
    assert accepts_gzip(headers) is is_taken


# --- what it saves --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "weight"),
    [
        ("/api/v3/klines?symbol=BTCUSDT&interval=1m", 2),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=99", 1),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500", 10),
        ("/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
        ("/api/v3/depth?symbol=BTCUSDT", 5),
        ("/api/v3/ticker/bookTicker?symbol=BTCUSDT", 2),
        ("/api/v3/ticker/bookTicker", 4),
    ],
)
def test_weight_saved_is_what_the_call_would_have_cost(target: str, weight: int) -> None:
    assert saved_weight(resolve(target)) == weight


def test_weight_of_long_and_signed_calls_is_told_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: list[str] = []

    def remember(target: str) -> int:
        remembered.append(target)
        return 77

    monkeypatch.setattr(cached, "_weight", remember)
    short = "symbol=BTCUSDT&interval=1m"
    assert saved_weight(resolve(f"/api/v3/klines?{short}")) == 77
    for query in (f"{short}&signature=ab", short + "&x=1" * 50):
        assert saved_weight(resolve(f"/api/v3/klines?{query}")) == 2
    assert remembered == [f"/api/v3/klines?{short}"]
    assert saved_weight(resolve("/api/v3/avgPrice?symbol=BTCUSDT")) == 2, "not a path of the cache"


# --- writing --------------------------------------------------------------------------------------


def write(hit: Hit = HIT, market: Market | None = Market.SPOT, **more: Any) -> tuple[list[str], bytes]:
    """Write a hit on a kept connection; return its lines and its body."""
    connection = FakeConnection()
    weight = more.pop("weight", {})
    sent = write_hit(cast(Any, connection), market, weight, hit, version="HTTP/1.1", **more)
    head, _, body = connection.raw.partition(b"\r\n\r\n")
    assert connection.is_finished
    assert sent == len(body)
    return head.decode().split("\r\n"), body


def test_hit_is_written_as_binance_writes_an_answer() -> None:
    lines, body = write()
    assert lines[0] == "HTTP/1.1 200 OK"
    names = [line.partition(":")[0] for line in lines[1:]]
    assert len(names) == len(set(names))
    assert "Content-Type: application/json;charset=UTF-8" in lines
    assert "X-Resender-Cache: hit" in lines
    assert "X-Resender-Age: 40" in lines
    assert "Content-Length: 3" in lines
    assert "Keep-Alive: timeout=9" in lines
    assert any(re.fullmatch(r"Date: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", line) for line in lines)
    assert body == b"[1]"


def test_used_weight_is_told_as_each_market_does() -> None:
    weight = {"spot": "12", "futures": "34"}
    spot, _ = write(weight=weight)
    assert "x-mbx-used-weight: 12" in spot
    assert "x-mbx-used-weight-1m: 12" in spot
    um, _ = write(market=Market.UM, weight=weight)
    assert "x-mbx-used-weight-1m: 34" in um
    assert not any(line.startswith("x-mbx-used-weight:") for line in um)
    unknown, _ = write()
    assert not any(line.startswith("x-mbx") for line in unknown)


def test_answer_of_the_gateways_own_paths_is_no_hit_of_binances() -> None:
    lines, _ = write(market=None, weight={"spot": "12"}, extra=[("X-Resender-Missing", "A,B")])
    assert "X-Resender-Missing: A,B" in lines
    assert not any(line.startswith(("X-Resender-Cache", "x-mbx")) for line in lines)


def test_packed_answer_says_so() -> None:
    lines, body = write(Hit(b"", b"packed", 0))
    assert "Content-Encoding: gzip" in lines
    assert "Content-Length: 6" in lines
    assert body == b"packed"


@pytest.mark.parametrize(("version", "is_kept"), [("HTTP/1.0", True), ("HTTP/1.1", False)])
def test_connection_that_is_not_simply_kept_is_left_to_tornado(version: str, is_kept: bool) -> None:
    connection = FakeConnection()
    connection.is_kept = is_kept
    assert write_hit(cast(Any, connection), Market.SPOT, {}, HIT, version=version) == 3
    assert connection.raw == b""
    assert (connection.status, connection.body) == (200, b"[1]")
    assert connection.headers["X-Resender-Cache"] == "hit"
    assert "Keep-Alive" not in connection.headers


def test_date_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_790_000_000.1]
    made: list[int] = []
    monkeypatch.setattr(cached.time, "time", lambda: now[0])
    monkeypatch.setattr(cached, "formatdate", lambda second, usegmt: made.append(second) or f"date {second}")
    date = DateText()
    assert date.now() == date.now() == "date 1790000000"
    now[0] += 1
    assert date.now() == "date 1790000001"
    assert made == [1_790_000_000, 1_790_000_001]
