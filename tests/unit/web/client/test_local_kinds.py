"""The endpoints below /local beside klines and bookTicker: what a call of each means, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.aio import Tasks
from resender.core.binance.markets import INTERVALS, Market
from resender.core.market import words
from resender.core.market.requests import DepthRequest, FundingRequest, Miss, SymbolsRequest, TradesRequest
from resender.errors import BadRequest, NotReady, RouteError
from resender.market import PATHS, Hit, Wanting
from resender.market.joined import JoinedAnswers
from resender.web.answers import MISSING_HEADER
from resender.web.client.local import answer_local
from resender.web.client.local_kinds import LOCAL_KINDS, read_max_age
from tests.unit.web.serving import make_services

UM, CM, SPOT = Market.UM, Market.CM, Market.SPOT
HELD = ("BTCUSDT", "ETHUSDT")


class Symbols:
    is_loaded = True

    def __contains__(self, symbol: str) -> bool:
        return symbol in (*HELD, "NKNUSDT")


class FakeCache:
    """Keeps two symbols of everything; answers are objects of their symbol, on COIN-M in a list."""

    def __init__(self) -> None:
        self.joined = JoinedAnswers(Tasks())
        self.asked: list[tuple[str, Any, int]] = []
        self.left: list[str] = []
        self.words: list[tuple[str, ...]] = []
        self.states = {market: SimpleNamespace(symbols=Symbols()) for market in INTERVALS}

    def symbols_of(self, market: Market, names: tuple[str, ...]) -> tuple[str, ...]:
        self.words.append(names)
        return HELD

    def answer(self, path: str, request: Any, *, packed: bool, max_age_ms: int = 0) -> Any:
        assert not packed
        self.asked.append((path, request, max_age_ms))
        symbol = request.symbols[0] if isinstance(request, SymbolsRequest) else request.symbol
        if symbol not in HELD:
            return Wanting("not held yet", leave=lambda: self.left.append(symbol))
        body = orjson.dumps({"symbol": symbol})
        if isinstance(request, SymbolsRequest) and request.market is CM:
            body = b"[%b]" % body
        return Hit(body, None, 7 if symbol == "BTCUSDT" else 9)


@pytest.fixture
def cache() -> FakeCache:
    return FakeCache()


async def ask(cache: FakeCache, path: str, query: str = "") -> tuple[Any, dict[str, str], Hit]:
    hit, extra = await answer_local(make_services(cache=cache), f"/local/{path}", query, packed=False)
    return orjson.loads(hit.body), dict(extra), hit


REQUESTS = [
    ("um/depth", "", DepthRequest(UM, "BTCUSDT", 20)),
    ("spot/depth", "&limit=5000", DepthRequest(SPOT, "BTCUSDT", 5000)),
    ("cm/depth", "&limit=7", DepthRequest(CM, "BTCUSDT", 7)),
    ("um/aggTrades", "", TradesRequest(UM, "BTCUSDT", 500)),
    ("spot/trades", "&limit=1000", TradesRequest(SPOT, "BTCUSDT", 1000)),
    ("um/fundingRate", "", FundingRequest(UM, "BTCUSDT", 100)),
    ("cm/fundingRate", "&limit=1", FundingRequest(CM, "BTCUSDT", 1)),
    ("spot/price", "", SymbolsRequest(SPOT, ("BTCUSDT",), False, is_local=True)),
    ("spot/ticker", "", SymbolsRequest(SPOT, ("BTCUSDT",), False, is_local=True)),
    ("cm/premiumIndex", "&maxAge=1", SymbolsRequest(CM, ("BTCUSDT",), False, is_local=True)),
]  # fmt: skip


@pytest.mark.parametrize(("path", "more", "request_"), REQUESTS)
async def test_call_for_one_symbol_is_asked_of_the_path_whose_answer_it_gives(
    cache: FakeCache, path: str, more: str, request_: Any
) -> None:
    market, _, what = path.partition("/")
    _, extra, hit = await ask(cache, path, f"symbol=BTCUSDT{more}")
    kind = LOCAL_KINDS[what]
    ((asked, made, max_age_ms),) = cache.asked
    assert (asked, made, extra) == (kind.paths[Market(market)], request_, {})
    age_ms = 1 if "maxAge" in more else 10_000
    assert max_age_ms == (age_ms if kind.takes_age else 0)
    assert hit.age_ms == 7


def test_every_endpoint_is_answered_by_a_kind_and_its_words_are_words() -> None:
    for name, kind in LOCAL_KINDS.items():
        for market, path in kind.paths.items():
            assert path in PATHS, (name, path)
            assert PATHS[path].market is market
            assert set(kind.words) & PATHS[path].kind.words(market), (name, market)
        assert set(kind.words) <= {word for market in kind.paths for word in words.WORDS[market]}


@pytest.mark.parametrize("what", list(LOCAL_KINDS))
async def test_all_that_is_held_comes_as_an_object_or_a_list(cache: FakeCache, what: str) -> None:
    kind = LOCAL_KINDS[what]
    for market in kind.paths:
        body, extra, hit = await ask(cache, f"{market}/{what}", "symbols=all")
        assert set(cache.words.pop()) == set(kind.words) & PATHS[kind.paths[market]].kind.words(market)
        assert extra == {}
        assert hit.age_ms >= 9
        if kind.is_object:
            assert body == {name: {"symbol": name} for name in HELD}
        else:
            assert body == [{"symbol": name} for name in HELD], "no list in a list on COIN-M either"


@pytest.mark.parametrize("what", list(LOCAL_KINDS))
async def test_list_keeps_its_order_and_is_refused_unless_each_is_there(cache: FakeCache, what: str) -> None:
    market = next(iter(LOCAL_KINDS[what].paths))
    body, _, _ = await ask(cache, f"{market}/{what}", 'symbols=["ETHUSDT","BTCUSDT"]')
    assert [row["symbol"] for row in (body.values() if isinstance(body, dict) else body)] == [
        "ETHUSDT",
        "BTCUSDT",
    ]
    with pytest.raises(NotReady, match="NKNUSDT"):
        await ask(cache, f"{market}/{what}", 'symbols=["NKNUSDT","BTCUSDT"]')
    assert cache.left == ["NKNUSDT"], "nothing goes up whose answer could be taken"
    with pytest.raises(NotReady, match="not held yet"):
        await ask(cache, f"{market}/{what}", "symbol=NKNUSDT")


async def test_all_names_those_that_are_not_ready(cache: FakeCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "symbols_of", lambda market, names: ("NKNUSDT", "BTCUSDT"))
    body, extra, _ = await ask(cache, "um/fundingRate", "symbols=all")
    assert body == {"BTCUSDT": {"symbol": "BTCUSDT"}}
    assert extra == {MISSING_HEADER: "NKNUSDT"}
    monkeypatch.setattr(cache, "symbols_of", lambda market, names: ())
    assert (await ask(cache, "um/fundingRate", "symbols=all"))[0] == {}
    assert (await ask(cache, "um/premiumIndex", "symbols=all"))[0] == []


ODD = [
    "", "symbol=BTCUSDT&symbols=all", "symbol=btcusdt", "symbol=GONEUSDT", "symbols=ALL", "symbols=[]", "symbols=x",
    'symbols=["GONEUSDT"]', 'symbols=["BTCUSDT","BTCUSDT"]', 'symbols=["BTCUSDT", "ETHUSDT"]', "symbol=BTCUSDT&x=1",
    "symbol=BTCUSDT&symbol=BTCUSDT", "symbol=BTCUSDT&startTime=1790000000000", "symbol=BTCUSDT&closed=1",
]  # fmt: skip


@pytest.mark.parametrize("what", list(LOCAL_KINDS))
@pytest.mark.parametrize("query", ODD)
async def test_odd_call_is_refused_and_asks_nothing(cache: FakeCache, what: str, query: str) -> None:
    market = next(iter(LOCAL_KINDS[what].paths))
    with pytest.raises(BadRequest):
        await ask(cache, f"{market}/{what}", query)
    assert cache.asked == []


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("um/depth", 1000),
        ("spot/depth", 5000),
        ("um/aggTrades", 1000),
        ("spot/trades", 1000),
        ("cm/fundingRate", 1000),
    ],
)
@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "%D9%A3", "999999999", "more", "+1"])
async def test_limit_that_is_none_is_refused(cache: FakeCache, path: str, most: int, limit: str) -> None:
    limit = str(most + 1) if limit == "more" else limit
    with pytest.raises(BadRequest):
        await ask(cache, path, f"symbol=BTCUSDT&limit={limit}")


@pytest.mark.parametrize("age", ["0", "-1", "x", "3600001", "1.5"])
async def test_age_that_is_none_is_refused(cache: FakeCache, age: str) -> None:
    for path in ("um/ticker", "um/premiumIndex"):
        with pytest.raises(BadRequest, match="maxAge"):
            await ask(cache, path, f"symbol=BTCUSDT&maxAge={age}")


@pytest.mark.parametrize("what", [name for name, kind in LOCAL_KINDS.items() if not kind.takes_age])
async def test_what_is_proven_takes_no_age(cache: FakeCache, what: str) -> None:
    market = next(iter(LOCAL_KINDS[what].paths))
    with pytest.raises(BadRequest, match="maxAge"):
        await ask(cache, f"{market}/{what}", "symbol=BTCUSDT&maxAge=1000")


@pytest.mark.parametrize("path", ["spot/premiumIndex", "spot/fundingRate", "um/markPrice", "cm/avgPrice"])
async def test_endpoint_a_market_has_not_is_refused(cache: FakeCache, path: str) -> None:
    with pytest.raises(RouteError, match="Local endpoints are"):
        await ask(cache, path, "symbol=BTCUSDT")


@given(
    st.sampled_from(sorted(LOCAL_KINDS)),
    st.dictionaries(st.sampled_from(["limit", "maxAge", "x"]), st.text(max_size=9), max_size=3),
)
def test_no_parameter_breaks_a_reader(what: str, params: dict[str, str]) -> None:
    kind = LOCAL_KINDS[what]
    for market in kind.paths:
        left = dict(params)
        try:
            read_max_age(left)
            made = kind.read(market, left)("BTCUSDT")
        except BadRequest:
            continue
        assert not isinstance(made, Miss)
        assert 1 <= getattr(made, "limit", 1) <= 5000
