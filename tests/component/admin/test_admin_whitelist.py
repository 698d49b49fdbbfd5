"""The whitelist's API: entries, lists, text in and out, and who was refused."""

from __future__ import annotations

import time

import pytest

from tests.support.admin import Browser, assert_error
from tests.support.client import call
from tests.support.running import Running

pytestmark = pytest.mark.component


async def status(run: Running) -> int:
    return (await call(run.port, "GET", "/api/v3/time")).status


async def test_entry_is_made_changed_and_removed_and_acts_on_the_next_request(
    admin: Running, root: Browser
) -> None:
    listed = await root.get("whitelist")
    assert listed["your_address"] == "127.0.0.1"
    assert (await root.send("DELETE", f"whitelist/{listed['items'][0]['id']}")).json() == {}
    assert await status(admin) == 403
    made = await root.post("whitelist", {"address": "127.0.0.1", "note": "this desk"}, 201)
    assert set(made) == {"id", "address", "note", "enabled", "created", "updated", "last_seen", "calls"}
    assert (made["address"], made["note"], made["enabled"], made["calls"]) == (
        "127.0.0.1",
        "this desk",
        True,
        0,
    )
    assert await status(admin) == 200
    path = f"whitelist/{made['id']}"
    assert (await root.send("PATCH", path, {"enabled": False})).json()["enabled"] is False
    assert await status(admin) == 403
    changed = (await root.send("PATCH", path, {"enabled": True, "address": "127.0.0.0/8", "note": ""})).json()
    assert (changed["id"], changed["address"], changed["note"]) == (made["id"], "127.0.0.0/8", "")
    assert await status(admin) == 200
    item = (await root.get("whitelist"))["items"][0]
    assert item["calls"] == 2
    assert item["last_seen"] >= made["created"]
    assert (await root.send("DELETE", path)).json() == {}
    assert await status(admin) == 403
    for method in ("PATCH", "DELETE"):
        assert_error(await root.send(method, path, {}), 404, -3)


async def test_bad_entry_is_explained_beside_its_field(admin: Running, root: Browser) -> None:
    for body, field in (
        ({}, "address"),
        ({"address": ""}, "address"),
        ({"address": "localhost"}, "address"),
        ({"address": "10.0.0.1/8"}, "address"),
        ({"address": "10.0.0.256"}, "address"),
        ({"address": "fe80::1%eth0"}, "address"),
        ({"address": 10}, "address"),
        ({"address": "10.0.0.1", "note": 5}, "note"),
        ({"address": "10.0.0.1", "note": "x" * 1001}, "note"),
        ({"address": "10.0.0.1", "note": "\ud800"}, None),
        ({"address": "10.0.0.1", "enabled": "yes"}, "enabled"),
        ({"address": "10.0.0.1", "calls": 7}, "calls"),
    ):
        if field is None:
            reply = await root.send("POST", "whitelist", raw=b'{"address":"10.0.0.1","note":"\\ud800"}')
            assert_error(reply, 400, -4)
        else:
            assert_error(await root.send("POST", "whitelist", body), 400, -4, field=field)
    assert "10.0.0.0/8" in (await root.send("POST", "whitelist", {"address": "10.0.0.1/8"})).json()["msg"]
    long = await root.send("POST", "whitelist", {"address": "10.0.0.1", "note": "x" * 1001})
    assert_error(long, 400, -4, reason="note_long")
    assert_error(await root.send("POST", "whitelist", {"address": "x"}), 400, -4, reason="address")
    assert len((await root.get("whitelist"))["items"]) == 1


async def test_address_that_is_there_already_is_a_409_that_names_the_entry(
    admin: Running, root: Browser
) -> None:
    made = await root.post("whitelist", {"address": "2001:db8::1"}, 201)
    for spelling in ("2001:db8::1", " 2001:DB8:0::1 ", "2001:db8::1/128"):
        reply = await root.send("POST", "whitelist", {"address": spelling})
        assert_error(reply, 409, -13, field="address", id=made["id"])
    assert_error(await root.send("PATCH", "whitelist/1", {"address": "2001:db8::1"}), 409, -13, id=made["id"])


async def test_several_entries_are_switched_and_removed_at_once(admin: Running, root: Browser) -> None:
    ids = [
        (await root.post("whitelist", {"address": f"10.0.{n // 256}.{n % 256}"}, 201))["id"]
        for n in range(60)
    ]
    bulk = "whitelist/bulk"
    assert await root.post(bulk, {"action": "disable", "ids": [*ids[:55], 999_999]}) == {"changed": 55}
    assert await root.post(bulk, {"action": "disable", "ids": ids}) == {"changed": 5}
    assert await root.post(bulk, {"action": "enable", "ids": ids[:2]}) == {"changed": 2}
    assert admin.gateway.access.whitelist.match("10.0.0.1") is not None
    assert admin.gateway.access.whitelist.match("10.0.0.2") is None
    assert await root.post(bulk, {"action": "delete", "ids": ids}) == {"changed": 60}
    assert len((await root.get("whitelist"))["items"]) == 1
    removed = (await root.get("audit?action=whitelist.remove"))["items"]
    gone = [entry["address"] for row in removed for entry in row["before"]["entries"]]
    assert len(gone) == 60
    for body, field in (
        ({"action": "drop", "ids": []}, "action"),
        ({"action": "delete", "ids": ["1"]}, "ids"),
        ({"action": "delete", "ids": [True]}, "ids"),
        ({"action": "delete"}, "ids"),
        ({"ids": []}, "action"),
    ):
        assert_error(await root.send("POST", bulk, body), 400, -4, field=field)


