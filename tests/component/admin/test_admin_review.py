"""What hostile strangers and clumsy owners tried, and what came of it: each defect found keeps its test."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from resender.core.access.login_throttle import LoginThrottle, NoteBudget
from resender.errors import StoreError
from resender.store import Repository
from resender.web.admin import password_check as proof
from resender.web.admin.base import AdminBase
from tests.support.admin import PASSWORD, Browser, MovedClock, assert_error
from tests.support.client import build, call
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

PROXY = {"trusted_proxies": "127.0.0.1", "admin_password": PASSWORD, "cache_enabled": False}
JUNK = "x" * 43


def kept_bytes() -> int:
    """How much of bodies not yet answered is in memory."""
    return sum(len(each._body) for each in gc.get_objects() if isinstance(each, AdminBase))


# --- bodies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "cookie"),
    [("login", ""), ("whitelist/import", ""), ("whitelist", f"resender_session={JUNK}"), ("nowhere", "")],
)
async def test_body_of_a_stranger_is_not_kept_in_memory(admin: Running, path: str, cookie: str) -> None:
    head = build("POST", f"/admin/api/{path}", (("Cookie", cookie),), b"x" * 1_000_000)
    writers = []
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", admin.port)
        writer.write(head[:-1])
        await writer.drain()
        writers.append(writer)
    await asyncio.sleep(0.3)
    assert kept_bytes() <= 5 * (64 << 10)
    for writer in writers:
        writer.close()


@pytest.mark.parametrize("size", [20_000, 900_000])
async def test_refused_body_is_read_to_its_end_so_that_the_answer_arrives(
    admin: Running, root: Browser, size: int
) -> None:
    body = b'{"text":"' + b"x" * size + b'"}'
    stranger = Browser(admin.port)
    assert_error(await stranger.send("POST", "whitelist/import", raw=body), 401, -11)
    assert_error(await stranger.send("POST", "login", raw=body), 413, -5)
    assert_error(await root.send("POST", "nowhere", raw=body), 404, -3)
    foreign = ("Origin", "https://elsewhere.example")
    assert_error(await root.send("POST", "whitelist/import", None, foreign, raw=body), 403, -12)
    token = (await root.post("tokens", {"name": "reader"}, 201))["token"]
    bearer = ("Authorization", f"Bearer {token}")
    assert_error(await stranger.send("POST", "whitelist/import", None, bearer, raw=body), 403, -12)


async def test_connection_goes_on_after_a_refused_body(admin: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.port)
    for _ in range(2):
        writer.write(build("POST", "/admin/api/whitelist", (), b'{"address":"10.0.0.1"}', close=False))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 401 " in head
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(size)
    writer.close()


async def test_json_is_read_whatever_the_content_type_says(root: Browser) -> None:
    # curl -d says so if it is not told otherwise; with a thousand & it was no form for Tornado.
    kind = ("Content-Type", "application/x-www-form-urlencoded")
    text = "\n".join(f"10.0.{n >> 8}.{n & 255} a&b" for n in range(1500))
    reply = await root.send("POST", "whitelist/import", {"text": text}, kind)
    assert reply.status == 200
    assert reply.json()["added"] == 1500


# --- log-ins ---------------------------------------------------------------------------------


async def test_of_a_thousand_log_ins_at_once_only_a_few_wait_to_be_compared(
    tmp_path: Path, upstream: RawUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(password_hash: str | None, password: str) -> bool:
        go.wait(20)
        return False

    monkeypatch.setattr(proof, "verify_password", slow)
    async with running(make_config(tmp_path, upstream.url, **PROXY)) as run:
        body = {"username": "nobody", "password": "x"}

        async def attempt(number: int) -> int:
            mark = {"resender_known": f"{'0' * 32}.{'0' * 64}"} if number % 3 == 0 else {}
            browser = Browser(run.port, ("X-Forwarded-For", f"198.51.{number >> 8}.{number & 255}"))
            browser.cookies = mark
            return (await browser.send("POST", "login", body | {"username": f"nobody{number}"})).status

        tries = [asyncio.create_task(attempt(number)) for number in range(400)]
        try:
            await wait_until(lambda: sum(each.done() for each in tries) >= 400 - 32, timeout_s=15)
            await asyncio.sleep(0.1)
            assert sum(not each.done() for each in tries) == 32
            assert {each.result() for each in tries if each.done()} == {429}
        finally:
            go.set()
        assert set(await asyncio.gather(*tries)) == {401, 429}


async def test_strangers_with_made_up_secrets_wait_for_each_other_and_not_the_database(
    admin: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, most = 0, 0
    find = admin.gateway.store.session_find

    async def counted(digest: str) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.01)
            return await find(digest)
        finally:
            now -= 1

    monkeypatch.setattr(admin.gateway.store, "session_find", counted)
    cookies = [(("Cookie", f"resender_session={number:043d}"),) for number in range(300)]
    calls = [call(admin.port, "GET", "/admin/api/me", cookie) for cookie in cookies]
    assert {reply.status for reply in await asyncio.gather(*calls)} == {401}
    assert most <= 32


def test_nobody_is_pushed_out_of_the_line_by_a_network_full_of_addresses() -> None:
    throttle = LoginThrottle()
    for number in range(10):
        throttle.begin(f"198.51.100.{number}", "root", 0.0)
    wait_s = throttle.begin("192.0.2.7", "root", 1.0)
    assert 0 < wait_s <= 60
    # A tunnel broker gives anybody 65,536 networks of 64 bits.
    for number in range(20_000):
        throttle.begin(f"2001:db8:77:{number:x}::1", "root", 2.0)
    assert throttle.begin("192.0.2.7", "root", 1.0 + wait_s) == 0
    assert throttle.size < 30_000


async def test_hammering_with_many_names_leaves_one_row_of_the_audit(admin: Running, root: Browser) -> None:
    stranger = Browser(admin.port)
    for number in range(40):
        await stranger.send("POST", "login", {"username": f"name{number}", "password": "x"})
    actions = [row["action"] for row in (await root.get("audit"))["items"]]
    assert actions == ["login.throttled", *["login.failed"] * 3, "login"]


async def test_failed_log_ins_from_everywhere_drive_no_old_row_out(
    tmp_path: Path, upstream: RawUpstream, moved: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "verify_password", lambda *_: False)
    async with running(make_config(tmp_path, upstream.url, **PROXY), clock=moved.clock) as run:

        async def attempt(number: int) -> None:
            browser = Browser(run.port, ("X-Forwarded-For", f"198.51.{number >> 8}.{number & 255}"))
            await browser.send("POST", "login", {"username": f"n{number}", "password": "x"})

        for number in range(250):
            await attempt(number)
        rows = await run.gateway.store.audit_list(limit=1000)
        assert len(rows) == 200
        moved.move(25)
        await attempt(999)
        assert (await run.gateway.store.audit_list(limit=1))[0].after == '{"left_out":50}'


def test_budget_of_notes_fills_again_slowly_and_counts_what_it_left_out() -> None:
    budget = NoteBudget(at_once=2, every_s=10)
    assert [budget.take(0.0) for _ in range(4)] == [0, 0, None, None]
    assert budget.take(9.0) is None
    assert budget.take(10.5) == 3
    assert budget.take(11.0) is None
    assert [budget.take(1000.0) for _ in range(3)] == [1, 0, None]


async def test_password_typed_as_the_user_name_is_nowhere_in_the_audit(admin: Running, root: Browser) -> None:
    stranger = Browser(admin.port)
    await stranger.send("POST", "login", {"username": "my secret pass", "password": ""})
    await stranger.send("POST", "login", {"username": "ROOT", "password": "x"})
    rows = (await root.get("audit"))["items"]
    assert [row["subject"] for row in rows] == ["root", "(unknown user)", "root"]
    assert "my secret pass" not in repr(rows)


# --- changes and the audit -------------------------------------------------------------------


async def test_no_change_without_its_row_of_the_audit(
    admin: Running, root: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = root.again()
    await other.log_in()
    token = (await root.post("tokens", {"name": "t"}, 201))["id"]
    session = (await other.get("me"))["session_id"]
    rule = {"market": "um", "symbols": "BTCUSDT", "what": "1m"}
    rule_id = (await root.post("preload", rule, 201))["id"]

    async def state() -> list[Any]:
        names = ("sessions", "tokens", "preload", "log", "whitelist", "users", "refused")
        found = [await root.get(name) for name in names]
        for row in found[0]["items"]:
            row.pop("last_seen")
        return found

    before = await state()

    def broken(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "audit_add", broken)
        for method, path, body in (
            ("POST", "logout", None),
            ("DELETE", "sessions", None),
            ("DELETE", f"sessions/{session}", None),
            ("DELETE", f"tokens/{token}", None),
            ("POST", "preload", {**rule, "what": "1h"}),
            ("PUT", f"preload/{rule_id}", {**rule, "what": "1d"}),
            ("DELETE", f"preload/{rule_id}", None),
            ("PUT", "log", {"enabled": True, "max_rows": 5}),
            ("POST", "password", {"old": PASSWORD, "new": "another good one 7"}),
            ("DELETE", "refused", None),
        ):
            assert_error(await root.send(method, path, body), 503, -8)
        assert (await other.send("POST", "logout")).status == 503
    assert await state() == before
    assert (await other.send("GET", "me")).status == 200


async def test_full_disk_keeps_nobody_from_reading(
    admin: Running, root: Browser, moved: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = (await root.post("tokens", {"name": "t"}, 201))["token"]

    def broken(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Repository, "session_touch", broken)
    monkeypatch.setattr(Repository, "token_touch", broken)
    moved.move(120)
    assert (await root.send("GET", "whitelist")).status == 200
    bearer = ("Authorization", f"Bearer {token}")
    assert (await root.again().send("GET", "whitelist", None, bearer)).status == 200


async def test_of_two_who_remove_each_other_at_once_one_stays(admin: Running, root: Browser) -> None:
    made = await root.post("users", {"username": "second", "password": "a good one 1234"}, 201)
    second = root.again()
    assert (await second.log_in("second", "a good one 1234")).status == 200
    me = next(row["id"] for row in (await root.get("users"))["items"] if row["username"] == "root")
    replies = await asyncio.gather(
        root.send("DELETE", f"users/{made['id']}"), second.send("DELETE", f"users/{me}")
    )
    assert 200 in {reply.status for reply in replies}
    assert len(await admin.gateway.store.user_list()) == 1


async def test_who_was_put_out_by_another_process_changes_nothing_any_more(
    admin: Running, root: Browser
) -> None:
    token = (await root.post("tokens", {"name": "t", "scope": "write"}, 201))["token"]
    bearer = root.again()
    bearer.headers = (("Authorization", f"Bearer {token}"),)
    await root.post("users", {"username": "second", "password": "a good one 1234"}, 201)
    for browser in (root, bearer):
        assert (await browser.send("GET", "whitelist")).status == 200

    def elsewhere(repository: Repository) -> None:
        user = repository.user_get("root")
        assert user is not None
        repository.user_update(user.id, enabled=False)

    # As the command line does, past this process's memory of log-ins.
    await admin.gateway.store.run(elsewhere)
    for browser in (root, bearer):
        assert_error(await browser.send("POST", "whitelist", {"address": "10.0.0.1"}), 401, -11)


# --- a clumsy owner --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?older_than=", None),
        ("?older_than=%20", None),
        ("?olderthan=1767225600000", None),
        ("?ip=203.0.113.5", None),
        ("?older_than=1&ip=203.0.113.5", None),
        ("?x", None),
        ("", {"older_than": 1767225600000}),
    ],
)
async def test_log_is_not_cleared_by_a_slip_of_the_pen(
    root: Browser, admin: Running, query: str, body: dict[str, Any] | None
) -> None:
    assert_error(await root.send("DELETE", f"logs{query}", body), 400, -4)
    assert not await admin.gateway.store.audit_list(action="log.clear")


@pytest.mark.parametrize(
    "path",
    ["whitelist/999999999999999", "users/999999999999999", "tokens/999999999999999", "sessions/4294967296",
     "preload/9223372036854775808", "logs/9223372036854775808"],
)  # fmt: skip
async def test_ids_no_row_can_have_are_404(root: Browser, path: str) -> None:
    method = "GET" if path.startswith("logs") else "DELETE"
    assert_error(await root.send(method, path), 404, -3)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"name":"t","expires":1' + b"0" * 400 + b"}",
        b'{"name":"t","expires":9223372036854775808}',
        b'{"name":"t","expires":18446744073709551616}',
        b'{"name":"t","expires":1e400}',
        b'{"name":"t","expires":1e15}',
        b'{"name":"t","expires":NaN}',
        b'{"name":"t","expires":Infinity}',
        b'{"name":"t","expires":true}',
        b'{"name":"t","expires":-1}',
        b'{"name":"t","expires":"9000000000000"}',
        b'{"name":"\\ud800","expires":null}',
        b'{"name":null}',
        b'{"name":{}}',
    ],
)
async def test_numbers_and_types_no_token_takes_are_400(root: Browser, raw: bytes) -> None:
    assert_error(await root.send("POST", "tokens", raw=raw), 400, -4)
