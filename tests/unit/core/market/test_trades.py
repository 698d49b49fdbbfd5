"""The newest trades of a symbol: how events and REST rows meet, and how REST writes a trade."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Decimal, localcontext
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.market.trades import (
    FORMS,
    MAX_ROWS,
    AggregateForm,
    FormDiffers,
    SpotTradeForm,
    TradeTail,
    read_rows,
)


def text(trade_id: int) -> bytes:
    return b'{"a":%d}' % trade_id


def rows(*ids: int) -> list[tuple[int, bytes]]:
    return [(one, text(one)) for one in ids]


def price(trade_id: int) -> str:
    return f"{trade_id}.5"


class Tail(TradeTail):
    """A tail that is told ids."""

    def bring(self, *ids: int, certain: bool = True) -> list[bool]:
        return [self.apply(one, text(one) if certain else None, price(one)) for one in ids]

    def shown(self, *ids: int, made_ms: int = 1, is_whole: bool = False) -> bool:
        return self.read(rows(*ids), price(ids[-1]) if ids else "", made_ms, is_whole=is_whole)

    @property
    def ids(self) -> list[int]:
        return [orjson.loads(one)["a"] for one in self.texts if one is not None]


def tail_of(*ids: int) -> Tail:
    tail = Tail()
    tail.bring(*ids)
    return tail


# -- the first read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "shown", "wanted"),
    [
        ((), (1, 2, 3), (1, 2, 3)),
        ((4, 5), (1, 2, 3), (1, 2, 3, 4, 5)),  # they meet without a row in common
        ((4, 5), (2, 3, 4), (2, 3, 4, 5)),
        ((4, 5), (2, 3, 4, 5), (2, 3, 4, 5)),
        ((4, 5), (2, 3, 4, 5, 6, 7), (2, 3, 4, 5, 6, 7)),  # REST is ahead
        ((4, 5), (5, 6), (4, 5, 6)),
        ((4, 5), (6, 7), (4, 5, 6, 7)),
        ((4, 5), (4, 6, 7), None),  # a row the stream brought is not shown
        ((4, 5), (9, 10), (9, 10)),  # what lies between is not known: REST's rows stand alone
        ((4, 5), (2, 3, 7), None),
        ((4, 5), (1, 2), None),  # REST is behind: 3 may exist
        ((4, 5), (), None),
        ((7,), (3, 5, 7), (3, 5, 7)),  # natural holes on both sides of a row
        ((7,), (3, 5), None),
        ((7, 8), (3, 5, 7, 8, 11), (3, 5, 7, 8, 11)),
    ],
)
def test_stream_and_rest_meet_or_nothing_is_believed(
    told: tuple[int, ...], shown: tuple[int, ...], wanted: tuple[int, ...] | None
) -> None:
    tail = tail_of(*told)
    assert not tail.is_synced
    assert tail.shown(*shown, made_ms=17) is (wanted is not None)
    assert tail.is_synced is (wanted is not None)
    if wanted is not None:
        assert tuple(tail.ids) == wanted
        assert (tail.last_id, tail.price, tail.read_ms) == (wanted[-1], price(wanted[-1]), 17)
        assert len(tail) == len(wanted)


def test_read_that_does_not_join_changes_nothing() -> None:
    tail = tail_of(4, 5)
    assert not tail.shown(1, 2, made_ms=9)
    assert (tail.ids, tail.read_ms, tail.price, tail.last_id) == ([4, 5], 0, "5.5", 5)
    assert tail.shown(2, 3, 4)


# -- what comes after it ----------------------------------------------------------------------------


def synced(*ids: int, is_whole: bool = False) -> Tail:
    tail = Tail()
    assert tail.shown(*ids, is_whole=is_whole)
    return tail


def test_events_follow_without_a_hole() -> None:
    tail = synced(1, 2, 3)
    assert tail.bring(4, 5) == [True, True]
    assert (tail.ids, tail.is_synced, tail.price) == ([1, 2, 3, 4, 5], True, "5.5")


def test_hole_begins_the_tail_anew_until_rest_has_filled_it() -> None:
    tail = synced(1, 2, 3)
    tail.bring(5)
    assert (tail.ids, tail.is_synced, tail.read_ms) == ([5], False, 0)
    assert not tail.shown(1, 2, 3)
    assert tail.shown(2, 3, 4, 5)
    assert tail.ids == [2, 3, 4, 5]


def test_event_after_a_natural_hole_is_believed_as_soon_as_rest_shows_it() -> None:
    tail = synced(1, 2, 3)
    tail.bring(5)
    assert not tail.shown(1, 2, 3), "REST may lag behind: 4 may exist"
    assert tail.shown(1, 2, 3, 5)
    assert (tail.ids, tail.is_synced) == ([1, 2, 3, 5], True)


def test_repeats_are_no_news_and_change_nothing() -> None:
    tail = tail_of(4, 5)
    tail.shown(2, 3, 4, 5)
    assert tail.bring(5, 4, 5) == [False, False, False]
    assert tail.apply(5, b"other", "9") is False
    assert (tail.ids, tail.price) == ([2, 3, 4, 5], "5.5")


def test_stream_that_catches_up_with_a_read_tells_news_and_adds_no_row_twice() -> None:
    tail = tail_of(4)
    assert tail.news(rows(3, 4, 5, 6))
    assert tail.shown(3, 4, 5, 6)
    assert tail.bring(5, 6, 7) == [True, True, True]
    assert (tail.ids, tail.price) == ([3, 4, 5, 6, 7], "7.5")
    assert not tail.news(rows(6, 7))


def test_event_that_catches_up_does_not_put_an_old_price_back() -> None:
    tail = tail_of(4)
    tail.shown(3, 4, 5, 6)
    tail.bring(5)
    assert (tail.price, tail.last_id) == ("6.5", 6)


def test_ids_that_go_back_are_repeats_at_first_and_an_error_in_the_end() -> None:
    tail = synced(5000)
    tail.bring(5001)
    assert not any(tail.bring(*range(1, 1000)))
    with pytest.raises(ValueError, match="went back"):
        tail.bring(1000)
    tail.lose()
    assert tail.bring(1001) == [True]


def test_news_between_repeats_are_no_ids_that_go_back() -> None:
    tail = synced(1)
    for one in range(2, 1500):
        tail.bring(one, one - 1, one)
    assert (len(tail), tail.is_synced) == (MAX_ROWS, True)


def test_second_read_takes_what_was_lost_at_the_end() -> None:
    tail = synced(1, 2, 3)
    assert tail.shown(3, 4, 5, made_ms=8)
    assert (tail.ids, tail.price, tail.read_ms) == ([1, 2, 3, 4, 5], "5.5", 8)


def test_row_that_rest_shows_only_later_is_taken() -> None:
    tail = synced(1, 2, 4)
    tail.bring(5)
    assert tail.shown(1, 2, 3, 4, 5)
    assert tail.ids == [1, 2, 3, 4, 5]


def test_row_that_rest_does_not_show_is_a_contradiction() -> None:
    tail = synced(1, 2)
    tail.bring(3, 4)
    assert not tail.shown(1, 2, 4)
    assert tail.ids == [1, 2, 3, 4]


def test_short_read_far_ahead_leaves_no_hole_inside() -> None:
    tail = synced(1, 2, 3)
    assert tail.shown(10, 11)
    assert tail.ids == [10, 11]
    assert not tail.has(3)


def test_short_read_that_begins_within_a_hole_of_what_is_held_leaves_none_inside() -> None:
    tail = synced(1, 2, 5)
    assert tail.shown(4, 5, 6)
    assert tail.ids == [4, 5, 6], "3 may exist"


def test_late_read_of_a_slow_rest_takes_nothing_away() -> None:
    tail = synced(1, 2, 3)
    tail.bring(4, 5)
    assert tail.shown(1, 2, 3, made_ms=7)
    assert (tail.ids, tail.read_ms, tail.price) == ([1, 2, 3, 4, 5], 7, "5.5")
    assert tail.shown(1, 2, made_ms=3)
    assert tail.read_ms == 7, "a read that was made earlier makes no proof older"


def test_started_over_a_read_has_to_reach_what_the_stream_has_brought() -> None:
    tail = synced(1, 2, 3)
    tail.bring(4, 5)
    tail.restart()
    assert (tail.ids, tail.is_synced, tail.price) == ([], False, "")
    assert not tail.shown(1, 2, 3, 4)
    assert tail.shown(3, 4, 5)
    assert tail.bring(5, 6) == [False, True]
    assert tail.ids == [3, 4, 5, 6]


def test_after_a_loss_nothing_is_known() -> None:
    tail = synced(1, 2, 3, is_whole=True)
    tail.bring(4, 5)
    tail.lose()
    assert (len(tail), tail.is_synced, tail.is_whole, tail.price, tail.read_ms) == (0, False, False, "", 0)
    assert not tail.has(1)
    assert tail.shown(1, 2, 3), "what came before the loss binds no read"


def test_row_the_stream_made_differently_is_an_error() -> None:
    tail = synced(1, 2)
    tail.bring(3)
    with pytest.raises(FormDiffers, match="REST shows"):
        tail.read([(2, text(2)), (3, b'{"a":3,"x":1}')], "1", 5, is_whole=False)


# -- young symbols ----------------------------------------------------------------------------------


def test_young_symbol_is_held_whole_and_grows() -> None:
    tail = synced(1, 2, 3, is_whole=True)
    assert (tail.is_whole, tail.has(1000)) == (True, True)
    tail.bring(4)
    assert (tail.is_whole, tail.body(1000)) == (True, b'[{"a":1},{"a":2},{"a":3},{"a":4}]')
    tail.bring(6)
    assert not tail.is_whole
    assert not tail.has(2)


def test_symbol_of_few_trades_stays_whole_by_a_short_read() -> None:
    tail = synced(*range(1, 60), is_whole=True)
    assert tail.shown(*range(20, 60))
    assert (tail.is_whole, len(tail)) == (True, 59)


def test_symbol_is_whole_no_longer_when_rows_are_dropped() -> None:
    tail = synced(*range(1, MAX_ROWS), is_whole=True)
    tail.bring(MAX_ROWS, MAX_ROWS + 1)
    assert (tail.is_whole, len(tail), tail.ids[0]) == (False, MAX_ROWS, 2)
    tail = tail_of(MAX_ROWS, MAX_ROWS + 1)
    assert tail.shown(*range(1, MAX_ROWS), is_whole=True)
    assert (tail.is_whole, len(tail), tail.ids[0]) == (False, MAX_ROWS, 2)


def test_what_rest_shows_no_more_is_over() -> None:
    tail = synced(1, 2, 3, is_whole=True)
    assert tail.shown(2, 3, 4, is_whole=True)
    assert tail.ids == [2, 3, 4]


def test_nothing_has_been_traded_yet() -> None:
    tail = synced(is_whole=True)
    assert (tail.has(500), tail.is_certain(500), tail.body(500), tail.price) == (True, True, b"[]", "")


def test_first_event_after_nothing_is_believed_when_rest_has_shown_it() -> None:
    tail = synced(is_whole=True)
    tail.bring(3)
    assert not tail.is_synced, "REST may lag behind: 1 and 2 may exist"
    assert not tail.shown(is_whole=True)
    assert tail.shown(1, 2, 3, is_whole=True)
    assert (tail.ids, tail.is_whole) == ([1, 2, 3], True)


# -- bounds and bodies ------------------------------------------------------------------------------


def test_no_more_rows_are_held_than_can_be_asked_for() -> None:
    tail = synced(*range(1, MAX_ROWS + 1))
    tail.bring(*range(MAX_ROWS + 1, MAX_ROWS + 300))
    assert (len(tail), tail.ids[0], tail.ids[-1]) == (MAX_ROWS, 300, MAX_ROWS + 299)
    assert tail.shown(*range(500, 500 + MAX_ROWS))
    assert (len(tail), tail.ids[-1]) == (MAX_ROWS, 1499)


def test_bodies_are_the_newest_rows_oldest_first() -> None:
    tail = synced(1, 2, 3)
    assert tail.body(2) == b'[{"a":2},{"a":3}]'
    assert tail.body(1) == b'[{"a":3}]'
    assert tail.body(3) == tail.body(500) == b'[{"a":1},{"a":2},{"a":3}]'
    assert (tail.has(3), tail.has(4)) == (True, False)


def test_body_is_made_once_until_a_trade_comes() -> None:
    tail = synced(1, 2, 3)
    first = tail.body(2)
    assert tail.body(2) is first
    tail.bring(4)
    assert tail.body(2) == b'[{"a":3},{"a":4}]'
    tail.shown(4, 5)
    assert tail.body(2) == b'[{"a":4},{"a":5}]'
    tail.bring(7)
    tail.shown(6, 7)
    assert tail.body(1) == b'[{"a":7}]'


def test_bodies_of_all_lengths_are_not_kept_all() -> None:
    tail = synced(*range(1, 101))
    for limit in range(1, 101):
        assert len(orjson.loads(tail.body(limit))) == limit
    assert len(tail._bodies) <= 8


def test_rows_without_a_certain_text_are_told_until_rest_teaches_them() -> None:
    tail = synced(1, 2, 3)
    tail.bring(4, certain=False)
    tail.bring(5)
    assert [tail.is_certain(limit) for limit in (1, 2, 5)] == [True, False, False]
    assert tail.shown(3, 4, 5)
    assert tail.is_certain(500)
    assert tail.ids == [1, 2, 3, 4, 5]


def test_events_from_before_a_form_was_learned_are_written_by_rest() -> None:
    tail = Tail()
    tail.bring(4, 5, certain=False)
    assert tail.shown(1, 2, 3, 4)
    assert (tail.is_synced, tail.is_certain(1), tail.last_id, tail.price) == (True, False, 5, "5.5")
    assert tail.shown(1, 2, 3, 4, 5)
    assert tail.is_certain(5)


# -- any order --------------------------------------------------------------------------------------


@given(st.data())
def test_what_is_held_is_always_what_rest_would_show(data: st.DataObject) -> None:
    """Whatever is lost, repeated, late or short: synced rows are the newest ones up to the last, all of them."""
    holes = data.draw(st.sets(st.integers(1, 60), max_size=12))
    every = [one for one in range(1, 61) if one not in holes]
    tail = Tail()
    done = 0
    for _ in range(data.draw(st.integers(1, 30))):
        done = min(len(every), done + data.draw(st.integers(0, 4)))
        match data.draw(st.sampled_from(["bring", "read", "look", "lose", "restart"])):
            case "bring":
                first = data.draw(st.integers(0, done))
                for one in every[first:done]:
                    if data.draw(st.integers(0, 5)):
                        tail.bring(one)
            case "read" | "look" as kind:
                until = max(0, done - data.draw(st.integers(0, 3)))
                limit = 20 if kind == "read" else 4
                found = every[:until][-limit:]
                if not tail.shown(*found, is_whole=len(found) < limit) and tail.is_synced:
                    tail.restart()
            case "lose":
                tail.lose()
            case "restart":
                tail.restart()
        if tail.is_synced:
            known = [one for one in every if one <= tail.last_id]
            assert tail.ids == known[len(known) - len(tail) :]
            assert tail.is_whole <= (tail.ids == known)
            assert tail.price == (price(known[-1]) if known else "")


# -- forms ------------------------------------------------------------------------------------------

SPOT_AGGREGATE = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781,
                  "T": 1498793709153, "m": True, "M": True}  # fmt: skip
SPOT_EVENT = {"e": "aggTrade", "E": 1498793709160, "s": "BNBBTC", **SPOT_AGGREGATE}
TRADE = {"id": 28457, "price": "4.00000100", "qty": "12.00000000", "quoteQty": "48.00001200",
         "time": 1499865549590, "isBuyerMaker": True, "isBestMatch": True}  # fmt: skip
TRADE_EVENT = {"e": "trade", "E": 1499865549600, "s": "BNBBTC", "t": 28457, "p": "4.00000100",
               "q": "12.00000000", "T": 1499865549590, "m": True, "M": True}  # fmt: skip


def learned(*told: dict[str, Any]) -> AggregateForm:
    form = AggregateForm()
    for row in told:
        form.learn(row)
    return form


@pytest.mark.parametrize("key_order", [list(SPOT_AGGREGATE), list(SPOT_AGGREGATE)[::-1], [*"apqflTm", "nq"]])
def test_keys_and_their_order_are_learned_from_rest(key_order: list[str]) -> None:
    row = {key: {**SPOT_AGGREGATE, "nq": "4.7"}[key] for key in key_order}
    event = {**SPOT_EVENT, "nq": "4.7", "st": 1}
    assert learned(row).encode(event) == orjson.dumps(row)


def test_key_the_stream_lacks_cannot_be_written() -> None:
    with pytest.raises(FormDiffers, match="'nq', which the stream has not"):
        learned({**SPOT_AGGREGATE, "nq": "1"}).encode(SPOT_EVENT)


@pytest.mark.parametrize(
    "other",
    [
        {**SPOT_AGGREGATE, "nq": "1"},
        {key: value for key, value in SPOT_AGGREGATE.items() if key != "M"},
        dict(reversed(SPOT_AGGREGATE.items())),
        {**SPOT_AGGREGATE, "M": 1},
    ],
)
def test_rows_of_two_forms_are_not_told_by_one(other: dict[str, Any]) -> None:
    form = learned(SPOT_AGGREGATE, SPOT_AGGREGATE)
    with pytest.raises(FormDiffers, match="trades with the keys"):
        form.learn(other)
    assert form.encode(SPOT_EVENT) == orjson.dumps(SPOT_AGGREGATE)


@pytest.mark.parametrize("key", ["a", "p", "q", "f", "l", "T", "m"])
@pytest.mark.parametrize("is_learned", [False, True])
def test_row_that_lacks_something_teaches_nothing(key: str, is_learned: bool) -> None:
    form = learned(*[SPOT_AGGREGATE] * is_learned)
    for broken in ({k: v for k, v in SPOT_AGGREGATE.items() if k != key}, {**SPOT_AGGREGATE, key: None}):
        with pytest.raises(TypeError):
            form.learn(broken)
    assert form.is_learned is is_learned
    form.learn(SPOT_AGGREGATE)


@pytest.mark.parametrize("wrong", [{"q": None}, {"m": 1}, {"T": "1"}, {"p": 1.5}, {"l": True}])
def test_event_with_values_of_other_types_is_no_trade(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        learned(SPOT_AGGREGATE).encode({**SPOT_EVENT, **wrong})


def test_trade_is_written_with_the_product_of_its_numbers() -> None:
    form = SpotTradeForm()
    form.learn(TRADE)
    assert form.encode(TRADE_EVENT) == orjson.dumps(TRADE)


@pytest.mark.parametrize("wrong", [{"p": 1}, {"q": None}, {"T": "1"}, {"m": 1}, {"M": None}])
def test_event_of_a_trade_with_values_of_other_types_is_none(wrong: dict[str, Any]) -> None:
    form = SpotTradeForm()
    form.learn(TRADE)
    with pytest.raises(TypeError):
        form.encode({**TRADE_EVENT, **wrong})


@pytest.mark.parametrize(
    "row",
    [
        {**TRADE, "isRPITrade": False},
        {key: value for key, value in TRADE.items() if key != "isBestMatch"},
        dict(reversed(TRADE.items())),
        {**TRADE, "quoteQty": "48.00001300"},
        {**TRADE, "quoteQty": "48.000012"},
    ],
)
def test_trade_of_another_form_is_noticed(row: dict[str, Any]) -> None:
    form = SpotTradeForm()
    form.learn(TRADE)
    with pytest.raises(FormDiffers):
        form.learn(row)


@pytest.mark.parametrize("wrong", [{"price": 4}, {"qty": None}, {"quoteQty": 48.0}])
def test_row_whose_numbers_are_no_texts_is_no_trade(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        SpotTradeForm().learn({**TRADE, **wrong})


RULES = {"down": ROUND_DOWN, "up": ROUND_UP, "half up": ROUND_HALF_UP, "half even": ROUND_HALF_EVEN}
NUMBERS = st.builds(
    lambda number, places: f"{number // 10**places}.{str(number % 10**places).zfill(places)}",
    # Short ones now and then, so that a product lies exactly between two texts.
    st.one_of(st.integers(1, 10**13), st.integers(1, 9), st.integers(1, 9).map(lambda n: n * 50_000_000)),
    st.just(8),
)


def product(price: str, quantity: str, rule: str) -> str:
    with localcontext() as context:
        context.prec = 60
        return format((Decimal(price) * Decimal(quantity)).quantize(Decimal("1e-8"), RULES[rule]), "f")


def traded(number: int, price: str, quantity: str, rule: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the event and the row of a trade."""
    row = {**TRADE, "id": number, "price": price, "qty": quantity, "quoteQty": product(price, quantity, rule)}
    return {**TRADE_EVENT, "t": number, "p": price, "q": quantity}, row


