"""What every table of a repository shares: the models, a transaction, the state table.

It does not open or close the connection. It holds the database it was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import peewee

from resender.store.models import build_models


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
