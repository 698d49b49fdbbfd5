"""The audit: newest first, long texts cut, and never more rows than it may have."""

from __future__ import annotations

import json

import pytest

from resender.store import Repository
from resender.store import audit as audit_table
from tests.support.moment import Moment


def add(repository: Repository, action: str = "login", actor: str = "root") -> int:
    return repository.audit_add(actor, "10.0.0.1", action, "subject").id


def test_entry_says_who_did_what_when_and_how_it_was(repository: Repository, moment: Moment) -> None:
    row = repository.audit_add(
        "root", "10.0.0.1", "user.update", "bob", {"enabled": True}, {"enabled": False}
    )
    assert repository.audit_list() == [row]
    assert (row.time_ms, row.actor, row.ip, row.action, row.subject) == (
        moment.ms, "root", "10.0.0.1", "user.update", "bob",
    )  # fmt: skip
    assert (row.before, row.after) == ('{"enabled":true}', '{"enabled":false}')


def test_values_that_are_not_given_are_none(repository: Repository) -> None:
    row = repository.audit_add("root", "10.0.0.1", "login", "")
    assert (row.before, row.after) == (None, None)


def test_pages_go_back_from_the_newest(repository: Repository) -> None:
    ids = [add(repository) for _ in range(5)]
    assert [row.id for row in repository.audit_list(limit=2)] == ids[:2:-1]
    assert [row.id for row in repository.audit_list(before_id=ids[3], limit=2)] == [ids[2], ids[1]]
    assert repository.audit_list(before_id=0) == []
    assert repository.audit_list(before_id=2**40) == []


@pytest.mark.parametrize(("limit", "count"), [(0, 1), (-5, 1), (3, 3), (10**9, 5)])
def test_page_has_one_row_at_least_and_a_thousand_at_most(
    repository: Repository, limit: int, count: int
) -> None:
    for _ in range(5):
        add(repository)
    assert len(repository.audit_list(limit=limit)) == count


def test_filters_let_through_what_is_meant(repository: Repository) -> None:
    add(repository, "login", "root")
    wanted = add(repository, "logout", "bob")
    add(repository, "login", "bob")
    assert [row.id for row in repository.audit_list(actor="bob", action="logout")] == [wanted]
    assert repository.audit_list(actor="\ud800") == []


def test_long_and_odd_texts_are_cut_and_made_storable(repository: Repository) -> None:
    row = repository.audit_add("a" * 99, "i" * 99, "x" * 99, "s\ud800" * 200)
    assert [len(text) for text in (row.actor, row.ip, row.action, row.subject)] == [64, 64, 64, 255]
    assert "?" in row.subject
    assert repository.audit_list() == [row]


def test_values_too_large_are_replaced_by_their_beginning(repository: Repository) -> None:
    row = repository.audit_add("root", "", "import", "", None, {"lines": ["x" * 100] * 1000})
    assert row.after is not None
    assert len(row.after.encode()) < 65_535
    assert list(json.loads(row.after)) == ["truncated"]


def test_oldest_rows_go_when_there_are_too_many(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_table, "AUDIT_MAX", 3)
    ids = [add(repository) for _ in range(6)]
    assert [row.id for row in repository.audit_list()] == ids[:2:-1]
