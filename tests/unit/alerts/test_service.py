"""Alerts reach their channels: once, in time, over faults of channels and database, and all of it is written down."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from resender.alerts import NotSent
from resender.alerts.service import LOOK_S
from resender.core.alerts.board import Event, Finding
from resender.store import AlertChannelRow
from tests.support.alert_events import MARK, VALUES
from tests.support.alert_world import AlertWorld, fast

BAN = Finding("banned", "own spot", VALUES["banned"])
ALSO = Finding("banned", "own futures", {**VALUES["banned"], "pool": "futures"})
DISK = Finding("disk", "", VALUES["disk"])
BEGUN, OVER = ("banned", "own spot", False), ("banned", "own spot", True)
HOUR_MS = 3_600_000
# Longer than any calm and any minute between messages.
LONG_S = 100.0


async def refuse(row: AlertChannelRow, events: Sequence[Event]) -> None:
    raise NotSent("HTTP 503: try later")


async def hang(row: AlertChannelRow, events: Sequence[Event]) -> None:
    await asyncio.sleep(10_000)


class Down:
    """A channel that takes nothing until it is up."""

    def __init__(self) -> None:
        self.is_up = False

    async def __call__(self, row: AlertChannelRow, events: Sequence[Event]) -> None:
        if not self.is_up:
            raise NotSent("no answer in time")


# --- an alert and its end -------------------------------------------------------------------------


@fast
async def test_alert_and_its_end_reach_every_channel_and_the_history(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one", "two")
        world.wrong = [BAN]
        await world.wait(3)
        assert [each.finding for each in world.alerts.in_force] == [BAN]
        assert world.post.of("one") == world.post.of("two") == [BEGUN]
        await world.wait(LONG_S)
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.of("one") == world.post.of("two") == [BEGUN, OVER]
        assert world.alerts.in_force == []
        first, last = world.history()
    assert (first.kind, first.subject, first.level, first.node) == ("banned", "own spot", "critical", "gw1")
    assert first.details == dict(BAN.values)
    assert first.lasted_s is None
    assert last.lasted_s is not None
    assert 95 <= last.lasted_s <= 105
    assert first.told == last.told == {"one": "ok", "two": "ok"}


@fast
async def test_what_begins_is_told_within_seconds(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        await world.wait(11.1)
        world.wrong = [BAN]
        await world.wait(LOOK_S + 0.6)
        assert world.post.of("one") == [BEGUN]
        assert world.looks < 10


@fast
async def test_alert_is_written_down_where_nobody_is_told(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.wrong = [BAN]
        await world.wait(5)
        assert [(row.kind, row.told) for row in world.history()] == [("banned", {})]
        assert len(world.alerts.in_force) == 1


@fast
async def test_setting_of_the_cache_is_kept_to(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path, cache_s=50.0) as world:
        world.wrong = [Finding("cache", "um", VALUES["cache"])]
        await world.wait(48)
        assert world.alerts.in_force == []
        await world.wait(6)
        assert len(world.alerts.in_force) == 1


@fast
async def test_look_that_fails_ends_nothing_and_is_followed_by_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(3)
        world.is_blind = True
        world.alerts.note("login", "root 203.0.113.9", **VALUES["login"])
        await world.wait(LONG_S)
        assert ("login", "root 203.0.113.9", False) in world.post.of("one"), "what happens is still told"
        world.is_blind = False
        await world.wait(10)
        assert OVER not in world.post.of("one")
        assert len(world.alerts.in_force) == 1
    assert "a look for alerts has failed" in caplog.text


# --- what happens at one moment -------------------------------------------------------------------


@fast
async def test_what_happens_is_told_at_once_and_has_no_end(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        await world.wait(1)
        world.alerts.note("key", "digest", **VALUES["key"])
        await world.wait(0.2)
        assert world.post.of("one") == [("key", "digest", False)]
        assert world.alerts.in_force == []
        await world.wait(LONG_S)
        assert len(world.post.of("one")) == 1
        assert len(world.history()) == 1


@fast
async def test_same_of_one_subject_is_told_once_in_ten_minutes(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        for _ in range(660):
            world.alerts.note("key", "digest", **VALUES["key"])
            world.alerts.note("key", "other", **VALUES["key"])
            await world.wait(1)
        subjects = [subject for _, subject, _ in world.post.of("one")]
        assert sorted(subjects) == ["digest", "digest", "other", "other"]
        assert len(world.history()) == 4


@fast
async def test_very_many_subjects_take_no_more_and_more_memory(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        for number in range(5000):
            world.alerts.note("login", f"user {number}", **VALUES["login"])
            if not number % 100:
                await world.wait(0.1)
        assert len(world.alerts._same) <= 1000
        assert len(world.alerts._told) <= 500


# --- channels -------------------------------------------------------------------------------------


@fast
async def test_slow_channel_delays_no_other(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("slow", "quick")
        world.post.ways["slow"] = hang
        world.wrong = [BAN]
        await world.wait(3)
        assert world.post.of("quick") == [BEGUN]
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.of("quick") == [BEGUN, OVER]
        assert world.post.of("slow") == []
        assert world.told()[0] == {"slow": "waiting", "quick": "ok"}


@fast
async def test_what_comes_while_a_message_is_under_way_waits_and_follows(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:

        async def slow(row: AlertChannelRow, events: Sequence[Event]) -> None:
            await asyncio.sleep(30)

        world.setup("slow")
        world.post.ways["slow"] = slow
        world.wrong = [BAN]
        await world.wait(3)
        world.wrong = [BAN, DISK]
        await world.wait(20)
        assert len(world.post.tried) == 1, "one message at a time"
        await world.wait(LONG_S)
        assert world.post.of("slow") == [BEGUN, ("disk", "", False)]


@pytest.mark.parametrize("down_s", [2, 20, 100, 150])
@fast
async def test_nothing_is_lost_while_a_channel_is_down_for_a_while(tmp_path: Path, down_s: float) -> None:
    async with AlertWorld(tmp_path) as world:
        way = world.post.ways["one"] = Down()
        world.setup("one")
        world.wrong = [BAN, DISK]
        await world.wait(down_s)
        assert world.alerts.state_of(world.channel("one").id)["problem"] == "no answer in time"
        way.is_up = True
        await world.wait(400)
        assert sorted(world.post.of("one")) == [BEGUN, ("disk", "", False)]
        assert world.told() == [{"one": "ok"}, {"one": "ok"}]
        state = world.alerts.state_of(world.channel("one").id)
        assert (state["problem"], state["failed"]) == ("", 0)
        assert state["sent"] >= 1
        assert state["last"] is not None


@fast
async def test_channel_that_stays_down_rests_and_has_what_is_still_in_force_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one", "two")
        world.post.ways["one"] = refuse
        world.wrong = [BAN]
        await world.wait(200)
        times = [mono - world.post.tried[0][0] for mono, row, _ in world.post.tried if row.name == "one"]
        assert times == pytest.approx([0, 5, 35, 155])
        assert world.told() == [{"one": "HTTP 503: try later", "two": "ok"}]
        state = world.alerts.state_of(world.channel("one").id)
        assert (state["problem"], state["sent"], state["failed"]) == ("HTTP 503: try later", 0, 1)
        assert "alert channel one: HTTP 503: try later" in caplog.text
        await world.wait(6 * 3600)
        tries = [mono for mono, row, _ in world.post.tried if row.name == "one"]
        assert 4 * 12 <= len(tries) <= 4 * 24, "it is asked again, and ever more seldom"
        del world.post.ways["one"]
        await world.wait(2100)
        assert world.post.of("one") == [BEGUN]
        assert world.told() == [{"one": "ok", "two": "ok"}]
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.of("one") == world.post.of("two") == [BEGUN, OVER]
        assert world.alerts.state_of(world.channel("one").id)["problem"] == ""


@fast
async def test_what_began_and_ended_while_a_channel_was_down_is_not_told(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        way = world.post.ways["one"] = Down()
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(20)
        world.wrong = []
        await world.wait(200)
        way.is_up = True
        world.alerts.note("key", "digest", **VALUES["key"])
        await world.wait(4000)
        assert world.post.of("one") == [("key", "digest", False)]
        assert world.told() == [{"one": "over"}, {"one": "over"}, {"one": "ok"}]


@fast
async def test_silence_is_kept_to_by_a_message_that_did_not_arrive(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        way = world.post.ways["one"] = Down()
        world.setup("one")
        world.wrong = [BAN, DISK]
        await world.wait(20)
        world.setup("one", banned=world.now_ms + HOUR_MS)
        await world.wait(200)
        way.is_up = True
        await world.wait(300)
        assert world.post.of("one") == [("disk", "", False)]
        assert world.told() == [{"one": "silent"}, {"one": "ok"}]


@fast
async def test_corrected_channel_is_tried_at_once(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        way = world.post.ways["one"] = Down()
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(3600)
        way.is_up = True
        world.setup(world.channel("one", sealed="y"))
        await world.wait(150)
        assert world.post.of("one") == [BEGUN]


# --- over a restart -------------------------------------------------------------------------------


@fast
async def test_what_is_in_force_over_a_restart_is_told_once_and_its_end_is(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        world.wrong = [BAN, DISK]
        await world.wait(LONG_S)
        assert sorted(world.post.of("one")) == [BEGUN, ("disk", "", False)]
    async with AlertWorld(tmp_path, after_s=LONG_S + 50) as world:
        world.setup("one", "new")
        world.wrong = [BAN]  # the disk was emptied meanwhile
        await world.wait(LONG_S)
        assert world.post.of("one") == [("disk", "", True)]
        assert [each.finding.kind for each in world.alerts.in_force] == ["banned"]
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.of("one") == [("disk", "", True), OVER]
        assert world.post.of("new") == []
        assert world.history()[-1].lasted_s == pytest.approx(LONG_S + 50 + LONG_S, abs=10)


@fast
async def test_what_no_channel_was_told_before_a_restart_is_told_after_it(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.post.ways["one"] = refuse
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(LONG_S)
    async with AlertWorld(tmp_path, after_s=LONG_S + 50) as world:
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(LONG_S)
        assert world.post.of("one") == [BEGUN]


@fast
async def test_database_that_cannot_tell_what_was_before_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AlertWorld(tmp_path, problem="gone") as world:
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(5)
        assert world.post.of("one") == [BEGUN]
    assert "alerts of before the start are not known" in caplog.text


@fast
async def test_failure_nobody_has_thought_of_is_one_of_a_channel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_off(row: AlertChannelRow, events: Sequence[Event]) -> None:
        raise KeyError("odd")

    async with AlertWorld(tmp_path) as world:
        world.setup("one", "two")
        world.post.ways["one"] = break_off
        world.wrong = [BAN]
        await world.wait(200)
        assert world.told() == [{"one": "KeyError", "two": "ok"}]
        del world.post.ways["one"]
        world.alerts.note("key", "digest", **VALUES["key"])
        await world.wait(LONG_S)
        assert sorted(world.post.of("one")) == [BEGUN, ("key", "digest", False)]
    assert "could not be sent to channel one" in caplog.text


@fast
async def test_channel_of_critical_alerts_gets_those_alone(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("all", world.channel("some", least="critical"))
        world.wrong = [BAN, DISK]
        await world.wait(20)
        assert len(world.post.of("all")) == 2
        assert world.post.of("some") == [BEGUN]


@fast
async def test_history_names_no_channel_that_is_never_told_of_it(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("all", world.channel("some", least="critical"))
        world.wrong = [DISK]
        await world.wait(LONG_S)
        (row,) = world.history()
        assert row.told["all"] == "ok"
        assert row.told.get("some") != "waiting"


@fast
async def test_channel_that_is_off_gets_nothing(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one", world.channel("off", enabled=False))
        world.wrong = [BAN]
        await world.wait(5)
        assert {row.name for _, row, _ in world.post.tried} == {"one"}
        assert world.told() == [{"one": "ok"}]


# --- changes of the setup -------------------------------------------------------------------------


@fast
async def test_channel_added_later_is_told_of_the_next_alert_and_of_no_end_it_does_not_know(
    tmp_path: Path,
) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(70)
        world.setup("one", "two")
        world.wrong = [ALSO]
        await world.wait(LONG_S)
        assert world.post.of("one") == [BEGUN, ("banned", "own futures", False), OVER]
        assert world.post.of("two") == [("banned", "own futures", False)]


@fast
async def test_correction_of_a_channel_counts_for_the_message_that_is_tried_again(tmp_path: Path) -> None:
    async def wrong_address(row: AlertChannelRow, events: Sequence[Event]) -> None:
        if row.sealed == "wrong":
            raise NotSent("HTTP 404")

    async with AlertWorld(tmp_path) as world:
        world.post.ways["one"] = wrong_address
        world.setup(world.channel("one", 1, sealed="wrong"))
        world.wrong = [BAN]
        await world.wait(4)
        assert world.post.sent == []
        world.setup(world.channel("one", 1, sealed="right"))
        await world.wait(5)
        assert world.post.of("one") == [BEGUN]


@fast
async def test_removed_channel_is_not_tried_again(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.post.ways["one"] = Down()
        world.setup("one", "two")
        world.wrong = [BAN]
        await world.wait(3)
        tried = len(world.post.tried)
        world.setup("two")
        await world.wait(300)
        assert [row.name for _, row, _ in world.post.tried[tried:]] == []
        assert world.alerts.state_of(world.channel("one").id) == {
            "problem": "", "sent": 0, "failed": 0, "last": None, "left_out": 0,
        }  # fmt: skip


@fast
async def test_renamed_channel_is_written_down_by_its_new_name(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup(world.channel("one", 1))
        world.wrong = [BAN]
        await world.wait(3)
        world.setup(world.channel("other", 1))
        world.wrong = []
        await world.wait(LONG_S)
        assert world.told() == [{"one": "ok"}, {"other": "ok"}]


@fast
async def test_quiet_hours_nobody_can_read_are_none(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup(world.channel("one", quiet="at night"))
        world.wrong = [DISK]
        await world.wait(20)
        assert world.post.of("one") == [("disk", "", False)]


# --- quiet hours ----------------------------------------------------------------------------------


# The world begins on a day at 14:13:20 UTC.
@fast
async def test_warning_of_quiet_hours_follows_them_and_what_ended_in_them_does_not(tmp_path: Path) -> None:
    gone = Finding("node", "gw2", VALUES["node"])
    async with AlertWorld(tmp_path) as world:
        world.setup(world.channel("one", quiet="14:00-15:00"))
        world.wrong = [DISK, gone]
        world.alerts.note("login", "root 203.0.113.9", **VALUES["login"])
        await world.wait(LONG_S)
        assert world.post.of("one") == [("node", "gw2", False)]
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.of("one") == [("node", "gw2", False), ("node", "gw2", True)]
        await world.wait(3600)
        assert world.post.of("one")[2:] == [("login", "root 203.0.113.9", False)]


@fast
async def test_history_does_not_wait_for_what_is_not_told_any_more(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup(world.channel("one", quiet="14:00-15:00"))
        world.wrong = [DISK]
        await world.wait(LONG_S)
        world.wrong = []
        await world.wait(7200)
        assert world.post.of("one") == []
        assert len(world.history()) == 2
        assert "waiting" not in {word for told in world.told() for word in told.values()}


# --- silence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", ["all_", "banned"])
@fast
async def test_silence_is_written_down_and_sent_to_nobody(tmp_path: Path, silent: str) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one", "two", **{silent: world.now_ms + HOUR_MS})
        assert set(world.alerts.silences) == {"*" if silent == "all_" else silent}
        world.wrong = [BAN]
        await world.wait(LONG_S)
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.tried == []
        assert [(row.kind, row.lasted_s is None) for row in world.history()] == [
            ("banned", True), ("banned", False),
        ]  # fmt: skip
        assert world.told() == [{"one": "silent", "two": "silent"}] * 2


@fast
async def test_silence_of_one_kind_is_none_of_another(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one", disk=world.now_ms + HOUR_MS)
        world.wrong = [BAN, DISK]
        await world.wait(20)
        assert world.post.of("one") == [BEGUN]
        assert world.told() == [{"one": "ok"}, {"one": "silent"}]


@fast
async def test_silence_ends_by_itself(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one", all_=world.now_ms + HOUR_MS)
        await world.wait(3601)
        assert world.alerts.silences == {}
        world.wrong = [BAN]
        await world.wait(5)
        assert world.post.of("one") == [BEGUN]


@fast
async def test_what_waits_when_a_silence_begins_is_not_sent_in_it(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(5)
        world.wrong = [BAN, ALSO]
        await world.wait(5)
        world.setup("one", all_=world.now_ms + HOUR_MS)
        await world.wait(1000)
        assert world.post.of("one") == [BEGUN]


@fast
async def test_alert_that_ends_in_a_silence_before_it_was_told_is_not_told(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup(world.channel("one", quiet="14:00-16:00"))
        world.wrong = [DISK]
        await world.wait(LONG_S)
        world.setup(world.channel("one", quiet="14:00-16:00"), disk=world.now_ms + HOUR_MS)
        world.wrong = []
        await world.wait(3 * 3600)
        assert world.alerts.in_force == []
        assert world.post.of("one") == []


# --- the database ---------------------------------------------------------------------------------


@fast
async def test_database_fault_stops_no_alert(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trouble = Finding("database", "", VALUES["database"])
    async with AlertWorld(tmp_path) as world:
        world.setup("one", "two")
        world.tables.problem = "The database x cannot grow: the disk is full."
        world.wrong = [trouble]
        world.alerts.note("key", "digest", **VALUES["key"])
        await world.wait(20)
        wanted = [("key", "digest", False), ("database", "", False)]
        assert world.post.of("one") == world.post.of("two") == wanted
        assert "the history of alerts lacks one" in caplog.text
        world.tables.problem = ""
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.of("one")[2:] == [("database", "", True)]
        assert [(row.kind, row.told) for row in world.history()] == [("database", {"one": "ok", "two": "ok"})]


@fast
async def test_slow_database_delays_no_message_and_has_the_outcome_in_the_end(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        world.tables.delay_s = 10.0
        world.wrong = [BAN]
        await world.wait(3)
        assert world.post.of("one") == [BEGUN]
        assert world.history() == []
        await world.wait(LONG_S)
        assert world.told() == [{"one": "ok"}]


@fast
async def test_outcome_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        way = world.post.ways["one"] = Down()
        world.setup("one")
        world.wrong = [BAN]
        await world.wait(3)
        world.tables.problem = "gone"
        way.is_up = True
        await world.wait(LONG_S)
        assert world.post.of("one") == [BEGUN]
        world.tables.problem = ""
        world.wrong = []
        await world.wait(LONG_S)
        assert world.post.of("one") == [BEGUN, OVER]


# --- the end of the process -----------------------------------------------------------------------


@fast
async def test_message_under_way_at_the_end_leaves(tmp_path: Path) -> None:
    async def slow(row: AlertChannelRow, events: Sequence[Event]) -> None:
        await asyncio.sleep(2)

    async with AlertWorld(tmp_path) as world:
        world.setup("one", "never")
        world.post.ways |= {"one": slow, "never": hang}
        world.wrong = [BAN]
        await world.wait(0.5)
        assert world.post.sent == []
        begun = world.passed_s
        await world.alerts.stop()
        assert world.post.of("one") == [BEGUN]
        assert world.passed_s - begun == pytest.approx(3.0), "no longer for one that hangs"


@fast
async def test_end_without_messages_takes_no_time(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        world.setup("one")
        await world.wait(1)
        begun = world.passed_s
        await world.alerts.stop()
        assert world.passed_s == begun


# --- a test of a channel --------------------------------------------------------------------------


@fast
async def test_test_goes_to_its_channel_at_once_in_silence_and_quiet_hours_too(tmp_path: Path) -> None:
    async with AlertWorld(tmp_path) as world:
        row = world.channel("one", quiet="00:00-23:59", least="critical")
        world.setup(row, "two", all_=world.now_ms + HOUR_MS)
        await world.alerts.test(row)
        assert world.post.of("one") == [("test", "", False)]
        assert world.post.of("two") == []
        await world.wait(1)
        assert world.history() == [], "it is in the audit"
        world.post.ways["one"] = refuse
        with pytest.raises(NotSent, match="HTTP 503"):
            await world.alerts.test(row)


# --- secrets and storms ---------------------------------------------------------------------------


@fast
async def test_nothing_sealed_is_logged_or_written_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with AlertWorld(tmp_path) as world:
        world.setup(world.channel("one", sealed=MARK), world.channel("two", sealed=MARK))
        world.post.ways["one"] = refuse
        world.wrong = [BAN, DISK]
        await world.wait(300)
        assert MARK not in repr(world.history()) + repr(vars(world.alerts)) + caplog.text
    assert "alert: Binance has banned" in caplog.text


STEPS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 7.0, 31.0, 61.0, 400.0]),
        st.sets(st.sampled_from(range(4))),
        st.booleans(),
        st.sampled_from(["", "disk", "all_"]),
    ),
    min_size=1,
    max_size=25,
)
FINDINGS = (BAN, ALSO, DISK, Finding("node", "gw2", VALUES["node"]))


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@example(
    [(1.0, {0}, False, ""), (400.0, {0}, False, "all_"), (1.0, set(), False, "")]
)  # silent before it was told
@given(STEPS)
def test_however_it_storms_a_kind_is_told_once_a_minute_and_in_turn(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, set[int], bool, str]]
) -> None:
    @fast
    async def play() -> None:
        async with AlertWorld(tmp_path_factory.mktemp("storm")) as world:
            way = world.post.ways["shaky"] = Down()
            for after_s, wrong, is_up, silent in steps:
                way.is_up = is_up
                world.setup("shaky", "good", **({silent: world.now_ms + HOUR_MS} if silent else {}))
                world.wrong = [FINDINGS[number] for number in wrong]
                await world.wait(after_s)
            way.is_up = True
            world.setup("shaky", "good")
            await world.wait(1000)
            for name in ("shaky", "good"):
                last: dict[str, float] = defaultdict(lambda: float("-inf"))
                on: dict[tuple[str, str], bool] = {}
                # A message is counted where it is tried first, however often it is tried then.
                seen: list[tuple[Event, ...]] = []
                for mono, row, events in world.post.tried:
                    if row.name != name or events in seen:
                        continue
                    seen.append(events)
                    for kind in {event.kind.name for event in events}:
                        assert mono - last[kind] >= 60
                        last[kind] = mono
                for _, row, events in world.post.sent:
                    for event in events if row.name == name else ():
                        begins = event.lasted_s is None
                        # Of an end in a silence nothing is told: it may begin twice, never end twice.
                        assert begins or on.get(event.key)
                        on[event.key] = begins
            assert len(world.history()) <= 2 * 4 * (len(steps) + 1)

    play()
