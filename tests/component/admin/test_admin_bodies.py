"""Bodies of requests to the admin API: those refused are neither kept nor left unread."""

from __future__ import annotations

import asyncio
import gc

import pytest

from resender.web.admin.base import AdminBase
from tests.support.admin import Browser, assert_error
from tests.support.client import build
from tests.support.running import Running

pytestmark = pytest.mark.component

JUNK = "x" * 43


def kept_bytes() -> int:
    """How much of bodies not yet answered is in memory."""
    return sum(len(each._body) for each in gc.get_objects() if isinstance(each, AdminBase))


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
