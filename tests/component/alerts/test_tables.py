"""The tables of alerts on each kind of database: names of all letters, hostile words, two servers at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from resender.errors import StoreError
from resender.store import AlertChannelRow, DuplicateChannel, Repository, Store, open_repository
from tests.component.store.conftest import (
    database_url,
    mysql_server,
    mysql_url,
    postgresql_server,
    postgresql_url,
    sqlite_url,
)
from tests.support.running import wait_until

__all__ = ["database_url", "mysql_server", "mysql_url", "postgresql_server", "postgresql_url", "sqlite_url"]
pytestmark = pytest.mark.component
# Equal for some collations of servers, and not the same.
ALIKE = ["resume", "résumé", "rèsumè", "ss", "ß", "飞书", "飞書", "a", "ａ", "🔴", "🟠"]


def add(repository: Repository, name: str = "Mine", **more: Any) -> AlertChannelRow:
    values = {"language": "zh", "least": "critical", "quiet": "", **more}
    return repository.alert_channel_add(
        name, "slack", "gAAAA" + "s" * 6000, {"url": "飞书🔴.example"}, **values
    )


def test_channels_come_back_as_they_were_given(database_url: str) -> None:
    with open_repository(database_url) as repository:
        row = add(repository, quiet="23:00-07:00 +08:00")
        assert repository.alert_channels() == [row]
        assert (row.enabled, row.shown, len(row.sealed)) == (True, {"url": "飞书🔴.example"}, 6005)
        changed = repository.alert_channel_update(row.id, {"enabled": False, "shown": {"url": "x"}})
        assert (changed.enabled, changed.shown) == (False, {"url": "x"})
        assert repository.alert_snapshot()[0] == 2
        assert repository.alert_channel_remove(row.id)


def test_names_that_look_alike_are_names_of_their_own(database_url: str) -> None:
    with open_repository(database_url) as repository:
        for name in ALIKE:
            assert add(repository, name).name == name
        with pytest.raises(DuplicateChannel):
            add(repository, "RÉSUMÉ")
        assert [row.name for row in repository.alert_channels()] == ALIKE


@pytest.mark.parametrize("letter", ["x", "飞", "🔴"])
def test_name_may_be_as_long_as_it_is_said(database_url: str, letter: str) -> None:
    with open_repository(database_url) as repository:
        assert add(repository, letter * 64).name == letter * 64


def test_name_whose_small_letters_are_more_is_taken_or_refused(database_url: str) -> None:
    name = "İ" * 64
    assert len(name.lower()) == 128
    with open_repository(database_url) as repository:
        try:
            found = add(repository, name).name
        except ValueError:
            found = name
    assert found == name


@pytest.mark.parametrize(
    "text", ["\0", "a\0b", "\ud800", "🔴" * 400, "'; DROP TABLE alert_event; --", "\\", "%s"]
)
def test_whatever_is_told_is_written(database_url: str, text: str) -> None:
    with open_repository(database_url) as repository:
        number = repository.alert_event_add(
            text, "banned", text, "critical", None, {"why": text}, {text: "waiting"}, 77
        )
        repository.alert_event_told(number, {text: text})
        (row,) = repository.alert_events()
    assert set(row.details) == {"why"}
    assert len(row.told) == 1
    assert row.subject[:1] or "\0" in text


def test_history_is_kept_short_and_read_in_pages(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resender.store.alerts.EVENTS_MAX", 30)
    with open_repository(database_url) as repository:
        numbers = [repository.alert_event_add("gw1", "disk", "", "warning", 5, {}, {}, 77) for _ in range(70)]
        first = repository.alert_events(limit=20)
        rest = repository.alert_events(before_id=first[-1].id, limit=20)
        assert [row.id for row in first + rest] == numbers[:-31:-1]


def test_of_two_that_add_the_same_name_at_once_one_does(database_url: str) -> None:
    with open_repository(database_url):
        pass
    barrier, outcomes = threading.Barrier(3), []

    def work() -> None:
        with open_repository(database_url) as repository:
            barrier.wait(10)
            try:
                add(repository)
                outcomes.append("added")
            except (DuplicateChannel, StoreError) as error:
                outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["DuplicateChannel", "DuplicateChannel", "added"]
    with open_repository(database_url) as repository:
        assert repository.alert_snapshot()[0] == 1


async def test_change_of_another_process_is_noticed(database_url: str) -> None:
    seen: list[list[str]] = []
    store = Store(database_url, poll_s=0.05)
    await store.start(
        lambda entries: None, on_alerts=lambda rows: seen.append([row.name for row in rows[0].channels])
    )
    try:
        assert seen == [[]]
        with open_repository(database_url) as repository:
            add(repository)
        await wait_until(lambda: seen[-1] == ["Mine"])
        await store.alert_change(lambda repository: add(repository, "other"))
        assert seen[-1] == ["Mine", "other"], "in force when it returns"
    finally:
        await store.stop()
