"""The tables of alerts: channels of one name, silences that end, a history that does not grow without end."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from resender.secret_box import SecretBox
from resender.store import AlertChannelRow, AlertSetup, DuplicateChannel, Repository, UnknownChannel
from resender.store.alerts import CHANNELS_MAX, EVENTS_MAX
from tests.support.moment import Moment

SHOWN = {"url": "hooks.example"}
ODD_IDS = [0, -1, 99, 2**31, 2**63, 10**30]


def add(repository: Repository, name: str = "Mine", sealed: str = "sealed", **more: Any) -> AlertChannelRow:
    values = {"shown": SHOWN, "language": "zh", "least": "critical", "quiet": "23:00-07:00", **more}
    return repository.alert_channel_add(name, "slack", sealed, **values)


def revision(repository: Repository) -> int:
    return repository.alert_snapshot()[0]


def write(repository: Repository, subject: str = "own", **more: Any) -> int:
    values: dict[str, Any] = {
        "node": "gw1", "kind": "banned", "subject": subject, "level": "critical", "lasted_s": None,
        "details": {"egress": "own"}, "told": {"Mine": "waiting"}, "time_ms": 77,
    }  # fmt: skip
    return repository.alert_event_add(**{**values, **more})


# --- channels -------------------------------------------------------------------------------------


def test_channel_comes_back_as_it_was_given(repository: Repository, moment: Moment) -> None:
    row = add(repository, "  Mine ")
    assert (row.name, row.kind, row.sealed, row.shown) == ("Mine", "slack", "sealed", SHOWN)
    assert (row.language, row.least, row.quiet) == ("zh", "critical", "23:00-07:00")
    assert row.enabled is True
    assert row.created_ms == moment.ms
    assert repository.alert_channels() == [row]
    assert repository.alert_channel(row.id) == row
    assert repository.alert_snapshot() == (1, (AlertSetup((row,), {}),))


def test_channels_come_oldest_first(repository: Repository) -> None:
    names = ["b", "a", "c"]
    for name in names:
        add(repository, name)
    assert [row.name for row in repository.alert_channels()] == names


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "a\x00b", "a\u202eb"])
def test_name_that_is_none_is_refused(repository: Repository, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 characters"):
        add(repository, name)
    row = add(repository)
    with pytest.raises(ValueError, match="1 to 64 characters"):
        repository.alert_channel_update(row.id, {"name": name})
    assert repository.alert_channels() == [row]
    assert revision(repository) == 1


@pytest.mark.parametrize("name", ["x" * 64, "飞书 群", "<b>", "'; DROP TABLE alert_channel; --", "🔴"])
def test_name_may_be_any_words(repository: Repository, name: str) -> None:
    assert add(repository, name).name == name


def test_name_is_one_channel_whatever_its_case(repository: Repository) -> None:
    first = add(repository, "Ünit")
    with pytest.raises(DuplicateChannel) as caught:
        add(repository, "üNIT")
    assert caught.value.row == first
    second = add(repository, "other")
    with pytest.raises(DuplicateChannel):
        repository.alert_channel_update(second.id, {"name": " ünit "})
    assert repository.alert_channels() == [first, second]
    assert revision(repository) == 2
    assert repository.alert_channel_update(first.id, {"name": "ÜNIT"}).name == "ÜNIT", "its own name"


def test_there_are_no_more_channels_than_anybody_needs(repository: Repository) -> None:
    for number in range(CHANNELS_MAX):
        add(repository, f"channel {number}")
    with pytest.raises(ValueError, match="remove one first"):
        add(repository, "one more")
    assert len(repository.alert_channels()) == CHANNELS_MAX
    repository.alert_channel_remove(1)
    add(repository, "one more")


def test_change_is_of_what_is_given(repository: Repository) -> None:
    row, other = add(repository), add(repository, "other")
    changes = {
        "name": "New", "sealed": "again", "shown": {"url": "new.example"}, "language": "en", "least": "warning",
        "quiet": "", "enabled": False,
    }  # fmt: skip
    for count, (name, value) in enumerate(changes.items(), 3):
        changed = repository.alert_channel_update(row.id, {name: value})
        assert getattr(changed, name) == value
        assert revision(repository) == count, "each is noticed"
    assert (changed.id, changed.kind, changed.created_ms) == (row.id, row.kind, row.created_ms)
    assert repository.alert_channel(other.id) == other


@pytest.mark.parametrize("channel_id", ODD_IDS)
def test_channel_that_is_not_there_is_told(repository: Repository, channel_id: int) -> None:
    add(repository)
    with pytest.raises(UnknownChannel):
        repository.alert_channel(channel_id)
    with pytest.raises(UnknownChannel):
        repository.alert_channel_update(channel_id, {"enabled": False})
    assert not repository.alert_channel_remove(channel_id)
    assert revision(repository) == 1


def test_removed_channel_is_gone_and_its_number_is_not_given_again(repository: Repository) -> None:
    row = add(repository)
    assert repository.alert_channel_remove(row.id)
    assert not repository.alert_channel_remove(row.id)
    assert revision(repository) == 2
    assert add(repository).id > row.id, "what waits for the old one is not sent to the new one"


def test_change_that_fails_is_undone_as_a_whole(repository: Repository) -> None:
    row = add(repository)
    with pytest.raises(ZeroDivisionError), repository.transaction():
        repository.alert_channel_update(row.id, {"enabled": False})
        raise ZeroDivisionError
    assert repository.alert_snapshot() == (1, (AlertSetup((row,), {}),))


@pytest.mark.parametrize("text", ["s" * 64, "t" * 9000], ids=["short", "long"])
def test_nothing_of_a_secret_is_in_the_file_after_its_removal(
    repository: Repository, path: Path, text: str
) -> None:
    repository.database.pragma("secure_delete", 0)
    sealed = SecretBox("k" * 32, path.parent).seal(text, "alert channel slack")
    row = add(repository, sealed=sealed)
    assert repository.empty_wal()
    assert sealed[-60:].encode() in path.read_bytes()
    repository.alert_channel_remove(row.id)
    assert repository.empty_wal()
    assert sealed[-60:].encode() not in path.read_bytes()


# --- silences -------------------------------------------------------------------------------------


def test_silence_of_a_kind_lasts_until_its_time(repository: Repository, moment: Moment) -> None:
    assert repository.alert_silences() == {}
    assert repository.alert_silence("banned", moment.ms + 5000) == {"banned": moment.ms + 5000}
    assert repository.alert_silence("*", moment.ms + 9000) == {
        "banned": moment.ms + 5000, "*": moment.ms + 9000,
    }  # fmt: skip
    assert repository.alert_snapshot()[1][0].silences == repository.alert_silences()
    assert revision(repository) == 2
    moment.ms += 6000
    assert repository.alert_silence("disk", moment.ms + 1) == {
        "*": moment.ms + 3000, "disk": moment.ms + 1,
    }, "what is over is forgotten"  # fmt: skip


@pytest.mark.parametrize("until_ms", [0, -5, 1])
def test_time_that_has_passed_ends_a_silence(repository: Repository, moment: Moment, until_ms: int) -> None:
    repository.alert_silence("banned", moment.ms + 5000)
    repository.alert_silence("disk", moment.ms + 5000)
    assert repository.alert_silence("banned", until_ms) == {"disk": moment.ms + 5000}
    assert repository.alert_silences() == {"disk": moment.ms + 5000}


@pytest.mark.parametrize("text", ["", "x", "[]", "7", "null", '{"a":"b"}', '{"a":null}', '{"a":[]}'])
def test_silences_that_cannot_be_read_are_none(repository: Repository, text: str) -> None:
    repository.state_set("alert_silences", text)
    assert repository.alert_silences() == {}
    assert repository.alert_snapshot() == (0, (AlertSetup(),))


# --- history --------------------------------------------------------------------------------------


def test_event_comes_back_as_it_was_written(repository: Repository) -> None:
    number = write(repository, details={"egress": "出口", "seconds": 9}, told={"飞书": "ok"}, lasted_s=61)
    (row,) = repository.alert_events()
    assert (row.id, row.time_ms, row.node, row.kind, row.subject, row.level, row.lasted_s) == (
        number, 77, "gw1", "banned", "own", "critical", 61,
    )  # fmt: skip
    assert (row.details, row.told) == ({"egress": "出口", "seconds": 9}, {"飞书": "ok"})
    assert revision(repository) == 0, "a setup does not change with it"


def test_what_became_of_an_event_is_written_into_its_row(repository: Repository) -> None:
    first, second = write(repository), write(repository)
    repository.alert_event_told(first, {"Mine": "ok", "Other": "HTTP 500"})
    repository.alert_event_told(10**6, {"Mine": "ok"})
    rows = {row.id: row.told for row in repository.alert_events()}
    assert rows == {first: {"Mine": "ok", "Other": "HTTP 500"}, second: {"Mine": "waiting"}}


def test_history_is_read_in_pages_newest_first(repository: Repository) -> None:
    numbers = [write(repository, f"s{number}") for number in range(25)]
    found: list[int] = []
    before = None
    while page := repository.alert_events(before_id=before, limit=10):
        assert len(page) <= 10
        found += [row.id for row in page]
        before = page[-1].id
    assert found == numbers[::-1]
    assert len(repository.alert_events(limit=0)) == 1
    assert len(repository.alert_events(limit=10**9)) == 25


@pytest.mark.parametrize("before_id", [0, -1, 2**31, 2**63])
def test_page_before_a_row_that_cannot_be_is_empty(repository: Repository, before_id: int) -> None:
    write(repository)
    assert repository.alert_events(before_id=before_id) == []


def test_history_keeps_the_latest_and_no_more(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EVENTS_MAX >= 1000
    monkeypatch.setattr("resender.store.alerts.EVENTS_MAX", 20)
    numbers = [write(repository) for _ in range(50)]
    assert [row.id for row in repository.alert_events()] == numbers[:29:-1]


@pytest.mark.parametrize("text", ["\ud800", "\0", "x" * 5000, "'; --", "<script>", "🔴" * 300])
def test_whatever_words_an_event_has_it_is_written(repository: Repository, text: str) -> None:
    write(repository, text, node=text, details={"why": text}, told={text: text})
    (row,) = repository.alert_events()
    assert len(row.subject) <= 255
    assert len(row.node) <= 64
    row.subject.encode()
    assert set(row.details) == {"why"}


def test_tables_are_those_the_migration_made(repository: Repository, path: Path) -> None:
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT name FROM sqlite_master WHERE name LIKE 'alert%'").fetchall()
    database.close()
    assert {name for (name,) in rows} >= {"alert_channel", "alert_event"}
    assert repository.state_get("alert_revision") == "0"
