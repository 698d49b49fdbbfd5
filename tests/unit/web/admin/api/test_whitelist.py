"""The whitelist's API: what changes, in which words it fails, and what the audit gets of many at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from resender.store import DuplicateEntry, UnknownEntry, WhitelistEntry
from tests.support.admin import assert_error
from tests.unit.web.serving import NOW_MS, FakeRepository, FakeStore, administered, make_services


def entry(number: int, *, note: str = "", enabled: bool = True) -> WhitelistEntry:
    return WhitelistEntry(
        number, f"10.0.{number // 250}.{number % 250}", note, enabled, NOW_MS, NOW_MS, None, 0
    )


def list_of(rows: FakeRepository, **answers: Any) -> Any:
    store = FakeStore(whitelist_change=rows.change, run=rows.change, **answers)
    return administered(make_services(store=store))


async def test_list_tells_ones_own_address_too() -> None:
    async with list_of(FakeRepository(), whitelist_list=[entry(1)]) as one:
        found = await one.get("whitelist")
    assert found["your_address"] == "127.0.0.1"
    assert found["items"][0] == {
        "id": 1, "address": "10.0.0.1", "note": "", "enabled": True, "created": NOW_MS, "updated": NOW_MS,
        "last_seen": None, "calls": 0,
    }  # fmt: skip


async def test_entry_is_added_together_with_its_row_of_the_audit() -> None:
    rows = FakeRepository(whitelist_add=entry(1, note="home"))
    async with list_of(rows) as one:
        assert (await one.post("whitelist", {"address": "10.0.0.1", "note": "home"}, 201))["id"] == 1
    assert rows.asked[0][1] == ("10.0.0.1", "home", True)
    after = {"address": "10.0.0.1", "note": "home", "enabled": True}
    assert rows.audit == [("root", "127.0.0.1", "whitelist.add", "10.0.0.1", None, after)]


async def test_address_that_is_there_is_a_conflict_with_that_entry() -> None:
    async with list_of(FakeRepository(whitelist_add=DuplicateEntry(entry(1)))) as one:
        reply = await one.send("POST", "whitelist", {"address": "10.0.0.1"})
    assert_error(reply, 409, -13, field="address", reason="entry_exists", id=1, address="10.0.0.1")


async def test_address_that_is_none_names_its_field() -> None:
    async with list_of(FakeRepository(whitelist_add=ValueError("'x' is no address."))) as one:
        reply = await one.send("POST", "whitelist", {"address": "x"})
    assert_error(reply, 400, -4, field="address", reason="address")


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"note": "x"}), ("DELETE", None)])
async def test_entry_that_is_gone_is_not_there(method: str, body: Any) -> None:
    rows = FakeRepository(whitelist_get=None)
    async with list_of(rows) as one:
        assert_error(await one.send(method, "whitelist/7", body), 404, -3)
    assert rows.audit == []


async def test_entry_removed_in_the_same_moment_is_not_there() -> None:
    rows = FakeRepository(whitelist_get=entry(7), whitelist_update=UnknownEntry(7))
    async with list_of(rows) as one:
        assert_error(await one.send("PATCH", "whitelist/7", {"enabled": False}), 404, -3)


async def test_change_of_one_part_leaves_the_others() -> None:
    rows = FakeRepository(whitelist_get=entry(7), whitelist_update=entry(7, enabled=False))
    async with list_of(rows) as one:
        await one.send("PATCH", "whitelist/7", {"enabled": False})
    assert rows.asked[1] == ("whitelist_update", (7,), {"address": None, "note": None, "enabled": False})


# --- several at once ------------------------------------------------------------------------------


async def test_only_entries_that_would_change_are_changed() -> None:
    entries = [entry(1), entry(2, enabled=False), entry(3, enabled=False)]
    rows = FakeRepository(
        whitelist_list=entries,
        whitelist_update_many=lambda changes: [
            replace(entries[number - 1], enabled=True) for number, _, _ in changes
        ],
    )
    async with list_of(rows) as one:
        assert await one.post("whitelist/bulk", {"action": "enable", "ids": [1, 2, 99]}) == {"changed": 1}
    assert rows.asked[1][1] == ([(2, None, True)],)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "burn", "ids": [1]}, "action"),
        ({"action": "delete"}, "ids"),
        ({"action": "delete", "ids": ["1"]}, "ids"),
        ({"action": "delete", "ids": [True]}, "ids"),
    ],
)
async def test_wish_for_many_that_cannot_be_read_changes_nothing(body: Any, field: str) -> None:
    rows = FakeRepository()
    async with list_of(rows) as one:
        assert_error(await one.send("POST", "whitelist/bulk", body), 400, -4, field=field)
    assert rows.asked == []


async def test_change_of_many_is_in_the_audit_fifty_to_a_row() -> None:
    entries = [entry(number) for number in range(1, 121)]
    rows = FakeRepository(whitelist_list=entries, whitelist_remove_many=None)
    async with list_of(rows) as one:
        body = {"action": "delete", "ids": [each.id for each in entries]}
        assert await one.post("whitelist/bulk", body) == {"changed": 120}
    assert [len(row[4]["entries"]) for row in rows.audit] == [50, 50, 20]
    assert all(row[5] is None for row in rows.audit)
    assert all(len(row[3]) <= 201 for row in rows.audit)
    assert rows.audit[0][3].startswith("10.0.0.1, 10.0.0.2")
    assert rows.audit[0][3].endswith("…")


# --- text in and out ------------------------------------------------------------------------------


def importing() -> FakeRepository:
    present = [entry(1, note="old"), entry(2)]
    return FakeRepository(
        whitelist_list=present,
        whitelist_add_many=lambda wishes: [entry(10 + number) for number in range(len(wishes))],
        whitelist_update_many=lambda changes: [present[0]] * len(changes),
    )


async def test_import_adds_changes_and_leaves_alone() -> None:
    rows = importing()
    async with list_of(rows) as one:
        text = "10.0.0.1,new\n10.0.0.2\n10.9.9.9,guest,false\n"
        found = await one.post("whitelist/import", {"text": text})
    assert found == {"added": 1, "updated": 1, "unchanged": 1, "errors": [], "errors_total": 0}
    calls = {name: args for name, args, _ in rows.asked}
    assert calls["whitelist_add_many"] == ([("10.9.9.9", "guest", False)],)
    assert calls["whitelist_update_many"] == ([(1, "new", None)],)
    assert [row[2] for row in rows.audit] == ["whitelist.import"] * 2


@pytest.mark.parametrize("body", [{"text": "10.9.9.9", "dry_run": True}, {"text": "10.9.9.9\nno address\n"}])
async def test_trial_and_a_line_that_cannot_be_read_change_nothing(body: dict[str, Any]) -> None:
    rows = importing()
    async with list_of(rows) as one:
        found = await one.post("whitelist/import", body)
    assert found["added"] == 1
    assert found["errors_total"] == ("dry_run" not in body)
    assert [error["line"] for error in found["errors"]] == ([] if "dry_run" in body else [2])
    assert [name for name, _, _ in rows.asked] == ["whitelist_list"]
    assert rows.audit == []


async def test_of_many_errors_some_are_shown_and_all_counted() -> None:
    async with list_of(importing()) as one:
        found = await one.post("whitelist/import", {"text": "no address\n" * 300})
    assert (len(found["errors"]), found["errors_total"]) == (200, 300)


async def test_export_is_a_file_a_spreadsheet_reads() -> None:
    async with list_of(FakeRepository(), whitelist_list=[entry(1, note="=1+1"), entry(2, note="币")]) as one:
        reply = await one.send("GET", "whitelist/export")
    assert reply.header("content-disposition") == 'attachment; filename="whitelist.csv"'
    text = reply.body.decode("utf-8")
    assert text.startswith("\ufeffaddress,note,enabled")
    assert "'=1+1" in text
    assert "币" in text


# --- who was refused ------------------------------------------------------------------------------


async def test_who_has_been_let_in_since_is_not_waiting_any_more() -> None:
    async with list_of(FakeRepository()) as one:
        for ip in ("192.0.2.1", "127.0.0.1"):
            one.services.access.refused.note(ip, "/x?secret=1", NOW_MS)
        assert (await one.get("refused"))["items"] == [
            {"address": "192.0.2.1", "count": 1, "first": NOW_MS, "last": NOW_MS, "path": "/x"}
        ]
        assert (await one.send("DELETE", "refused")).json() == {"removed": 2}
        assert (await one.get("refused"))["items"] == []
        assert one.store.audit[0][2:5] == ("refused.clear", "", {"addresses": 2})
