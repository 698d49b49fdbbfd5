"""The request log table: batches in, old rows away.

How it is read is in `resender.store.log_pages`; when a record is written and what is dropped is
decided by `resender.store.buffers`. It holds the SQL of the batch inserts, nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import peewee

from resender.store.log_pages import LogPagesTable
from resender.store.rows import LogRecord
from resender.store.tables import storable

logger = logging.getLogger("resender.store")

_GIVE_BACK_WAIT_MS = 200

DELETE_BATCH = 1000
DAY_MS = 86_400_000
# Old SQLite builds take 999 variables in one statement.
_COLUMNS = (*LogRecord._fields, "is_error")
_ROWS_PER_INSERT = 999 // len(_COLUMNS)
_TEXT_MAX = {"ip": 64, "method": 16, "market": 16, "path": 2048, "error": 1000}
_INT_MAX = {"status": 2**31 - 1, "time_ms": 2**63 - 1, "bytes": 2**63 - 1}


class RequestLogTable(LogPagesTable):
    """Part of `Repository`."""

    def log_write(self, records: Sequence[LogRecord]) -> int:
        """Write records in one transaction; return how many went in.

        Shape: long texts are cut. A record the database refuses is left out, the others go in.
        """
        rows = [row for row in map(self._row, records) if row is not None]
        try:
            with self.transaction():
                for start in range(0, len(rows), _ROWS_PER_INSERT):
                    self._insert_rows(rows[start : start + _ROWS_PER_INSERT])
            return len(rows)
        except (peewee.DataError, peewee.IntegrityError, peewee.ProgrammingError):
            return self._write_singly(rows)

    def log_count(self) -> int:
        """Count the rows."""
        return int(self.models.request_log.select().count())

    def log_clear(self, older_than_ms: int | None = None) -> int:
        """Remove all rows, or those before a time; return how many went."""
        return sum(self.log_clear_steps(older_than_ms))

    def log_prune(self, now_ms: int, retention_days: int, max_rows: int) -> int:
        """Remove rows that are too old or too many; return how many went.

        Shape: 0 days or 0 rows means no limit. Works in small transactions.
        """
        return sum(self.log_prune_steps(now_ms, retention_days, max_rows))

    def log_clear_steps(self, older_than_ms: int | None = None) -> Generator[int, None, None]:
        """Do `log_clear` piece by piece; each piece is one transaction and yields its count."""
        if older_than_ms is not None:
            yield from self._delete_before(older_than_ms)
        elif isinstance(self.database, peewee.SqliteDatabase):
            # Without a condition SQLite frees whole pages, which is quick at any size.
            with self.transaction():
                count = self.log_count()
                self.models.request_log.delete().execute()
            yield count
            self._give_back()
        else:
            yield from self._delete_batches(self.models.request_log.select(self.models.request_log.id))

    def _give_back(self) -> None:
        """Give the file's empty pages back to the disk, if nobody else is at it just now.

        The rows are gone already: whatever hinders this is no fault of the clearing.
        """
        database = self.database
        if database.in_transaction():
            return
        try:
            (waits_ms,) = database.execute_sql("PRAGMA busy_timeout").fetchone()
            database.execute_sql(f"PRAGMA busy_timeout = {_GIVE_BACK_WAIT_MS}")
            try:
                database.execute_sql("VACUUM")
                database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                database.execute_sql(f"PRAGMA busy_timeout = {int(waits_ms)}")
        except peewee.DatabaseError as error:
            logger.info("the disk space of the cleared rows is not given back now: %s", error)

    def log_prune_steps(self, now_ms: int, retention_days: int, max_rows: int) -> Generator[int, None, None]:
        """Do `log_prune` piece by piece."""
        if retention_days > 0:
            yield from self._delete_before(now_ms - retention_days * DAY_MS)
        if max_rows > 0 and self.log_count() > max_rows:
            yield from self._delete_beyond(max_rows)

    def _delete_before(self, time_ms: int) -> Generator[int, None, None]:
        model = self.models.request_log
        yield from self._delete_batches(model.select(model.id).where(model.time_ms < time_ms))

    def _delete_beyond(self, kept: int) -> Generator[int, None, None]:
        # By the newest row that goes, not by a number of rows: another server may prune the same table now.
        model = self.models.request_log
        newest_first = model.select(model.time_ms, model.id).order_by(model.time_ms.desc(), model.id.desc())
        found = newest_first.offset(kept).limit(1).tuples().first()
        if found is not None:
            time_ms, row_id = found
            goes = (model.time_ms < time_ms) | ((model.time_ms == time_ms) & (model.id <= row_id))
            yield from self._delete_batches(model.select(model.id).where(goes))

    def _delete_batches(self, query: Any) -> Generator[int, None, None]:
        # Two steps, because MySQL allows no LIMIT in the subquery of a DELETE.
        model = self.models.request_log
        oldest_first = query.order_by(model.time_ms, model.id).limit(DELETE_BATCH)
        while True:
            with self.transaction():
                ids = [row[0] for row in oldest_first.clone().tuples()]
                for start in range(0, len(ids), 500):
                    model.delete().where(model.id.in_(ids[start : start + 500])).execute()
            yield len(ids)
            if len(ids) < DELETE_BATCH:
                return

    def _insert_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self.database.execute_sql(self._insert_sql(len(rows)), [value for row in rows for value in row])

    def _insert_sql(self, count: int) -> str:
        # Written out here because peewee takes several times as long to build it from values.
        before, after = tuple(self.database.quote)
        columns = ", ".join(f"{before}{name}{after}" for name in _COLUMNS)
        row = "(" + ", ".join([self.database.param] * len(_COLUMNS)) + ")"
        values = ", ".join([row] * count)
        return f"INSERT INTO {before}request_log{after} ({columns}) VALUES {values}"  # noqa: S608

    def _write_singly(self, rows: Iterable[tuple[Any, ...]]) -> int:
        written = 0
        with self.transaction():
            for row in rows:
                try:
                    with self.transaction():
                        self._insert_rows([row])
                    written += 1
                except (peewee.DataError, peewee.IntegrityError, peewee.ProgrammingError):
                    continue
        return written

    def _row(self, record: LogRecord) -> tuple[Any, ...] | None:
        """Fit a record to the columns, so that no value can make the whole batch fail."""
        try:
            return (
                _number("time_ms", record.time_ms),
                self._text("ip", record.ip),
                self._text("method", record.method),
                self._text("market", record.market),
                self._text("path", record.path),
                _number("status", record.status),
                None if record.upstream_status is None else _number("status", record.upstream_status),
                float(record.duration_ms),
                _number("bytes", record.bytes),
                None if record.error is None else self._text("error", record.error),
                int(record.status >= 400 or record.error is not None),
            )
        except (ValueError, TypeError, OverflowError):
            return None

    def _text(self, name: str, value: str) -> str:
        return storable(self.database, str(value)[: _TEXT_MAX[name]])


def _number(name: str, value: int) -> int:
    return max(-_INT_MAX[name], min(_INT_MAX[name], int(value)))
