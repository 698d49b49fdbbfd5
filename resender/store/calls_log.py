"""The request log, as the server asks for it: pages, one row, all rows that match, retention.

What is queued for the log is written first, so a reader sees what was logged before. It holds the
retention in force; the queue belongs to `Store`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

from resender.store.calls import Calls
from resender.store.log_pages import PAGE_MAX, SCAN_ROWS, step_sizes
from resender.store.repository import Repository
from resender.store.rows import LogFilters, LogPage, LogRetention, LogRow
from resender.store.worker import Chore

CLEAR_TIMEOUT_S = 300.0


class LogCalls(Calls):
    """Part of `Store`."""

    _prune: Chore
    _set_retention: tuple[int, int]
    _own_retention: tuple[int | None, int | None] = (None, None)

    async def log_query(self, **filters: Any) -> list[LogRow]:
        """As `Repository.log_query`; what was logged before the call is included."""

        def work(_: Repository) -> list[LogRow]:
            self._write_log()
            # Asked for anew: a fault while writing may have closed the connection.
            return self._thread.call(lambda repository: repository.log_query(**filters), is_write=False)

        result: list[LogRow] = await self._submit(work)
        return result

    async def log_page(
        self,
        filters: LogFilters,
        before: str | int | None = None,
        limit: int = 100,
        scan_limit: int = SCAN_ROWS,
    ) -> LogPage:
        """As `Repository.log_page`, each step a job of its own; the first page is up to date."""
        limit = max(1, min(limit, PAGE_MAX))
        if before is None:
            await self._submit(self._write_queued)
        found: list[LogRow] = []
        following: str | None = None
        scanned = 0
        for size in step_sizes():
            step = await self.run(Repository.log_step, filters, before, limit - len(found), size)
            found += step.rows
            scanned += step.scanned
            before = following = step.next_before
            if following is None or len(found) >= limit or scanned >= scan_limit:
                break
        return LogPage(found, following)

    async def log_iterate(self, filters: LogFilters, batch: int = PAGE_MAX) -> AsyncIterator[list[LogRow]]:
        """Yield all rows that match, newest first, in lists of at most `batch`.

        Shape: a list may be empty, which says that the search goes on. Other work of the database
            goes between any two steps; rows that come meanwhile are not in it.
        Raises: StoreError for trouble with the database.
        """
        await self._submit(self._write_queued)
        before: str | None = None
        while True:
            step = await self.run(Repository.log_step, filters, before, max(1, min(batch, PAGE_MAX)))
            yield step.rows
            before = step.next_before
            if before is None:
                return

    async def log_get(self, row_id: int) -> LogRow | None:
        """As `Repository.log_get`."""
        return await self.run(Repository.log_get, row_id)

    async def log_count(self) -> int:
        """As `Repository.log_count`; on a server with many rows this takes a while."""
        return await self.run(Repository.log_count)

    async def log_clear(self, older_than_ms: int | None = None) -> int:
        """As `Repository.log_clear`, what was logged before the call included."""
        finished: Future[int] = Future()
        finished.set_running_or_notify_cancel()

        def begin(repository: Repository) -> None:
            self._thread.add_pieces(repository.log_clear_steps(older_than_ms), finished)

        def work(_: Repository) -> None:
            self._write_log()
            self._thread.call(begin, is_write=False)

        await self._submit(work)
        return await self._wait(finished, CLEAR_TIMEOUT_S)

    def log_retention(self) -> LogRetention:
        """Tell how much of the log is kept now, and by whose choice."""
        days, rows = self._retention
        own_days, own_rows = self._own_retention
        return LogRetention(days, rows, own_days, own_rows)

    async def set_log_retention(self, days: int | None, max_rows: int | None) -> LogRetention:
        """Choose how much of the log is kept; None puts the setting of the program in force.

        Shape: older rows begin to go at once.
        Raises: ValueError if a number is out of bounds.
        """

        def work(repository: Repository) -> None:
            repository.set_log_retention(days, max_rows)
            self._follow_retention(days, max_rows)

        await self._submit(work, is_write=True)
        return self.log_retention()

    @property
    def _retention(self) -> tuple[int, int]:
        """The days and rows in force; 0 is no limit."""
        own_days, own_rows = self._own_retention
        days, rows = self._set_retention
        return (days if own_days is None else own_days, rows if own_rows is None else own_rows)

    def _follow_retention(self, days: int | None, max_rows: int | None) -> None:
        """Put a choice in force; on the database thread."""
        if (days, max_rows) != self._own_retention:
            self._own_retention = (days, max_rows)
            self._prune.due_mono = 0.0

    def _write_queued(self, _: Repository) -> None:
        self._write_log()

    def _write_log(self) -> None:
        raise NotImplementedError
