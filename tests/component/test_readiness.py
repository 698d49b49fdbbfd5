"""`/readyz` and the token of `/metrics`: who is told how much, and when a node is not as its owner wants it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from resender.core.binance.markets import Market
from tests.support.admin import MovedClock
from tests.support.cache_bench import bench
from tests.support.client import Reply, call
from tests.support.redis_server import RedisServer
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import Peer, RawUpstream, Request, answer_ok, response

pytestmark = pytest.mark.component

TOKEN = "scrape-me-0123456789"
WELL = {"ok": True, "detail": ""}


async def ready(run: Running, *headers: tuple[str, str], method: str = "GET") -> Reply:
    reply = await call(run.port, method, "/readyz", headers)
    assert reply.header("content-type") == "application/json"
    assert reply.header("cache-control") == "no-store"
    return reply


async def checks(run: Running) -> tuple[int, dict[str, str]]:
    """Return the status, and what is not well with its words."""
    reply = await ready(run)
    body = reply.json()
    assert body["status"] == ("ready" if reply.status == 200 else "not_ready")
    assert list(body["checks"]) == ["store", "upstreams", "streams"]
    bad = {name: check["detail"] for name, check in body["checks"].items() if not check["ok"]}
    assert all(check["detail"] == "" for check in body["checks"].values() if check["ok"])
    return reply.status, bad


async def until_ready(run: Running, status: int) -> dict[str, str]:
    """Wait until the status is this one; return what is not well."""
    for _ in range(150):
        found, bad = await checks(run)
        if found == status:
            return bad
        await asyncio.sleep(0.05)
    raise AssertionError((found, bad))


# --- who is told what -----------------------------------------------------------------------------


async def test_client_is_told_all_of_a_node_that_is_well(gateway: Running) -> None:
    reply = await ready(gateway)
    assert (reply.status, reply.json()) == (
        200, {"status": "ready", "serving": True, "checks": {"store": WELL, "upstreams": WELL, "streams": WELL}},
    )  # fmt: skip
    head = await ready(gateway, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert (await call(gateway.port, "POST", "/readyz")).status == 405


async def test_stranger_is_told_the_status_and_nothing_else(
    upstream: RawUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resender.status._CHECKED_S", 0.0)
    config = make_config(tmp_path, upstream.url, whitelist="203.0.113.5", trusted_proxies="127.0.0.1")
    async with running(config) as run:
        stranger, friend = ("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", "203.0.113.5")
        assert (await ready(run, stranger)).json() == {"status": "ready"}
        await upstream.stop()
        assert (await call(run.port, "GET", "/api/v3/time", (friend,))).status == 502
        assert (await ready(run, stranger)).status == 200, "one call says nothing"
        assert (await call(run.port, "GET", "/api/v3/time", (friend,))).status == 502
        reply = await ready(run, stranger)
        assert (reply.status, reply.json()) == (503, {"status": "not_ready"})
        assert "upstreams" in (await ready(run, friend)).json()["checks"]
        # Asking is no attempt to call: nobody is noted as refused.
        assert len(run.gateway.access.refused) == 0


async def test_questions_of_a_second_are_answered_by_one_look(
    gateway: Running, upstream: RawUpstream
) -> None:
    status: Any = gateway.gateway.status
    looks: list[int] = []
    markets = status.markets
    status.markets = lambda: (looks.append(1), markets())[1]
    for _ in range(20):
        assert (await ready(gateway)).status == 200
    assert len(looks) <= 2
    assert not upstream.requests


# --- what is looked at ----------------------------------------------------------------------------


async def test_node_that_stops_is_not_ready_whatever_is_well(gateway: Running) -> None:
    gateway.gateway.calls.is_open = False
    reply = await ready(gateway)
    body = reply.json()
    assert (reply.status, body["status"], body["serving"]) == (503, "not_ready", False)
    assert all(check["ok"] for check in body["checks"].values())
    gateway.gateway.calls.is_open = True
    assert (await ready(gateway)).status == 200


async def test_database_that_is_gone_is_told_and_that_it_is_back(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    async with running(make_config(tmp_path, upstream.url)) as run:
        path, away = tmp_path / "resender.db", tmp_path / "away.db"
        for end in ("", "-wal", "-shm"):
            if Path(f"{path}{end}").exists():
                os.rename(f"{path}{end}", f"{away}{end}")
        bad = await until_ready(run, 503)
        assert list(bad) == ["store"]
        assert str(path) in bad["store"]
        # Calls go on all the same, and so does /healthz.
        assert (await call(run.port, "GET", "/api/v3/time")).status == 200
        assert (await call(run.port, "GET", "/healthz")).status == 200
        for end in ("", "-wal", "-shm"):
            if Path(f"{away}{end}").exists():
                os.rename(f"{away}{end}", f"{path}{end}")
        assert await until_ready(run, 200) == {}


def saying(status: str, *headers: tuple[str, str]) -> Any:
    async def answer(request: Request, peer: Peer) -> None:
        await peer.send(response(b"{}", status, headers))

    return answer


@pytest.fixture
def moved() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def timed(upstream: RawUpstream, tmp_path: Path, moved: MovedClock) -> AsyncIterator[Running]:
    """A gateway whose time a test can move; its cache asks nothing by itself."""
    config = make_config(tmp_path, upstream.url, cache_enabled=False, read_timeout_s=0.3)
    async with running(config, clock=moved.clock) as run:
        yield run


async def test_upstream_that_nobody_has_asked_counts_as_well(timed: Running, upstream: RawUpstream) -> None:
    await upstream.stop()
    assert await checks(timed) == (200, {})


async def test_upstream_out_of_reach_is_told_until_it_answers_again(
    timed: Running, upstream: RawUpstream, moved: MovedClock
) -> None:
    await upstream.stop()
    for _ in range(2):
        assert (await call(timed.port, "GET", "/fapi/v1/time")).status == 502
        moved.move(2)
    status, bad = await checks(timed)
    assert (status, list(bad)) == (503, ["upstreams"])
    assert bad["upstreams"].startswith("um: No connection")
    async with RawUpstream(port=upstream.port):
        for _ in range(100):  # its egress is left alone for a while
            moved.move(2)
            if (await call(timed.port, "GET", "/fapi/v1/time")).status == 200:
                break
            await asyncio.sleep(0.02)
        moved.move(2)
        assert await checks(timed) == (200, {})


async def test_country_that_is_not_served_is_told(
    timed: Running, upstream: RawUpstream, moved: MovedClock
) -> None:
    upstream.answer = saying("451 Unavailable For Legal Reasons")
    assert (await call(timed.port, "GET", "/api/v3/time")).status == 451
    moved.move(2)
    status, bad = await checks(timed)
    assert status == 503
    assert "does not serve this machine's country" in bad["upstreams"]


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "429 Too Many Requests", "500 Oops"])
async def test_answer_of_binance_itself_is_no_reason_to_call_elsewhere(
    timed: Running, upstream: RawUpstream, moved: MovedClock, status: str
) -> None:
    upstream.answer = saying(status, ("Retry-After", "1"))
    assert (await call(timed.port, "GET", "/api/v3/time")).status == int(status[:3])
    moved.move(2)
    assert await checks(timed) == (200, {})


async def test_ban_is_told_as_long_as_it_lasts_and_no_longer(
    timed: Running, upstream: RawUpstream, moved: MovedClock
) -> None:
    upstream.answer = saying("418 I'm a teapot", ("Retry-After", "60"))
    assert (await call(timed.port, "GET", "/api/v3/time")).status == 418
    moved.move(2)
    status, bad = await checks(timed)
    assert status == 503
    assert "banned" in bad["upstreams"]
    upstream.answer = answer_ok
    moved.move(70)
    # Nobody has called since.
    assert await checks(timed) == (200, {})


@pytest.mark.parametrize("market", ["eapi", "api"])
async def test_calls_that_were_late_do_not_count_for_ever(
    timed: Running, upstream: RawUpstream, moved: MovedClock, market: str
) -> None:
    async def late(request: Request, peer: Peer) -> None:
        await asyncio.sleep(30)

    upstream.answer = late
    path = {"eapi": "/eapi/v1/time", "api": "/api/v3/time"}[market]
    assert (await call(timed.port, "GET", path)).status == 504
    moved.move(2)
    assert await checks(timed) == (200, {}), "one call says nothing"
    assert (await call(timed.port, "GET", path)).status == 504
    moved.move(2)
    assert (await checks(timed))[0] == 503
    moved.move(3600)
    assert await checks(timed) == (200, {})


async def test_market_without_live_streams_is_told_where_a_rule_wants_them(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="um:BTCUSDT,ETHUSDT@1m") as one:
        await until_ready(one.run, 200)
        # A series that nobody has asked to keep is no reason.
        assert (await one.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5")).status == 200
        await one.sandbox.stop_listening("stream_um")
        one.sandbox.faults.drop_streams(Market.UM)
        assert await until_ready(one.run, 503) == {"streams": "not live: um"}
        assert (await call(one.run.port, "GET", "/healthz")).status == 200
        await one.sandbox.start_listening("stream_um")
        assert await until_ready(one.run, 200) == {}


async def test_rule_whose_series_are_not_live_yet_is_waited_for(tmp_path: Path) -> None:
    async with bench(tmp_path, preload="spot:BTCUSDT@1m") as one:
        while (reply := await ready(one.run)).status != 200:
            assert not reply.json()["checks"]["streams"]["ok"]
            await asyncio.sleep(0.02)
        hit = await one.get("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=5")
        assert hit.status == 200


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis")
    made.start()
    try:
        yield made
    finally:
        made.stop()


async def test_node_that_is_drained_is_not_ready(
    upstream: RawUpstream, tmp_path: Path, server: RedisServer
) -> None:
    config = make_config(
        tmp_path, upstream.url, redis_url=server.url, node_name="one", cache_enabled=False, shutdown_s=1
    )
    async with running(config) as run:
        cluster = run.gateway.cluster
        assert cluster is not None
        await wait_until(lambda: cluster.link.is_up)
        await until_ready(run, 200)
        assert await cluster.drain("one", True)
        await wait_until(lambda: cluster.is_drained)
        body = (await ready(run)).json()
        assert (body["status"], body["serving"]) == ("not_ready", False)
        assert all(check["ok"] for check in body["checks"].values())
        assert (await call(run.port, "GET", "/api/v3/time")).status == 200
        assert await cluster.drain("one", False)
        await until_ready(run, 200)


# --- the token ------------------------------------------------------------------------------------


@pytest.fixture
async def scraped(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    """A gateway that nobody may call, whose figures may be read with a token."""
    async with running(
        make_config(tmp_path, upstream.url, whitelist="203.0.113.5", metrics_token=TOKEN)
    ) as run:
        yield run


async def metrics(run: Running, value: str | None, method: str = "GET") -> Reply:
    headers = () if value is None else (("Authorization", value),)
    return await call(run.port, method, "/metrics", headers)


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN} "])
async def test_token_opens_the_figures_to_any_address(scraped: Running, value: str) -> None:
    reply = await metrics(scraped, value)
    assert reply.status == 200
    assert b"resender_build_info" in reply.body
    assert TOKEN.encode() not in reply.body
    assert (await metrics(scraped, value, "HEAD")).status == 200


@pytest.mark.parametrize(
    "value",
    [
        None, "", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Token {TOKEN}", f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN}, Bearer {TOKEN}", "Bearer \xff\xfe",
        f"Bearer x {TOKEN}", "Bearer " + "x" * 5000,
    ],
)  # fmt: skip
async def test_anything_else_is_refused_as_a_stranger_is(
    scraped: Running, value: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    reply = await metrics(scraped, value)
    assert (reply.status, reply.json()["code"]) == (403, -1)
    assert TOKEN not in caplog.text
    assert "refused 127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    "target",
    [
        "/local/status",
        "/api/v3/time",
        "/local/spot/klines?symbol=BTCUSDT&interval=1m",
        "/admin/api/whitelist",
    ],
)
async def test_token_opens_nothing_else(upstream: RawUpstream, scraped: Running, target: str) -> None:
    reply = await call(scraped.port, "GET", target, (("Authorization", f"Bearer {TOKEN}"),))
    assert reply.status in (401, 403, 404)
    assert not upstream.requests


async def test_readiness_tells_who_has_the_token_no_more_than_a_stranger(scraped: Running) -> None:
    assert (await ready(scraped, ("Authorization", f"Bearer {TOKEN}"))).json() == {"status": "ready"}


@pytest.mark.parametrize("value", ["Bearer ", "Bearer", "", "Bearer None"])
async def test_without_a_token_there_is_none_to_be_guessed(
    upstream: RawUpstream, tmp_path: Path, value: str
) -> None:
    async with running(make_config(tmp_path, upstream.url, whitelist="203.0.113.5")) as run:
        assert (await metrics(run, value)).status == 403


async def test_token_may_be_in_any_language(upstream: RawUpstream, tmp_path: Path) -> None:
    token = "仅供普罗米修斯抓取指标使用的令牌一二"
    async with running(
        make_config(tmp_path, upstream.url, whitelist="203.0.113.5", metrics_token=token)
    ) as run:
        as_sent = token.encode().decode("latin-1")
        assert (await metrics(run, f"Bearer {as_sent}")).status == 200
        assert (await metrics(run, f"Bearer {as_sent[:-1]}")).status == 403


async def test_client_of_the_whitelist_needs_no_token_and_a_wrong_one_does_no_harm(
    upstream: RawUpstream, tmp_path: Path
) -> None:
    async with running(make_config(tmp_path, upstream.url, metrics_token=TOKEN)) as run:
        for value in (None, "Bearer wrong", f"Bearer {TOKEN}"):
            assert (await metrics(run, value)).status == 200


async def test_token_is_in_no_log_and_on_no_page(
    upstream: RawUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(make_config(tmp_path, upstream.url, metrics_token=TOKEN)) as run:
        await run.gateway.store.set_log_enabled(True)
        await metrics(run, f"Bearer {TOKEN}")
        status = await call(run.port, "GET", "/local/status")
        assert TOKEN.encode() not in status.body
    assert TOKEN not in caplog.text
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
