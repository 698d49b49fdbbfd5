"""What the tables share: a table of values, the log's switch and retention, and which texts can be stored."""

from __future__ import annotations

import peewee
import pytest

from resender.store import Repository
from resender.store.tables import is_id, read_retention, storable, valid_text
from tests.support.moment import Moment


def test_value_is_written_and_written_again(repository: Repository) -> None:
    assert repository.state_get("k") is None
    repository.state_set("k", "1")
    repository.state_set("k", "2")
    assert repository.state_get("k") == repository.state_get("k", lock=True) == "2"
    assert repository.state_all()["k"] == "2"


def test_transaction_that_fails_leaves_nothing_behind(repository: Repository) -> None:
    with pytest.raises(RuntimeError):
        with repository.transaction():
            repository.state_set("k", "1")
            raise RuntimeError
    assert repository.state_get("k") is None


def test_inner_transaction_that_fails_takes_only_its_own_back(repository: Repository) -> None:
    with repository.transaction():
        repository.state_set("outer", "1")
        with pytest.raises(RuntimeError):
            with repository.transaction():
                repository.state_set("inner", "1")
                raise RuntimeError
    assert repository.state_get("outer") == "1"
    assert repository.state_get("inner") is None


def test_touch_writes_the_time(repository: Repository, moment: Moment) -> None:
    repository.touch()
    assert repository.state_get("last_write_ms") == str(moment.ms)


def test_log_is_off_until_it_is_switched_on(repository: Repository) -> None:
    assert not repository.log_enabled()
    repository.set_log_enabled(True)
    assert repository.log_enabled()
    repository.set_log_enabled(False)
    assert not repository.log_enabled()


def test_retention_is_the_programs_until_one_is_chosen(repository: Repository) -> None:
    assert repository.log_retention() == (None, None)
    repository.set_log_retention(7, None)
    assert repository.log_retention() == (7, None)
    repository.set_log_retention(None, 5000)
    assert repository.log_retention() == (None, 5000)


@pytest.mark.parametrize(("days", "rows"), [(0, 5), (5, 0), (-1, 5), (36_501, 5), (5, 1_000_000_001)])
def test_retention_out_of_bounds_changes_neither_number(repository: Repository, days: int, rows: int) -> None:
    repository.set_log_retention(7, 70)
    with pytest.raises(ValueError, match="must be between"):
        repository.set_log_retention(days, rows)
    assert repository.log_retention() == (7, 70)


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ({}, (None, None)),
        ({"log_retention_days": "", "log_max_rows": ""}, (None, None)),
        ({"log_retention_days": "7", "log_max_rows": "x"}, (7, None)),
        ({"log_retention_days": "-7", "log_max_rows": "0"}, (None, None)),
        ({"log_retention_days": "٧", "log_max_rows": "9"}, (None, 9)),
    ],
)
def test_retention_somebody_spoilt_by_hand_is_none(
    state: dict[str, str], wanted: tuple[int | None, int | None]
) -> None:
    assert read_retention(state) == wanted


@pytest.mark.parametrize(
    ("number", "can_be"), [(1, True), (2**31 - 1, True), (0, False), (-1, False), (2**31, False)]
)
def test_number_no_row_can_have_is_known(number: int, can_be: bool) -> None:
    assert is_id(number) is can_be


def test_lone_surrogate_is_no_text_and_becomes_a_question_mark(repository: Repository) -> None:
    assert valid_text("币安 é")
    assert not valid_text("a\udc80")
    assert storable(repository.database, "a\udc80é") == "a?é"
    assert storable(repository.database, "币安\0") == "币安\0"


def test_postgresql_gets_a_sign_for_what_its_text_cannot_hold() -> None:
    database = peewee.PostgresqlDatabase(None)
    assert storable(database, "a\0b") == "a\u2400b"
    assert storable(database, "\udc80\0") == "?\u2400"
