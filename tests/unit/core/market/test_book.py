"""Whole order books: the rules by which a snapshot and the changes after it are one book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market import book as book_module
from resender.core.market.book import Book, BookBroken
from resender.core.market.levels import Head

MARKETS = (Market.SPOT, Market.UM, Market.CM)
FUTURES = (Market.UM, Market.CM)
Level = Sequence[str]


def rest(
    update_id: int, bids: Sequence[Level], asks: Sequence[Level], market: Market = Market.SPOT
) -> dict[str, Any]:
    body: dict[str, Any] = {"lastUpdateId": update_id}
    if market is not Market.SPOT:
        body |= {"E": 10 + update_id, "T": 5 + update_id}
    if market is Market.CM:
        body |= {"symbol": "BTCUSD_PERP", "pair": "BTCUSD"}
    return body | {"bids": [list(each) for each in bids], "asks": [list(each) for each in asks]}


def change(
    first: int,
    last: int,
    bids: Sequence[Level] = (),
    asks: Sequence[Level] = (),
    pu: int | None = None,
) -> dict[str, Any]:
    """Make a change that any market can take; without `pu` it follows the id before its first."""
    return {"e": "depthUpdate", "E": 10 + last, "T": 5 + last, "s": "BTCUSD_PERP", "ps": "BTCUSD", "U": first,
            "u": last, "pu": first - 1 if pu is None else pu, "b": [list(each) for each in bids],
            "a": [list(each) for each in asks]}  # fmt: skip


BIDS = (("9.0", "1"), ("8.0", "2"), ("7.0", "3"))
ASKS = (("10.0", "1"), ("11.0", "2"), ("12.0", "3"))


def fresh(market: Market = Market.SPOT) -> Book:
    head = Head()
    head.learn(rest(0, (), (), market))
    return Book(market, head)


def synced(market: Market = Market.SPOT, update_id: int = 100, limit: int = 3) -> Book:
    held = fresh(market)
    assert held.snapshot(rest(update_id, BIDS, ASKS, market), limit)
    return held


def shown(held: Book, limit: int = 100) -> tuple[int, list[list[str]], list[list[str]]]:
    assert held.is_synced
    body = orjson.loads(held.body(limit))
    return body["lastUpdateId"], body["bids"], body["asks"]


# -- what follows what ----------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
def test_changes_wait_for_a_snapshot_and_follow_it(market: Market) -> None:
    held = fresh(market)
    for last in (98, 99, 100, 101, 102):
        assert held.apply(change(last, last, [("9.0", str(last))]))
        assert not held.is_synced
    assert held.snapshot(rest(100, BIDS, ASKS, market), 3)
    assert shown(held) == (102, [["9.0", "102"], ["8.0", "2"], ["7.0", "3"]], [list(each) for each in ASKS])
    assert not held.has_waiting


@pytest.mark.parametrize(
    ("market", "first", "last", "pu"),
    [
        (Market.SPOT, 101, 105, None),
        (Market.SPOT, 95, 105, None),
        (Market.SPOT, 100, 101, None),
        (Market.UM, 95, 105, 90),  # U <= lastUpdateId <= u
        (Market.UM, 103, 105, 100),  # follows it, with ids of other symbols between
        (Market.UM, 103, 105, 98),  # the snapshot's id lies between two changes
        (Market.CM, 95, 105, 94),
    ],
)
def test_first_change_begins_no_later_than_the_snapshot_ends(
    market: Market, first: int, last: int, pu: int | None
) -> None:
    for is_waiting in (False, True):
        held = fresh(market)
        data = change(first, last, [("9.0", "5")], pu=pu)
        if is_waiting:
            held.apply(data)
        assert held.snapshot(rest(100, BIDS, ASKS, market), 3)
        if not is_waiting:
            assert held.apply(data)
        assert shown(held)[:2] == (last, [["9.0", "5"], ["8.0", "2"], ["7.0", "3"]])


@pytest.mark.parametrize(
    ("market", "first", "pu"),
    [(Market.SPOT, 102, None), (Market.UM, 102, 101), (Market.UM, 101, 101), (Market.CM, 103, 102)],
)
def test_first_change_that_begins_later_is_a_gap(market: Market, first: int, pu: int | None) -> None:
    held = synced(market)
    with pytest.raises(BookBroken, match="does not follow 100"):
        held.apply(change(first, 105, pu=pu))
    assert not held.is_synced
    held = fresh(market)
    held.apply(change(first, 105, pu=pu))
    assert not held.snapshot(rest(100, BIDS, ASKS, market), 3), "older than the first change that waits"
    assert not held.is_synced
    assert held.snapshot(rest(104, BIDS, ASKS, market), 3), "the next one"


@pytest.mark.parametrize("market", MARKETS)
def test_gap_needs_a_snapshot_that_covers_it(market: Market) -> None:
    held = synced(market)
    held.apply(change(101, 101))
    with pytest.raises(BookBroken):
        held.apply(change(103, 103, [("9.0", "103")]))
    assert held.apply(change(104, 104, [("8.0", "104")]))
    assert not held.is_synced
    assert not held.snapshot(rest(101, BIDS, ASKS, market), 3)
    assert held.snapshot(rest(102, BIDS, ASKS, market), 3)
    assert shown(held)[:2] == (104, [["9.0", "103"], ["8.0", "104"], ["7.0", "3"]])


def test_futures_change_whose_id_follows_but_whose_predecessor_is_unknown_is_a_gap() -> None:
    held = synced(Market.UM)
    held.apply(change(101, 103, pu=100))
    with pytest.raises(BookBroken):
        held.apply(change(104, 106, pu=104))


@pytest.mark.parametrize("market", MARKETS)
def test_repeats_and_older_ones_change_nothing(market: Market) -> None:
    held = synced(market)
    one, two = change(101, 101, [("9.0", "101")]), change(102, 102, [("9.0", "102")])
    assert held.apply(one)
    assert not held.apply(one)
    assert held.apply(two)
    assert not held.apply(one)
    assert not held.apply(two)
    assert shown(held)[:2] == (102, [["9.0", "102"], ["8.0", "2"], ["7.0", "3"]])


@pytest.mark.parametrize("market", MARKETS)
def test_change_that_overtakes_breaks_and_both_wait(market: Market) -> None:
    held = synced(market)
    with pytest.raises(BookBroken):
        held.apply(change(102, 102, [("9.0", "102")]))
    held.apply(change(101, 101, [("9.0", "101")]))
    assert not held.is_synced
    assert not held.snapshot(rest(100, BIDS, ASKS, market), 3), "the first that waits is later"
    assert held.snapshot(rest(102, BIDS, ASKS, market), 3)
    assert shown(held)[0] == 102


@pytest.mark.parametrize("market", MARKETS)
def test_two_sockets_that_cut_elsewhere_tell_one_story(market: Market) -> None:
    held = synced(market)
    held.apply(change(101, 103, [("9.0", "103")], pu=100))
    assert held.apply(change(102, 106, [("9.0", "106")], pu=101))
    assert not held.apply(change(104, 105, [("9.0", "105")], pu=103))
    assert held.apply(change(106, 108, [("8.0", "108")], pu=105))
    assert shown(held)[:2] == (108, [["9.0", "106"], ["8.0", "108"], ["7.0", "3"]])


@pytest.mark.parametrize("market", MARKETS)
def test_changes_that_wait_and_do_not_follow_each_other_break_the_snapshot(market: Market) -> None:
    held = fresh(market)
    for last in (101, 102, 104):
        held.apply(change(last, last))
    with pytest.raises(BookBroken):
        held.snapshot(rest(101, BIDS, ASKS, market), 3)
    assert not held.is_synced
    assert held.snapshot(rest(103, BIDS, ASKS, market), 3)


@pytest.mark.parametrize("market", MARKETS)
def test_ids_that_go_back_for_long_start_over(market: Market) -> None:
    held = synced(market, 1_000_000)
    with pytest.raises(BookBroken, match="went back"):
        for last in range(1, 200):
            assert not held.apply(change(last, last, [("9.0", "7")]))
            assert held.update_id == 1_000_000
    assert not held.is_synced
    held.apply(change(101, 101, [("9.0", "8")]))
    assert held.snapshot(rest(100, BIDS, ASKS, market), 3)
    assert shown(held)[:2] == (101, [["9.0", "8"], ["8.0", "2"], ["7.0", "3"]])


@pytest.mark.parametrize("market", MARKETS)
def test_older_ones_of_a_second_socket_never_start_over(market: Market) -> None:
    held = synced(market)
    for last in range(101, 500):
        assert held.apply(change(last, last))
        assert not held.apply(change(last - 1, last - 1))
    for _ in range(300):
        assert not held.apply(change(499, 499))
    assert held.is_synced


@pytest.mark.parametrize("market", MARKETS)
def test_ids_that_jump_ahead_start_over(market: Market) -> None:
    held = synced(market)
    with pytest.raises(BookBroken):
        held.apply(change(1_000_100, 1_000_100))
    assert not held.is_synced


def test_lost_stream_takes_everything_along() -> None:
    held = synced()
    held.apply(change(101, 101))
    held.lose()
    assert not held.is_synced
    assert held.depth == 0
    held.apply(change(102, 102))
    held.lose()
    assert not held.has_waiting
    held.apply(change(103, 103))
    assert not held.snapshot(rest(101, BIDS, ASKS), 3), "what came meanwhile is not known"


def test_only_the_newest_changes_wait() -> None:
    held = fresh()
    for last in range(1, 1001):
        held.apply(change(last, last))
    assert not held.snapshot(rest(700, BIDS, ASKS), 3)
    assert held.snapshot(rest(744, BIDS, ASKS), 3)
    assert shown(held)[0] == 1000


# -- snapshots ------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
def test_snapshot_ahead_of_the_stream_stays_until_the_stream_has_caught_up(market: Market) -> None:
    held = fresh(market)
    held.apply(change(101, 101, [("9.0", "101")]))
    assert held.snapshot(rest(110, BIDS, ASKS, market), 3)
    assert held.is_read
    assert not held.apply(change(102, 105, [("9.0", "105")]))
    assert held.is_read
    assert held.apply(change(106, 110, [("9.0", "1")])), "the stream has told of it"
    assert not held.is_read
    assert not held.apply(change(106, 110, [("9.0", "1")]))
    assert shown(held)[:2] == (110, [list(each) for each in BIDS])
    assert held.apply(change(111, 112, [("9.0", "112")]))
    assert shown(held)[:2] == (112, [["9.0", "112"], ["8.0", "2"], ["7.0", "3"]])


@pytest.mark.parametrize("market", MARKETS)
def test_deeper_snapshot_takes_what_was_recorded_along(market: Market) -> None:
    held = synced(market, limit=3)
    assert not held.reaches(4)
    held.recording += 1
    held.apply(change(101, 101, [("8.5", "101")]))
    held.apply(change(102, 102, [("6.0", "102")]))
    assert shown(held)[1] == [["9.0", "1"], ["8.5", "101"], ["8.0", "2"], ["7.0", "3"]], "6.0 is not known"
    deep = [*BIDS, ("6.0", "4"), ("5.0", "5")], [*ASKS, ("13.0", "4"), ("14.0", "5")]
    assert held.snapshot(rest(101, *deep, market), 5)
    assert held.reaches(5)
    # 8.5 came with 101: the snapshot at 101 is the word on it.
    assert shown(held)[:2] == (102, [*map(list, BIDS), ["6.0", "102"], ["5.0", "5"]])
    held.recording -= 1
    held.forget_waiting()
    assert not held.has_waiting


@pytest.mark.parametrize("market", MARKETS)
def test_deeper_snapshot_older_than_the_record_is_not_taken(market: Market) -> None:
    held = synced(market, limit=3)
    held.apply(change(101, 101, [("9.0", "101")]))  # nothing is recorded yet
    held.recording += 1
    deep = [*BIDS, ("6.0", "4")], [*ASKS, ("13.0", "4")]
    assert not held.snapshot(rest(100, *deep, market), 4)
    held.apply(change(102, 102))
    assert not held.snapshot(rest(100, *deep, market), 4)
    assert shown(held)[:2] == (102, [["9.0", "101"], ["8.0", "2"], ["7.0", "3"]])
    assert held.snapshot(rest(101, *deep, market), 4)
    assert shown(held)[0] == 102


@pytest.mark.parametrize("market", MARKETS)
def test_snapshot_that_is_not_newer_is_not_needed(market: Market) -> None:
    held = synced(market, limit=3)
    held.apply(change(101, 101, [("9.0", "101")]))
    assert held.snapshot(rest(100, BIDS[:2], ASKS[:2], market), 2)
    assert shown(held)[:2] == (101, [["9.0", "101"], ["8.0", "2"], ["7.0", "3"]])


def test_newer_snapshot_is_taken_where_nothing_is_lost_by_it_and_never_told_as_taken_else() -> None:
    newer = [("9.0", "7"), ("8.0", "7"), ("7.0", "7")]
    held = synced(limit=3)
    assert not held.snapshot(rest(105, newer[:2], ASKS[:2]), 2), "newer, but not as deep"
    assert shown(held)[0] == 100
    assert held.snapshot(rest(105, newer, ASKS), 3)
    assert shown(held)[:2] == (105, [list(each) for each in newer])
    whole = synced(limit=100)
    assert whole.snapshot(rest(105, newer[:2], ASKS[:2]), 50), "all there is"
    assert shown(whole)[0] == 105


def test_changes_are_recorded_while_anybody_waits_for_a_snapshot() -> None:
    held = synced()
    held.recording = 2
    held.apply(change(101, 101))
    held.recording -= 1
    held.forget_waiting()
    assert held.has_waiting
    held.recording -= 1
    held.forget_waiting()
    assert not held.has_waiting
    held.apply(change(102, 102))
    assert not held.has_waiting


def test_two_snapshots_on_their_way_do_not_take_the_record_from_each_other() -> None:
    held = fresh()
    held.recording = 2
    held.apply(change(101, 101, [("9.0", "101")]))
    assert held.snapshot(rest(100, BIDS, ASKS), 3)
    held.recording -= 1
    held.forget_waiting()
    assert held.snapshot(rest(100, [*BIDS, ("6.0", "4")], [*ASKS, ("13.0", "4")]), 4)
    assert shown(held)[:2] == (101, [["9.0", "101"], ["8.0", "2"], ["7.0", "3"], ["6.0", "4"]])


def test_what_waits_is_kept_for_a_book_that_is_not_synced() -> None:
    held = fresh()
    held.apply(change(101, 101))
    held.forget_waiting()
    assert held.has_waiting


@pytest.mark.parametrize(
    "body",
    [
        {}, {"lastUpdateId": 1}, {"lastUpdateId": "1", "bids": [], "asks": []},
        {"lastUpdateId": None, "bids": [], "asks": []}, {"lastUpdateId": 105, "bids": [["1", 2]], "asks": []},
        {"lastUpdateId": 105, "bids": None, "asks": []},
        {"lastUpdateId": 105, "bids": [["10.0", "1"]], "asks": [["10.0", "1"]]},  # they cross
    ],
)  # fmt: skip
def test_snapshot_that_is_none_changes_nothing(body: Any) -> None:
    held = synced()
    with pytest.raises((ValueError, KeyError, TypeError)):
        held.snapshot(body, 5)
    assert shown(held) == (100, [list(each) for each in BIDS], [list(each) for each in ASKS])


@pytest.mark.parametrize("key", ["U", "u", "b", "a"])
@pytest.mark.parametrize("value", [None, "7", [["1"]], True])
def test_change_that_is_none_changes_nothing(key: str, value: Any) -> None:
    for held in (synced(), fresh()):
        with pytest.raises((ValueError, KeyError, TypeError)):
            held.apply(change(101, 101) | {key: value})
        assert held.update_id in (100, -1)
        assert not held.has_waiting


def test_change_of_futures_needs_its_predecessor() -> None:
    for held in (synced(Market.UM), fresh(Market.UM)):
        data = change(101, 101)
        del data["pu"]
        for pu in ({}, {"pu": None}, {"pu": "100"}):
            with pytest.raises((KeyError, TypeError)):
                held.apply(data | pu)
        assert not held.has_waiting


def test_change_whose_last_id_is_before_its_first_is_refused() -> None:
    with pytest.raises(TypeError):
        synced().apply(change(102, 101))


# -- levels ---------------------------------------------------------------------------------------


def test_quantities_are_set_and_zero_removes() -> None:
    held = synced(limit=100)
    held.apply(
        change(101, 101, [("9.0", "0"), ("8.5", "4"), ("3.0", "0")], [("10.0", "0.000"), ("11.0", "9")])
    )
    assert shown(held) == (101, [["8.5", "4"], ["8.0", "2"], ["7.0", "3"]], [["11.0", "9"], ["12.0", "3"]])


def test_best_come_first_on_both_sides_whatever_the_order_of_changes() -> None:
    held = synced(limit=100)
    held.apply(change(101, 101, [("9.5", "1"), ("8.5", "1"), ("7.5", "1")], [("9.9", "1"), ("100.0", "1")]))
    _, bids, asks = shown(held)
    assert [float(price) for price, _ in bids] == [9.5, 9.0, 8.5, 8.0, 7.5, 7.0]
    assert [float(price) for price, _ in asks] == [9.9, 10.0, 11.0, 12.0, 100.0]


def test_level_outside_the_known_range_is_left_out() -> None:
    held = synced(limit=3)
    held.apply(change(101, 101, [("6.0", "5")], [("12.1", "5")]))
    assert shown(held)[1:] == ([list(each) for each in BIDS], [list(each) for each in ASKS])
    assert held.reaches(3)
    assert not held.reaches(4)
    held.apply(change(102, 102, [("8.5", "1")], [("10.5", "1")]))
    assert held.reaches(4)
    held.apply(change(103, 103, [("9.0", "0")]))
    assert held.reaches(3)
    assert not held.reaches(4), "of one side only three are known"


def test_worst_level_known_may_go_and_what_comes_there_later_is_known() -> None:
    held = synced(limit=3)
    held.apply(change(101, 101, [("7.0", "0")]))
    assert not held.reaches(3)
    held.apply(change(102, 102, [("7.0", "9"), ("6.9", "9")]))
    assert shown(held)[1] == [["9.0", "1"], ["8.0", "2"], ["7.0", "9"]]


@pytest.mark.parametrize(("limit", "is_whole"), [(3, False), (4, True), (100, True)])
def test_snapshot_shorter_than_its_limit_is_the_whole_book(limit: int, is_whole: bool) -> None:
    held = synced(limit=limit)
    assert held.reaches(5000) is is_whole
    held.apply(change(101, 101, [("1.0", "5")]))
    assert (["1.0", "5"] in shown(held)[1]) is is_whole


def test_one_side_may_be_whole_and_the_other_not() -> None:
    held = fresh()
    held.snapshot(rest(100, BIDS[:2], ASKS), 3)
    assert not held.reaches(4)
    held.apply(change(101, 101, [("1.0", "5")], [("13.0", "5")]))
    assert shown(held)[1:] == ([["9.0", "1"], ["8.0", "2"], ["1.0", "5"]], [list(each) for each in ASKS])


def test_empty_book_is_whole_and_its_first_level_is_read_again() -> None:
    held = fresh()
    assert held.snapshot(rest(100, (), ()), 100)
    assert shown(held) == (100, [], [])
    with pytest.raises(BookBroken):  # how REST writes numbers is not known
        held.apply(change(101, 101, [("9.0", "1")]))


def test_levels_beyond_what_is_wanted_are_let_go_and_not_told_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(book_module, "_LEAST", 4)
    held = synced(limit=100)
    held._most = 4
    held.apply(change(101, 101, [("8.5", "1"), ("7.5", "1")]))
    assert [price for price, _ in shown(held)[1]] == ["9.0", "8.5", "8.0", "7.5"]
    assert held.reaches(4)
    assert not held.reaches(5)
    held.apply(change(102, 102, [("7.0", "8"), ("9.0", "0")]))
    assert [price for price, _ in shown(held)[1]] == ["8.5", "8.0", "7.5"], "7.0 is not known any more"
    assert not held.reaches(4)


def test_trim_follows_the_limit_of_the_snapshot() -> None:
    held = synced(limit=1000)
    more = [(f"{n}.5", "1") for n in range(20, 3000)]
    held = fresh()
    held.snapshot(rest(100, BIDS, ASKS), 1000)
    held.apply(change(101, 101, (), more))
    assert held.reaches(3)
    assert len(shown(held, 5000)[2]) == 1500


def test_bids_and_asks_that_cross_need_a_snapshot() -> None:
    for price in ("10.0", "10.5"):
        held = synced()
        with pytest.raises(BookBroken, match="cross"):
            held.apply(change(101, 101, [(price, "1")]))
        assert not held.is_synced
        assert held.snapshot(rest(101, BIDS, ASKS), 3)
    held = synced()
    held.apply(change(101, 101, [("10.0", "1")], [("10.0", "0")]))
    assert shown(held)[1][0] == ["10.0", "1"], "in one change it is none"


@pytest.mark.parametrize(
    "level", [("9.00", "1"), ("9", "1"), ("9.0", "1.0"), ("9.05", "1"), ("9.000000001", "1")]
)
def test_change_with_other_decimals_is_not_mixed_in(level: Level) -> None:
    held = synced()
    with pytest.raises(BookBroken, match="decimals"):
        held.apply(change(101, 101, [level]))
    assert not held.is_synced
    with pytest.raises(ValueError, match="differently"):
        held.snapshot(rest(101, BIDS, ASKS), 3)
    assert not held.is_synced


def test_snapshot_that_waits_for_changes_with_other_decimals_changes_nothing() -> None:
    held = synced(limit=3)
    held.recording = 1
    held.apply(change(101, 101, [("8.0", "7")]))
    bids, asks = (
        [(f"{price}0", quantity) for price, quantity in side]
        for side in ((*BIDS, ("6.0", "1")), (*ASKS, ("13.0", "1")))
    )
    with pytest.raises(ValueError, match="differently"):
        held.snapshot(rest(101, bids, asks), 4)
    assert shown(held)[:2] == (101, [["9.0", "1"], ["8.0", "7"], ["7.0", "3"]])


def test_book_whose_numbers_have_many_forms_is_in_order_and_keeps_their_text() -> None:
    held = fresh()
    bids = [["9.5", "1"], ["9.25", "1.5"], ["9", "2"]]
    asks = [["10", "1"], ["10.125", "1"], ["10.5", "1"], ["11", "1.5"]]
    held.snapshot(rest(100, bids, asks), 100)
    assert shown(held) == (100, bids, asks)
    held.apply(change(101, 101, [["9", "0"], ["9.25", "0.00"], ["9.375", "1"]]))
    assert shown(held)[1] == [["9.5", "1"], ["9.375", "1"]]


def test_how_much_is_held_is_that_of_the_side_with_fewer() -> None:
    held = synced(limit=100)
    held.apply(change(101, 101, [("9.0", "0")]))
    assert held.depth == 2


# -- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("market", MARKETS)
def test_body_is_what_rest_sends(market: Market) -> None:
    held = synced(market)
    assert held.body(2) == orjson.dumps(rest(100, BIDS[:2], ASKS[:2], market))
    held.apply(change(101, 103, [("8.0", "0")], [("10.0", "4")]))
    expected = rest(103, (BIDS[0], BIDS[2]), (("10.0", "4"), *ASKS[1:]), market)
    assert held.body(3) == orjson.dumps(expected)
    assert held.body(3) is held.body(3), "encoded once"


@pytest.mark.parametrize("market", FUTURES)
def test_order_of_keys_is_that_of_rest(market: Market) -> None:
    head = Head()
    body = rest(100, BIDS, ASKS, market)
    turned = dict(reversed(list(body.items())[:-2])) | {"bids": body["bids"], "asks": body["asks"]}
    head.learn(turned)
    held = Book(market, head)
    held.snapshot(body, 3)
    assert held.body(3) == orjson.dumps(turned)


def test_change_without_what_rest_has_is_not_answered() -> None:
    held = synced(Market.UM)
    data = change(101, 101)
    del data["T"]
    held.apply(data)
    with pytest.raises(KeyError):
        held.body(3)


def test_body_is_compared_by_value_and_by_text() -> None:
    held = synced(limit=100)
    assert held.shows(rest(200, BIDS, ASKS))
    assert held.writes(rest(200, BIDS, ASKS))
    padded = [[f"{price}0", quantity] for price, quantity in BIDS]
    assert held.shows(rest(100, padded, ASKS))
    assert not held.writes(rest(100, padded, ASKS))
    assert held.shows(rest(100, BIDS[:2], ASKS[:2])), "as far as it is shown"
    assert not held.shows(rest(100, [*BIDS, ("6.0", "1")], ASKS)), "one has come"
    assert not held.shows(rest(100, BIDS[:2], ASKS)), "one has gone"
    assert not held.writes(rest(100, [*BIDS, ("6.0", "1")], ASKS))
