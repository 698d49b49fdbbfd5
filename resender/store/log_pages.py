"""Reads the request log: pages newest first, whatever is filtered and however many rows there are.

It writes and removes nothing (`resender.store.request_log`). No page reads further than it was
allowed to: what no index can answer is looked through in steps, each of them short.

A step follows one index, the one whose next rows reach back furthest, and filters what it finds
there. So it does not matter how many rows each filter lets through by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import peewee

from resender.store.rows import LogFilters, LogPage, LogRow
from resender.store.tables import Tables, storable

PAGE_MAX = 1000
#: Rows of the first step and of the largest, which takes some 5 ms on SQLite.
FIRST_STEP_ROWS = 1000
STEP_ROWS = 5000
SCAN_ROWS = 50_000
_CURSOR = re.compile(r"(-?[0-9]{1,19})-([0-9]{1,19})")
_PART_MAX = 2049
_BIG = 2**63 - 1
_STATUS_MAX = 2**31 - 1
_COLUMNS = tuple(LogRow.__dataclass_fields__)


# Conditions an index answers, the ones that let fewest rows through first.
_INDEXES = {
    "status": "requestlog_status_time_ms",
    "errors": "requestlog_is_error_time_ms",
    "ip": "requestlog_ip_time_ms",
    "market": "requestlog_market_time_ms",
}


@dataclass(frozen=True, slots=True)
class LogStep:
    """What one step found, where to go on (None: nowhere), and how many rows it may have read."""

    rows: list[LogRow]
    next_before: str | None
    scanned: int


@dataclass(frozen=True, slots=True)
class _Position:
    time_ms: int
    id: int

    def __str__(self) -> str:
        return f"{self.time_ms}-{self.id}"


def step_sizes() -> Iterator[int]:
    """Yield how many rows each step of a search looks through: few at first, often that is enough."""
    size = FIRST_STEP_ROWS
    while True:
        yield size
        size = min(2 * size, STEP_ROWS)


class LogPagesTable(Tables):
    """Part of `Repository`."""

    def log_get(self, row_id: int) -> LogRow | None:
        """Find a row by its id."""
        model = self.models.request_log
        if not 0 < row_id <= _BIG:
            return None
        row = self._log_rows().where(model.id == row_id).tuples().first()
        return None if row is None else LogRow(*row)

    def log_query(
        self,
        *,
        from_ms: int | None = None,
        to_ms: int | None = None,
        ip: str | None = None,
        market: str | None = None,
        status: int | None = None,
        path: str | None = None,
        status_min: int | None = None,
        status_max: int | None = None,
        errors_only: bool = False,
        text: str | None = None,
        before_id: int | None = None,
        limit: int = 100,
    ) -> list[LogRow]:
        """Read one page, newest first, without a limit of what may be looked through.

        Shape: ordered by time, then id, both descending; `before_id` is the id of the last row of
            the page before. At most 1000 rows; the filters are those of `LogFilters`, `status` is
            one status. When the row of `before_id` has been removed, so have all older ones, and
            the page is empty.
        """
        model = self.models.request_log
        low, high = (status_min, status_max) if status is None else (status, status)
        filters = LogFilters(from_ms, to_ms, ip, market, path, low, high, errors_only, text)
        before = None if before_id is None else self._position(before_id)
        if before_id is not None and before is None:
            return []
        conditions = [*self._range(model, filters, before), *self._conditions(model, filters).values()]
        query = _newest_first(_where(self._log_rows(), conditions), model)
        return [LogRow(*row) for row in query.limit(max(1, min(limit, PAGE_MAX))).tuples()]

    def log_page(
        self,
        filters: LogFilters,
        before: str | int | None = None,
        limit: int = 100,
        scan_limit: int = SCAN_ROWS,
    ) -> LogPage:
        """Read one page, newest first, looking through `scan_limit` rows or a few more.

        Shape: `before` is the `next_before` of the page before, or the id of a row.
        Raises: ValueError if `before` is neither.
        """
        limit = max(1, min(limit, PAGE_MAX))
        found: list[LogRow] = []
        following: str | None = None
        scanned = 0
        for size in step_sizes():
            step = self.log_step(filters, before, limit - len(found), size)
            found += step.rows
            scanned += step.scanned
            before = following = step.next_before
            if following is None or len(found) >= limit or scanned >= scan_limit:
                break
        return LogPage(found, following)

    def log_step(
        self, filters: LogFilters, before: str | int | None, limit: int, size: int = STEP_ROWS
    ) -> LogStep:
        """Look through the next `size` rows of the log for at most `limit` that match.

        Shape, Raises: as `log_page`.
        """
        model = self.models.request_log
        position = None if before is None else self._position(before)
        if before is not None and position is None:
            return LogStep([], None, 0)
        within = self._range(model, filters, position)
        conditions = self._conditions(model, filters)
        indexed = [name for name in _INDEXES if name in conditions]
        if len(conditions) == len(indexed) <= 1:
            # One index knows all: no row is read in vain.
            query = _newest_first(_where(self._log_rows(), [*within, *conditions.values()]), model)
            found = self._fetch(query, limit + 1, index=indexed[0] if indexed else None)
            end, scanned = None, limit
        else:
            index, end = self._best_index(conditions, indexed, within, size)
            along = [*within, conditions[index]] if index else within
            if end is not None:
                along = [*along, model.time_ms >= end.time_ms]
                along.append((model.time_ms > end.time_ms) | (model.id >= end.id))
            # The inner LIMIT keeps the database from choosing another way than this index. It
            # leaves room for rows that other processes have written since the end was found.
            inner = _newest_first(_where(self._log_rows(model.is_error), along), model)
            inner = inner.limit(peewee.SQL(str(2 * size))).alias("step")
            outer = peewee.Select([inner], [getattr(inner.c, name) for name in _COLUMNS])
            rest = self._conditions(inner.c, filters)
            outer = _where(outer, [condition for name, condition in rest.items() if name != index])
            found = self._fetch(_newest_first(outer, inner.c), limit + 1, index=index)
            scanned = size
        if len(found) > limit:
            last = found[limit - 1]
            end = _Position(last.time_ms, last.id)
        return LogStep(found[:limit], None if end is None else str(end), scanned)

    def _best_index(
        self, conditions: dict[str, Any], indexed: list[str], within: list[Any], size: int
    ) -> tuple[str | None, _Position | None]:
        """Choose the index to follow; return its name and where the step along it ends.

        Shape: the name of the condition the index answers, None for that of the time alone; None
            as the end if there are fewer rows than a step has.
        """
        best: tuple[str | None, _Position] | None = None
        names: list[str | None] = [*indexed] or [None]
        for name in names:
            end = self._end_of_step([*within, conditions[name]] if name else within, size, name)
            if end is None:
                return name, None
            if best is None or (end.time_ms, end.id) < (best[1].time_ms, best[1].id):
                best = name, end
        assert best is not None
        return best

    def _end_of_step(self, along: list[Any], size: int, index: str | None) -> _Position | None:
        model = self.models.request_log
        query = _newest_first(_where(model.select(model.time_ms, model.id), along), model)
        query = query.offset(peewee.SQL(str(size - 1)))
        rows = self._execute(query, 1, index)
        return _Position(*rows[0]) if rows else None

    def _fetch(self, query: Any, limit: int, index: str | None) -> list[LogRow]:
        return [LogRow(*row) for row in self._execute(query, limit, index)]

    def _execute(self, query: Any, limit: int, index: str | None) -> list[tuple[Any, ...]]:
        # A number written out: PostgreSQL's plan for any number of rows would be one for many.
        sql, values = query.limit(peewee.SQL(str(limit))).bind(self.database).sql()
        if isinstance(self.database, peewee.MySQLDatabase):
            # Left alone it reads all rows of an address to skip those that are too new.
            name = _INDEXES[index] if index else "requestlog_time_ms"
            table = "FROM `request_log` AS `t1`"
            sql = sql.replace(table, f"{table} FORCE INDEX (`{name}`)", 1)
        rows: list[tuple[Any, ...]] = self.database.execute_sql(sql, values).fetchall()
        return rows

    def _conditions(self, columns: Any, filters: LogFilters) -> dict[str, Any]:
        """Return the conditions by name, without those of time."""
        found: dict[str, Any] = {}
        low, high = filters.status_min, filters.status_max
        if filters.ip is not None:
            found["ip"] = columns.ip == storable(self.database, filters.ip)
        if filters.market is not None:
            found["market"] = columns.market == storable(self.database, filters.market)
        if low is not None and low == high:
            found["status"] = columns.status == _bounded(low, _STATUS_MAX)
        else:
            if low is not None:
                found["low"] = columns.status >= _bounded(low, _STATUS_MAX)
            if high is not None:
                found["high"] = columns.status <= _bounded(high, _STATUS_MAX)
        # Statuses from 400 on are all errors, and those are few.
        if filters.errors_only or ("low" in found and low is not None and low >= 400):
            found["errors"] = columns.is_error == 1
        if filters.path:
            found["path"] = self._has(columns.path, filters.path)
        if filters.text:
            texts = (columns.path, columns.ip, columns.error)
            path, ip, error = (self._has(column, filters.text) for column in texts)
            found["text"] = path | ip | error
        return found

    def _has(self, column: Any, part: str) -> Any:
        """Make the condition that a text has a part, in upper or lower case."""
        # What is longer than any text there has no match, and SQLite takes no pattern without end.
        part = storable(self.database, part[:_PART_MAX])
        text: Any = "%" + re.sub(r"([!%_])", r"!\1", part) + "%"
        if not isinstance(self.database, peewee.SqliteDatabase):
            # SQLite's LIKE does not mind the case.
            column, text = peewee.fn.LOWER(column), peewee.fn.LOWER(text)
        return peewee.NodeList((column, peewee.SQL("LIKE"), text, peewee.SQL("ESCAPE '!'")))

    def _range(self, model: Any, filters: LogFilters, before: _Position | None) -> list[Any]:
        found = []
        if filters.from_ms is not None:
            found.append(model.time_ms >= _bounded(filters.from_ms, _BIG))
        if filters.to_ms is not None:
            found.append(model.time_ms < _bounded(filters.to_ms, _BIG))
        if before is not None:
            # The first condition says nothing new, but it is the one an index can use.
            found.append(model.time_ms <= before.time_ms)
            found.append((model.time_ms < before.time_ms) | (model.id < before.id))
        return found

    def _position(self, before: str | int) -> _Position | None:
        """Return the place in the log that `before` means, None if its row is gone."""
        if isinstance(before, str):
            found = _CURSOR.fullmatch(before.strip())
            if found:
                return _Position(_bounded(int(found[1]), _BIG), _bounded(int(found[2]), _BIG))
            if not (before.strip().isascii() and before.strip().isdigit()):
                raise ValueError("`before` is the `next` of another page, or the id of a row.")
            before = int(before[:25])
        row = self.log_get(before)
        return None if row is None else _Position(row.time_ms, row.id)

    def _log_rows(self, *further: Any) -> Any:
        model = self.models.request_log
        return model.select(*(getattr(model, name) for name in _COLUMNS), *further)


def _where(query: Any, conditions: list[Any]) -> Any:
    return query.where(*conditions) if conditions else query


def _newest_first(query: Any, columns: Any) -> Any:
    return query.order_by(columns.time_ms.desc(), columns.id.desc())


def _bounded(number: int, most: int) -> int:
    return max(-most, min(most, int(number)))
