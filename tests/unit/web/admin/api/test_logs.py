"""The request log's API: filters of the query, clearing, and what an export writes."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from resender.errors import StoreError
from resender.store import LogFilters, LogPage, LogRow
from resender.web.admin.api import logs as module
from resender.web.admin.api.logs import csv_rows, safe, utc_text
from tests.support.admin import assert_error
from tests.unit.web.serving import NOW_MS, FakeStore, administered, make_services


def row(number: int, **changes: Any) -> LogRow:
    facts: dict[str, Any] = {
        "id": number, "time_ms": NOW_MS, "ip": "192.0.2.1", "method": "GET", "market": "spot",
        "path": "/api/v3/time", "status": 200, "upstream_status": None, "duration_ms": 1.5, "bytes": 7,
        "error": None,
    }  # fmt: skip
    return LogRow(**(facts | changes))


def pages(*found: LogPage) -> FakeStore:
    """Return a store that gives these pages, one after the other."""
    left = list(found)
    return FakeStore(log_page=lambda *args: left.pop(0))


async def filters(query: str) -> LogFilters:
    store = pages(LogPage([], None))
    async with administered(make_services(store=store)) as one:
        await one.get(f"logs?{query}")
    return store.asked[0][1][0]


# --- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", LogFilters()),
        ("from=1&to=2&errors=1", LogFilters(from_ms=1, to_ms=2, errors_only=True)),
        ("status=403", LogFilters(status_min=403, status_max=403)),
        ("status=4XX", LogFilters(status_min=400, status_max=499)),
        ("ip=%3A%3Affff%3A192.0.2.1", LogFilters(ip="192.0.2.1")),
        ("ip=2001:DB8:0::1", LogFilters(ip="2001:db8::1")),
        ("ip=nobody", LogFilters(ip="nobody")),
        ("market=um&path=klines&text=%20x%20", LogFilters(market="um", path="klines", text="x")),
        ("market=&path=&text=&status=&ip=", LogFilters()),
    ],
)
async def test_filters_are_read_from_the_query(query: str, found: LogFilters) -> None:
    assert await filters(query) == found


@pytest.mark.parametrize(
    "query",
    [
        "status=600",
        "status=4x",
        "status=4xxx",
        "market=nowhere",
        "from=-1",
        "to=x",
        "errors=maybe",
        "limit=1001",
    ],
)
async def test_filter_that_cannot_be_is_refused_by_its_name(query: str) -> None:
    async with administered() as one:
        assert_error(await one.send("GET", f"logs?{query}"), 400, -4, field=query.partition("=")[0])


async def test_page_is_handed_on_with_where_the_next_begins() -> None:
    store = pages(LogPage([row(5)], "5 x"))
    async with administered(make_services(store=store)) as one:
        found = await one.get("logs?before=9&limit=2")
    assert store.asked[0][1][1:] == ("9", 2)
    assert found["next"] == "5 x"
    assert found["items"][0]["upstream_status"] is None


async def test_place_that_is_gone_is_told() -> None:
    store = FakeStore(log_page=ValueError("no such place"))
    async with administered(make_services(store=store)) as one:
        assert_error(await one.send("GET", "logs?before=x"), 400, -4, field="before", reason="page_gone")


async def test_row_with_a_number_no_table_has_is_not_there() -> None:
    store = FakeStore(log_get=None)
    async with administered(make_services(store=store)) as one:
        assert_error(await one.send("GET", f"logs/{'9' * 19}"), 404, -3)
    assert store.asked == [("log_get", ((1 << 63) - 1,), {})]


# --- clearing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "older_than"), [("", None), ("?older_than=7", 7)])
async def test_rows_are_cleared_up_to_a_time_or_all(query: str, older_than: int | None) -> None:
    store = FakeStore(log_clear=3)
    async with administered(make_services(store=store)) as one:
        assert (await one.send("DELETE", f"logs{query}")).json() == {"removed": 3}
    assert store.asked == [("log_clear", (older_than,), {})]
    wanted = {} if older_than is None else {"older_than": older_than}
    assert store.audit[0][5] == {"removed": 3} | wanted


@pytest.mark.parametrize("query", ["?older_than=", "?older_than=x", "?older=7", "?older_than=7&ip=::1", "?x"])
async def test_wish_that_might_mean_less_than_all_clears_nothing(query: str) -> None:
    store = FakeStore(log_clear=3)
    async with administered(make_services(store=store)) as one:
        assert (await one.send("DELETE", f"logs{query}")).status == 400
        assert (await one.send("DELETE", "logs", {"older_than": 7})).status == 400
    assert store.asked == []


# --- export ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("-1", "'-1"),
        ("\tx", "'\tx"),
        ("/x=1", "/x=1"),
        ("", ""),
        (None, ""),
    ],
)
def test_spreadsheet_takes_no_text_for_a_formula(text: str | None, found: str) -> None:
    assert safe(text) == found


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000_007, "2026-09-21T14:13:20.007Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1 << 60, ""),
    ],
)
def test_time_is_written_as_a_calendar_has_it(time_ms: int, text: str) -> None:
    assert utc_text(time_ms) == text


def test_row_becomes_a_line_that_reads_back() -> None:
    odd = row(1, path='/a,"b"\n', error="=cmd", ip="币\ud800")
    (found,) = csv.reader(io.StringIO(csv_rows([odd]).decode("utf-8"), newline=""))
    assert found[1:] == [
        str(NOW_MS), "币\\ud800", "GET", "spot", '/a,"b"\n', "200", "", "1.5", "7", "'=cmd",
    ]  # fmt: skip


async def test_export_goes_through_all_pages_and_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EXPORT_BUSY_PAUSE_S", 0.0)
    store = pages(LogPage([row(3), row(2)], "2"), LogPage([], "1"), LogPage([row(1)], None))
    async with administered(make_services(store=store)) as one:
        reply = await one.send("GET", "logs/export?status=2xx")
        assert one.live.exports_open == 0
    assert reply.complete
    assert reply.header("content-type") == "text/csv; charset=utf-8"
    name = utc_text(NOW_MS)[:19].replace(":", "").replace("-", "")
    assert reply.header("content-disposition") == f'attachment; filename="requests-{name}.csv"'
    lines = reply.body.decode().splitlines()
    assert lines[0].startswith("time_utc,time,ip,method")
    assert len(lines) == 4
    assert [args[1] for _, args, _ in store.asked] == [None, "2", "1"]
    assert {args[0].status_max for _, args, _ in store.asked} == {299}


async def test_export_of_a_gateway_that_stops_is_no_whole_file() -> None:
    services = make_services(store=pages(LogPage([row(1)], "1")))
    services.calls.is_open = False
    async with administered(services) as one:
        assert not (await one.send("GET", "logs/export")).complete


async def test_trouble_before_the_first_row_is_an_answer() -> None:
    async with administered(make_services(store=FakeStore(log_page=StoreError("down")))) as one:
        assert_error(await one.send("GET", "logs/export"), 503, -8, reason="database")
