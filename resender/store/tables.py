"""What every table of a repository shares: the models, a transaction, the state table.

It does not open or close the connection. It holds the database it was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from resender.store.models import build_models

# What the admin page may choose of the log's retention.
_RETENTION_MAX = {"log_retention_days": 36_500, "log_max_rows": 1_000_000_000}


def clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Tables:
    """Base of the parts of `Repository`."""

    def __init__(self, database: peewee.Database, now_ms: Callable[[], int] = clock_ms) -> None:
        #: The open peewee database, which ships no type hints.
        self.database: Any = database
        self.models = build_models(database)
        self._now_ms = now_ms

    def transaction(self) -> Any:
        """Begin a transaction as a context manager; inside another one it is a savepoint."""
        return self.database.atomic()

    @contextmanager
    def _overwriting(self) -> Iterator[None]:
        """Have SQLite put zeros over what is deleted, for as long as the block takes."""
        if not isinstance(self.database, peewee.SqliteDatabase):
            yield
            return
        database: Any = self.database
        before = database.pragma("secure_delete")
        database.pragma("secure_delete", 1)
        try:
            yield
        finally:
            database.pragma("secure_delete", before)

    def state_get(self, key: str, *, lock: bool = False) -> str | None:
        """Read one value; `lock` keeps other writers of it out until the transaction ends."""
        model = self.models.state
        query = model.select(model.value).where(model.key == key).tuples()
        if lock and self.database.for_update:
            query = query.for_update()
        row = query.first()
        return None if row is None else str(row[0])

    def state_set(self, key: str, value: str) -> None:
        """Write one value."""
        model = self.models.state
        with self.transaction():
            if self.state_get(key, lock=True) is None:
                model.insert(key=key, value=value).execute()
            else:
                model.update(value=value).where(model.key == key).execute()

    def state_all(self) -> dict[str, str]:
        """Read the whole table: a handful of rows."""
        model = self.models.state
        return {str(key): str(value) for key, value in model.select(model.key, model.value).tuples()}

    def touch(self) -> None:
        """Write something small, to learn whether writing works."""
        self.state_set("last_write_ms", str(self._now_ms()))

    def log_enabled(self) -> bool:
        """Tell whether calls are to be logged."""
        return self.state_get("log_enabled") == "1"

    def set_log_enabled(self, enabled: bool) -> None:
        """Switch the request log; running servers follow within their poll interval."""
        self.state_set("log_enabled", "1" if enabled else "0")

    def log_retention(self) -> tuple[int | None, int | None]:
        """Return the days and rows chosen on the admin page; None is the program's setting."""
        return read_retention(self.state_all())

    def set_log_retention(self, days: int | None, max_rows: int | None) -> None:
        """Choose how much of the log is kept; running servers follow within their poll interval.

        Raises: ValueError if a number is out of bounds.
        """
        wanted = {"log_retention_days": days, "log_max_rows": max_rows}
        for key, value in wanted.items():
            if value is not None and not 1 <= value <= _RETENTION_MAX[key]:
                raise ValueError(f"{key} must be between 1 and {_RETENTION_MAX[key]}.")
        with self.transaction():
            for key, value in wanted.items():
                self.state_set(key, "" if value is None else str(value))


def read_retention(state: dict[str, str]) -> tuple[int | None, int | None]:
    """Read the retention out of the state table; None where nothing is chosen."""
    texts = (state.get("log_retention_days", ""), state.get("log_max_rows", ""))
    days, rows = (int(text) if text.isascii() and text.isdigit() else None for text in texts)
    return days or None, rows or None


def is_id(number: int) -> bool:
    """Tell whether a row can have this id: 32-bit columns make an error of larger numbers."""
    return 0 < number < 2**31


def valid_text(text: str) -> bool:
    """Tell whether `text` can be stored: lone surrogates have no UTF-8 form."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def storable(database: Any, text: str) -> str:
    """Return `text` as the database can hold it.

    Shape: lone surrogates become "?"; on PostgreSQL, whose text knows no NUL, that becomes U+2400.
    """
    if not text.isascii() and not valid_text(text):
        text = text.encode("utf-8", "replace").decode("utf-8")
    if "\0" in text and isinstance(database, peewee.PostgresqlDatabase):
        text = text.replace("\0", "\u2400")
    return text