async def test_import_adds_and_updates_all_lines_or_none(admin: Running, root: Browser) -> None:
    text = "address,note,enabled\n127.0.0.1,here,true\n10.0.0.1,a,false\n10.0.0.0/8,,\n"
    expected = {"added": 2, "updated": 1, "unchanged": 0, "errors": [], "errors_total": 0}
    dry = await root.post("whitelist/import", {"text": text, "dry_run": True})
    assert dry == expected
    assert len((await root.get("whitelist"))["items"]) == 1
    bad = await root.post("whitelist/import", {"text": text + "nonsense\n"})
    assert bad["errors"] == [
        {"line": 5, "text": "nonsense", "msg": bad["errors"][0]["msg"], "reason": "address"}
    ]
    assert len((await root.get("whitelist"))["items"]) == 1
    assert await root.post("whitelist/import", {"text": text}) == expected
    items = {item["address"]: item for item in (await root.get("whitelist"))["items"]}
    assert {a: (i["note"], i["enabled"]) for a, i in items.items()} == {
        "127.0.0.1": ("here", True),
        "10.0.0.1": ("a", False),
        "10.0.0.0/8": ("", True),
    }
    assert admin.gateway.access.whitelist.match("10.9.9.9") == items["10.0.0.0/8"]["id"]
    again = await root.post("whitelist/import", {"text": text})
    assert again == {"added": 0, "updated": 0, "unchanged": 3, "errors": [], "errors_total": 0}
    # A list without notes leaves those there are.
    await root.post("whitelist/import", {"text": "127.0.0.1\n10.0.0.1"})
    assert (await root.get("whitelist"))["items"][0]["note"] == "here"


async def test_export_is_csv_that_a_spreadsheet_does_not_execute_and_import_takes(
    admin: Running, root: Browser
) -> None:
    hostile = '=HYPERLINK("http://evil.example","x")'
    await root.post("whitelist", {"address": "10.0.0.1", "note": hostile, "enabled": False}, 201)
    await root.post("whitelist", {"address": "10.0.0.2", "note": "办公室，二楼"}, 201)
    reply = await root.send("GET", "whitelist/export")
    assert reply.status == 200
    assert reply.header("content-type") == "text/csv; charset=utf-8"
    assert reply.header("content-disposition") == 'attachment; filename="whitelist.csv"'
    text = reply.body.decode("utf-8-sig")
    assert "\"'=HYPERLINK" in text
    assert "办公室，二楼" in text
    for entry in (await root.get("whitelist"))["items"]:
        await root.send("DELETE", f"whitelist/{entry['id']}")
    await root.post("whitelist/import", {"text": reply.body.decode()})
    items = {item["address"]: item for item in (await root.get("whitelist"))["items"]}
    assert (items["10.0.0.1"]["note"], items["10.0.0.1"]["enabled"]) == (hostile, False)
    assert items["10.0.0.2"]["note"] == "办公室，二楼"


async def test_import_of_5000_lines_takes_seconds_and_lets_the_gateway_serve(
    admin: Running, root: Browser
) -> None:
    import asyncio

    text = "\n".join(f"10.1.{n // 250}.{n % 250}" for n in range(5000))
    began = time.monotonic()
    task = asyncio.ensure_future(root.post("whitelist/import", {"text": text}))
    slowest = 0.0
    while not task.done():
        sent = time.monotonic()
        assert await status(admin) == 200
        slowest = max(slowest, time.monotonic() - sent)
        await asyncio.sleep(0.01)
    assert (await task)["added"] == 5000
    assert time.monotonic() - began < 12
    assert slowest < 1.0
    too_many = text + "\n10.2.0.1\n"
    answer = await root.post("whitelist/import", {"text": too_many})
    assert answer["errors"][0]["line"] == 5001


async def test_refused_addresses_are_listed_until_they_are_allowed(admin: Running, root: Browser) -> None:
    await root.send("PATCH", "whitelist/1", {"enabled": False})
    assert await status(admin) == 403
    await call(admin.port, "GET", "/fapi/v1/time?signature=secret")
    items = (await root.get("refused"))["items"]
    assert [item["address"] for item in items] == ["127.0.0.1"]
    assert items[0]["count"] == 2
    assert items[0]["path"] == "/fapi/v1/time"
    assert items[0]["first"] <= items[0]["last"]
    await root.post("whitelist", {"address": "127.0.0.0/8"}, 201)
    assert (await root.get("refused"))["items"] == []
    await root.send("DELETE", "whitelist/2")
    assert (await root.send("DELETE", "refused")).json() == {"removed": 1}
    assert (await root.get("refused"))["items"] == []


async def test_body_larger_than_is_taken_is_a_413(admin: Running, root: Browser) -> None:
    reply = await root.send("POST", "whitelist/import", raw=b" " * (4 * 1024 * 1024 + 1))
    assert_error(reply, 413, -5)
