"""Calls for closed rows: what they may ask for, in a query or a body, and how the answer is put together."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import orjson
import pytest

from resender.aio import Clock, Tasks
from resender.core.binance.markets import Market
from resender.core.market.candles import parse_rows
from resender.errors import BadRequest, NotReady
from resender.market import Hit, Klines, wait_for_closes
from resender.market import joined as joined_module
from resender.market.joined import JoinedAnswers
from resender.web.client import closed as module
from resender.web.client.closed import (
    ClosedCall,
    ClosedOptions,
    answer_closed,
    names_in_a_header,
    read_body,
    read_closed,
    read_number,
)
from tests.support.market_fakes import MINUTE, T0, World, kline_event, row
from tests.unit.core.market.test_npy import read_npy

# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, None),
        ({"closed": "false"}, None),
        ({"closed": "TRUE"}, ClosedOptions()),
        ({"closed": "1", "wait": "5", "since": "7"}, ClosedOptions(5, 7)),
        ({"closed": "true", "all": "true", "detail": "1"}, ClosedOptions(0, None, True, True)),
        ({"closed": "1", "detail": "1", "format": "json"}, ClosedOptions(is_detailed=True)),
        ({"format": "json"}, None),
        ({"closed": "1", "all": "1", "format": "npy"}, ClosedOptions(is_all_needed=True, is_npy=True)),
    ],
)
def test_options_are_taken_out_of_the_parameters(params: dict[str, str], found: ClosedOptions | None) -> None:
    params["symbol"] = "BTCUSDT"
    assert read_closed(params) == found
    assert params == {"symbol": "BTCUSDT"}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"closed": "yes"}, "`closed` must be true or false"),
        ({"wait": "5"}, "need `closed=true`"),
        ({"closed": "0", "detail": "1"}, "need `closed=true`"),
        ({"closed": "1", "wait": "-1"}, "`wait` must be a whole number"),
        ({"closed": "1", "since": "٣"}, "`since` must be a whole number"),
        ({"closed": "1", "format": "csv"}, "`format` must be one of json, npy"),
        ({"closed": "1", "format": "NPY"}, "`format` must be one of json, npy"),
        ({"closed": "1", "format": "npy", "detail": "1"}, "`detail` belongs to JSON, not to `format=npy`"),
        ({"format": "npy"}, "need `closed=true`"),
    ],
)
def test_option_that_cannot_be_is_refused_by_its_name(params: dict[str, str], words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_closed(params)
    assert words in caught.value.msg


@pytest.mark.parametrize("text", ["11", "1.0", "", " 1", "1" * 16])
def test_number_over_its_limit_or_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="from 0 to 10"):
        read_number({"n": text}, "n", 10)
    assert read_number({"n": "10"}, "n", 10) == 10
    assert read_number({}, "n", 10) is None


def test_body_is_read_as_a_query_would_be() -> None:
    body = json.dumps(
        {"symbols": ["BTCUSDT", "币USDT"], "interval": "1m", "limit": 5, "closed": True}
    ).encode()
    assert read_body(body) == ({"interval": "1m", "limit": "5", "closed": "true"}, ("BTCUSDT", "币USDT"))
    assert read_body(b'{"symbols":"all","symbol":"BTCUSDT"}') == ({"symbols": "all", "symbol": "BTCUSDT"}, ())
    assert read_body(b"{}") == ({}, ())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "must be an object with some of: all, closed, "),
        (b'{"other":1}', "must be an object with some of: all, closed, "),
        (b'{"symbols":"ALL"}', 'must be a list of symbols, or "all"'),
        (b'{"symbols":"BTCUSDT"}', 'must be a list of symbols, or "all"'),
        (b'{"symbols":["all"]}', "what is no symbol"),
        (b'{"symbols":[]}', "holds no symbol"),
        (b'{"symbols":[1]}', "must be a list of symbols"),
        (b'{"symbols":["A","A"]}', "none twice"),
        (b'{"symbols":["a b"]}', "what is no symbol"),
        (b'{"limit":1.5}', "`limit` must be a text, a whole number, true or false"),
        (b'{"limit":null}', "`limit` must be a text, a whole number, true or false"),
    ],
)
def test_body_of_another_form_is_refused_in_words(body: bytes, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_body(body)
    assert words in caught.value.msg


def test_list_of_symbols_has_an_end() -> None:
    names = [f"S{number}" for number in range(2001)]
    with pytest.raises(BadRequest, match="at most 2000"):
        read_body(json.dumps({"symbols": names}).encode())
    assert len(read_body(json.dumps({"symbols": names[1:]}).encode())[1]) == 2000


# --- answering ------------------------------------------------------------------------------------


async def told(
    monkeypatch: pytest.MonkeyPatch,
    rows: dict[str, bytes],
    pending: dict[str, str] | None = None,
    options: ClosedOptions | None = None,
    **how: bool,
) -> tuple[Hit, list[tuple[str, str]]]:
    """Return the answer about rows that are there, and its further headers; the close was 40 ms ago."""

    async def wait(*args: Any, **more: Any) -> Any:
        parts = {name: [part] for name, part in rows.items()}
        return SimpleNamespace(close_ms=1000, rows=parts, pending=pending or {}, stamp=None)

    monkeypatch.setattr(module, "wait_for_closes", wait)
    klines = SimpleNamespace(facts=SimpleNamespace(now_ms=lambda: 1040))
    state = SimpleNamespace(kind=lambda wanted: klines)
    cache = cast(Any, SimpleNamespace(states={Market.UM: state}, joined=JoinedAnswers(Tasks())))
    symbols = (*rows, *(pending or {}))
    call = ClosedCall(symbols, "1m", 5, options or ClosedOptions(), is_single=how.get("is_single", False))
    return await answer_closed(cache, Market.UM, call, packed=how.get("packed", False))


async def answer(*args: Any, **how: bool) -> tuple[Any, dict[str, str], Hit]:
    """Return the answer as parsed, its further headers, and itself."""
    hit, extra = await told(*args, **how)
    return json.loads(hit.body) if hit.body else None, dict(extra), hit


async def test_one_symbol_has_its_rows_alone_and_several_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    body, extra, hit = await answer(monkeypatch, {"A": b"[1],[2]"}, is_single=True)
    assert body == [[1], [2]]
    assert hit.age_ms == 40
    assert list(extra.values()) == ["1000"]
    body, _, _ = await answer(monkeypatch, {"币": b"[1]", "B": b""})
    assert body == {"币": [[1]], "B": []}


async def test_details_tell_what_is_settled_and_what_is_not_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    body, extra, _ = await answer(monkeypatch, {"A": b"[1]"}, {"B": "gap"}, ClosedOptions(is_detailed=True))
    assert body == {"close": 1000, "settled": ["A"], "pending": {"B": "gap"}, "klines": {"A": [[1]]}}
    assert "B" in extra.values()


@pytest.mark.parametrize(
    ("options", "is_single"), [(ClosedOptions(is_all_needed=True), False), (ClosedOptions(), True)]
)
async def test_what_is_not_settled_refuses_a_call_that_needs_it(
    monkeypatch: pytest.MonkeyPatch, options: ClosedOptions, is_single: bool
) -> None:
    pending = {"B": "gap", "C": "not read yet"}
    with pytest.raises(NotReady, match="B and 1 more 1m is not settled: gap"):
        await answer(monkeypatch, {"A": b"[1]"}, pending, options, is_single=is_single)


async def test_large_answer_is_packed_for_who_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"A": b",".join([b'[1,"2.0"]'] * 10_000)}
    assert (await answer(monkeypatch, rows, packed=True))[2].packed is not None
    assert (await answer(monkeypatch, rows))[2].packed is None


def test_names_in_a_header_are_ascii_and_bounded() -> None:
    assert names_in_a_header({"A": "", "币": ""}) == "A,\\u5e01"
    text = names_in_a_header({f"SYMBOL{number}": "" for number in range(1000)})
    assert len(text) <= 4004
    assert text.endswith(",...")


# --- numbers --------------------------------------------------------------------------------------


NUMBERS = ClosedOptions(is_npy=True)


async def test_numbers_come_as_one_array_of_all_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {symbol: [row(T0 + n * MINUTE, n) for n in range(count)] for symbol, count in (("A", 3), ("B", 1))}
    texts = {symbol: orjson.dumps(each)[1:-1] for symbol, each in rows.items()}
    hit, headers = await told(monkeypatch, texts, {"C": "gap"}, NUMBERS)
    shape, numbers = read_npy(hit.body)
    assert shape == (2, 3, 11)
    assert numbers[:33] == [float(value) for each in rows["A"] for value in each[:11]]
    assert numbers[55:] == [float(value) for value in rows["B"][0][:11]]
    assert hit.content_type == "application/octet-stream"
    assert headers == [
        ("X-Resender-Close", "1000"), ("X-Resender-Pending", "C"), ("X-Resender-Symbols", "A,B"),
    ]  # fmt: skip


async def test_symbols_of_an_array_are_percent_encoded_and_spread_over_lines_a_header_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["A,B", "C%2CD", *(f"币安人生{number}USDT" for number in range(300))]
    rows = dict.fromkeys(names, orjson.dumps(row(T0, 1)))
    hit, headers = await told(monkeypatch, rows, None, NUMBERS)
    lines = [text for name, text in headers if name == "X-Resender-Symbols"]
    assert len(lines) > 1
    assert all(text.isascii() and 0 < len(text) <= 4000 for text in lines)
    assert [unquote(word) for text in lines for word in text.split(",")] == names
    assert read_npy(hit.body)[0] == (len(names), 1, 11)


@pytest.mark.parametrize(("size", "count"), [(1999, 1), (2000, 2)])
async def test_line_of_symbols_is_filled_to_what_a_header_may_have(
    monkeypatch: pytest.MonkeyPatch, size: int, count: int
) -> None:
    rows = dict.fromkeys(("A" * 2000, "B" * size), orjson.dumps(row(T0, 1)))
    _, headers = await told(monkeypatch, rows, None, NUMBERS)
    lines = [text for name, text in headers if name == "X-Resender-Symbols"]
    assert len(lines) == count
    assert max(map(len, lines)) <= 4000


async def test_array_of_nothing_names_no_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    hit, headers = await told(monkeypatch, {}, None, NUMBERS)
    assert read_npy(hit.body) == ((0, 0, 11), [])
    assert ("X-Resender-Symbols", "") in headers


async def test_array_is_packed_for_who_takes_that(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict.fromkeys("ABCDEFGHIJKL", orjson.dumps(row(T0, 1)))
    plain, _ = await told(monkeypatch, rows, None, NUMBERS)
    hit, _ = await told(monkeypatch, rows, None, NUMBERS, packed=True)
    assert hit.packed is not None
    assert gzip.decompress(hit.packed) == plain.body
    assert hit.content_type == "application/octet-stream"


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


@pytest.mark.parametrize("options", ABOUT_MANY)
async def test_equal_calls_at_the_same_moment_make_one_answer(whole: Whole, options: dict[str, Any]) -> None:
    hits = await asyncio.gather(*(whole.ask(**options) for _ in range(8)))
    assert len({hit.body for hit in hits}) == 1
    assert whole.made == 1
