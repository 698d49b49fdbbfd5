"""The whitelist table: one row for an address in any spelling, and a revision that never misses a change."""

from __future__ import annotations

from typing import Any

import pytest

from resender.store import NOTE_MAX, BadNote, DuplicateEntry, Repository, UnknownEntry
from tests.support.moment import Moment


def addresses(repository: Repository) -> list[str]:
    return [entry.address for entry in repository.whitelist_list()]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("10.0.0.1", "10.0.0.1"), ("10.0.0.0/24", "10.0.0.0/24"), ("2001:DB8::1", "2001:db8::1"),
     ("::ffff:10.0.0.1", "10.0.0.1"), (" 10.0.0.1 ", "10.0.0.1")],
)  # fmt: skip
def test_address_is_kept_in_its_canonical_form(repository: Repository, given: str, kept: str) -> None:
    assert repository.whitelist_add(given).address == kept
    found = repository.whitelist_get(given)
    assert found is not None
    assert found.address == kept


def test_same_address_in_another_spelling_is_refused_with_the_row_that_has_it(repository: Repository) -> None:
    first = repository.whitelist_add("2001:db8::1", "mine")
    with pytest.raises(DuplicateEntry) as caught:
        repository.whitelist_add("2001:0db8:0::1")
    assert caught.value.entry == first
    other = repository.whitelist_add("10.0.0.1")
    with pytest.raises(DuplicateEntry):
        repository.whitelist_update(other.id, address="2001:db8::1")
    assert repository.whitelist_update(first.id, address="2001:db8:0::1").address == "2001:db8::1"


def test_entry_is_changed_where_something_is_given(repository: Repository, moment: Moment) -> None:
    entry = repository.whitelist_add("10.0.0.1", "a note")
    moment.ms += 5
    changed = repository.whitelist_update(entry.id, enabled=False)
    assert (changed.address, changed.note, changed.enabled) == ("10.0.0.1", "a note", False)
    assert (changed.created_ms, changed.updated_ms) == (moment.ms - 5, moment.ms)


@pytest.mark.parametrize("gone", [99, 10**17])
def test_change_of_an_entry_that_is_gone_is_refused(repository: Repository, gone: int) -> None:
    with pytest.raises(UnknownEntry):
        repository.whitelist_update(gone, note="x")
    assert not repository.whitelist_remove(gone)


def test_entry_is_removed_by_its_id_or_its_address(repository: Repository) -> None:
    first, second = repository.whitelist_add("10.0.0.1"), repository.whitelist_add("10.0.0.2")
    assert repository.whitelist_remove(str(first.id))
    assert repository.whitelist_remove(" 10.0.0.2 ")
    assert addresses(repository) == []
    with pytest.raises(ValueError, match="nonsense"):
        repository.whitelist_remove("nonsense")
    assert second.id == first.id + 1


@pytest.mark.parametrize("note", ["x" * (NOTE_MAX + 1), "\ud800"])
def test_note_that_cannot_be_kept_changes_nothing(repository: Repository, note: str) -> None:
    entry = repository.whitelist_add("10.0.0.1", "y" * NOTE_MAX)
    revision = repository.whitelist_revision()
    for change in (
        lambda: repository.whitelist_add("10.0.0.2", note),
        lambda: repository.whitelist_update(entry.id, note=note),
        lambda: repository.whitelist_add_many([("10.0.0.3", "", True), ("10.0.0.4", note, True)]),
        lambda: repository.whitelist_update_many([(entry.id, None, False), (entry.id, note, None)]),
    ):
        with pytest.raises(BadNote):
            change()
    assert repository.whitelist_list() == [entry]
    assert repository.whitelist_revision() == revision


# -- the revision ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda r, i: r.whitelist_add("10.0.0.9"),
        lambda r, i: r.whitelist_update(i, note="x"),
        lambda r, i: r.whitelist_remove(i),
        lambda r, i: r.whitelist_add_many([("10.0.0.9", "", True)]),
        lambda r, i: r.whitelist_update_many([(i, "x", None)]),
        lambda r, i: r.whitelist_remove_many([i]),
    ],
)
def test_every_change_raises_the_revision(repository: Repository, change: Any) -> None:
    entry = repository.whitelist_add("10.0.0.1")
    before = repository.whitelist_revision()
    change(repository, entry.id)
    assert repository.whitelist_revision() == before + 1
    assert repository.whitelist_snapshot() == (before + 1, tuple(repository.whitelist_list()))


def test_refused_change_and_a_call_that_was_seen_raise_no_revision(repository: Repository) -> None:
    entry = repository.whitelist_add("10.0.0.1")
    before = repository.whitelist_revision()
    with pytest.raises(DuplicateEntry):
        repository.whitelist_add("10.0.0.1")
    with pytest.raises(UnknownEntry):
        repository.whitelist_update(99, note="x")
    repository.whitelist_remove("10.0.0.8")
    repository.whitelist_seen({entry.id: (3, 7)})
    assert repository.whitelist_revision() == before


# -- many at once ---------------------------------------------------------------------------------


def test_many_are_added_in_order_or_none(repository: Repository) -> None:
    rows = [(f"10.0.{n >> 8}.{n & 255}", f"n{n}", n % 2 == 0) for n in range(250)]
    added = repository.whitelist_add_many(rows)
    assert [(each.address, each.note, each.enabled) for each in added] == rows
    with pytest.raises(DuplicateEntry):
        repository.whitelist_add_many([("10.9.0.1", "", True), ("10.0.0.7", "", True)])
    assert len(repository.whitelist_list()) == 250


def test_many_are_changed_and_removed_where_they_are_there(repository: Repository) -> None:
    added = repository.whitelist_add_many([(f"10.0.0.{n}", "", True) for n in range(5)])
    ids = [each.id for each in added]
    changed = repository.whitelist_update_many([(ids[0], "x", None), (ids[1], None, False), (999, "y", None)])
    assert [(each.note, each.enabled) for each in changed] == [("x", True), ("", False)]
    assert repository.whitelist_remove_many([*ids[:2], 999]) == 2
    assert len(repository.whitelist_list()) == 3


# -- the first entries ----------------------------------------------------------------------------


def test_first_entries_are_made_once_even_if_there_were_none(repository: Repository) -> None:
    assert repository.whitelist_seed([]) == []
    assert repository.whitelist_seed(["10.0.0.1"]) == []
    assert addresses(repository) == []


def test_first_entries_keep_what_is_there_and_come_once_each(repository: Repository) -> None:
    repository.whitelist_add("10.0.0.1", "mine")
    added = repository.whitelist_seed(["10.0.0.1", "127.0.0.1", "127.0.0.1/32"])
    assert [entry.address for entry in added] == ["127.0.0.1"]
    assert [entry.note for entry in repository.whitelist_list()] == ["mine", ""]


def test_first_entries_that_cannot_be_used_are_refused_together(repository: Repository) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        repository.whitelist_seed(["10.0.0.1", "nonsense"])
    assert addresses(repository) == []
    assert len(repository.whitelist_seed(["10.0.0.1"])) == 1


# -- calls ----------------------------------------------------------------------------------------


def test_calls_add_up_and_the_last_time_never_goes_back(repository: Repository) -> None:
    entry = repository.whitelist_add("10.0.0.1")
    for calls, last_ms in ((2, 500), (3, 400), (1, 600)):
        repository.whitelist_seen({entry.id: (calls, last_ms), 999: (1, 1)})
    found = repository.whitelist_get(entry.id)
    assert found is not None
    assert (found.calls, found.last_seen_ms) == (6, 600)
    assert found.updated_ms == entry.updated_ms
