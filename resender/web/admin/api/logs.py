"""The request log: its switch, pages of it, one row, clearing, and all of it as CSV.

The log is the store's. No state.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from resender.core.access.whitelist import normalise_address
from resender.core.binance.markets import Market
from resender.errors import RouteError
from resender.store import LogFilters, LogRow, Repository
from resender.web.admin.fields import Field, wrong
from resender.web.admin.long_answers import LiveHandler, LongHandler

PAGE = 100
PAGE_MAX = 1000
# What an export writes in one go, some 0.3 ms on the loop; between two of them it does other work.
EXPORT_ROWS = 200
# What it reads in one go: more when a filter makes each search long, however few rows it brings.
_READ_ROWS_MAX = 400
_LONG_READ_S = 0.002
# How much of the time an export may work while nobody calls.
EXPORT_DUTY = 0.1
_EXPORT_PAUSE_MAX_S = 0.5
# While calls come in it works so seldom that hardly one in a hundred meets it.
_EXPORT_BUSY_PAUSE_S = 0.2
_STATUS = re.compile(r"([1-5])xx|([1-5][0-9][0-9])")
_TIME_MAX = 1 << 53
_ID_MAX = (1 << 63) - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_COLUMNS = (
    "time_utc", "time", "ip", "method", "market", "path", "status", "upstream_status", "duration_ms", "bytes",
    "error",
)  # fmt: skip
_FORMULA = frozenset("=+-@\t\r")


class LogHandler(LiveHandler):
    """`GET` and `PUT /admin/api/log`: the switch, and how much is kept."""

    async def get(self) -> None:
        self.send(await self._state())

    async def put(self) -> None:
        body = self.read_json(
            {
                "enabled": Field(bool, None),
                "retention_days": Field(int, _ABSENT, nullable=True, low=1, high=36_500),
                "max_rows": Field(int, _ABSENT, nullable=True, low=1, high=1_000_000_000),
            }
        )

        def work(repository: Repository) -> None:
            before = self._limits(repository)
            own_days, own_rows = repository.log_retention()
            days = own_days if body["retention_days"] is _ABSENT else body["retention_days"]
            rows = own_rows if body["max_rows"] is _ABSENT else body["max_rows"]
            if (days, rows) != (own_days, own_rows):
                repository.set_log_retention(days, rows)
            if body["enabled"] is not None:
                repository.set_log_enabled(body["enabled"])
            after = self._limits(repository)
            if after != before:
                repository.audit_add(self.login.actor, self.ip, "log.change", "request log", before, after)

        await self.services.store.log_change(work)
        self.send(await self._state())

    def _limits(self, repository: Repository) -> dict[str, Any]:
        config, (days, rows) = self.services.config, repository.log_retention()
        return {
            "enabled": repository.log_enabled(),
            "retention_days": config.log_retention_days if days is None else days,
            "max_rows": config.log_max_rows if rows is None else rows,
        }

    async def _state(self) -> dict[str, Any]:
        store, config = self.services.store, self.services.config
        kept, stats = store.log_retention(), store.stats
        return {
            "enabled": store.log_enabled,
            "retention_days": kept.days,
            "max_rows": kept.max_rows,
            "default_retention_days": config.log_retention_days,
            "default_max_rows": config.log_max_rows,
            "rows": await store.log_count(),
            "written": stats.log_written,
            "dropped": stats.log_dropped,
            "queued": stats.log_queued,
        }


_ABSENT: Any = object()


class FilterMixin(LiveHandler):
    """Reads the filters of the request log from the query."""

    def filters(self) -> LogFilters:
        """Read them all.

        Raises: BadRequest that names the filter.
        """
        low, high = self._statuses()
        return LogFilters(
            from_ms=self.query_int("from", None, 0, _TIME_MAX),
            to_ms=self.query_int("to", None, 0, _TIME_MAX),
            ip=_address(self.query_text("ip")),
            market=self.query_word("market", [market.value for market in Market]),
            path=self.query_text("path") or None,
            status_min=low,
            status_max=high,
            errors_only=self.query_flag("errors"),
            text=self.query_text("text") or None,
        )

    def _statuses(self) -> tuple[int | None, int | None]:
        text = self.query_text("status").lower()
        if not text:
            return None, None
        found = _STATUS.fullmatch(text)
        if found is None:
            raise wrong("status", "'status' has to be a status such as 403, or a class such as 4xx.")
        if found[1]:
            return int(found[1]) * 100, int(found[1]) * 100 + 99
        return int(text), int(text)


def _address(text: str) -> str | None:
    if not text:
        return None
    try:
        return normalise_address(text)
    except ValueError:
        return text  # nothing will be found, which is the answer


class LogsHandler(FilterMixin):
    """`GET` and `DELETE /admin/api/logs`."""

    async def get(self) -> None:
        limit = self.query_int("limit", PAGE, 1, PAGE_MAX) or PAGE
        try:
            page = await self.services.store.log_page(
                self.filters(), self.query_text("before") or None, limit
            )
        except ValueError as error:
            raise wrong("before", str(error), reason="page_gone") from None
        self.send({"items": [_item(row) for row in page.rows], "next": page.next_before})

    async def delete(self) -> None:
        older_than = self._older_than()
        wanted = {} if older_than is None else {"older_than": older_than}
        removed: int | None = None
        try:
            removed = await self.services.store.log_clear(older_than)
        finally:
            # What went before it failed is gone; nobody knows how much that was.
            await self.audit("log.clear", "request log", None, {"removed": removed, **wanted})
        self.send({"removed": removed})

    def _older_than(self) -> int | None:
        """Read up to where to clear; whatever else is said might mean less than all, so it is refused.

        Raises: BadRequest.
        """
        self.read_json({})
        for name in self.request.query_arguments:
            if name != "older_than":
                raise wrong(name[:100], f"There is no {name[:100]!r} here: rows go by `older_than` only.")
        # An empty value is a script gone wrong, not the wish to remove everything.
        if self.request.query and not self.query_text("older_than"):
            raise wrong(
                "older_than", "Give 'older_than' in epoch milliseconds, or leave it out for all rows."
            )
        return self.query_int("older_than", None, 0, _TIME_MAX)


class LogRowHandler(LiveHandler):
    """`GET /admin/api/logs/<id>`."""

    async def get(self, row_id: str) -> None:
        number = int(row_id) if len(row_id) < 20 else _ID_MAX
        row = await self.services.store.log_get(min(number, _ID_MAX))
        if row is None:
            raise RouteError(f"The request log has no row {row_id[:20]}.")
        self.send(_item(row))


def _item(row: LogRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "time": row.time_ms,
        "ip": row.ip,
        "method": row.method,
        "market": row.market,
        "path": row.path,
        "status": row.status,
        "upstream_status": row.upstream_status,
        "duration_ms": row.duration_ms,
        "bytes": row.bytes,
        "error": row.error,
    }


# --- export ----------------------------------------------------------------------------------


def safe(text: str | None) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    if text and text[0] in _FORMULA:
        return f"'{text}"
    return text or ""


def utc_text(time_ms: int) -> str:
    """Write a time as `2026-01-01T00:00:00.000Z`; empty if no calendar has it."""
    second, ms = divmod(time_ms, 1000)
    text = _second_text(second)
    return f"{text}.{ms:03d}Z" if text else ""


@lru_cache(maxsize=256)
def _second_text(second: int) -> str:
    """Rows of the same second follow one another: this is most of the work of a row."""
    try:
        return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError):
        return ""


def csv_rows(rows: Iterable[LogRow]) -> bytes:
    """Write rows as lines of CSV."""
    out = io.StringIO()
    csv.writer(out).writerows(
        [
            (
                utc_text(row.time_ms), row.time_ms, safe(row.ip), safe(row.method), safe(row.market),
                safe(row.path), row.status, row.upstream_status, row.duration_ms, row.bytes, safe(row.error),
            )
            for row in rows
        ]
    )  # fmt: skip
    return out.getvalue().encode("utf-8", "backslashreplace")


class LogExportHandler(FilterMixin, LongHandler):
    """`GET /admin/api/logs/export`: all rows the filters let through, newest first."""

    #: Calls the gateway had answered when the export last looked.
    _calls = 0

    async def get(self) -> None:
        filters, store = self.filters(), self.services.store
        loop = asyncio.get_running_loop()
        with self.live.export():
            # The first rows before the headers: trouble with the database is an answer then.
            begun, size = loop.time(), EXPORT_ROWS
            page = await store.log_page(filters, None, size, size)
            moment = utc_text(self.services.clock.now_ms())[:19].replace(":", "").replace("-", "")
            self.send_file(f"requests-{moment}.csv", "text/csv; charset=utf-8")
            if not await self.push(",".join(_COLUMNS).encode() + b"\r\n"):
                return
            while True:
                read_s = loop.time() - begun
                if not await self._write_rows(page.rows, read_s):
                    return
                if page.next_before is None:
                    return
                if not self.services.calls.is_open or not await self.may_go_on():
                    self.break_off()
                    return
                size = min(_READ_ROWS_MAX, size * 2) if read_s > _LONG_READ_S else EXPORT_ROWS
                begun = loop.time()
                page = await store.log_page(filters, page.next_before, size, size)

    async def _write_rows(self, rows: Sequence[LogRow], worked_s: float) -> bool:
        """Write rows bit by bit, pausing for all the work there was; False when the client is gone."""
        loop = asyncio.get_running_loop()
        for start in range(0, max(1, len(rows)), EXPORT_ROWS):
            begun = loop.time()
            part = csv_rows(rows[start : start + EXPORT_ROWS])
            worked_s += loop.time() - begun
            if part and not await self.push(part):
                return False
            if not await self.pause(self._rest_s(worked_s)):
                return False
            worked_s = 0.0
        return True

    def _rest_s(self, worked_s: float) -> float:
        """Tell how long to pause after so much work."""
        calls = self.services.metrics.tally.calls
        is_busy = calls != self._calls
        self._calls = calls
        rest_s = min(_EXPORT_PAUSE_MAX_S, worked_s * (1 / EXPORT_DUTY - 1))
        return max(rest_s, _EXPORT_BUSY_PAUSE_S) if is_busy else rest_s
