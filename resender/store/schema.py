"""Brings the tables of a database to the version of this program.

`playhouse.migrations` finds, runs and records the numbered scripts in `migrations/`. What it
lacks is added here: a lock, so that two processes starting at once do not both migrate; one
transaction around all pending scripts; and the refusal of a database newer than the program.
It holds no state; the history is the table `schema_migration` in the database itself.

MySQL commits at every DDL statement, so there a script may stop half way. Its scripts must be
repeatable, which `create_missing` makes easy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peewee
from playhouse.migrations import Runner

from resender.errors import StoreError, StoreUnfit

MIGRATIONS = Path(__file__).with_name("migrations")
HISTORY_TABLE = "schema_migration"
_TABLES = {"whitelist", "state", "request_log", "preload"}
_TABLES |= {"admin_user", "admin_session", "admin_token", "admin_audit", "account", "account_key"}
_TABLES |= {"alert_channel", "alert_event"}
_LOCK_WAIT_S = 30
_LOCK_NUMBER = 0x52455345  # "RESE": any number nobody else takes as PostgreSQL advisory lock


def known_versions(directory: Path = MIGRATIONS) -> list[str]:
    """List the names of the scripts, oldest first."""
    return [path.stem for path in sorted(directory.glob("[0-9]*.py"))]


def applied_versions(database: Any) -> list[str]:
    """List the names of the scripts the database has seen, oldest first."""
    return sorted(_runner(database, MIGRATIONS).applied())


def upgrade(database: Any, *, target: str | None = None, directory: Path = MIGRATIONS) -> list[str]:
    """Apply the scripts the database lacks, and return their names.

    Shape: with `target`, stop after that script.
    Raises: StoreError if the database is newer than the program or holds foreign tables of
        the same names; errors of peewee as they come.
    """
    runner = _runner(database, directory)
    known = known_versions(directory)
    applied = runner.applied()
    _check(database, applied, known)
    wanted = known[: known.index(target) + 1] if target else known
    if set(wanted) <= set(applied):
        return []
    with _locked(database):
        # Another process may have been first while this one waited for the lock.
        _check(database, runner.applied(), known)
        return list(runner.up(target))


def create_missing(database: Any, *models: Any) -> None:
    """Create the tables and indexes of `models` that are not there yet."""
    for model in models:
        meta = model._meta
        if not database.table_exists(meta.table_name):
            model._schema.create_table(safe=True)
        present = {index.name for index in database.get_indexes(meta.table_name)}
        for index in meta.fields_to_index():
            if index._name not in present:
                database.execute(model._schema._create_index(index))


def check(database: Any, applied: list[str]) -> None:
    """Refuse a database that is newer than the program. Raises: StoreError."""
    _check(database, dict.fromkeys(applied), known_versions())


def _runner(database: Any, directory: Path) -> Any:
    return Runner(database, str(directory), HISTORY_TABLE)


def _check(database: Any, applied: dict[str, Any], known: list[str]) -> None:
    unknown = sorted(set(applied) - set(known))
    if unknown:
        raise StoreUnfit(
            f"The database was made by a newer version of this program (schema {unknown[-1]}, "
            f"this program knows up to {known[-1] if known else 'none'}): install that version, "
            "or use another DATABASE_URL."
        )
    if not applied and not database.table_exists(HISTORY_TABLE):
        foreign = _TABLES & set(database.get_tables())
        if foreign:
            raise StoreUnfit(
                f"The database holds a table {sorted(foreign)[0]!r} that is not this program's: "
                "use another DATABASE_URL."
            )


@contextmanager
def _locked(database: Any) -> Iterator[None]:
    """Keep every other process from migrating until the block ends."""
    execute: Any = database.execute_sql
    if isinstance(database, peewee.SqliteDatabase):
        # Rebuilding a table must not cascade, and the pragma is ignored inside a transaction.
        database.pragma("foreign_keys", 0)
        try:
            with database.atomic("IMMEDIATE"):
                yield
                broken = execute("PRAGMA foreign_key_check").fetchone()
                if broken is not None:
                    raise StoreError(f"The upgrade would break a reference of table {broken[0]!r}.")
        finally:
            database.pragma("foreign_keys", 1)
    elif isinstance(database, peewee.MySQLDatabase):
        name = f"resender {database.database}"[:64]
        row = execute("SELECT GET_LOCK(%s, %s)", (name, _LOCK_WAIT_S)).fetchone()
        if not row or row[0] != 1:
            raise StoreError("Another process has been upgrading the database for 30 s: try again later.")
        try:
            yield
        finally:
            execute("SELECT RELEASE_LOCK(%s)", (name,)).fetchone()
    else:
        with database.atomic():
            execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'")
            execute("SET LOCAL statement_timeout = 0")
            execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK_NUMBER,))
            yield
