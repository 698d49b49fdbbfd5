"""Calls for closed rows: what they may ask for, in a query or a body, and how the answer is put together."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import unquote

import orjson
import pytest

from resender.aio import Tasks
from resender.core.binance.markets import Market
from resender.errors import BadRequest, NotReady
from resender.market import Hit
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
from tests.support.market_fakes import MINUTE, T0, row
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
        return SimpleNamespace(
            close_ms=1000,
            rows=parts,
            pending=pending or {},
            stamp=None,
            counts=[len(json.loads(b"[" + part + b"]")) for part in rows.values()],
        )

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
