"""The link to Redis against a real server: what it says when it cannot be used, and how soon it notices."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from resender.aio import Clock, Tasks
from resender.cluster.redis_link import RedisLink, installation_of
from resender.errors import RedisDown
from tests.support.authority import AUTHORITY, ca_file
from tests.support.ports import free_port
from tests.support.redis_server import FakeRedis, RedisServer, redis_server
from tests.support.running import wait_until

ECHO = "return {KEYS[1], ARGV[1], ARGV[2] + 1}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as running:
        yield running


@asynccontextmanager
async def linked(url: str, *, installation: str = "test", is_up: bool = True) -> AsyncIterator[RedisLink]:
    """Run a link; afterwards no task of it may be left."""
    tasks = Tasks()
    link = RedisLink(url, installation=installation, clock=Clock(), tasks=tasks)
    link.start()
    try:
        if is_up:
            await wait_until(lambda: link.is_up)
        yield link
    finally:
        await link.stop()
    assert not tasks.names()


async def test_scripts_run_with_the_prefix_before_their_keys(server: RedisServer) -> None:
    async with linked(server.url) as link:
        for _ in range(2):  # first by its text, then by its digest
            assert await link.run(ECHO, ["one"], ["é", 2]) == ["resender:test:one", "é", 3]
        server.client().script_flush()
        assert (await link.run(ECHO, ["one"], ["x", 2]))[2] == 3


async def test_reads_of_several_texts_tell_what_is_not_there(server: RedisServer) -> None:
    server.client().set("resender:test:b", "text")
    async with linked(server.url) as link:
        assert await link.read(["a", "b"]) == [None, "text"]
        assert await link.read([]) == []


async def test_notices_reach_who_listens_before_and_after_the_start(server: RedisServer) -> None:
    heard: list[tuple[str, Any]] = []
    async with linked(server.url) as one, linked(server.url) as other, linked(server.url + "/1") as third:
        one.listen("ban", lambda payload: heard.append(("one", payload)))
        other.listen("ban", lambda payload: heard.append(("other", payload)))
        third.listen("ban", lambda payload: heard.append(("third", payload)))

        async def until_heard() -> None:
            while not {"one", "other"} <= {name for name, _ in heard}:
                one.publish("ban", {"pool": "spot"})
                await asyncio.sleep(0.02)

        await asyncio.wait_for(until_heard(), 5)
        heard.clear()
        began = time.monotonic()
        other.publish("ban", {"pool": "futures"})
        await wait_until(lambda: ("one", {"pool": "futures"}) in heard)
        assert time.monotonic() - began < 0.5
        assert not [name for name, _ in heard if name == "third"]  # another database, another installation


async def test_callback_that_fails_does_not_deafen_the_others(server: RedisServer) -> None:
    heard: list[Any] = []
    tasks = Tasks()
    link = RedisLink(server.url, installation="test", clock=Clock(), tasks=tasks)
    link.listen("x", lambda payload: heard.append(payload["there"]))
    link.listen("x", heard.append)
    link.start()
    await wait_until(lambda: link.is_up)
    link.publish("x", {"n": 1})
    await wait_until(lambda: heard == [{"n": 1}])
    server.client().publish("resender:test:0:x", "no json")
    link.publish("x", {"n": 2})
    await wait_until(lambda: heard == [{"n": 1}, {"n": 2}])
    await link.stop()


async def test_stop_ends_a_link_whose_library_swallows_the_cancellation(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked = asyncio.Event()

    async def swallow(link: RedisLink) -> None:
        is_asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise RedisConnectionError from None

    monkeypatch.setattr(RedisLink, "_examine", swallow)
    async with linked(server.url, is_up=False):
        await is_asked.wait()


async def test_redis_that_is_gone_costs_nobody_time(caplog: pytest.LogCaptureFixture) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    began = time.monotonic()
    async with linked(url, is_up=False) as link:
        assert time.monotonic() - began < 0.3
        await wait_until(lambda: "reached" in link.problem)
        began = time.monotonic()
        with pytest.raises(RedisDown, match="cannot be reached: Connection refused"):
            await link.run(ECHO, ["k"], ["", 1])
        link.publish("x", {})
        assert time.monotonic() - began < 0.3
        await asyncio.sleep(0.6)
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1  # tried several times, said once


async def test_redis_that_stops_and_starts_is_taken_up_again(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    heard: list[Any] = []
    async with linked(server.url) as link:
        link.listen("x", heard.append)
        await link.run(ECHO, ["k"], ["", 1])
        server.stop()
        await wait_until(lambda: not link.is_up)
        server.start()
        await wait_until(lambda: link.is_up, 10)
        assert (await link.run(ECHO, ["k"], ["", 1]))[2] == 2
        link.publish("x", {"again": True})
        await wait_until(lambda: heard == [{"again": True}])
        assert link.losses == 1
    assert "is back after" in caplog.text


@pytest.mark.parametrize("does_ask", [False, True])
async def test_half_open_redis_is_noticed_within_three_seconds(server: RedisServer, does_ask: bool) -> None:
    async with linked(server.url) as link:
        server.pause()
        began = time.monotonic()
        if does_ask:
            with pytest.raises(RedisDown, match="does not answer within 1 s"):
                await link.run(ECHO, ["k"], ["", 1])
            assert time.monotonic() - began < 1.5
            assert not link.is_up
        else:
            await wait_until(lambda: not link.is_up, 3.0)
            assert "has said nothing" in link.problem
        await asyncio.sleep(1)
        server.resume()
        await wait_until(lambda: link.is_up, 10)
        assert (await link.run(ECHO, ["k"], ["", 1]))[2] == 2


async def test_script_that_takes_too_long_is_given_up(server: RedisServer) -> None:
    async with linked(server.url) as link:
        began = time.monotonic()
        with pytest.raises(RedisDown):
            await link.run("local n = 0 while n < 1e9 do n = n + 1 end return 1", [], [])
        assert time.monotonic() - began < 1.5
        server.pause()  # it is torn down by the fixture


async def test_script_that_fails_leaves_the_link_up(server: RedisServer) -> None:
    async with linked(server.url) as link:
        with pytest.raises(RedisDown, match="refuses a command"):
            await link.run("return redis.call('NOSUCH')", [], [])
        assert link.is_up


async def test_call_that_is_given_up_leaves_no_answer_for_the_next_one(server: RedisServer) -> None:
    async with linked(server.url) as link:
        await link.run(ECHO, ["k"], ["", 1])
        for number in range(50):
            task = asyncio.get_running_loop().create_task(link.run(ECHO, ["k"], ["", number]))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert (await link.run(ECHO, ["k"], ["mine", number * 100]))[1:] == ["mine", number * 100 + 1]


async def problem_of(url: str) -> str:
    async with linked(url, is_up=False) as link:
        await wait_until(lambda: link.is_up or "asked yet" not in link.problem)
        return link.problem or link.warning


async def test_wrong_password_is_one_clear_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tmp_path, password="right") as server:
        base = f"127.0.0.1:{server.port}"
        assert await problem_of(f"redis://:guessed@{base}") == "refuses the user or password of REDIS_URL"
        assert await problem_of(f"redis://me:guessed@{base}") == "refuses the user or password of REDIS_URL"
        assert "asks for a password" in await problem_of(f"redis://{base}")
        assert await problem_of(server.url) == ""
    assert "guessed" not in caplog.text
    assert "right" not in caplog.text


async def test_password_where_none_is_asked_for_is_said(server: RedisServer) -> None:
    assert "asks for no password" in await problem_of(f"redis://:needless@127.0.0.1:{server.port}")


async def test_user_that_may_not_do_it_is_said(server: RedisServer) -> None:
    server.client().execute_command("ACL", "SETUSER", "poor", "on", ">word", "~*", "&*", "+ping")
    found = await problem_of(f"redis://poor:word@127.0.0.1:{server.port}")
    assert found.startswith("does not let this user do what is needed")


async def test_user_of_the_documentation_may_do_all_that_is_needed(server: RedisServer) -> None:
    rules = "on >word ~resender:* &resender:* +@all -@admin -@dangerous +info"
    server.client().execute_command("ACL", "SETUSER", "resender", *rules.split())
    async with linked(f"redis://resender:word@127.0.0.1:{server.port}") as link:
        assert await link.run(ECHO, ["k"], ["", 1])
        assert await link.read(["k"]) == [None]
        heard: list[Any] = []
        link.listen("x", heard.append)
        await asyncio.sleep(0.1)
        link.publish("x", {})
        await wait_until(lambda: heard)


async def test_replica_is_refused(server: RedisServer, tmp_path: Path) -> None:
    more = ("--replicaof", "127.0.0.1", str(server.port))
    with redis_server(tmp_path / "replica", more=more) as replica:
        assert "read-only replica" in await problem_of(replica.url)


async def test_primary_that_becomes_a_replica_is_left(server: RedisServer, tmp_path: Path) -> None:
    with redis_server(tmp_path / "other") as other:
        async with linked(other.url) as link:
            other.client().replicaof("127.0.0.1", server.port)
            with pytest.raises(RedisDown):
                await link.run("return redis.call('SET', KEYS[1], 1)", ["k"], [])
            assert not link.is_up
            await wait_until(lambda: "replica" in link.problem)


@pytest.mark.parametrize("version", ["6.2.14", "5.0", "", "new"])
async def test_old_version_is_refused(version: str) -> None:
    async with FakeRedis(version=version) as fake:
        assert await problem_of(fake.url) == f"is version {version or 'unknown'}: 7 or newer is needed"


async def test_cluster_is_refused() -> None:
    async with FakeRedis() as fake:
        fake.mode = "cluster"
        assert "Redis Cluster" in await problem_of(fake.url)


@pytest.mark.parametrize(("ahead_s", "words"), [(5.0, "5.0 s ahead of"), (-90.0, "90.0 s behind")])
async def test_clock_that_is_off_is_said_with_how_much(
    ahead_s: float, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeRedis(clock_ahead_s=ahead_s) as fake, linked(fake.url) as link:
        assert words in link.warning
        assert words in caplog.text
        assert abs(link.clock_off_ms - ahead_s * 1000) < 500


async def test_clock_that_is_nearly_right_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeRedis(clock_ahead_s=0.6) as fake, linked(fake.url) as link:
        assert link.warning == ""
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_command_connects_once_and_says_why_not(server: RedisServer) -> None:
    link = RedisLink(server.url, installation="test", clock=Clock(), tasks=Tasks())
    await link.open()
    assert (await link.run(ECHO, ["k"], ["", 1]))[2] == 2
    link.publish("x", {})
    await link.stop()
    url = f"redis://:secret@127.0.0.1:{free_port()}"
    link = RedisLink(url, installation="test", clock=Clock(), tasks=Tasks())
    with pytest.raises(RedisDown, match=r"Redis at 127\.0\.0\.1:\d+ cannot be reached: Connection refused$"):
        await link.open()
    await link.stop()


async def test_unix_socket_is_a_way_too(tmp_path: Path) -> None:
    with redis_server(tmp_path, more=("--unixsocket", str(tmp_path / "r.sock"))) as server:
        async with linked(f"unix://{tmp_path}/r.sock?db=2") as link:
            await link.run("return redis.call('SET', KEYS[1], 1)", ["k"], [])
            assert link.where == f"{tmp_path}/r.sock"
        assert server.client().dbsize() == 0


def test_installation_is_named_by_what_it_calls() -> None:
    real, sandbox = ["https://api.binance.com", "https://fapi.binance.com"], ["http://127.0.0.1:9"]
    assert installation_of(real) == installation_of(reversed(real))
    assert installation_of(real) != installation_of(sandbox)


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[RedisServer, str]]:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    identity = AUTHORITY.issue("127.0.0.1")
    chain.write_bytes(identity.certificate_pem)
    key.write_bytes(identity.key_pem)
    port = str(free_port())
    more = (
        "--tls-port",
        port,
        "--tls-cert-file",
        str(chain),
        "--tls-key-file",
        str(key),
        "--tls-auth-clients",
        "no",
    )
    with redis_server(tmp_path / "redis", more=more) as running:
        yield running, f"rediss://127.0.0.1:{port}"


async def test_tls_is_checked_and_can_have_an_authority_of_its_own(
    tls_server: tuple[RedisServer, str],
) -> None:
    server, url = tls_server
    assert "certificate that is not trusted" in await problem_of(url)
    async with linked(f"{url}?ssl_ca_certs={ca_file()}") as link:
        assert (await link.run(ECHO, ["k"], ["", 1]))[2] == 2
    assert await problem_of(server.url.replace("redis://", "rediss://")) != ""
