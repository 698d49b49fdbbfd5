"""A SQLite database that is brought up to date: tried on a copy first, and a way back that stays beside it.

The copy is called like the database with `.before-` and its old schema behind it; the one of the last upgrade is kept.
`undo` puts it back when the program does not start after all. Server databases have transactions, or their own copies.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resender.errors import StoreError, StoreUnfit
from resender.store import schema
from resender.store.faults import is_database_error

logger = logging.getLogger("resender.store")

_BESIDE = ("-wal", "-shm")
# The copies made by this process, by the path of their database.
_made: dict[str, Path] = {}


class UpgradeFailed(StoreUnfit):
    """The database could not be brought up to date; it is as it was."""


def upgrade(database: Any, path: str | None) -> None:
    """Bring a database up to date. Shape: `path` is a SQLite file's, None for any other database.

    Raises: UpgradeFailed; errors of `schema.upgrade` that say that it cannot be this program's.
    """
    applied, known = set(schema.applied_versions(database)), set(schema.known_versions())
    if path is not None and applied and applied < known:
        _try_oncopy_file(path, max(applied))
    try:
        schema.upgrade(database)
    except Exception as error:
        if isinstance(error, StoreError) or not (applied and applied < known):
            raise
        raise UpgradeFailed(words_of(path or "", error)) from error


def remove_file(path: Path) -> None:
    for name in (path, *(Path(f"{path}{end}") for end in _BESIDE)):
        name.unlink(missing_ok=True)


def undo(path: str) -> bool:
    """Put back what was there before this process upgraded a database; tell whether it did.

    To be called when the program does not start after all, and with the database closed.
    """
    copy = _made.pop(path, None)
    if copy is None or not copy.exists():
        return False
    for end in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + end)
    os.replace(copy, path)
    logger.warning("the database is again as it was before this version")
    return True


def _try_oncopy_file(path: str, before: str) -> None:
    """Upgrade a copy, which shows whether the database itself can be. Raises: UpgradeFailed."""
    kept, tried = Path(f"{path}.before-{before}"), Path(f"{path}.trying")
    need = 2.2 * sum(os.path.getsize(each) for each in (path, f"{path}-wal") if os.path.exists(each))
    if shutil.disk_usage(os.path.dirname(path) or ".").free < need:
        logger.warning(
            "the disk has no room for a copy: the database is upgraded without a try and a way back"
        )
        return
    try:
        copy_file(path, tried)
        run_on(tried)
        copy_file(path, kept)
    except StoreError:
        raise
    except Exception as error:
        if not (
            is_database_error(error) or isinstance(error, (OSError, ValueError, TypeError, RuntimeError))
        ):
            raise
        raise UpgradeFailed(words_of(path, error)) from error
    finally:
        remove_file(tried)
    _made[path] = kept
    for old in Path(path).parent.glob(f"{Path(path).name}.before-*"):
        if old != kept:
            old.unlink(missing_ok=True)


def copy_file(path: str, target: Path) -> None:
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        contextlib.closing(sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")


def run_on(path: Path) -> None:
    from peewee import SqliteDatabase

    database: Any = SqliteDatabase(str(path))
    database.connect()
    try:
        schema.upgrade(database)
    finally:
        database.close()


def words_of(path: str, error: BaseException) -> str:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"The database {path} cannot be brought up to date ({text}); it is as it was: the version before can use it."
