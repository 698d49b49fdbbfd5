"""What waits for one channel: one message a kind and minute, quiet hours, and nothing told that has ended untold."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.alerts.board import Event
from resender.core.alerts.kinds import KINDS, Level
from resender.core.alerts.outbox import EVERY_S, Outbox, Quiet, parse_quiet
from tests.support.alert_events import AT_MS, DAY_MS, event, over

MIDNIGHT_MS = AT_MS // DAY_MS * DAY_MS


class World:
    """An outbox with a clock that begins at midnight, UTC."""

    def __init__(self, least: Level = Level.WARNING, quiet: str = "", hour: float = 12.0) -> None:
        self.outbox = Outbox(least, parse_quiet(quiet))
        self.passed_s = hour * 3600

    @property
    def now_ms(self) -> int:
        return MIDNIGHT_MS + int(self.passed_s * 1000)

    def add(self, *events: Event) -> None:
        for each in events:
            self.outbox.add(each)

    def take(self, after_s: float = 0.0) -> list[Event]:
        self.passed_s += after_s
        return self.outbox.take(self.now_ms, 5000.0 + self.passed_s)


BAN, ALSO = event("banned", "own spot"), event("banned", "own futures")
PAUSE, DISK = event("paused", "own spot"), event("disk")


# --- groups ---------------------------------------------------------------------------------------


def test_everything_that_is_due_is_one_message_in_its_order() -> None:
    world = World()
    assert world.take() == []
    world.add(DISK, BAN, PAUSE, ALSO)
    assert world.take() == [DISK, BAN, PAUSE, ALSO]
    assert world.take(1000) == []


def test_a_kind_is_told_once_a_minute_and_then_everything_at_once() -> None:
    world = World()
    world.add(BAN)
    assert world.take() == [BAN]
    world.add(ALSO)
    assert world.take(1) == []
    world.add(over(BAN))
    assert world.take(EVERY_S - 1.5) == []
    assert world.take(0.5) == [ALSO, over(BAN)]


def test_no_kind_waits_for_another() -> None:
    world = World()
    world.add(BAN)
    world.take()
    world.add(ALSO, DISK)
    assert world.take(1) == [DISK]
    world.add(PAUSE)
    assert world.take(1) == [PAUSE]
    assert world.take(EVERY_S) == [ALSO]


def test_storm_is_a_message_a_minute_and_no_more() -> None:
    world = World()
    taken: list[tuple[float, list[Event]]] = []
    for second in range(600):
        world.add(event("key", f"digest {second}"), event("key", f"other {second}"))
        if events := world.take(1.0):
            taken.append((world.passed_s, events))
    assert [b[0] - a[0] for a, b in pairwise(taken)] == [EVERY_S] * (len(taken) - 1)
    assert len(taken) == 10
    assert [len(events) for _, events in taken[1:]] == [120] * 9
    assert world.outbox.left_out == 0


# --- what is not told -----------------------------------------------------------------------------


def test_channel_of_critical_alerts_is_told_no_warning() -> None:
    world = World(Level.CRITICAL)
    world.add(PAUSE, BAN, DISK)
    assert world.take() == [BAN]
    world.add(over(PAUSE), over(BAN))
    assert world.take(EVERY_S) == [over(BAN)]


def test_alert_that_ends_before_it_was_told_is_not_told() -> None:
    world = World()
    world.add(BAN)
    world.take()
    world.add(ALSO)
    assert world.take(1) == []
    world.add(over(ALSO, 20))
    assert world.take(EVERY_S) == []
    assert world.take(1000) == []


def test_only_the_alert_that_ended_goes() -> None:
    world = World()
    world.add(BAN, ALSO, DISK, over(BAN))
    assert world.take() == [ALSO, DISK]


def test_end_of_what_this_channel_was_never_told_is_not_told() -> None:
    world = World()
    world.add(over(BAN))
    assert world.take() == []


def test_alert_told_before_is_told_to_be_over_and_may_come_again() -> None:
    world = World()
    for _ in range(3):
        world.add(BAN)
        assert world.take(EVERY_S) == [BAN]
        world.add(over(BAN))
        assert world.take(EVERY_S) == [over(BAN)]
        world.add(over(BAN))
        assert world.take(EVERY_S) == [], "it was over already"


def test_end_and_new_begin_within_a_minute_are_told_in_their_order() -> None:
    world = World()
    world.add(BAN)
    world.take()
    again = event("banned", "own spot", at_ms=AT_MS + 40_000)
    world.add(over(BAN, 5), again)
    assert world.take(1) == []
    assert world.take(EVERY_S) == [over(BAN, 5), again]
    world.add(over(again, 7))
    assert world.take(EVERY_S) == [over(again, 7)]


def test_what_has_no_end_is_not_forgotten_with_one() -> None:
    world = World()
    key = event("key", "digest")
    world.add(key)
    assert world.take() == [key]
    world.add(event("key", "digest", at_ms=AT_MS + 1))
    assert len(world.take(EVERY_S)) == 1


def test_too_many_leave_out_the_oldest_and_count_them() -> None:
    world = World(quiet="11:00-13:00")
    events = [event("login", f"user {number}") for number in range(250)]
    world.add(*events)
    assert world.take() == []
    assert world.outbox.left_out == 50
    assert world.take(3600) == events[50:]


def test_end_of_an_alert_that_was_left_out_is_not_told_either() -> None:
    world = World(quiet="11:00-13:00")
    world.add(DISK, *(event("login", f"user {number}") for number in range(200)))
    world.add(over(DISK))
    taken = world.take(3600)
    assert {each.kind.name for each in taken} == {"login"}


# --- quiet hours ----------------------------------------------------------------------------------


def test_warning_waits_for_the_end_of_quiet_hours_and_what_is_critical_does_not() -> None:
    world = World(quiet="23:00-07:00", hour=22.99)
    world.add(PAUSE)
    assert world.take() == [PAUSE]
    world.add(DISK, over(PAUSE), BAN)
    assert world.take(60) == [BAN]
    for _ in range(15):
        assert world.take(1800) == []
    assert world.passed_s / 3600 == pytest.approx(30.5, abs=0.1), "half past six"
    assert world.take(1800) == [DISK, over(PAUSE)]


def test_end_of_what_is_critical_is_told_in_quiet_hours_too() -> None:
    world = World(quiet="23:00-07:00", hour=2)
    world.add(BAN)
    assert world.take() == [BAN]
    world.add(over(BAN))
    assert world.take(EVERY_S) == [over(BAN)]


def test_warning_that_begins_and_ends_at_night_is_never_told() -> None:
    world = World(quiet="23:00-07:00", hour=23.5)
    world.add(PAUSE)
    assert world.take() == []
    world.add(over(PAUSE, 3600))
    assert world.take(3600) == []
    assert world.take(86_400 - 8 * 3600) == []


def test_quiet_hours_given_later_are_kept_to_by_what_waits_already() -> None:
    world = World()
    world.add(DISK)
    world.outbox.quiet = parse_quiet("00:00-23:59")
    assert world.take() == []
    world.outbox.quiet = None
    assert world.take() == [DISK]


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("23:00-07:00", "23:00", "07:00"),
        (" 7:05 - 9:00 ", "07:05", "09:00"),
        ("00:00-23:59", "00:00", "23:59"),
        ("23:00-07:00 +08:00", "15:00", "23:00"),
        ("23:00-07:00+0800", "15:00", "23:00"),
        ("23:00-07:00 +8", "15:00", "23:00"),
        ("23:00-07:00 UTC+8", "15:00", "23:00"),
        ("01:00-02:00 +08:00", "17:00", "18:00"),
        ("23:00-07:00 -05:00", "04:00", "12:00"),
        ("22:30-06:15 +05:45", "16:45", "00:30"),
        ("22:00-06:00 +14:00", "08:00", "16:00"),
    ],
)
def test_quiet_hours_are_read_with_their_offset(text: str, begin: str, end: str) -> None:
    def minute(time: str) -> int:
        return int(time[:2]) * 60 + int(time[3:])

    assert parse_quiet(text) == Quiet(minute(begin), minute(end))


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_is_no_quiet_hours(text: str) -> None:
    assert parse_quiet(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "night", "23:00", "23-7", "24:00-07:00", "23:60-07:00", "23:00-07:00 +", "23:00-07:00 08:00",
        "23:00-07:00 +08:75", "23:00-07:00 +08:00 or so", "-23:00-07:00", "23:00-07:00-8-9", "2300-0700",
    ],
)  # fmt: skip
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time of day such as 23:00-07:00"):
        parse_quiet(text)


@pytest.mark.parametrize("text", ["23:00-07:00 +15", "23:00-07:00 +14:01", "23:00-07:00 -99:00"])
def test_offset_there_is_nowhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="at most 14 hours"):
        parse_quiet(text)


def test_hours_of_no_length_are_refused() -> None:
    with pytest.raises(ValueError, match="at the same time"):
        parse_quiet("07:00-07:00 +03:00")


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(-14 * 60, 14 * 60), st.integers(0, 2 * DAY_MS))
def test_quiet_hours_are_those_of_the_clock_on_the_wall(begin: int, end: int, offset: int, ms: int) -> None:
    def words(minutes: int) -> str:
        return f"{minutes // 60:02}:{minutes % 60:02}"

    text = f"{words(begin)}-{words(end)} {'-' if offset < 0 else '+'}{words(abs(offset))}"
    if begin == end:
        with pytest.raises(ValueError):
            parse_quiet(text)
        return
    quiet = parse_quiet(text)
    assert quiet is not None
    now_ms = MIDNIGHT_MS + ms
    local = datetime.fromtimestamp(now_ms / 1000, timezone(timedelta(minutes=offset)))
    minute = local.hour * 60 + local.minute
    within = begin <= minute < end if begin < end else not end <= minute < begin
    assert quiet.holds(now_ms) is within


# --- whatever happens -----------------------------------------------------------------------------

PLACES = (("banned", "a"), ("banned", "b"), ("paused", "a"), ("disk", ""), ("node", "gw2"))
STEPS = st.lists(
    st.tuples(st.sampled_from([*range(len(PLACES)), None]), st.sampled_from([0.5, 3.0, 59.0, 61.0, 3600.0])),
    max_size=120,
)


@given(STEPS, st.sampled_from(["", "23:00-07:00", "00:00-12:00"]))
def test_what_was_told_last_is_always_how_it_is_in_the_end(
    steps: list[tuple[int | None, float]], quiet: str
) -> None:
    world = World(quiet=quiet, hour=20)
    there: dict[int, Event] = {}
    told: dict[Any, bool] = {}
    last: dict[str, float] = defaultdict(lambda: float("-inf"))

    def hear(events: list[Event]) -> None:
        is_quiet = world.outbox.quiet is not None and world.outbox.quiet.holds(world.now_ms)
        for kind in {each.kind for each in events}:
            assert world.passed_s - last[kind.name] >= EVERY_S
            last[kind.name] = world.passed_s
            assert not is_quiet or kind.level == Level.CRITICAL
        for each in events:
            begins = each.lasted_s is None
            assert told.get(each.key, False) is not begins, "begin and end take turns"
            told[each.key] = begins

    for number, after_s in steps:
        if number is not None:
            if number in there:
                world.add(over(there.pop(number), 1, world.now_ms))
            else:
                kind, subject = PLACES[number]
                there[number] = Event(KINDS[kind], subject, {}, world.now_ms)
                world.add(there[number])
        hear(world.take(after_s))
    for _ in range(30):
        hear(world.take(3600.0))
    assert {key for key, is_on in told.items() if is_on} == {PLACES[number] for number in there}


# --- messages that did not arrive -----------------------------------------------------------------


def test_message_that_did_not_arrive_waits_before_all_others() -> None:
    world = World()
    world.add(BAN, DISK)
    taken = world.take()
    world.add(PAUSE)
    assert world.outbox.give_back(taken, world.now_ms) == []
    assert not world.outbox.has_told(BAN)
    assert world.take(EVERY_S) == [BAN, DISK, PAUSE]
    assert world.outbox.has_told(BAN)


def test_what_is_over_meanwhile_is_told_to_nobody() -> None:
    world = World()
    world.add(BAN, DISK)
    taken = world.take()
    world.add(over(BAN))
    assert world.outbox.give_back(taken, world.now_ms) == [BAN, over(BAN)]
    assert world.take(EVERY_S) == [DISK]


def test_end_that_did_not_arrive_is_told_later_and_a_new_begin_too() -> None:
    world = World()
    world.add(BAN)
    world.take()
    world.add(over(BAN), BAN)
    taken = world.take(EVERY_S)
    assert taken == [over(BAN), BAN]
    world.add(over(BAN, 20))
    assert world.outbox.give_back(taken, world.now_ms) == []
    assert world.take(EVERY_S) == [over(BAN), BAN, over(BAN, 20)]
    assert not world.outbox.has_told(BAN)


def test_what_could_not_be_told_for_a_day_is_no_news() -> None:
    world = World()
    late, new = event("key", "old", MIDNIGHT_MS), event("key", "new", MIDNIGHT_MS + DAY_MS)
    world.add(late, new)
    taken = world.take()
    assert world.outbox.give_back(taken, MIDNIGHT_MS + DAY_MS + 1) == [late]
    assert world.take(EVERY_S) == [new]


def test_no_more_waits_than_there_is_room_for() -> None:
    world = World()
    world.add(*(event("key", f"digest {number}", world.now_ms) for number in range(200)))
    taken = world.take()
    world.add(*(event("disk", f"{number}", world.now_ms) for number in range(10)))
    world.outbox.give_back(taken, world.now_ms)
    assert world.outbox.left_out == 10
    assert len(world.take(EVERY_S)) == 200


def test_end_is_told_of_what_was_told_before_the_start() -> None:
    world = World()
    world.outbox.remember([BAN.key])
    world.add(over(BAN), over(ALSO))
    assert world.take() == [over(BAN)]
