"""DNS names in the whitelist of a running gateway: whose address has changed is in or out within a look."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from resender import name_watch
from resender.cli.main import main
from resender.name_watch import NoSuchName
from resender.web.client import tunnel
from tests.support.admin import PASSWORD, Browser
from tests.support.cache_bench import Bench, bench
from tests.support.client import Reply, build, parse
from tests.support.kept import Kept
from tests.support.running import Running, make_config, running, wait_until
from tests.support.stream_client import Listener
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

HOME = "home.example.com"
# Loopback has more than one address, so there can be clients from several places.
HERE, THERE, LOCAL = "127.0.0.3", "127.0.0.4", "127.0.0.1"
Answer = list[str] | Exception | None


class Dns:
    """What the system's resolver answers; None does not answer."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.looks = 0

    async def look_up(self, name: str) -> list[str]:
        self.looks += 1
        answer = self.answers.get(name, NoSuchName(name))
        if answer is None:
            await asyncio.sleep(3600)
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    """A resolver, and times that a test can wait for."""
    made = Dns()
    monkeypatch.setattr(name_watch, "look_up", made.look_up)
    for name, seconds in (("LOOK_S", 0.1), ("_AGAIN_S", 0.05), ("_TRUST_S", 1.5), ("_LOOKUP_S", 0.2)):
        monkeypatch.setattr(name_watch, name, seconds)
    return made


