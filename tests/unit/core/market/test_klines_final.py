"""When a candle counts as final, by what, and what a late final event still corrects."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from resender.core.binance.intervals import INTERVAL_MS
from resender.core.market.candles import Candle, parse_event, parse_rows
from resender.core.market.klines import FINAL_AFTER_MS, REREAD_MS, KlineSeries

MINUTE = 60_000
T0 = 1_790_000_040_000 // MINUTE * MINUTE
PUSH_MS = 250
LATER = 10**15


def make_row(open_time: int, trades: int, *, interval: str = "1m", close: int | None = None) -> list[Any]:
    end = open_time + INTERVAL_MS[interval] - 1 if close is None else close
    price = f"1{trades:03d}.50"
    return [open_time, "1.0", price, "0.5", price, "7.0", end, "8.0", trades, "3.0", "4.0", "0"]


def rows(*wanted: list[Any], made_ms: int = 0, interval: str = "1m") -> list[Candle]:
    return parse_rows(list(wanted), interval, orjson.dumps, made_ms=made_ms)


def event(
    open_time: int, trades: int, *, final: bool = False, at_ms: int | None = None, close: int | None = None
) -> Candle:
    """Make the candle of a stream event; a final one is made just after the close."""
    t, o, h, low, c, v, end, q, n, tv, tq, _ = make_row(open_time, trades, close=close)
    k = {"t": t, "T": end, "s": "X", "i": "1m", "o": o, "c": c, "h": h, "l": low, "v": v, "n": n,
         "x": final, "q": q, "V": tv, "Q": tq, "B": "0"}  # fmt: skip
    made = at_ms if at_ms is not None else end + 20 if final else end - 1000
    return parse_event({"e": "kline", "E": made, "s": "X", "k": k})[2]


def read(series: KlineSeries, made_ms: int, *wanted: list[Any], is_whole: bool = False) -> bool:
    """Let the series take a read made then while the stream is live."""
    candles = rows(*wanted, made_ms=made_ms, interval=series.interval)
    return series.apply_read(candles, made_ms, epoch=series.epoch, is_whole=is_whole)


def started(*, final_after_ms: int = FINAL_AFTER_MS, depth: int = 60) -> KlineSeries:
    """Make a series that holds one final candle and the open one, at T0."""
    series = KlineSeries("1m", depth, final_after_ms)
    assert read(series, T0 + 30_000, make_row(T0 - MINUTE, 9), make_row(T0, 1))
    assert series.last_final == T0 - MINUTE
    return series


def held(series: KlineSeries) -> dict[int, int]:
    """Return the number of trades by open time, as a client would get it."""
    span = series.latest(len(series))
    assert span is not None
    return {row[0]: row[8] for row in orjson.loads(series.body(span))}


def reason(series: KlineSeries, now_ms: int) -> str | None:
    need = series.check(now_ms, now_ms, PUSH_MS)
    return None if need is None else need.reason


# -- reads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("final_after_ms", [0, 400, FINAL_AFTER_MS])
@pytest.mark.parametrize(("beyond_ms", "is_final"), [(-1, False), (0, True), (1, True), (5000, True)])
def test_read_settles_a_candle_only_so_long_after_its_close(
    final_after_ms: int, beyond_ms: int, is_final: bool
) -> None:
    series = started(final_after_ms=final_after_ms)
    close = T0 + MINUTE - 1
    made = close + final_after_ms + beyond_ms
    read(series, made, make_row(T0, 5), make_row(T0 + MINUTE, 1))
    assert (series.last_final == T0) is is_final
    assert reason(series, T0 + MINUTE + 300) == (None if is_final else "not settled")
    need = series.check(T0 + MINUTE + 300, T0 + MINUTE + 300, PUSH_MS)
    assert is_final or (need is not None and need.can_settle and need.may_come)


def test_early_read_is_replaced_by_the_one_that_counts() -> None:
    series = started()
    read(series, T0 + MINUTE + 200, make_row(T0, 5), make_row(T0 + MINUTE, 1))
    # REST lagged: more trades belong to the candle than it showed.
    read(series, T0 + MINUTE + FINAL_AFTER_MS, make_row(T0, 7), make_row(T0 + MINUTE, 3))
    assert reason(series, T0 + MINUTE + 1600) is None
    assert held(series) == {T0 - MINUTE: 9, T0: 7, T0 + MINUTE: 3}


def test_read_that_lags_does_not_take_back_what_the_stream_has_brought() -> None:
    series = started()
    series.apply_event(event(T0, 6))
    read(series, T0 + MINUTE + 300, make_row(T0 - MINUTE, 9), make_row(T0, 4))
    series.apply_event(event(T0, 8, final=True))
    assert held(series) == {T0 - MINUTE: 9, T0: 8}


def test_first_read_of_all_leaves_the_candle_that_has_just_closed_open() -> None:
    series = KlineSeries("1m", 60)
    read(series, T0 + 200, make_row(T0 - 2 * MINUTE, 4), make_row(T0 - MINUTE, 9), make_row(T0, 1))
    assert series.last_final == T0 - 2 * MINUTE
    assert reason(series, T0 + 300) == "not settled"
    series.apply_event(event(T0 - MINUTE, 10, final=True))
    assert reason(series, T0 + 300) is None
    assert held(series)[T0 - MINUTE] == 10


def test_older_rows_put_in_front_obey_the_rule_too() -> None:
    series = started()
    older = rows(make_row(T0 - 3 * MINUTE, 3), make_row(T0 - 2 * MINUTE, 4))
    close = T0 - MINUTE - 1
    # Taking the first of the two alone would make a hole.
    assert series.prepend(older, close + FINAL_AFTER_MS - 1, is_whole=True) == 0
    assert series.first_open == T0 - MINUTE
    assert not series.is_whole
    assert series.prepend(older, close + FINAL_AFTER_MS) == 2
    assert list(held(series)) == [T0 + n * MINUTE for n in (-3, -2, -1, 0)]


def test_read_that_comes_late_puts_no_hole_before_the_first_row() -> None:
    before = [make_row(T0 - n * MINUTE, n) for n in (4, 3, 2)]
    for made_ms in (T0 - MINUTE + 100, T0 - MINUTE + FINAL_AFTER_MS):
        series = started()
        read(series, made_ms, *before)  # made while the candle before the first one held was open
        assert series.first_open == T0 - MINUTE
        series = started()
        read(series, made_ms, *before, make_row(T0 - MINUTE, 1))
        times = list(held(series))
        assert times == [T0 + n * MINUTE for n in range(times[0] // MINUTE - T0 // MINUTE, 1)]


def test_contradiction_is_only_seen_in_rows_that_are_over() -> None:
    series = started()
    series.apply_event(event(T0, 8, final=True))
    lagging = rows(make_row(T0, 7))
    assert not series.contradicts(lagging, T0 + MINUTE + FINAL_AFTER_MS - 2)
    assert series.contradicts(lagging, T0 + MINUTE + FINAL_AFTER_MS)
    assert not series.contradicts(rows(make_row(T0, 8)), T0 + MINUTE + FINAL_AFTER_MS)


# -- late final events --------------------------------------------------------------------------


def settled_by_read(trades: int = 5, **options: Any) -> KlineSeries:
    series = started(**options)
    read(series, T0 + MINUTE + 2000, make_row(T0, trades), make_row(T0 + MINUTE, 1))
    assert series.last_final == T0
    return series


@pytest.mark.parametrize("is_folded", [False, True], ids=["in the buffer", "in the block"])
def test_late_final_event_corrects_what_only_a_read_has_settled(is_folded: bool) -> None:
    series = settled_by_read()
    if is_folded:
        for number in range(1, 40):
            series.apply_event(event(T0 + number * MINUTE, 2, final=True))
    before, version, layout = held(series), series.version, series.closed.layout
    assert series.apply_event(event(T0, 123, final=True))
    assert held(series) == before | {T0: 123}
    assert series.corrected == 1
    # What was built of the old row must not be answered again.
    assert series.version > version
    assert series.closed.layout > layout
    # It was the last word.
    assert not series.apply_event(event(T0, 124, final=True))
    assert held(series)[T0] == 123


def test_final_event_that_says_the_same_corrects_nothing() -> None:
    series = settled_by_read()
    version = series.version
    assert not series.apply_event(event(T0, 5, final=True))
    assert (series.corrected, series.version) == (0, version)
    assert not series.apply_event(event(T0, 6, final=True))
    assert held(series)[T0] == 5


@pytest.mark.parametrize(
    "late",
    [
        event(T0, 9),
        event(T0, 9, final=True, at_ms=T0 + MINUTE - 1),  # made before the close: no last word
        event(T0 - 5 * MINUTE, 99, final=True),
    ],
    ids=["not final", "final too early", "before what is held"],
)
def test_other_late_events_change_no_closed_row(late: Candle) -> None:
    series = settled_by_read()
    before = held(series)
    assert not series.apply_event(late)
    assert held(series) == before
    assert not series.corrected


def test_row_of_a_final_event_is_not_corrected_by_another() -> None:
    series = started()
    series.apply_event(event(T0, 5, final=True))
    read(series, T0 + MINUTE + 2000, make_row(T0, 5), make_row(T0 + MINUTE, 1))
    assert not series.apply_event(event(T0, 6, final=True))
    assert held(series)[T0] == 5


def test_correction_outlives_a_loss_of_the_stream() -> None:
    series = settled_by_read()
    series.lose()
    assert series.apply_event(event(T0, 6, final=True))
    read(series, T0 + MINUTE + 9000, make_row(T0, 6), make_row(T0 + MINUTE, 4))
    assert held(series) == {T0 - MINUTE: 9, T0: 6, T0 + MINUTE: 4}


def test_final_event_that_waits_behind_a_gap_outranks_the_read() -> None:
    series = started(final_after_ms=0)
    after = T0 + 2 * MINUTE
    series.apply_event(event(after, 7, final=True))
    read(series, after + MINUTE, make_row(T0, 5), make_row(T0 + MINUTE, 6), make_row(after, 3))
    assert held(series)[after] == 7


def test_final_event_does_not_overtake_an_older_candle_that_is_not_over() -> None:
    series = KlineSeries("1m", 60)
    series.apply_event(event(T0, 7, final=True))
    read(series, T0 - 3, make_row(T0 - MINUTE, 5), make_row(T0, 3))
    assert reason(series, T0 + MINUTE + 100) == "not settled"
    read(series, T0 + 3 * MINUTE, make_row(T0 - MINUTE, 6), make_row(T0, 7), make_row(T0 + MINUTE, 2))
    assert held(series) == {T0 - MINUTE: 6, T0: 7, T0 + MINUTE: 2}


def test_first_candle_heard_of_needs_a_read() -> None:
    series = KlineSeries("1m", 60)
    read(series, T0 + 500, is_whole=True)
    # The stream was mute while the symbol was traded first, and works again.
    series.apply_event(event(T0 + MINUTE, 1))
    assert reason(series, T0 + MINUTE + 59_500) == "gap"
    read(series, T0 + 2 * MINUTE, make_row(T0, 4), make_row(T0 + MINUTE, 1), is_whole=True)
    series.settle_quiet(0, LATER)
    assert held(series) == {T0: 4, T0 + MINUTE: 1}


def seconds(*numbers: int, trades: int = 5) -> list[list[Any]]:
    return [make_row(T0 + 1000 * n, trades, interval="1s") for n in numbers]


def one_second(number: int, trades: int) -> Candle:
    row = make_row(T0 + 1000 * number, trades, interval="1s")
    return Candle(row[0], row[6], orjson.dumps(row), trades, True, row[6] + 20)


def test_late_final_of_a_row_that_is_not_held_any_more_changes_nothing() -> None:
    series = KlineSeries("1s", 10)
    read(series, T0 + 4000, *seconds(0, 1))
    for number in range(2, 60):
        series.apply_event(one_second(number, 6))
    assert series.first_open is not None
    assert series.first_open > T0 + 1000
    before = held(series)
    assert not series.apply_event(one_second(1, 99))
    assert held(series) == before
    assert not series.corrected


def test_only_the_newest_rows_that_reads_settled_stay_correctable() -> None:
    series = KlineSeries("1s", 500)
    count = 200
    for number in range(0, count, 2):
        read(series, T0 + (number + 2) * 1000 + FINAL_AFTER_MS, *seconds(number, number + 1))
    corrected = [number for number in range(count) if series.apply_event(one_second(number, 99))]
    assert corrected == list(range(count - 64, count))
    assert series.corrected == 64


def test_row_that_was_old_when_it_was_read_is_not_corrected() -> None:
    series = KlineSeries("1s", 500)
    read(series, T0 + 100_000, *seconds(*range(100)))
    closes = [T0 + 1000 * (n + 1) - 1 for n in range(100)]
    young = [n for n, close in enumerate(closes) if T0 + 100_000 - close < 60_000 and close < T0 + 98_500]
    assert [n for n in range(98) if series.apply_event(one_second(n, 99))] == young


# -- quiet symbols ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen_ms", "since_ms", "until_ms", "is_final"),
    [
        (T0 + 30_000, T0 + 20_000, T0 + MINUTE, True),
        (T0 + 30_000, T0 + 30_000, T0 + MINUTE, True),
        (T0 + 30_000, T0 + 30_001, LATER, False),  # something may have been traded after it was seen
        (T0 + 30_000, T0, T0 + MINUTE - 2, False),  # not over yet, as far as the witness knows
        (T0 + 30_000, T0, T0 + MINUTE - 1, False),  # its last millisecond may have a trade after that
    ],
)
def test_quiet_candle_is_final_if_it_was_seen_after_the_last_trade_and_is_over(
    seen_ms: int, since_ms: int, until_ms: int, is_final: bool
) -> None:
    series = started()
    assert series.apply_event(event(T0, 4, at_ms=seen_ms))
    series.settle_quiet(since_ms, until_ms)
    assert (series.last_final == T0) is is_final
    assert reason(series, T0 + MINUTE + 100) == (None if is_final else "not settled")


def test_several_quiet_candles_become_final_at_once_and_in_order() -> None:
    series = started()
    made = T0 + 2 * MINUTE + 500
    read(series, made, make_row(T0, 4), make_row(T0 + MINUTE, 0), make_row(T0 + 2 * MINUTE, 0))
    assert series.last_final == T0
    series.settle_quiet(T0 + MINUTE, T0 + 3 * MINUTE)
    assert series.last_final == T0 + 2 * MINUTE
    assert reason(series, T0 + 3 * MINUTE + 100) is None


def test_quiet_candle_behind_a_gap_waits_for_what_is_missing() -> None:
    series = started()
    series.apply_event(event(T0 + 2 * MINUTE, 1))
    series.settle_quiet(T0, LATER)
    assert series.last_final == T0
    assert reason(series, T0 + 3 * MINUTE) == "gap"


def test_late_final_event_corrects_what_the_witness_has_settled() -> None:
    series = started()
    series.settle_quiet(T0, LATER)
    assert held(series)[T0] == 1
    assert series.apply_event(event(T0, 2, final=True))
    assert held(series)[T0] == 2
    assert series.corrected == 1


# -- news ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "is_news"),
    [
        ([make_row(T0, 3)], False),
        ([make_row(T0, 2)], False),
        ([make_row(T0, 4)], True),
        ([make_row(T0 - MINUTE, 99)], False),  # a closed row is no news of the stream
        ([make_row(T0, 3), make_row(T0 + MINUTE, 0)], False),
        ([make_row(T0, 3), make_row(T0 + MINUTE, 1)], True),
        ([], False),
    ],
)
def test_news_are_trades_the_stream_has_not_brought(shown: list[list[Any]], is_news: bool) -> None:
    series = started()
    series.apply_event(event(T0, 3))
    assert (series.news(rows(*shown)) is not None) is is_news


def test_final_candle_that_waits_has_no_news() -> None:
    series = started()
    series.apply_event(event(T0 + MINUTE, 3, final=True))
    assert series.news(rows(make_row(T0 + MINUTE, 9))) is None


def test_empty_series_finds_news_in_any_trade() -> None:
    series = KlineSeries("1m", 60)
    assert series.news(rows(make_row(T0, 1))) is not None
    assert series.news(rows(make_row(T0, 0))) is None


# -- odd rows -----------------------------------------------------------------------------------

EARLY = make_row(1_518_048_000_000, 7, interval="4h", close=1_518_049_694_788)


@pytest.mark.parametrize(
    "odd",
    [
        [EARLY],
        [EARLY, make_row(1_518_091_200_000, 3, interval="4h")],
        [EARLY, make_row(1_518_090_300_000, 3, interval="4h", close=1_518_091_199_999)],
        [EARLY, make_row(1_518_049_694_789, 3, interval="4h", close=1_518_062_399_999)],
    ],
    ids=["closes early", "then a hole", "then off the grid", "then at once"],
)
def test_rows_that_close_early_or_open_off_the_grid_are_kept_as_they_are(odd: list[list[Any]]) -> None:
    series = KlineSeries("4h", 60)
    assert read(series, 1_600_000_000_000, *odd, is_whole=True)
    assert orjson.loads(series.body(series.latest(9) or pytest.fail("not held"))) == odd
    copy = KlineSeries("4h", 60)
    copy.restore(*series.closed_rows())
    assert orjson.loads(b"[" + copy.closed.part(0, len(copy))[:-1] + b"]") == odd
    # What comes next joins, also what was restored.
    following = make_row(odd[-1][0] // 14_400_000 * 14_400_000 + 14_400_000, 1, interval="4h")
    for each in (series, copy):
        assert read(each, 1_600_000_000_000, odd[-1], following)
        assert len(each) == len(odd) + 1


@pytest.mark.parametrize(
    "bad",
    [
        [make_row(T0, 1), make_row(T0, 2)],
        [make_row(T0, 1), make_row(T0 - MINUTE, 2)],
        [make_row(T0, 1), make_row(T0 + MINUTE - 1, 2)],
        [make_row(T0, 1, close=T0 + MINUTE)],
        [make_row(T0, 1, close=T0 - 1)],
        [make_row(T0 + 5, 1), make_row(T0 + MINUTE, 2)],
    ],
    ids=["twice", "falling", "overlapping", "too long", "before itself", "off the grid into the next"],
)
def test_rows_that_overlap_or_fall_are_refused(bad: list[list[Any]]) -> None:
    with pytest.raises(ValueError):
        rows(*bad)


def test_candle_off_the_grid_joins_by_a_read_and_goes_on_by_events() -> None:
    series = started()
    series.apply_event(event(T0, 4, final=True))
    off, end = T0 + 6 * MINUTE + 23_750, T0 + 7 * MINUTE - 1
    # The stream shows it first: whether something is missing before it only REST can tell.
    assert series.apply_event(event(off, 1, close=end, at_ms=off + 500))
    assert reason(series, off + 600) == "gap"
    read(series, off + 700, make_row(T0 - MINUTE, 9), make_row(T0, 4), make_row(off, 1, close=end))
    assert reason(series, off + 800) is None
    series.apply_event(event(off, 6, close=end, at_ms=end - 100))
    series.apply_event(event(off, 8, close=end, final=True))
    series.apply_event(event(end + 1, 2))
    assert reason(series, end + 300) is None
    assert held(series) == {T0 - MINUTE: 9, T0: 4, off: 8, end + 1: 2}
    copy = KlineSeries("1m", 60)
    copy.restore(*series.closed_rows())
    assert copy.last_final == off
    read(copy, end + 5000, make_row(off, 8, close=end), make_row(end + 1, 3))
    assert held(copy) == held(series) | {end + 1: 3}


def test_candle_after_one_that_closed_early_needs_no_second_read() -> None:
    series = KlineSeries("1m", 60)
    early = make_row(T0 - MINUTE, 9, close=T0 - MINUTE + 9_999)
    read(series, T0 + 30_000, early, make_row(T0, 1))
    assert series.last_final == T0 - MINUTE
    series.apply_event(event(T0, 3))
    assert reason(series, T0 + 31_000) is None
    series.apply_event(event(T0, 5, final=True))
    assert series.last_final == T0


def test_second_without_a_candle_is_no_gap_once_rest_has_shown_it() -> None:
    series = KlineSeries("1s", 60)
    read(series, T0 + 2600, *seconds(0))
    assert series.check(T0 + 2700, T0 + 2700, 1000) is None
    need = series.check(T0 + 2601 + REREAD_MS, T0 + 2601 + REREAD_MS, 1000)
    assert need is not None
    assert need.reason == "no new candle seen"
    read(series, T0 + 3650, *seconds(0))
    assert series.check(T0 + 3700, T0 + 3700, 1000) is None
    series.apply_event(one_second(7, 2))
    need = series.check(T0 + 8100, T0 + 8100, 1000)
    assert need is not None
    assert need.reason == "gap"
    read(series, T0 + 8200, *seconds(0, 7, trades=5))
    assert series.check(T0 + 8300, T0 + 8300, 1000) is None
    assert sorted(held(series)) == [T0, T0 + 7000]


def test_first_candle_heard_of_is_not_the_first_one_while_answers_lag() -> None:
    # Its first trade fell right before the close; the read right after it did not show that yet.
    series = KlineSeries("1m", 60)
    series.apply_read([], T0 + MINUTE + 197, epoch=0, is_whole=True)
    series.apply_event(event(T0 + MINUTE, 1, at_ms=T0 + MINUTE + 201))
    need = series.check(T0 + MINUTE + 203, T0 + MINUTE + 206, 250)
    assert need is not None
    assert (need.reason, need.can_settle) == ("gap", True)


def test_final_event_closes_no_first_candle_while_answers_lag() -> None:
    series = KlineSeries("1m", 60)
    series.apply_read([], T0 + MINUTE + 197, epoch=0, is_whole=True)
    series.apply_event(event(T0 + MINUTE, 2, final=True))
    assert series.last_final is None, "there may be one at T0"
    read(series, T0 + 2 * MINUTE + 2000, make_row(T0, 1), make_row(T0 + MINUTE, 2), is_whole=True)
    assert held(series) == {T0: 1, T0 + MINUTE: 2}