@given(st.sampled_from(sorted(RULES)), st.lists(st.tuples(NUMBERS, NUMBERS, st.booleans()), min_size=1))
def test_certain_text_is_always_the_right_product(rule: str, numbers: list[tuple[str, str, bool]]) -> None:
    form = SpotTradeForm()
    possible = set(RULES)
    form.learn(TRADE)
    for number, (each_price, quantity, is_shown) in enumerate(numbers):
        event, row = traded(number, each_price, quantity, rule)
        products = {each: product(each_price, quantity, each) for each in possible}
        written = form.encode(event)
        assert written in (None, orjson.dumps(row))
        assert (written is None) is (len(set(products.values())) > 1)
        if is_shown:
            form.learn(row)
            possible = {each for each in possible if products[each] == row["quoteQty"]}
            assert form.roundings == possible
            assert form.encode(event) == orjson.dumps(row)
    assert rule in form.roundings


@given(st.sampled_from(sorted(RULES)), NUMBERS, NUMBERS, st.integers(1, 10**4))
def test_quantity_that_is_no_product_teaches_nothing(rule: str, price: str, quantity: str, off: int) -> None:
    form = SpotTradeForm()
    _, row = traded(1, price, quantity, rule)
    wrong = format(Decimal(product(price, quantity, "up")) + Decimal(off).scaleb(-8), "f")
    with pytest.raises(FormDiffers, match="no product"):
        form.learn({**row, "quoteQty": wrong})
    assert not form.is_learned


