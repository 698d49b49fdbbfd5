"""Copies everything from one database into another, empty one, and compares row by row before it is kept.

Both are brought to the schema of this program first. The target's rows are one transaction: what does not arrive whole
leaves nothing. Numbers of removed rows are not given again in the target either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import peewee

from resender.errors import StoreError
from resender.store.connection import close_quietly, open_database, parse_url
from resender.store.faults import explain, is_database_error
from resender.store.models import build_models

_ROWS_AT_ONCE = 500
# These have rows as soon as the tables are made.
_MADE_WITH_THE_TABLES = "state"
Progress = Callable[[str, int], None]


def copy_database(
    source_url: str, target_url: str, *, with_log: bool = True, progress: Progress = lambda table, rows: None
) -> dict[str, int]:
    """Copy all tables; return how many rows each has.

    Shape: `with_log` takes the request log too; `progress` is told of each table that is copied and compared.
    Raises: StoreError, one line for the user: the same database twice, a target with rows, trouble with either, or a
        row that is not there as it was.
    """
    source_at, target_at = parse_url(source_url), parse_url(target_url)
    if source_at.where == target_at.where:
        raise StoreError(f"{source_at.where} is the database that is copied: name another one.")
    source: Any = open_database(source_url, create=False)
    try:
        target: Any = open_database(target_url)
        try:
            return _copy(source, target, target_at.where, with_log, progress)
        except StoreError:
            raise
        except Exception as error:
            if is_database_error(error):
                raise explain(error, target_at.where) from error
            raise
        finally:
            close_quietly(target)
    finally:
        close_quietly(source)


def _copy(source: Any, target: Any, where: str, with_log: bool, progress: Progress) -> dict[str, int]:
    mine, theirs = build_models(source), build_models(target)
    names = [name for name in mine.__slots__ if with_log or name != "request_log"]
    for name in mine.__slots__:
        table = getattr(theirs, name)
        if name != _MADE_WITH_THE_TABLES and table.select().exists():
            raise StoreError(
                f"{where} holds rows already (table {table._meta.table_name}): name an empty database."
            )
    counts = {}
    with _still(source), target.atomic():
        theirs.state.delete().execute()
        for name in names:
            table = getattr(mine, name)
            counts[table._meta.table_name] = _copy_table(table, getattr(theirs, name))
            progress(table._meta.table_name, counts[table._meta.table_name])
        last = {name: _last_number(source, getattr(mine, name)) for name in names}
    for name, number in last.items():
        _set_last_number(target, getattr(theirs, name), number)
    return counts


@contextmanager
def _still(database: Any) -> Iterator[None]:
    """Begin a transaction in which nothing that others write is seen."""
    with database.atomic():
        if isinstance(database, peewee.PostgresqlDatabase):
            run: Any = database.execute_sql
            run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def _copy_table(source: Any, target: Any) -> int:
    """Copy one table and compare what has arrived; return the number of rows. Raises: StoreError."""
    count = 0
    for chunk in _chunks(source):
        target.insert_many(chunk, fields=list(target._meta.sorted_fields)).execute()
        count += len(chunk)
    name = target._meta.table_name
    for number, (was, now) in enumerate(zip_longest(_rows(source), _rows(target)), 1):
        if was != now:
            raise StoreError(f"Row {number} of table {name} has not arrived as it was: nothing was kept.")
    return count


def _rows(table: Any) -> Iterator[tuple[Any, ...]]:
    for chunk in _chunks(table):
        yield from chunk


def _chunks(table: Any) -> Iterator[list[tuple[Any, ...]]]:
    """Yield a table's rows by its key, some at a time."""
    meta = table._meta
    key, fields = meta.primary_key, list(meta.sorted_fields)
    place = fields.index(key)
    query = table.select(*fields).order_by(key).limit(_ROWS_AT_ONCE).tuples()
    last: Any = None
    # Databases sort texts in their own ways; few rows have a text for a key.
    if isinstance(key, peewee.CharField):
        rows = sorted(table.select(*fields).tuples(), key=lambda row: str(row[place]))
        if rows:
            yield rows
        return
    while chunk := list(query if last is None else query.where(key > last)):
        last = chunk[-1][place]
        yield chunk


def _last_number(database: Any, table: Any) -> int | None:
    """Return the last number a table has given to a row, also to one that is gone; None if it numbers none."""
    key, run = table._meta.primary_key, database.execute_sql
    if isinstance(key, peewee.CharField):
        return None
    highest = table.select(peewee.fn.MAX(key)).scalar() or 0
    name = table._meta.table_name
    given = None
    if isinstance(database, peewee.SqliteDatabase):
        if database.table_exists("sqlite_sequence"):
            row = run("SELECT seq FROM sqlite_sequence WHERE name = ?", (name,)).fetchone()
            given = row[0] if row else None
    elif isinstance(database, peewee.MySQLDatabase):
        row = run(
            "SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = %s",
            (name,),
        ).fetchone()
        given = row[0] - 1 if row and row[0] else None
    else:
        row = run(
            "SELECT last_value FROM pg_sequences WHERE "
            "quote_ident(schemaname) || '.' || quote_ident(sequencename) = pg_get_serial_sequence(%s, %s)",
            (name, key.column_name),
        ).fetchone()
        given = row[0] if row else None
    return max(highest, given or 0)


def _set_last_number(database: Any, table: Any, number: int | None) -> None:
    """Have the next row get a number behind `number`."""
    if not number:
        return
    meta, run = table._meta, database.execute_sql
    name, column = meta.table_name, meta.primary_key.column_name
    if isinstance(database, peewee.SqliteDatabase):
        if database.table_exists("sqlite_sequence"):
            changed = run("UPDATE sqlite_sequence SET seq = ? WHERE name = ?", (number, name))
            if not changed.rowcount and isinstance(meta.primary_key, peewee.AutoField):
                run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, number))
    elif isinstance(database, peewee.MySQLDatabase):
        run(f"ALTER TABLE `{name}` AUTO_INCREMENT = {int(number) + 1}")
    else:
        run("SELECT setval(pg_get_serial_sequence(%s, %s), %s)", (name, column, int(number)))