@pytest.fixture
async def named(dns: Dns, upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway that lets in whoever is at home."""
    dns.answers[HOME] = [HERE]
    config = make_config(
        tmp_path, upstream.url, whitelist=[HOME], admin_password=PASSWORD, cache_enabled=False
    )
    async with running(config) as run:
        yield run


async def ask(run: Running, address: str) -> Reply:
    reader, writer = await asyncio.open_connection("127.0.0.1", run.port, local_addr=(address, 0))
    try:
        writer.write(build("GET", "/api/v3/time"))
        return parse(await asyncio.wait_for(reader.read(), 10))
    finally:
        writer.close()


@asynccontextmanager
async def kept(run: Running, address: str) -> AsyncIterator[Kept]:
    reader, writer = await asyncio.open_connection("127.0.0.1", run.port, local_addr=(address, 0))
    try:
        yield Kept(reader, writer)
    finally:
        writer.transport.abort()


async def statuses(run: Running) -> tuple[int, int]:
    return (await ask(run, HERE)).status, (await ask(run, THERE)).status


async def until_statuses(run: Running, here: int, there: int) -> None:
    for _ in range(100):
        if (found := await statuses(run)) == (here, there):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(found)


async def test_whoever_is_at_the_name_is_in_from_the_first_call_on(named: Running) -> None:
    assert await statuses(named) == (200, 403)
    # Its calls are the entry's.
    (entry,) = await named.gateway.store.whitelist_list()
    assert (entry.address, entry.calls) == (HOME, 1)


async def test_name_whose_address_changes_moves_the_access(named: Running, dns: Dns) -> None:
    async with kept(named, HERE) as one:
        await one.send(build("GET", "/api/v3/time", close=False))
        assert (await one.answer()).status == 200
        dns.answers[HOME] = [THERE]
        await until_statuses(named, 403, 200)
        # A connection that was opened in time is no way in.
        await one.send(build("GET", "/api/v3/time", close=False))
        assert (await one.answer()).status == 403
    dns.answers[HOME] = [THERE, HERE]
    await until_statuses(named, 200, 200)


async def test_name_that_does_not_resolve_lets_nobody_in(
    dns: Dns, upstream: RawUpstream, tmp_path: Path
) -> None:
    async with running(make_config(tmp_path, upstream.url, whitelist=[HOME, "other.example.com"])) as run:
        assert await statuses(run) == (403, 403)
        assert (await ask(run, LOCAL)).status == 403
        dns.answers[HOME] = [HERE]
        await until_statuses(run, 200, 403)
        dns.answers[HOME] = NoSuchName(HOME)
        await until_statuses(run, 403, 403)


async def test_start_does_not_wait_for_ever_for_a_dns_that_is_silent(
    dns: Dns, upstream: RawUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_watch, "_LOOKUP_S", 60.0)
    monkeypatch.setattr("resender.gateway._NAMES_S", 0.3)
    dns.answers[HOME] = None
    began = asyncio.get_running_loop().time()
    async with running(make_config(tmp_path, upstream.url, whitelist=[HOME, LOCAL])) as run:
        assert asyncio.get_running_loop().time() - began < 3
        assert await statuses(run) == (403, 403)
        assert (await ask(run, LOCAL)).status == 200


@pytest.mark.parametrize(
    "silence", [socket.gaierror(socket.EAI_AGAIN, "no answer"), None], ids=["fails", "hangs"]
)
async def test_dns_that_does_not_answer_keeps_the_last_address_for_its_time_and_no_longer(
    named: Running, dns: Dns, silence: Answer
) -> None:
    loop = asyncio.get_running_loop()
    dns.answers[HOME] = silence
    began = loop.time()
    while loop.time() - began < 0.5:
        assert await statuses(named) == (200, 403)
        await asyncio.sleep(0.02)
    await until_statuses(named, 403, 403)
    assert loop.time() - began < 5.0
    dns.answers[HOME] = [HERE]
    await until_statuses(named, 200, 403)


async def test_entry_that_is_switched_off_or_taken_off_lets_nobody_in_at_once(named: Running) -> None:
    store = named.gateway.store
    (entry,) = await store.whitelist_list()
    await store.whitelist_update(entry.id, enabled=False)
    assert await statuses(named) == (403, 403)
    await store.whitelist_update(entry.id, enabled=True)
    await until_statuses(named, 200, 403)
    await store.whitelist_remove(entry.id)
    assert await statuses(named) == (403, 403)
    assert named.gateway.names.resolved == {}


@pytest.mark.parametrize(
    "answer", [NoSuchName(HOME), socket.gaierror(socket.EAI_AGAIN, "no answer"), None], ids=str
)
async def test_name_that_is_put_back_has_none_of_its_old_addresses(
    named: Running, dns: Dns, answer: Answer
) -> None:
    store = named.gateway.store
    (entry,) = await store.whitelist_list()
    await store.whitelist_remove(entry.id)
    dns.answers[HOME] = answer
    await store.whitelist_add(HOME)
    looks = dns.looks
    for _ in range(10):
        assert await statuses(named) == (403, 403)
        await asyncio.sleep(0.03)
    assert dns.looks > looks


async def test_change_of_other_entries_leaves_names_what_they_are(named: Running, dns: Dns) -> None:
    await named.gateway.store.whitelist_add(THERE)
    assert await statuses(named) == (200, 200)
    dns.answers[HOME] = NoSuchName(HOME)
    await until_statuses(named, 403, 200)


# --- what is open already -------------------------------------------------------------------------


@pytest.fixture
async def streams(dns: Dns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    dns.answers[HOME] = [HERE]
    async with bench(tmp_path, whitelist=[HOME, LOCAL], proxy_hosts="localhost") as one:
        monkeypatch.setattr(tunnel, "_PORT", urlsplit(one.sandbox.urls["UPSTREAM_API"]).port)
        yield one


def listener(one: Bench, address: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))


async def test_streams_of_an_address_that_lost_access_end_and_no_others(streams: Bench, dns: Dns) -> None:
    url = f"ws://127.0.0.1:{streams.run.port}"
    async with listener(streams, HERE) as theirs, listener(streams, LOCAL) as mine:
        from_home, from_local = Listener(theirs, url), Listener(mine, url)
        async with (
            from_home.open("/public/ws/btcusdt@bookTicker") as stream,
            from_home.open("/ws-api/v3") as api,
            from_local.open("/public/ws/btcusdt@bookTicker") as other,
        ):
            await stream.event()
            await api.socket.send_str('{"id":1,"method":"ping"}')
            assert (await api.next())["status"] == 200
            tunnelled = await connect(streams, HERE)
            dns.answers[HOME] = [THERE]
            for ear in (stream, api):
                code, words = await ear.closed()
                assert code == 1008
                assert "whitelist" in words
            assert await asyncio.wait_for(tunnelled[0].read(), 5) == b""
            tunnelled[1].close()
            await other.event()
            status, body, _ = await from_home.refused("/public/ws/btcusdt@bookTicker")
            assert (status, body["code"]) == (403, -1)
    gateway = streams.run.gateway
    await wait_until(lambda: not gateway.fanout.clients and not gateway.fanout.guests)


async def connect(one: Bench, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = urlsplit(one.sandbox.urls["UPSTREAM_API"]).port
    reader, writer = await asyncio.open_connection("127.0.0.1", one.run.port, local_addr=(address, 0))
    writer.write(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 200 "), head
    return reader, writer


async def test_stream_of_an_address_that_the_name_still_has_goes_on(streams: Bench, dns: Dns) -> None:
    async with listener(streams, HERE) as session:
        ears = Listener(session, f"ws://127.0.0.1:{streams.run.port}")
        async with ears.open("/public/ws/btcusdt@bookTicker") as stream:
            await stream.event()
            dns.answers[HOME] = [THERE, HERE]
            looks = dns.looks
            await wait_until(lambda: dns.looks > looks + 2)
            dns.answers[HOME] = socket.gaierror(socket.EAI_AGAIN, "no answer")
            looks = dns.looks
            await wait_until(lambda: dns.looks > looks + 2)
            await stream.event()


# --- what is shown --------------------------------------------------------------------------------


async def test_page_shows_what_a_name_means_now(named: Running, dns: Dns) -> None:
    browser = Browser(named.port)
    assert (await browser.log_in()).status == 200
    await browser.post("whitelist", {"address": "Gone.Example.COM.", "note": "never was"}, 201)
    await browser.post("whitelist", {"address": "192.0.2.0/24"}, 201)
    shown = {row["address"]: row.get("resolved") for row in (await browser.get("whitelist"))["items"]}
    assert shown == {HOME: [HERE], "gone.example.com": [], "192.0.2.0/24": None}
    dns.answers[HOME] = [THERE]
    await until_statuses(named, 403, 200)
    rows = (await browser.get("whitelist"))["items"]
    assert rows[0]["resolved"] == [THERE]
    reply = await browser.send("POST", "whitelist", {"address": "not a name"})
    assert (reply.status, reply.json()["data"]["reason"]) == (400, "address")
    reply = await browser.send("POST", "whitelist", {"address": f"{HOME.upper()}."})
    assert reply.status == 409


async def test_names_are_imported_and_exported_like_addresses(named: Running) -> None:
    browser = Browser(named.port)
    await browser.log_in()
    done = await browser.post("whitelist/import", {"text": f"{HOME}\nNew.Example.org,a note\n192.0.2.1\n"})
    assert (done["added"], done["unchanged"], done["errors_total"]) == (2, 1, 0)
    text = (await browser.send("GET", "whitelist/export")).body.decode("utf-8-sig")
    assert "new.example.org,a note" in text
    again = await browser.post("whitelist/import", {"text": text})
    assert (again["added"], again["updated"], again["unchanged"]) == (0, 0, 3)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([HERE, HERE, THERE], f"is {HERE}, {THERE} now"),
        ([], "is nothing that may call now"),
        (NoSuchName(HOME), "there is no such name: it lets nobody in"),
        (
            socket.gaierror(socket.EAI_AGAIN, "Try later"),
            "cannot be looked up (Try later): it lets nobody in",
        ),
    ],
)
def test_command_tells_what_a_name_means_now(
    dns: Dns,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: Answer,
    words: str,
) -> None:
    dns.answers[HOME] = answer
    monkeypatch.setenv("RESENDER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RESENDER_WHITELIST", "")
    monkeypatch.setattr("resender.cli.main.set_up_logging", lambda level, form: None)
    assert main(["whitelist", "add", f" {HOME.upper()}. ", "--note", "mine"]) == 0
    assert main(["whitelist", "add", "192.0.2.1"]) == 0
    capsys.readouterr()
    assert main(["whitelist", "list"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].startswith(HOME)
    assert rows[1].strip() == words
    assert rows[2].startswith("192.0.2.1 ")
    assert main(["whitelist", "remove", f"{HOME}."]) == 0
    assert main(["whitelist", "remove", HOME]) == 1
