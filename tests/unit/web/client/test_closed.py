"""Calls for closed rows: what they may ask for, in a query or a body, and how the answer is put together."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resender.aio import Tasks
from resender.core.binance.markets import Market
from resender.errors import BadRequest, NotReady
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

# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, None),
        ({"closed": "false"}, None),
        ({"closed": "TRUE"}, ClosedOptions()),
        ({"closed": "1", "wait": "5", "since": "7"}, ClosedOptions(5, 7)),
        ({"closed": "true", "all": "true", "detail": "1"}, ClosedOptions(0, None, True, True)),
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


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "must be an object with some of: all, closed, "),
        (b'{"other":1}', "must be an object with some of: all, closed, "),
        (b'{"symbols":"all"}', "must be a list of symbols"),
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


async def answer(
    monkeypatch: pytest.MonkeyPatch,
    rows: dict[str, bytes],
    pending: dict[str, str] | None = None,
    options: ClosedOptions | None = None,
    **how: bool,
) -> tuple[Any, dict[str, str], Any]:
    """Return the answer as parsed, its further headers, and itself; the close was 40 ms ago."""

    async def wait(*args: Any, **more: Any) -> Any:
        parts = {name: [part] for name, part in rows.items()}
        return SimpleNamespace(close_ms=1000, rows=parts, pending=pending or {}, stamp=None)

    monkeypatch.setattr(module, "wait_for_closes", wait)
    klines = SimpleNamespace(facts=SimpleNamespace(now_ms=lambda: 1040))
    state = SimpleNamespace(kind=lambda wanted: klines)
    cache = cast(Any, SimpleNamespace(states={Market.UM: state}, joined=JoinedAnswers(Tasks())))
    symbols = (*rows, *(pending or {}))
    call = ClosedCall(symbols, "1m", 5, options or ClosedOptions(), is_single=how.get("is_single", False))
    hit, extra = await answer_closed(cache, Market.UM, call, packed=how.get("packed", False))
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