def test_one_row_that_lies_between_two_texts_tells_which_way_all_others_go() -> None:
    event, row = traded(1, "0.00000001", "0.70000000", "half up")
    form = SpotTradeForm()
    form.learn(TRADE)
    assert form.encode(event) is None
    form.learn(row)
    assert form.roundings == {"up", "half up", "half even"}
    event, row = traded(2, "0.00000001", "0.20000000", "half up")
    assert form.encode(event) is None
    form.learn(row)
    assert form.encode(event) == orjson.dumps(row)


# -- answers ----------------------------------------------------------------------------------------


def test_answer_is_read_in_order_with_the_price_of_its_newest_row() -> None:
    form = AggregateForm()
    told = [{**SPOT_AGGREGATE, "a": 7}, {**SPOT_AGGREGATE, "a": 9, "p": "2.5"}]
    found, newest = read_rows(orjson.dumps(told), form)
    assert found == [(7, orjson.dumps(told[0])), (9, orjson.dumps(told[1]))]
    assert newest == "2.5"
    assert form.is_learned
    spot, newest = read_rows(orjson.dumps([TRADE]), SpotTradeForm())
    assert (spot, newest) == ([(28457, orjson.dumps(TRADE))], "4.00000100")
    assert read_rows(b"[]", form) == ([], "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"null",
        b"[1]",
        b"[null]",
        b"[[]]",
        b'["a"]',
        b'[{"p":"1"}]',
        b'[{"a":"1","p":"1"}]',
        b'[{"a":true,"p":"1"}]',
        b'[{"a":1.0,"p":"1"}]',
        b'[{"a":1}]',
        b'[{"a":1,"p":1}]',
        b'[{"a":1,"p":null}]',
        b'[{"a":2,"p":"1"},{"a":1,"p":"1"}]',
        b'[{"a":1,"p":"1"},{"a":1,"p":"1"}]',
        b'[{"a":-1,"p":"1"}]',
        b'{"code":-1003,"msg":"Too many requests."}',
    ],
)
@pytest.mark.parametrize("what", sorted(FORMS))
def test_answer_of_another_shape_is_refused(body: bytes, what: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_rows(body, FORMS[what]())
