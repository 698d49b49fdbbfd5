"""Waiting for a close: who is woken by what, when REST is read, and what is told of a series that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import orjson
import pytest

from resender.core.binance.markets import Market
from resender.core.market.candles import parse_rows
from resender.market.kinds.closes import MAX_WAIT_MS, Closes, Stamp, boundary_ms, holds, wait_for_closes
from resender.market.kinds.klines import Klines
from resender.market.series import KeptKlines
from tests.support.market_fakes import MINUTE, T0, World, kline_event, row

PATH = "/fapi/v1/klines"


class Waiting:
    """Some series of a kind, filled and live, ten seconds before a close."""

    def __init__(self, world: World, kind: Klines | None = None) -> None:
        self.world = world
        self.kind = kind or Klines(world.tools("kline"))
        self.all: dict[str, KeptKlines] = {}

    def add(self, symbol: str, interval: str = "1m", *, is_read: bool = True) -> KeptKlines:
        kept = self.kind.make(symbol, interval, 0.0, is_preload=False)
        self.all[symbol] = self.kind.kept[symbol, interval] = kept
        self.kind.begin(kept)
        kept.is_live = True
        self.kind.live(kept)
        if is_read:
            self.read(kept)
        return kept

    def read(self, kept: KeptKlines) -> None:
        """A read made now shows ten rows up to the one that is open at first."""
        rows = [row(T0 - n * MINUTE, 60) for n in range(9, 0, -1)] + [row(T0, 50)]
        made_ms = self.world.now_ms
        candles = parse_rows(rows, "1m", orjson.dumps, made_ms=made_ms)
        assert kept.series.apply_read(candles, made_ms, epoch=kept.series.epoch)
        kept.wake()

    def close(self, symbol: str = "BTCUSDT", open_time: int = T0) -> None:
        """The closing event of a candle comes."""
        event = kline_event(open_time, max(self.world.now_ms, open_time + MINUTE + 20), symbol, final=True)
        self.kind.event(self.all[symbol], event)

    async def ask(self, *symbols: str, limit: int = 2, wait_ms: int = 5000, **options: int) -> Closes:
        wanted = symbols or tuple(self.all)
        return await wait_for_closes(self.kind, wanted, "1m", limit=limit, wait_ms=wait_ms, **options)


@pytest.fixture
async def waiting(world: World) -> Waiting:
    await world.until(50_000)
    made = Waiting(world)
    made.add("BTCUSDT")
    return made


def opens(found: Closes, symbol: str = "BTCUSDT") -> list[int]:
    rows = orjson.loads(b"".join((b"[", *found.rows[symbol], b"]")))
    return [(each[0] - T0) // MINUTE for each in rows]


# -- which close ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "anchor_ms", "now_ms", "wanted"),
    [
        ("1m", T0, T0, T0),
        ("1m", T0, T0 + MINUTE - 1, T0),
        ("1m", T0, T0 + MINUTE, T0 + MINUTE),
        ("1m", T0, T0 + 7 * MINUTE + 5, T0 + 7 * MINUTE),
        ("1m", T0, T0 - 5, T0 - MINUTE),
        ("1m", T0 - 50_000, T0 + 5, T0),  # a candle ended early, off the grid
        ("3d", T0, T0 + 72 * 60 * MINUTE - 1, T0),
        ("3d", T0, T0 + 72 * 60 * MINUTE, T0 + 72 * 60 * MINUTE),
        # 2026-01-01, -02-01 and -03-01 UTC.
        ("1M", 1_767_225_600_000, 1_772_323_199_999, 1_769_904_000_000),
        ("1M", 1_767_225_600_000, 1_772_323_200_000, 1_772_323_200_000),
    ],
)
def test_latest_close_that_has_passed_is_found(
    interval: str, anchor_ms: int, now_ms: int, wanted: int
) -> None:
    assert boundary_ms(interval, anchor_ms, now_ms) == wanted


# -- what is there --------------------------------------------------------------------------------


async def test_rows_up_to_the_last_close_are_told_at_once(waiting: Waiting) -> None:
    found = await waiting.ask(limit=3)
    assert opens(found) == [-3, -2, -1]
    assert (found.close_ms, found.pending) == (T0, {})
    assert waiting.world.now_ms == T0 + 50_000, "nothing was waited for"


async def test_open_candle_is_never_among_them(waiting: Waiting) -> None:
    assert opens(await waiting.ask(limit=9)) == list(range(-9, 0))


async def test_only_rows_since_a_time_are_told(waiting: Waiting) -> None:
    assert opens(await waiting.ask(limit=100, since_ms=T0 - 2 * MINUTE)) == [-2, -1]


async def test_more_rows_than_are_held_are_not_told(waiting: Waiting) -> None:
    found = await waiting.ask(limit=10)
    assert (found.rows, found.pending) == ({}, {"BTCUSDT": "range not held"})


# -- waiting --------------------------------------------------------------------------------------


async def test_call_after_the_close_is_woken_by_the_closing_event(waiting: Waiting) -> None:
    world = waiting.world
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask())
    await world.until(60_300)
    waiting.close()
    await world.settle()
    assert asking.done()
    assert opens(await asking) == [-1, 0]
    assert world.now_ms == T0 + 60_300
    assert world.door.targets == []


async def test_call_just_before_the_close_means_that_close(waiting: Waiting) -> None:
    world = waiting.world
    await world.until(59_800)
    asking = asyncio.create_task(waiting.ask())
    await world.until(60_100)
    assert not asking.done()
    waiting.close()
    found = await asking
    assert found.close_ms == T0 + MINUTE
    assert opens(found) == [-1, 0]


async def test_call_long_before_the_close_does_not_wait_for_it(waiting: Waiting) -> None:
    await waiting.world.until(59_700)
    found = await waiting.ask()
    assert found.close_ms == T0


async def test_close_in_the_middle_of_a_call_is_not_that_calls(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, facts = waiting.world, waiting.kind.facts
    waiting.add("ETHUSDT")
    await world.until(59_999)
    waiting.close("ETHUSDT")
    moments = iter([T0 + 59_999])
    monkeypatch.setattr(type(facts), "now_ms", lambda _: next(moments, T0 + 60_004))
    found = await waiting.ask("BTCUSDT", "ETHUSDT", wait_ms=0)
    assert (found.close_ms, found.pending) == (T0, {})
    assert {symbol: opens(found, symbol) for symbol in found.rows} == {
        "BTCUSDT": [-2, -1],
        "ETHUSDT": [-2, -1],
    }


async def test_clock_of_the_exchange_that_is_set_back_prolongs_no_wait(waiting: Waiting) -> None:
    world = waiting.world
    await world.until(59_900)
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    asking = asyncio.create_task(waiting.ask(wait_ms=1000))
    await world.settle()
    mono = world.clock.mono()
    waiting.kind.facts.server.set(world.now_ms - 600_000, mono, mono)
    await asking
    assert loop.time() - begun_s <= MAX_WAIT_MS / 1000 + 0.5


async def test_call_for_several_waits_for_the_last_of_them(waiting: Waiting) -> None:
    world = waiting.world
    waiting.add("ETHUSDT")
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask())
    await world.until(60_100)
    waiting.close("ETHUSDT")
    await world.settle()
    assert not asking.done()
    await world.until(60_400)
    waiting.close("BTCUSDT")
    found = await asking
    assert {symbol: opens(found, symbol) for symbol in found.rows} == {"BTCUSDT": [-1, 0], "ETHUSDT": [-1, 0]}


async def test_without_the_event_rest_is_read_once_for_all_who_wait(waiting: Waiting) -> None:
    world = waiting.world
    await world.until(60_010)
    found = await asyncio.gather(*(waiting.ask(wait_ms=6000) for _ in range(20)))
    assert {tuple(opens(each)) for each in found} == {(-1, 0)}
    assert len(world.door.asked(PATH)) == 1
    assert world.now_ms >= T0 + 63_000, "events of plain USD-M streams may be so late"


async def test_close_of_a_series_that_is_first_read_during_the_call_is_settled_too(waiting: Waiting) -> None:
    world = waiting.world
    kept = waiting.kind.make("ETHUSDT", "1m", 0.0, is_preload=False)
    waiting.kind.kept["ETHUSDT", "1m"] = kept
    kept.is_live = True
    early = [row(T0 - n * MINUTE, 60) for n in range(9, 0, -1)] + [row(T0, 50)]
    candles = parse_rows(early, "1m", orjson.dumps, made_ms=world.now_ms)
    made_ms = world.now_ms
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask("BTCUSDT", "ETHUSDT", wait_ms=8000))
    await world.until(60_100)
    waiting.close("BTCUSDT")
    await world.until(64_000)
    assert world.door.asked(PATH) == []
    assert kept.series.apply_read(candles, made_ms, epoch=kept.series.epoch)
    found = await asking
    assert opens(found, "ETHUSDT") == [-1, 0]
    assert len(world.door.asked(PATH)) == 1


async def test_read_that_failed_is_made_again_while_somebody_waits(waiting: Waiting) -> None:
    world = waiting.world
    good = world.door.answers[PATH]
    world.door.answers[PATH] = lambda *_: b"<html>"
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask(wait_ms=8000))
    await world.until(63_600)
    assert len(world.door.asked(PATH)) == 1
    world.door.answers[PATH] = good
    found = await asking
    assert opens(found) == [-1, 0]
    assert world.now_ms < T0 + 65_000


async def test_series_that_may_not_be_read_now_keeps_no_other_from_being_read(waiting: Waiting) -> None:
    world = waiting.world
    waiting.add("ETHUSDT")
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask(wait_ms=3800))
    await world.until(63_100)
    first = waiting.all["BTCUSDT"]
    first.read_mono, first.read_failed = world.clock.mono(), True  # somebody else's read, just now
    found = await asking
    assert (list(found.rows), found.pending) == (["ETHUSDT"], {"BTCUSDT": "not settled"})


async def test_nobody_waits_longer_than_wanted_and_is_told_what_is_missing(waiting: Waiting) -> None:
    world = waiting.world
    world.door.answers[PATH] = lambda *_: b"<html>"
    waiting.add("ETHUSDT")
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask(wait_ms=1000))
    await world.until(60_500)
    waiting.close("ETHUSDT")
    found = await asking
    assert list(found.rows) == ["ETHUSDT"]
    assert found.pending == {"BTCUSDT": "not settled"}
    assert world.now_ms <= T0 + 61_010


async def test_no_wait_lasts_longer_than_the_longest(waiting: Waiting) -> None:
    world = waiting.world
    world.door.answers[PATH] = lambda *_: b"<html>"
    await world.until(60_010)
    begun = world.now_ms
    await waiting.ask(wait_ms=100_000)
    assert world.now_ms - begun <= MAX_WAIT_MS + 500


async def test_client_that_leaves_is_not_waited_for_any_more(waiting: Waiting) -> None:
    world = waiting.world
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask())
    await world.settle()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert waiting.all["BTCUSDT"].final_waiters == {}
    waiting.close()


async def test_series_that_is_being_read_in_mid_candle_is_waited_for_beside_one_that_is_there(
    waiting: Waiting,
) -> None:
    world = waiting.world
    kept = waiting.add("ETHUSDT", is_read=False)
    asking = asyncio.create_task(waiting.ask())
    await world.until(51_900)
    assert not asking.done()
    waiting.read(kept)
    await world.settle()
    assert asking.done(), "it is woken by the read"
    found = await asking
    assert (opens(found, "BTCUSDT"), opens(found, "ETHUSDT")) == ([-2, -1], [-2, -1])


async def test_series_that_is_not_read_in_time_keeps_a_call_in_mid_candle_no_longer_than_wanted(
    waiting: Waiting,
) -> None:
    waiting.add("ETHUSDT", is_read=False)
    found = await waiting.ask(wait_ms=3000)
    assert (list(found.rows), found.pending) == (["BTCUSDT"], {"ETHUSDT": "not read yet"})
    assert T0 + 52_900 <= waiting.world.now_ms <= T0 + 53_100


@pytest.mark.parametrize("is_last", [True, False])
async def test_series_that_is_removed_is_not_waited_for_any_more(world: World, is_last: bool) -> None:
    await world.until(50_000)
    state, mono = world.state(), world.clock.mono()
    state.facts.server.set(world.now_ms, mono, mono)
    state.symbols.load(orjson.dumps(world.door._info("", {})))
    waiting = Waiting(world, state.kind(Klines))
    for symbol in ("BTCUSDT", "ETHUSDT"):
        kept = waiting.all[symbol] = cast(KeptKlines, state.add(symbol, "1m"))
        kept.is_live = True
        waiting.read(kept)
    await world.until(60_010)
    asking = asyncio.create_task(waiting.ask())
    await world.until(60_300)
    steps = [lambda: waiting.close("BTCUSDT"), lambda: state.remove(waiting.all["ETHUSDT"])]
    for step in steps if is_last else reversed(steps):
        assert not asking.done()
        step()
        await world.settle()
    assert asking.done()
    found = await asking
    assert (opens(found), list(found.pending)) == ([-1, 0], ["ETHUSDT"])
    assert world.door.targets == []


# -- what is not there ----------------------------------------------------------------------------


async def test_series_nobody_has_asked_for_is_begun_and_told(waiting: Waiting) -> None:
    found = await waiting.ask("BTCUSDT", "NEWUSDT", wait_ms=0)
    assert found.pending == {"NEWUSDT": "not held yet"}
    assert waiting.world.desk.begun == [(Market.UM, "NEWUSDT", "1m")]
    assert opens(found) == [-2, -1]


async def test_series_without_a_row_is_not_read_yet(waiting: Waiting) -> None:
    kept = waiting.kind.make("NEWUSDT", "1m", 0.0, is_preload=False)
    waiting.kind.kept["NEWUSDT", "1m"] = kept
    found = await waiting.ask("NEWUSDT", wait_ms=0)
    assert (found.pending, found.close_ms) == ({"NEWUSDT": "not read yet"}, 0)


async def test_saved_rows_are_told_only_once_a_read_has_confirmed_them(waiting: Waiting) -> None:
    """A file may hold rows the exchange has mended since: within the interval nothing else would show it."""
    world = waiting.world
    kept = waiting.kind.make("ETHUSDT", "1m", 0.0, is_preload=False)
    waiting.kind.kept["ETHUSDT", "1m"] = kept
    saved = waiting.all["BTCUSDT"].series.closed_rows()
    kept.series.restore(saved[0], saved[1])
    kept.is_live = True
    found = await waiting.ask("ETHUSDT", wait_ms=0)
    assert (found.rows, found.pending) == ({}, {"ETHUSDT": "not read yet"})
    asking = asyncio.create_task(waiting.ask("ETHUSDT"))
    await world.settle()
    assert not asking.done()
    rows = [row(T0 - n * MINUTE, 60) for n in range(9, 0, -1)] + [row(T0, 50)]
    candles = parse_rows(rows, "1m", orjson.dumps, made_ms=world.now_ms)
    assert kept.series.apply_read(candles, world.now_ms, epoch=kept.series.epoch)
    assert opens(await asking, "ETHUSDT") == [-2, -1]


async def test_before_the_time_is_known_nothing_is_waited_for(waiting: Waiting) -> None:
    waiting.kind.facts.server.is_set = False
    before = waiting.world.now_ms
    found = await waiting.ask()
    assert found.pending == {"BTCUSDT": "starting"}
    assert waiting.world.now_ms == before


async def test_lost_stream_is_told_where_a_close_is_missing_and_closed_rows_stay_good(
    waiting: Waiting,
) -> None:
    world = waiting.world
    kept = waiting.all["BTCUSDT"]
    kept.is_live = False
    waiting.kind.lose(kept)
    assert opens(await waiting.ask(wait_ms=0)) == [-2, -1]
    await world.until(60_100)
    found = await waiting.ask(wait_ms=0)
    assert found.pending == {"BTCUSDT": "stream not live"}


async def test_call_counts_as_use_of_the_series(waiting: Waiting) -> None:
    await waiting.ask(wait_ms=0)
    assert waiting.all["BTCUSDT"].used_mono == waiting.world.clock.mono()


# -- how long an answer holds ---------------------------------------------------------------------


async def stamp_of(waiting: Waiting) -> Stamp:
    stamp = (await waiting.ask(wait_ms=0)).stamp
    assert stamp is not None
    assert holds(waiting.kind, "1m", stamp)
    return stamp


async def test_stamp_reaches_from_the_close_to_the_next_one(waiting: Waiting) -> None:
    stamp = await stamp_of(waiting)
    assert (stamp.from_ms, stamp.until_ms) == (T0, T0 + MINUTE)


async def test_answer_about_nothing_that_is_known_has_no_stamp(waiting: Waiting) -> None:
    waiting.add("ETHUSDT", is_read=False)
    assert (await waiting.ask("ETHUSDT", wait_ms=0)).stamp is None
    assert (await waiting.ask("BTCUSDT", "NEWUSDT", wait_ms=0)).stamp is None, "what is begun is asked again"


Change = Callable[[Waiting], object]


def correct(waiting: Waiting) -> None:
    """A late final event contradicts the row that a read has settled."""
    waiting.kind.event(waiting.all["BTCUSDT"], kline_event(T0 - MINUTE, T0 + 1000, final=True, n=61))
    assert waiting.kind.corrected == 1


def lose(waiting: Waiting) -> None:
    waiting.all["BTCUSDT"].is_live = False
    waiting.kind.lose(waiting.all["BTCUSDT"])


VOID: dict[str, Change] = {
    "own close": lambda waiting: waiting.close(),
    "close of another": lambda waiting: waiting.close("ETHUSDT"),
    "correction": correct,
    "series added": lambda waiting: waiting.add("NKNUSDT", is_read=False),
    "series removed": lambda waiting: waiting.kind.end(waiting.all["ETHUSDT"]),
    "first read": lambda waiting: waiting.read(waiting.all["XRPUSDT"]),
    "nothing older": lambda waiting: waiting.all["BTCUSDT"].series.prepend([], T0 + MINUTE, is_whole=True),
    "doubt": lambda waiting: waiting.all["BTCUSDT"].series.distrust(),
    "time unknown": lambda waiting: setattr(waiting.kind.facts.server, "is_set", False),
}
HOLDS: dict[str, Change] = {
    "nothing": lambda waiting: None,
    "open candle": lambda waiting: waiting.kind.event(waiting.all["BTCUSDT"], kline_event(T0, T0 + 60_050)),
    "another read": lambda waiting: waiting.read(waiting.all["BTCUSDT"]),
    "lost stream": lose,
    "another interval": lambda waiting: waiting.add("NKNUSDT", "3m", is_read=False),
}


@pytest.mark.parametrize("name", [*VOID, *HOLDS])
async def test_answer_holds_until_something_it_is_about_changes(waiting: Waiting, name: str) -> None:
    waiting.add("ETHUSDT")
    saved = waiting.all["BTCUSDT"].series.closed_rows()
    waiting.add("XRPUSDT", is_read=False).series.restore(*saved)  # its first read changes no row
    await waiting.world.until(60_100)
    stamp = await stamp_of(waiting)
    assert (stamp.from_ms, stamp.until_ms) == (T0 + MINUTE, T0 + 2 * MINUTE), "nobody has reached it yet"
    (VOID | HOLDS)[name](waiting)
    assert holds(waiting.kind, "1m", stamp) is (name in HOLDS)


@pytest.mark.parametrize(
    ("now_ms", "wait_ms", "is_true"),
    [
        (-1, 0, False),  # the exchange's clock was set back
        (0, 0, True),
        (59_749, 5000, True),
        (59_750, 5000, False),
        (59_750, 0, True),
        (59_999, 0, True),
        (60_000, 0, False),
        (60_000, 5000, False),
    ],
)
async def test_answer_holds_until_the_next_close_and_for_who_waits_until_shortly_before_it(
    waiting: Waiting, monkeypatch: pytest.MonkeyPatch, now_ms: int, wait_ms: int, is_true: bool
) -> None:
    stamp = await stamp_of(waiting)
    monkeypatch.setattr(type(waiting.kind.facts), "now_ms", lambda _: T0 + now_ms)
    assert holds(waiting.kind, "1m", stamp, wait_ms=wait_ms) is is_true
