"""What a driver raises becomes one line for the user, with its kind and without secrets."""

from __future__ import annotations

import sqlite3

import peewee
import pytest

from resender.errors import StoreError, StoreUnfit
from resender.store.faults import DatabaseFault, Fault, explain, is_database_error

WHERE = "/var/lib/resender/store.db"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("database is locked", Fault.LOCKED, "is locked by another process"),
        ("database table is locked: state", Fault.LOCKED, "is locked by another process"),
        ("attempt to write a readonly database", Fault.RIGHTS, "is read-only for this user (uid"),
        ("unable to open database file", Fault.RIGHTS, "cannot be opened"),
        ("database or disk is full", Fault.FULL, "the disk is full"),
        ("disk I/O error", Fault.OTHER, "disk I/O error"),
        ("database disk image is malformed", Fault.OTHER, "is damaged"),
        ("no such table: state", Fault.OTHER, "no such table: state"),
    ],
)
def test_trouble_of_sqlite_is_told_in_plain_words(text: str, kind: Fault, words: str) -> None:
    for error in (sqlite3.OperationalError(text), peewee.OperationalError(text)):
        if isinstance(error, peewee.OperationalError):
            error.__cause__ = sqlite3.OperationalError(text)
        found = explain(error, WHERE)
        assert isinstance(found, DatabaseFault)
        assert (found.kind, found.is_counted) == (kind, False)
        assert str(found).startswith(f"The database {WHERE} ")
        assert words in str(found)
        assert "\n" not in str(found)


def test_file_that_is_no_database_will_never_do() -> None:
    assert isinstance(explain(sqlite3.DatabaseError("file is not a database"), WHERE), StoreUnfit)


def test_what_made_a_rollback_necessary_is_found_behind_its_failure() -> None:
    try:
        try:
            raise sqlite3.OperationalError("database or disk is full")
        except sqlite3.OperationalError:
            raise peewee.OperationalError("cannot rollback - no transaction is active")  # noqa: B904
    except peewee.OperationalError as error:
        found = explain(error, WHERE)
    assert isinstance(found, DatabaseFault)
    assert found.kind is Fault.FULL


@pytest.mark.parametrize("error", [peewee.IntegrityError("UNIQUE"), peewee.DataError("too long")])
def test_trouble_with_values_is_none_of_the_database(error: Exception) -> None:
    found = explain(error, WHERE)
    assert isinstance(found, DatabaseFault)
    assert found.kind is Fault.DATA


def test_missing_driver_is_named_with_how_to_install_it() -> None:
    for where, package in (("mysql://host/db", "pymysql"), ("postgresql://host/db", "psycopg")):
        found = explain(peewee.ImproperlyConfigured("driver"), where)
        assert isinstance(found, StoreUnfit)
        assert f'pip install "{package}' in str(found)


def test_error_of_the_system_names_the_file_it_is_about() -> None:
    found = explain(PermissionError(13, "Permission denied", "/var/lib/resender"), WHERE)
    assert str(found).startswith(f"The database {WHERE} cannot be used: Permission denied; uid ")
    assert "chown -R" in str(found)
    found = explain(PermissionError(13, "Permission denied", WHERE), WHERE)
    assert "chown -R" in str(found)


def test_text_of_a_server_is_one_line_that_is_not_too_long() -> None:
    found = explain(peewee.OperationalError((2003, "Can't connect\n to server"), "x\n" * 500), WHERE)
    assert "\n" not in str(found)
    assert len(str(found)) < 500
    assert "Can't" in str(explain(peewee.OperationalError(2003, "Can't\nconnect"), WHERE))


def test_error_of_the_store_stays_what_it_is() -> None:
    error = StoreError("It is busy.")
    assert explain(error, WHERE) is error


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (sqlite3.OperationalError(), True),
        (peewee.InterfaceError(), True),
        (type("Error", (Exception,), {"__module__": "psycopg.errors"})(), True),
        (type("Error", (Exception,), {"__module__": "pymysql.err"})(), True),
        (type("Error", (Exception,), {"__module__": "pymysqlish"})(), False),
        (ValueError(), False),
        (OSError(), False),
    ],
)
def test_errors_of_the_database_are_told_from_others(error: Exception, is_one: bool) -> None:
    assert is_database_error(error) is is_one
