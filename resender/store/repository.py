"""All functions on an open database in one place.

It is synchronous and belongs to the thread that opened the database; a server uses
`resender.store.service.Store`, a command line program uses this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from resender.errors import StoreError
from resender.store.accounts import AccountTable
from resender.store.alert_rows import AlertChannelRow
from resender.store.alerts import AlertTable
from resender.store.audit import AuditTable
from resender.store.connection import close_quietly, open_database, open_unchanged, parse_url
from resender.store.faults import explain, is_database_error
from resender.store.preload import PreloadTable
from resender.store.request_log import RequestLogTable
from resender.store.sessions import SessionTable
from resender.store.tables import clock_ms
from resender.store.whitelist import WhitelistTable


class Repository(
    WhitelistTable, RequestLogTable, PreloadTable, SessionTable, AuditTable, AccountTable, AlertTable
):
    """The functions of all tables on one database: `Repository(open_database(url))`."""

    def empty_wal(self) -> bool:
        """Move what SQLite has in its write-ahead log into the file; tell whether the log is empty now.

        Shape: readers are waited for as long as for a lock; other databases have no such log.
        """
        if not isinstance(self.database, peewee.SqliteDatabase):
            return True
        try:
            database: Any = self.database
            busy, _, _ = database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except Exception as error:
            if not is_database_error(error):
                raise
            return False
        return not busy

    def find_damage(self) -> str:
        """Look for damage in a SQLite file; return it in words, "" where there is none or another database."""
        if not isinstance(self.database, peewee.SqliteDatabase):
            return ""
        database: Any = self.database
        found = str(database.execute_sql("PRAGMA quick_check(1)").fetchone()[0])
        return "" if found == "ok" else f"the database is damaged: {found.splitlines()[0][:200]}"

    def close(self) -> None:
        """Close the connection."""
        close_quietly(self.database)


def read_channels(url: str) -> list[AlertChannelRow]:
    """Read the channels of alerts out of a database that this version cannot use; none if they cannot be read."""
    try:
        database = open_unchanged(url)
        try:
            return Repository(database).alert_channels()
        finally:
            close_quietly(database)
    except Exception as error:
        if not (is_database_error(error) or isinstance(error, (StoreError, OSError, ValueError, TypeError))):
            raise
        return []


@contextmanager
def open_repository(
    url: str, *, now_ms: Callable[[], int] = clock_ms, busy_timeout_s: float = 5.0
) -> Iterator[Repository]:
    """Open a database for a block of work, beside a running server or without one.

    Raises: StoreError, one line for the user, for every trouble with the database, also inside
        the block.
    """
    repository = Repository(open_database(url, busy_timeout_s=busy_timeout_s), now_ms)
    try:
        yield repository
    except StoreError:
        raise
    except Exception as error:
        if is_database_error(error):
            raise explain(error, parse_url(url).where) from error
        raise
    finally:
        repository.close()
