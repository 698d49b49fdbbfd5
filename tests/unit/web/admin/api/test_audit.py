"""The audit's pages: what is asked of the table, and the shape of a row."""

from __future__ import annotations

import pytest

from resender.store import AuditRow
from resender.web.admin.api.audit import _values
from tests.support.admin import assert_error
from tests.unit.web.serving import FakeStore, administered, make_services


def row(number: int, **changes) -> AuditRow:
    facts = {
        "id": number, "time_ms": 5, "actor": "root", "ip": "::1", "action": "login", "subject": "root",
        "before": None, "after": '{"a":1}',
    }  # fmt: skip
    return AuditRow(**(facts | changes))


@pytest.mark.parametrize(("count", "following"), [(0, None), (1, None), (2, 8)])
async def test_full_page_says_where_the_next_one_begins(count: int, following: int | None) -> None:
    rows = [row(9 - number) for number in range(count)]
    async with administered(make_services(store=FakeStore(audit_list=rows))) as one:
        found = await one.get("audit?limit=2")
    assert found["next"] == following
    assert [each["id"] for each in found["items"]] == [9 - number for number in range(count)]


async def test_filters_are_handed_on_and_empty_ones_mean_any() -> None:
    async with administered(make_services(store=FakeStore(audit_list=[]))) as one:
        await one.get("audit?before=7&limit=5&actor=root&action=login")
        await one.get("audit?before=&actor=%20&action=")
        asked = [options for name, _, options in one.store.asked if name == "audit_list"]
    assert asked == [
        {"before_id": 7, "limit": 5, "actor": "root", "action": "login"},
        {"before_id": None, "limit": 100, "actor": None, "action": None},
    ]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=-1", "before=x"])
async def test_number_that_cannot_be_is_refused_by_its_name(query: str) -> None:
    async with administered() as one:
        assert_error(await one.send("GET", f"audit?{query}"), 400, -4, field=query.partition("=")[0])


async def test_row_is_shown_with_its_values_as_json() -> None:
    async with administered(make_services(store=FakeStore(audit_list=[row(1)]))) as one:
        (item,) = (await one.get("audit"))["items"]
    assert item == {
        "id": 1, "time": 5, "actor": "root", "ip": "::1", "action": "login", "subject": "root",
        "before": None, "after": {"a": 1},
    }  # fmt: skip


def test_values_somebody_wrote_by_hand_are_shown_as_text() -> None:
    assert _values("no json") == {"text": "no json"}
    assert _values("null") is None
    assert _values(None) is None
