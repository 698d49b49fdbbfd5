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
from resender.store.faults import Fault, explain, is_database_error

logger = logging.getLogger("resender.store")

_BESIDE = ("-wal", "-shm")
# The copies made by this process, by the path of their database.
_made: dict[str, Path] = {}


class UpgradeFailed(StoreUnfit):
    """The database could not be brought up to date; it is as it was."""


def upgrade(database: Any, path: str | None, where: str = "") -> None:
    """Bring a database up to date. Shape: `path` is a SQLite file's, None for any other; `where` names it.

    Raises: UpgradeFailed; errors of `schema.upgrade` that say that it cannot be this program's, or not now.
    """
    where = where or path or "of DATABASE_URL"
    applied, known = set(schema.applied_versions(database)), set(schema.known_versions())
    is_old = bool(applied) and applied < known
    before = _try_on_copy(path) if path is not None and is_old else None
    try:
        done = schema.upgrade(database)
    except Exception as error:
        if before is not None:  # it is as it was; a copy does no harm
            os.replace(before, f"{path}.before-{max(applied)}")
        if not is_old:
            raise
        raise failure(error, where) from error
    if before is None or path is None:
        return
    if not done:  # another process was first, and keeps what was before
        remove_file(before)
        return
    kept = Path(f"{path}.before-{max(applied)}")
    os.replace(before, kept)
    _made[path] = kept
    for old in known:
        if (other := Path(f"{path}.before-{old}")) != kept:
            other.unlink(missing_ok=True)


def failure(error: Exception, where: str) -> Exception:
    """Return what is raised where an upgrade has gone wrong: what may go well later is no failed upgrade."""
    if isinstance(error, StoreError):
        return error
    if is_database_error(error):
        fault = explain(error, where)
        if getattr(fault, "kind", None) in (Fault.LOCKED, Fault.FULL):
            return fault
    return UpgradeFailed(words_of(where, error))


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


def _try_on_copy(path: str) -> Path | None:
    """Upgrade a copy, which shows whether the database itself can be; return another copy, as it is before.

    Shape: None where the disk has no room for both.
    Raises: UpgradeFailed, or what may go well later.
    """
    tried, before = Path(f"{path}.trying-{os.getpid()}"), Path(f"{path}.saving-{os.getpid()}")
    _remove_left_behind(path)
    need = 2.2 * sum(os.path.getsize(each) for each in (path, f"{path}-wal") if os.path.exists(each))
    if shutil.disk_usage(os.path.dirname(path) or ".").free < need:
        logger.warning(
            "the disk has no room for a copy: the database is upgraded without a try and a way back"
        )
        return None
    try:
        copy_file(path, tried)
        run_on(tried)
        copy_file(path, before)
    except Exception as error:
        remove_file(before)
        raise failure(error, path) from error
    finally:
        remove_file(tried)
    return before


def _remove_left_behind(path: str) -> None:
    """Remove copies of processes that were killed."""
    for word in ("trying", "saving", "checking"):
        for file in Path(path).parent.glob(f"{Path(path).name}.{word}-*"):
            pid = file.name.rpartition("-")[2]
            if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                remove_file(file)


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
