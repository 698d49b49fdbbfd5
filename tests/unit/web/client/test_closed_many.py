"""Answers about a whole market: made once for equal calls, and again after a change."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from resender.aio import Clock
from resender.core.binance.markets import Market
from resender.core.market.candles import parse_rows
from resender.market import Hit, Klines, wait_for_closes
from resender.market import joined as joined_module
from resender.market.joined import JoinedAnswers
from resender.web.client import closed as module
from resender.web.client.closed import (
    ClosedCall,
    ClosedOptions,
    answer_closed,
)
from tests.support.market_fakes import MINUTE, T0, World, kline_event, row

# --- answers about many ----------------------------------------------------------------------------

MANY = 50


class Whole:
    """More than fifty series whose candle at T0 is final, two seconds after its close; time stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World()
        self.now = 62_000
        self.world.clock = Clock(now_ms=lambda: T0 + self.now, mono=lambda: self.now / 1000)
        self.kind = Klines(self.world.tools("kline"))
        self.symbols = tuple(f"S{number}USDT" for number in range(MANY + 10))
        for symbol in self.symbols:
            self.add(symbol)
        state = SimpleNamespace(kind=lambda wanted: self.kind)
        self.cache = cast(
            Any, SimpleNamespace(states={Market.UM: state}, joined=JoinedAnswers(self.world.tasks))
        )
        # How often it was looked for what is there, and how often an answer was put together.
        self.looks = self.made = 0
        monkeypatch.setattr(module, "wait_for_closes", self._look)
        monkeypatch.setattr(module, "Joined", self._make)
        self.on_look = lambda: None

    async def _look(self, *args: Any, **options: Any) -> Any:
        self.looks += 1
        self.on_look()
        await asyncio.sleep(0)
        return await wait_for_closes(*args, **options)

    def _make(self, *args: Any) -> Any:
        self.made += 1
        return joined_module.Joined(*args)

    def add(self, symbol: str) -> None:
        kept = self.kind.make(symbol, "1m", 0.0, is_preload=False)
        self.kind.kept[symbol, "1m"] = kept
        self.kind.begin(kept)
        kept.is_live = True
        rows = [row(T0 + n * MINUTE, 60 if n < 1 else 2) for n in range(-8, 2)]
        made_ms = T0 + 62_000
        candles = parse_rows(rows, "1m", orjson.dumps, made_ms=made_ms)
        assert kept.series.apply_read(candles, made_ms, epoch=kept.series.epoch)

    def correct(self, symbol: str) -> None:
        """A late final event corrects the newest closed row."""
        event = kline_event(T0, T0 + MINUTE + 20, symbol, final=True, n=61)
        self.kind.event(self.kind.kept[symbol, "1m"], event)

    def close(self, *symbols: str) -> None:
        """The next candle of some symbols closes."""
        self.now = 120_050
        for symbol in symbols:
            event = kline_event(T0 + MINUTE, T0 + 120_020, symbol, final=True)
            self.kind.event(self.kind.kept[symbol, "1m"], event)

    async def ask(
        self, count: int = MANY, *, first: int = 0, is_all: bool = False, packed: bool = False, limit: int = 2,
        **options: Any,
    ) -> Hit:  # fmt: skip
        symbols = tuple(symbol for symbol, _ in self.kind.kept) if is_all else self.symbols[first:][:count]
        call = ClosedCall(symbols, "1m", limit, ClosedOptions(**options), is_all=is_all)
        hit, _ = await answer_closed(self.cache, Market.UM, call, packed=packed)
        return hit

    async def newest(self, **options: Any) -> dict[str, tuple[int, int]]:
        """Return open minute and trades of the newest row of each symbol in an answer."""
        hit = await self.ask(**options)
        plain = gzip.decompress(hit.packed) if hit.packed is not None else hit.body
        return {
            symbol: ((rows[-1][0] - T0) // MINUTE, rows[-1][8]) for symbol, rows in json.loads(plain).items()
        }


@pytest.fixture
async def whole(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Whole]:
    made = Whole(monkeypatch)
    yield made
    await made.world.end()


ABOUT_MANY: list[dict[str, Any]] = [{"count": MANY}, {"is_all": True}, {"is_all": True, "is_npy": True}]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", ABOUT_MANY)
async def test_answer_about_many_is_made_once_for_equal_calls_and_again_after_a_change(
    whole: Whole, options: dict[str, Any], packed: bool
) -> None:
    hits = [await whole.ask(**options, packed=packed) for _ in range(3)]
    assert (whole.looks, whole.made) == (1, 1)
    assert [hit.packed or hit.body for hit in hits[1:]] == [hits[0].packed or hits[0].body] * 2
    assert (hits[0].packed is not None) is packed
    whole.correct("S3USDT")
    later = await whole.ask(**options, packed=packed)
    assert (whole.looks, whole.made) == (2, 2)
    assert (later.packed or later.body) != (hits[0].packed or hits[0].body)


async def test_changed_row_is_in_the_next_answer(whole: Whole) -> None:
    assert set((await whole.newest(is_all=True)).values()) == {(0, 60)}
    whole.correct("S3USDT")
    assert (await whole.newest(is_all=True))["S3USDT"] == (0, 61)
    whole.close("S3USDT", "S4USDT")
    assert await whole.newest(is_all=True) == {"S3USDT": (1, 60), "S4USDT": (1, 60)}


async def test_plain_and_packed_are_made_of_one_answer(whole: Whole) -> None:
    plain, packed = await whole.ask(), await whole.ask(packed=True)
    assert (whole.looks, whole.made) == (1, 1)
    assert packed.packed is not None
    assert gzip.decompress(packed.packed) == plain.body


@pytest.mark.parametrize(
    "other",
    [{"limit": 3}, {"count": MANY + 1}, {"first": 1}, {"is_all": True}, {"since_ms": T0}, {"is_npy": True}],
)
async def test_call_that_wants_something_else_gets_an_answer_of_its_own(
    whole: Whole, other: dict[str, Any]
) -> None:
    first = await whole.ask()
    assert (await whole.ask(**other)).body != first.body
    assert (await whole.ask()).body == first.body
    assert whole.made == 2


async def test_answer_about_fewer_is_made_each_time(whole: Whole) -> None:
    for _ in range(2):
        await whole.ask(count=MANY - 1)
    assert (whole.looks, whole.made) == (2, 2)


async def test_equal_calls_at_the_same_moment_share_one_answer(whole: Whole) -> None:
    hits = await asyncio.gather(*(whole.ask(packed=True) for _ in range(8)))
    assert (whole.looks, whole.made) == (8, 1), "each has looked, one has put it together"
    assert len({hit.packed for hit in hits}) == 1


@pytest.mark.parametrize("is_all", [False, True])
async def test_answer_about_nothing_that_is_known_is_not_kept(whole: Whole, is_all: bool) -> None:
    whole.kind.kept.clear()
    for _ in range(2):
        assert (await whole.ask(is_all=is_all)).body == b"{}"
    assert whole.looks == 2


async def test_answer_out_of_memory_counts_as_use_and_has_its_own_age(whole: Whole) -> None:
    assert (await whole.ask()).age_ms == pytest.approx(2000, abs=5)
    whole.now = 70_000
    assert (await whole.ask()).age_ms == pytest.approx(10_000, abs=5)
    assert whole.looks == 1
    used = {symbol: kept.used_mono for (symbol, _), kept in whole.kind.kept.items()}
    assert [used[symbol] for symbol in whole.symbols] == [70.0] * MANY + [0.0] * 10


async def test_call_that_waits_gets_no_answer_with_pending_series(whole: Whole) -> None:
    options = {"wait_ms": 10, "is_detailed": True}  # which has passed already
    whole.close(*whole.symbols[1:])
    first = json.loads((await whole.ask(**options)).body)
    assert first["pending"] == {"S0USDT": "not settled"}
    assert json.loads((await whole.ask(**options)).body) == first
    assert whole.looks == 2, "it has looked for itself"
    whole.kind.kept["S0USDT", "1m"].is_live = False
    assert json.loads((await whole.ask(**options)).body)["pending"] == {"S0USDT": "stream not live"}
    whole.close("S0USDT")
    assert json.loads((await whole.ask(**options)).body)["pending"] == {}
    await whole.ask(**options)
    assert whole.looks == 4, "what is whole is told at once"


async def test_call_that_does_not_wait_gets_it_with_its_pending_series(whole: Whole) -> None:
    whole.close(*whole.symbols[1:])
    for _ in range(2):
        body = json.loads((await whole.ask(is_detailed=True)).body)
        assert list(body["pending"]) == ["S0USDT"]
    assert whole.looks == 1


async def test_call_that_waits_shortly_before_the_next_close_does_not_get_the_old_answer(
    whole: Whole,
) -> None:
    assert set((await whole.newest(wait_ms=10)).values()) == {(0, 60)}
    whole.now = 119_700
    assert set((await whole.newest(wait_ms=10)).values()) == {(0, 60)}
    assert whole.looks == 1
    whole.now = 119_900
    whole.on_look = lambda: whole.close(*whole.symbols)
    assert set((await whole.newest(wait_ms=10)).values()) == {(1, 60)}


# --- heavy answers ---------------------------------------------------------------------------------


@pytest.fixture
def heavy(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> Whole:
    """What takes more than a few kilobytes is heavy."""
    monkeypatch.setattr(joined_module, "_MAX_RAW_BYTES", 5000)
    monkeypatch.setattr(joined_module, "PIECE_BYTES", 1000)
    monkeypatch.setattr(module, "_AT_ONCE_BYTES", 5000)
    return whole


async def test_heavy_answer_goes_out_in_pieces_or_packed(heavy: Whole) -> None:
    hit = await heavy.ask()
    assert (hit.body, hit.packed) == (b"", None)
    assert hit.pieces is not None
    pieces = list(hit.pieces)
    assert len(pieces) > 5
    assert list(json.loads(b"".join(pieces))) == list(heavy.symbols[:MANY])
    packed = await heavy.ask(packed=True)
    assert packed.pieces is None
    assert packed.packed is not None
    assert gzip.decompress(packed.packed) == b"".join(pieces)


async def test_heavy_answer_is_kept_packed_only(heavy: Whole) -> None:
    for _ in range(2):
        await heavy.ask()
    assert heavy.made == 2, "nobody asked for it packed"
    for _ in range(2):
        await heavy.ask(packed=True)
    assert heavy.made == 3
    hit = await heavy.ask()
    assert hit.pieces is not None
    assert heavy.made == 4
    await heavy.ask(packed=True)
    assert heavy.made == 4


async def test_numbers_are_made_once_although_others_get_their_turn_meanwhile(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NPY_ROWS", 1)
    hits = await asyncio.gather(*(whole.ask(is_all=True, is_npy=True) for _ in range(8)))
    assert len({hit.body for hit in hits}) == 1
    assert whole.made == 1


async def test_answer_about_all_is_not_kept_where_another_series_came_while_it_was_made(whole: Whole) -> None:
    names = iter(["LATEUSDT"])
    whole.on_look = lambda: [whole.add(name) for name in names]  # type: ignore[assignment]
    assert "LATEUSDT" not in await whole.newest(is_all=True)
    assert "LATEUSDT" in await whole.newest(is_all=True)
