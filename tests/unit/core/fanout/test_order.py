"""What of a stream's events is new, came before, or shows that one is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.binance.markets import Market
from resender.core.binance.stream_kinds import stream_kind
from resender.core.fanout.frames import payload_of
from resender.core.fanout.order import Sequence, Verdict
from tests.support.fixtures import MARKETS, raw

NEW, SEEN, AFTER_GAP = Verdict.NEW, Verdict.SEEN, Verdict.AFTER_GAP
MINUTE_MS = 60_000


def sequence(name: str, market: Market = Market.SPOT) -> Sequence:
    kind = stream_kind(market, name)
    assert kind is not None
    return Sequence(kind)


def judged(one: Sequence, *payloads: bytes) -> list[Verdict]:
    return [one.judge(payload) for payload in payloads]


def depth(first: int, final: int, previous: int | None = None) -> bytes:
    """Write a depth event; with `previous` that of futures."""
    more = "" if previous is None else f',"pu":{previous}'
    return f'{{"e":"depthUpdate","E":9,"s":"BTCUSDT","U":{first},"u":{final}{more},"b":[],"a":[]}}'.encode()


def candle(number: int, at_ms: int, *, is_closed: bool = False, close: str = "1") -> bytes:
    """Write an event of the candle with this number, sent so many milliseconds after its opening."""
    opens = number * MINUTE_MS
    times = f'"t":{opens},"T":{opens + MINUTE_MS - 1}'
    flag = "true" if is_closed else "false"
    return f'{{"e":"kline","E":{opens + at_ms},"s":"A","k":{{{times},"c":"{close}","x":{flag}}}}}'.encode()


# -- events with a number --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "market", "event"),
    [
        ("a@bookTicker", Market.SPOT, '{{"u":{0},"s":"A","b":"1"}}'),
        ("a@bookTicker", Market.UM, '{{"e":"bookTicker","u":{0},"s":"A"}}'),
        ("a@depth5", Market.SPOT, '{{"lastUpdateId":{0},"bids":[["1","2"]]}}'),
        ("a@depth5", Market.CM, '{{"e":"depthUpdate","E":1,"T":1,"s":"A","U":1,"u":{0},"pu":1,"b":[]}}'),
        ("a@trade", Market.SPOT, '{{"e":"trade","E":1,"s":"A","t":{0},"p":"1"}}'),
        ("a@aggTrade", Market.UM, '{{"e":"aggTrade","E":1,"a":{0},"s":"A"}}'),
        ("a@ticker", Market.SPOT, '{{"e":"24hrTicker","E":{0},"s":"A"}}'),
        ("a@markPrice", Market.UM, '{{"e":"markPriceUpdate","E":{0},"s":"A"}}'),
    ],
)
def test_what_came_before_is_seen_and_holes_between_numbers_are_none(
    name: str, market: Market, event: str
) -> None:
    one = sequence(name, market)
    numbers = [5, 6, 6, 5, 9, 7, 8, 9, 10]
    found = judged(one, *(event.format(number).encode() for number in numbers))
    assert found == [NEW, NEW, SEEN, SEEN, NEW, SEEN, SEEN, SEEN, NEW]


def test_numbers_may_start_over_after_a_loss() -> None:
    one = sequence("a@trade")
    assert judged(one, b'{"t":100}', b'{"t":50}') == [NEW, SEEN]
    one.lost()
    assert judged(one, b'{"t":50}', b'{"t":50}', b'{"t":51}') == [NEW, SEEN, NEW]


def test_event_without_its_number_passes_and_changes_nothing() -> None:
    one = sequence("a@trade")
    assert judged(one, b'{"t":7}', b'{"x":1}', b'{"x":1}', b"", b'{"t":7}', b'{"t":8}') == [
        NEW, NEW, NEW, NEW, SEEN, NEW,
    ]  # fmt: skip


@pytest.mark.parametrize("market", MARKETS)
@pytest.mark.parametrize("name", ["ws_kline", "ws_book_ticker"])
def test_number_of_a_recorded_event_is_found(market: Market, name: str) -> None:
    payload = payload_of(raw(market, name))
    assert payload is not None
    one = sequence("a@kline_1m" if name == "ws_kline" else "a@bookTicker", market)
    assert judged(one, payload, payload) == [NEW, SEEN]


def test_events_of_one_moment_are_told_apart_by_all_they_say() -> None:
    one = sequence("a@kline_1m")
    first, second = candle(1, 59_999, is_closed=True), candle(1, 59_999, close="2")
    assert judged(one, first, second) == [NEW, NEW]
    # The connection that takes over brings both again, in their order.
    assert judged(one, first, second, candle(2, 5)) == [SEEN, SEEN, NEW]


# -- events without one ----------------------------------------------------------------------------


def test_events_without_a_number_are_seen_by_all_they_say() -> None:
    one = sequence("!miniTicker@arr")
    assert judged(one, b"[1]", b"[2]", b"[1]", b"[2]", b"[3]") == [NEW, NEW, SEEN, SEEN, NEW]
    one.lost()
    assert judged(one, b"[3]", b"[3]") == [NEW, SEEN]


def test_events_of_long_ago_are_forgotten() -> None:
    one = sequence("a@forceOrder", Market.UM)
    judged(one, *(b"[%d]" % number for number in range(65)))
    assert judged(one, b"[64]", b"[1]", b"[0]") == [SEEN, SEEN, NEW]


# -- depth -----------------------------------------------------------------------------------------


def test_depth_of_spot_that_follows_is_new_and_a_hole_is_told_once() -> None:
    one = sequence("a@depth")
    assert judged(one, depth(5, 10), depth(11, 11), depth(12, 20)) == [NEW, NEW, NEW]
    assert judged(one, depth(22, 30), depth(31, 40)) == [AFTER_GAP, NEW]


def test_depth_of_spot_that_overlaps_leaves_nothing_out() -> None:
    one = sequence("a@depth@100ms")
    assert judged(one, depth(5, 10), depth(8, 14), depth(1, 14), depth(15, 16)) == [NEW, NEW, SEEN, NEW]


def test_depth_of_futures_follows_the_number_it_names() -> None:
    one = sequence("a@depth@100ms", Market.UM)
    # Numbers of other symbols lie between: only "pu" tells.
    assert judged(one, depth(5, 10, 1), depth(15, 20, 10), depth(50, 60, 20)) == [NEW, NEW, NEW]
    assert judged(one, depth(70, 80, 61), depth(90, 95, 80)) == [AFTER_GAP, NEW]


def test_depth_that_comes_twice_or_backwards_is_seen_and_moves_nothing() -> None:
    one = sequence("a@depth", Market.CM)
    assert judged(one, depth(5, 10, 1), depth(15, 20, 10), depth(5, 10, 1), depth(15, 20, 10)) == [
        NEW, NEW, SEEN, SEEN,
    ]  # fmt: skip
    assert judged(one, depth(25, 30, 20)) == [NEW]


@pytest.mark.parametrize("previous", [None, 90])
def test_depth_after_a_loss_need_not_follow(previous: int | None) -> None:
    one = sequence("a@depth", Market.SPOT if previous is None else Market.UM)
    assert judged(one, depth(5, 10, 1 if previous else None)) == [NEW]
    one.lost()
    assert judged(one, depth(95, 99, previous)) == [NEW]
    one.lost()
    assert judged(one, depth(5, 10, previous)) == [NEW], "even backwards"


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.data())
def test_two_connections_of_one_book_never_make_a_gap(sizes: list[int], data: st.DataObject) -> None:
    """One takes over from the other in the middle: what it brings again is seen, what is new follows."""
    events, at = [], 1
    for size in sizes:
        events.append((at, at + size - 1, at - 1))
        at += size
    for is_futures in (False, True):
        payloads = [depth(first, final, pu if is_futures else None) for first, final, pu in events]
        until = data.draw(st.integers(1, len(payloads)))
        since = data.draw(st.integers(0, until))
        one = sequence("a@depth", Market.UM if is_futures else Market.SPOT)
        assert set(judged(one, *payloads[:until])) == {NEW}
        assert judged(one, *payloads[since:]) == [SEEN] * (until - since) + [NEW] * (len(payloads) - until)


# -- candles ---------------------------------------------------------------------------------------


def test_candle_that_was_open_and_closed_unseen_while_the_stream_was_lost_is_a_gap() -> None:
    one = sequence("a@kline_1m")
    assert judged(one, candle(7, 100), candle(7, 200)) == [NEW, NEW]
    one.lost()
    assert judged(one, candle(8, 100), candle(8, 200)) == [AFTER_GAP, NEW]


def test_candle_that_is_still_open_or_closes_after_the_loss_is_none() -> None:
    for back in (candle(7, 300), candle(7, 60_001, is_closed=True)):
        one = sequence("a@kline_1m")
        judged(one, candle(7, 100))
        one.lost()
        assert judged(one, back, candle(8, 5000)) == [NEW, NEW]


def test_candle_that_opened_and_closed_while_the_stream_was_lost_is_a_gap_too() -> None:
    one = sequence("a@kline_1m")
    judged(one, candle(7, 60_001, is_closed=True))
    one.lost()
    assert judged(one, candle(8, 100)) == [NEW]
    judged(one, candle(8, 60_001, is_closed=True))
    one.lost()
    assert judged(one, candle(10, 100), candle(10, 200)) == [AFTER_GAP, NEW]


def test_stream_that_is_lost_again_before_it_brought_anything_still_owes_its_candle() -> None:
    one = sequence("a@kline_1m")
    judged(one, candle(7, 100))
    one.lost()
    one.lost()
    assert judged(one, candle(8, 100)) == [AFTER_GAP]


def test_event_of_an_older_candle_does_not_settle_what_is_owed() -> None:
    one = sequence("a@kline_1m")
    judged(one, candle(7, 100))
    one.lost()
    assert judged(one, candle(6, 60_500, is_closed=True)) == [NEW]
    assert judged(one, candle(8, 100)) == [AFTER_GAP]


def test_stream_that_is_lost_before_its_first_event_owes_nothing() -> None:
    one = sequence("a@kline_1m")
    one.lost()
    assert judged(one, candle(9, 100)) == [NEW]


def test_candles_that_follow_without_a_loss_are_never_a_gap() -> None:
    one = sequence("a@kline_1m")
    # Binance may leave out a candle nobody traded in.
    assert judged(one, candle(7, 100), candle(9, 100), candle(12, 100)) == [NEW, NEW, NEW]


@pytest.mark.parametrize("market", MARKETS)
def test_recorded_candle_is_read_for_what_is_owed(market: Market) -> None:
    open_one, closed = (payload_of(raw(market, name)) for name in ("ws_kline", "ws_kline_final"))
    assert open_one is not None
    assert closed is not None
    for payload in (open_one, closed):
        one = sequence("a@kline_1m", market)
        one.judge(payload)
        one.lost()
        assert one.judge(candle(40_000_000, 1)) is AFTER_GAP
