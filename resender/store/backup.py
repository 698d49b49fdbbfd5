"""A whole copy of a database in one SQLite file, made while the gateway runs, and its way back.

SQLite is copied by its own backup API, a server's tables row by row in one still moment. It keeps nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from resender.errors import StoreError, StoreUnfit
from resender.store import schema
from resender.store.connection import close_quietly, open_database, open_unchanged, parse_url
from resender.store.copying import copy_database
from resender.store.faults import explain, is_database_error

_BUSY_S = 30.0


def save_database(url: str, target: Path, *, with_log: bool = True) -> None:
    """Copy a database into the new file `target`. Raises: StoreError, one line for the user."""
    source = parse_url(url)
    _make_private(target)
    if source.path is None and source.scheme != "sqlite":
        _refuse_old(url, source.where)
        copy_database(url, f"sqlite:///{target}", with_log=with_log)
        return
    if source.path is None or not os.path.exists(source.path):
        raise StoreError(f"There is no database {source.where}: nothing is saved.")
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{_quoted(source.path)}?mode=ro", uri=True, timeout=_BUSY_S)
        ) as old:
            with contextlib.closing(sqlite3.connect(target)) as new:
                # In one step: what is written meanwhile waits in the log of SQLite and is not part of it.
                old.backup(new)
                if not with_log:
                    _without_log(new)
                # The copy is one file, whoever opens it.
                new.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise explain(error, source.where) from None
    check_file(target)


def check_file(path: Path) -> str:
    """Check a saved database as a whole; return its schema.

    Raises: StoreError, StoreUnfit if it is a newer program's.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"file:{_quoted(str(path))}?mode=ro", uri=True)) as database:
            found = database.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                raise StoreError(f"The saved database is damaged: {str(found).splitlines()[0]}.")
            rows = database.execute("SELECT name FROM schema_migration ORDER BY name").fetchall()
    except sqlite3.Error as error:
        raise StoreError(f"The saved database cannot be read: {error}.") from None
    names = [str(name) for (name,) in rows]
    known = schema.known_versions()
    if not names or names[-1] > known[-1]:
        raise StoreUnfit(
            f"The saved database is of a newer version of this program (schema {names[-1] if names else 'unknown'}, "
            f"this program knows up to {known[-1]}): install that version."
        )
    return names[-1]


def upgrade_file(path: Path) -> None:
    """Bring a saved database to this program's schema. Raises: StoreError; the file is then of no use."""
    close_quietly(open_database(f"sqlite:///{path}", create=False))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")


def load_into_server(path: Path, url: str) -> int:
    """Copy a saved database into an empty one on a server; return how many rows. Raises: StoreError."""
    return sum(copy_database(f"sqlite:///{path}", url).values())


def _refuse_old(url: str, where: str) -> None:
    """Leave a server's database alone that reading would bring up to date. Raises: StoreError."""
    try:
        database: Any = open_unchanged(url)
        try:
            applied = schema.applied_versions(database)
        finally:
            close_quietly(database)
    except Exception as error:
        if is_database_error(error) or isinstance(error, OSError):
            raise explain(error, where) from error
        raise
    if applied and set(applied) < set(schema.known_versions()):
        raise StoreError(
            f"The database {where} is of an older version, and saving it would bring it up to date: use pg_dump or "
            "mysqldump, or start this version first."
        )


def _without_log(database: sqlite3.Connection) -> None:
    database.execute("DELETE FROM request_log")
    database.commit()
    database.execute("VACUUM")


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}.") from None


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))
