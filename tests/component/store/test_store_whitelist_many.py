"""Many whitelist entries at once, on every kind of database; and the admin API on each of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from resender.store import DuplicateEntry, Repository, open_repository
from tests.support.admin import PASSWORD, Browser
from tests.support.running import make_config, running

pytestmark = pytest.mark.component


@pytest.fixture
def repository(database_url: str):
    with open_repository(database_url) as opened:
        yield opened


def test_many_entries_are_added_changed_and_removed(repository: Repository) -> None:
    rows = [(f"10.0.{n // 250}.{n % 250}", f"备注 {n}", n % 2 == 0) for n in range(730)]
    revision = repository.whitelist_revision()
    began = time.monotonic()
    added = repository.whitelist_add_many(rows)
    assert [(e.address, e.note, e.enabled) for e in added] == rows
    assert repository.whitelist_list() == added
    assert repository.whitelist_revision() == revision + 1
    changes = [(e.id, "new" if e.id % 3 == 0 else None, False) for e in added] + [(10**9, "gone", True)]
    changed = repository.whitelist_update_many(changes)
    assert [e.id for e in changed] == [e.id for e in added]
    assert not any(e.enabled for e in changed)
    assert all(
        e.note == ("new" if e.id % 3 == 0 else old.note) for e, old in zip(changed, added, strict=True)
    )
    assert repository.whitelist_list() == changed
    assert repository.whitelist_remove_many([e.id for e in added[10:]] + [10**9]) == 720
    assert repository.whitelist_list() == changed[:10]
    assert repository.whitelist_revision() == revision + 3
    assert time.monotonic() - began < 10


def test_nothing_is_added_when_one_entry_cannot_be(repository: Repository) -> None:
    present = repository.whitelist_add("10.0.0.150")
    rows = [(f"10.0.0.{n}", "", True) for n in range(200)]
    with pytest.raises(DuplicateEntry) as caught:
        repository.whitelist_add_many(rows)
    assert caught.value.entry == present
    with pytest.raises(ValueError, match="not an IPv4"):
        repository.whitelist_add_many([("10.1.0.1", "", True), ("nonsense", "", True)])
    with pytest.raises(ValueError, match="too long"):
        repository.whitelist_add_many([("10.1.0.1", "", True), ("10.1.0.2", "x" * 1001, True)])
    with pytest.raises(ValueError, match="too long"):
        repository.whitelist_update_many([(present.id, "x", None), (present.id, "x" * 1001, None)])
    assert repository.whitelist_list() == [present]
    assert repository.whitelist_add_many([]) == []


async def test_admin_api_works_on_every_kind_of_database(tmp_path: Path, database_url: str) -> None:
    config = make_config(tmp_path, database_url=database_url, admin_password=PASSWORD, cache_enabled=False)
    async with running(config) as run:
        browser = Browser(run.port)
        assert (await browser.log_in()).status == 200
        entry = await browser.post("whitelist", {"address": "10.0.0.1", "note": "办公室"}, 201)
        await browser.post("whitelist/import", {"text": "10.0.0.2\n10.0.0.3 desk\n10.0.0.1,other,false"})
        done = await browser.post("whitelist/bulk", {"action": "disable", "ids": [entry["id"], 1, 2, 3, 4]})
        assert done["changed"] == 3
        second = await browser.post("users", {"username": "second"}, 201)
        other = browser.again()
        assert (await other.log_in("second", second["password"])).json()["must_change"] is True
        await other.post("password", {"old": second["password"], "new": "a rather long one"})
        token = await other.post("tokens", {"name": "t", "scope": "write"}, 201)
        script = Browser(run.port, ("Authorization", f"Bearer {token['token']}"))
        assert (await script.send("DELETE", f"whitelist/{entry['id']}")).status == 200
        assert (await browser.send("DELETE", f"users/{second['id']}")).status == 200
        assert (await script.send("GET", "me")).status == 401
        rows = (await browser.get("audit"))["items"]
        assert [row["action"] for row in rows][:2] == ["user.remove", "whitelist.remove"]
        assert rows[1]["before"]["note"] == "other"
        await browser.post("logout")
        assert (await browser.send("GET", "me")).status == 401
