"""The board of alerts: each begins once, after as long as it has to last, and ends once, after a calm."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resender.core.alerts.board import Board, Event, Finding
from resender.core.alerts.kinds import KINDS
from tests.support.alert_events import AT_MS

BAN = Finding("banned", "own spot", {"egress": "own"})
GONE = Finding("unreachable", "spot", {"market": "spot", "why": "a"})
CALM_S = 30.0


class World:
    """A board with a clock."""

    def __init__(self, **holds: float) -> None:
        self.board = Board(holds)
        self.mono = 1000.0

    def look(self, *findings: Finding, after_s: float = 0.0) -> list[Event]:
        self.mono += after_s
        return self.board.look(findings, AT_MS + int((self.mono - 1000.0) * 1000), self.mono)


@pytest.fixture
def world() -> World:
    return World()


def names(events: list[Event]) -> list[tuple[str, str, bool]]:
    return [(event.kind.name, event.subject, event.lasted_s is not None) for event in events]


def test_what_need_not_last_is_told_at_the_first_look_and_once(world: World) -> None:
    (event,) = world.look(BAN)
    assert (event.kind, event.subject, event.values) == (KINDS["banned"], "own spot", {"egress": "own"})
    assert (event.at_ms, event.lasted_s, event.key) == (AT_MS, None, ("banned", "own spot"))
    for _ in range(100):
        assert world.look(BAN, after_s=2) == []
    assert [each.finding for each in world.board.in_force] == [BAN]


def test_what_has_to_last_is_told_when_it_has(world: World) -> None:
    assert KINDS["unreachable"].hold_s == 30
    assert world.look(GONE) == []
    assert world.look(GONE, after_s=29.9) == []
    assert world.board.in_force == []
    (event,) = world.look(GONE, after_s=0.1)
    assert event.at_ms == AT_MS + 30_000
    (there,) = world.board.in_force
    assert there.since_ms == AT_MS, "it has been so from the first look on"


def test_what_is_gone_for_one_look_has_to_last_anew(world: World) -> None:
    world.look(GONE)
    world.look(GONE, after_s=28)
    assert world.look(after_s=1) == []
    assert world.look(GONE, after_s=1) == []
    assert world.look(GONE, after_s=29) == []
    assert len(world.look(GONE, after_s=1)) == 1


def test_what_ends_before_it_was_told_has_no_end_either(world: World) -> None:
    world.look(GONE)
    world.look(GONE, after_s=20)
    for _ in range(60):
        assert world.look(after_s=2) == []


def test_settings_may_ask_for_longer_and_never_for_less() -> None:
    world = World(cache=120.0, unreachable=1.0)
    series = Finding("cache", "um")
    assert world.look(series, GONE) == []
    assert names(world.look(series, GONE, after_s=30)) == [("unreachable", "spot", False)]
    assert world.look(series, GONE, after_s=89) == []
    assert names(world.look(series, GONE, after_s=1)) == [("cache", "um", False)]


def test_end_is_told_after_a_calm_and_tells_how_long_it_was(world: World) -> None:
    world.look(BAN)
    later = Finding("banned", "own spot", {"egress": "own", "seconds": 1})
    world.look(later, after_s=100)
    assert world.look(after_s=CALM_S - 0.1) == []
    assert [each.finding for each in world.board.in_force] == [later]
    (event,) = world.look(after_s=0.1)
    assert event.lasted_s == 100
    assert event.values == later.values, "what it was last"
    assert event.at_ms == AT_MS + 130_000
    assert world.board.in_force == []
    assert world.look(after_s=1000) == []


def test_line_that_comes_and_goes_is_told_once(world: World) -> None:
    told = world.look(BAN)
    for _ in range(50):
        told += world.look(after_s=25)
        told += world.look(BAN, after_s=4)
    assert names(told) == [("banned", "own spot", False)]
    told = world.look(after_s=CALM_S)
    assert [event.lasted_s for event in told] == [50 * 29]


def test_after_its_end_it_begins_anew(world: World) -> None:
    world.look(BAN)
    assert len(world.look(after_s=CALM_S)) == 1
    assert names(world.look(BAN, after_s=10)) == [("banned", "own spot", False)]


def test_looks_that_failed_for_a_while_end_nothing(world: World) -> None:
    world.look(BAN)
    assert world.look(BAN, after_s=500) == [], "nobody has seen it gone"


def test_each_subject_is_an_alert_of_its_own(world: World) -> None:
    other = Finding("banned", "own futures")
    assert names(world.look(BAN)) == [("banned", "own spot", False)]
    assert names(world.look(BAN, other, after_s=5)) == [("banned", "own futures", False)]
    assert names(world.look(other, after_s=CALM_S)) == [("banned", "own spot", True)]
    assert [each.finding for each in world.board.in_force] == [other]


def test_in_force_are_the_told_ones_oldest_first(world: World) -> None:
    world.look(GONE)
    world.look(GONE, Finding("disk", ""), after_s=5)
    world.look(GONE, BAN, Finding("disk", ""), after_s=11)
    assert [each.finding.kind for each in world.board.in_force] == ["disk", "banned"]
    world.look(GONE, BAN, Finding("disk", ""), after_s=14)
    assert [each.finding.kind for each in world.board.in_force] == ["unreachable", "disk", "banned"]


def test_wall_clock_that_jumps_changes_nothing_but_the_times_told() -> None:
    board = Board()
    board.look([BAN], AT_MS, 10.0)
    assert board.look([BAN], AT_MS + 10**9, 12.0) == []
    assert board.look([], AT_MS - 10**9, 14.0) == []
    (event,) = board.look([], 5, 50.0)
    assert (event.at_ms, event.lasted_s) == (5, 2.0)


LOOKED = [Finding("banned", "a"), Finding("banned", "b"), GONE, Finding("cache", "um"), Finding("disk", "")]


@given(
    st.lists(
        st.tuples(st.floats(0.1, 20.0), st.sets(st.integers(0, len(LOOKED) - 1))), min_size=1, max_size=80
    )
)
def test_however_things_come_and_go_each_is_told_in_turn(steps: list[tuple[float, set[int]]]) -> None:
    world = World(cache=45.0)
    seen: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    begun: dict[tuple[str, str], float] = {}
    for after_s, numbers in steps:
        events = world.look(*(LOOKED[number] for number in numbers), after_s=after_s)
        for number, finding in enumerate(LOOKED):
            seen[finding.kind, finding.subject].append((world.mono, number in numbers))
        assert len({(event.key, event.lasted_s is None) for event in events}) == len(events)
        for event in events:
            looks = seen[event.key]
            if event.lasted_s is None:
                assert event.key not in begun, "it begins when it is not in force"
                hold_s = max(event.kind.hold_s, 45.0 if event.kind.name == "cache" else 0.0)
                since = looks[-1][0]
                for mono, was_there in reversed(looks):
                    if not was_there:
                        break
                    since = mono
                assert world.mono - since >= hold_s
                begun[event.key] = since
            else:
                since = begun.pop(event.key)
                last = max(mono for mono, was_there in looks if was_there)
                assert world.mono - last >= CALM_S
                assert event.lasted_s == pytest.approx(last - since)
        in_force = {(each.finding.kind, each.finding.subject) for each in world.board.in_force}
        assert in_force == begun.keys()
    ends = world.look(after_s=CALM_S + 20)
    assert {event.key for event in ends} == begun.keys()
    assert world.board.in_force == []


def test_alert_of_before_the_start_goes_on_or_is_over_soon() -> None:
    board = Board()
    finding, gone = Finding("banned", "own spot"), Finding("disk", "")
    board.resume(finding, 1_000_000, 1_600_000, 50.0)
    board.resume(gone, 1_000_000, 1_600_000, 50.0)
    assert [each.since_ms for each in board.in_force] == [1_000_000] * 2
    assert board.look([finding], 1_601_000, 51.0) == []
    (end,) = board.look([finding], 1_641_000, 91.0)
    assert (end.kind.name, end.lasted_s) == ("disk", 600.0)
    assert [each.finding for each in board.in_force] == [finding]
