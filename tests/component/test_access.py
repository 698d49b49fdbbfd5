"""Who gets in, over real sockets; pages and their access class."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tornado.web import URLSpec

from resender import __version__
from resender.errors import Forbidden
from resender.web.application import make_app
from resender.web.base import ClientHandler, NotFoundHandler, PublicHandler
from tests.support.client import build, call, exchange, parse
from tests.support.ports import free_port
from tests.support.running import Running, make_config, running, wait_until
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "target",
    ["/api/v3/time", "/nothing/here", "/metrics", "/api", "/healthz/x", "/administrator", "//", "/local/x"],
)
async def test_stranger_is_refused_on_every_path_known_or_not(
    tmp_path: Path, upstream: RawUpstream, target: str
) -> None:
    async with running(make_config(tmp_path, upstream.url, whitelist="203.0.113.5")) as run:
        for method in ("GET", "POST", "PATCH", "OPTIONS"):
            reply = await call(run.port, method, target, body=b"x" if method == "POST" else b"")
            assert reply.status == 403
            assert reply.json() == {
                "code": -1,
                "msg": "Forbidden IP: 127.0.0.1",
                "data": Forbidden("127.0.0.1").data,
            }
            assert reply.header("x-resender-error") == "forbidden"
            assert reply.header("content-type") == "application/json"
    assert not upstream.requests


async def test_empty_whitelist_refuses_loopback(tmp_path: Path, upstream: RawUpstream) -> None:
    async with running(make_config(tmp_path, upstream.url, whitelist="")) as run:
        assert (await call(run.port, "GET", "/api/v3/time")).status == 403
        assert (await call(run.port, "GET", "/healthz")).status == 200
        assert (await call(run.port, "GET", "/")).status == 200


async def test_stranger_cannot_speak_for_a_whitelisted_address(tmp_path: Path, upstream: RawUpstream) -> None:
    async with running(make_config(tmp_path, upstream.url, whitelist="203.0.113.5")) as run:
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "CF-Connecting-IP"):
            for path in ("/api/v3/time", "/metrics"):
                reply = await call(run.port, "GET", path, ((name, "203.0.113.5"),))
                assert reply.status == 403, name


async def test_trusted_proxy_names_the_client(tmp_path: Path, upstream: RawUpstream) -> None:
    config = make_config(tmp_path, upstream.url, whitelist="203.0.113.5", trusted_proxies="127.0.0.1")
    async with running(config) as run:

        async def status(*headers: tuple[str, str], path: str = "/api/v3/time") -> int:
            return (await call(run.port, "GET", path, headers)).status

        assert await status(("X-Forwarded-For", "203.0.113.5")) == 200
        assert await status(("X-Forwarded-For", "203.0.113.5"), path="/metrics") == 200
        assert await status(("X-Real-IP", "203.0.113.5")) == 200
        assert await status(("X-Forwarded-For", "203.0.113.5, 198.51.100.1")) == 403
        assert await status(("X-Forwarded-For", "203.0.113.5"), ("X-Forwarded-For", "198.51.100.1")) == 403
        assert await status(("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.5")) == 200
        assert await status(("X-Forwarded-For", "198.51.100.1"), ("X-Real-IP", "203.0.113.5")) == 403
        assert await status() == 403
    assert all(request.header("x-forwarded-for") is None for request in upstream.requests)


async def test_whitelist_change_acts_on_the_next_request_of_an_open_connection(gateway: Running) -> None:
    store = gateway.gateway.store
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)

    async def status() -> int:
        writer.write(build("GET", "/api/v3/time", close=False))
        raw = await reader.readuntil(b"}")
        while not parse(raw).complete:
            raw += await reader.readuntil(b"}")
        return parse(raw).status

    assert await status() == 200
    entry = (await store.whitelist_list())[0]
    await store.whitelist_update(entry.id, enabled=False)
    assert await status() == 403
    await store.whitelist_update(entry.id, enabled=True)
    assert await status() == 200
    await store.whitelist_remove(entry.id)
    assert await status() == 403
    await store.whitelist_add("127.0.0.0/8")
    assert await status() == 200
    writer.close()
    await writer.wait_closed()


async def test_change_by_another_process_acts_within_a_second(gateway: Running, tmp_path: Path) -> None:
    def command(*words: str) -> float:
        subprocess.run(
            [sys.executable, "run.py", "whitelist", *words, "--data-dir", str(tmp_path)],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        return time.monotonic()

    async def status() -> int:
        return (await call(gateway.port, "GET", "/api/v3/time")).status

    for words, expected in ((("remove", "127.0.0.1"), 403), (("add", "127.0.0.0/8"), 200)):
        done = await asyncio.to_thread(command, *words)
        while await status() != expected:
            assert time.monotonic() - done < 1.2
            await asyncio.sleep(0.02)


async def test_ipv6_client_is_matched_and_mapped_ipv4_is_ipv4(tmp_path: Path, upstream: RawUpstream) -> None:
    config = make_config(tmp_path, upstream.url, host="::", whitelist="127.0.0.1")
    async with running(config, port=free_port()) as run:
        try:
            raw = await exchange(run.port, build("GET", "/api/v3/time"), host="::1")
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        assert parse(raw).status == 403
        assert parse(raw).json()["msg"] == "Forbidden IP: ::1"
        assert (await call(run.port, "GET", "/api/v3/time")).status == 200
        await run.gateway.store.whitelist_add("::1")
        raw = await exchange(run.port, build("GET", "/api/v3/time"), host="::1")
        assert parse(raw).status == 200


@pytest.mark.parametrize(
    ("method", "status"), [("PATCH", 405), ("OPTIONS", 405), ("TRACE", 405), ("FOO", 405)]
)
async def test_other_method_on_a_known_route_is_405(
    gateway: Running, upstream: RawUpstream, method: str, status: int
) -> None:
    reply = await call(gateway.port, method, "/api/v3/time")
    assert reply.status == status
    assert reply.json()["code"] == -3
    assert reply.header("x-resender-error") == "method_not_allowed"
    assert reply.header("allow") == "GET, HEAD, POST, PUT, DELETE"
    assert not upstream.requests


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics"])
async def test_page_answers_only_get_and_head(gateway: Running, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        reply = await call(gateway.port, method, path)
        assert reply.status == 405
        assert reply.json()["code"] == -3
    head = await call(gateway.port, "HEAD", path)
    assert head.status == 200
    assert head.body == b""


async def test_unknown_route_is_a_json_404(gateway: Running) -> None:
    for path in ("/nope", "/api", "/healthz/", "/metrics/x", "/favicon.ico"):
        reply = await call(gateway.port, "GET", path)
        assert reply.status == 404, path
        assert reply.json()["code"] == -3
        assert reply.header("x-resender-error") == "not_found"


async def test_market_that_is_off_is_a_404_that_says_so(tmp_path: Path, upstream: RawUpstream) -> None:
    async with running(make_config(tmp_path, upstream.url, upstream_eapi="off")) as run:
        reply = await call(run.port, "GET", "/eapi/v1/time")
        assert reply.status == 404
        assert "switched off" in reply.json()["msg"]
        assert (await call(run.port, "GET", "/fapi/v1/time")).status == 200


@pytest.mark.usefixtures("with_admin_pages")
async def test_front_page_names_the_product_and_loads_nothing_from_elsewhere(gateway: Running) -> None:
    reply = await call(gateway.port, "GET", "/")
    assert reply.status == 200
    assert reply.header("server") is None
    html = reply.body.decode()
    assert "Binance Resender" in html
    assert __version__ in html
    assert 'href="/admin"' in html
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in (reply.header("content-security-policy") or "")


async def test_healthz_is_ok_only_while_the_gateway_serves(gateway: Running) -> None:
    reply = await call(gateway.port, "GET", "/healthz")
    assert (reply.status, reply.json()) == (200, {"status": "ok"})
    gateway.gateway.calls.is_open = False
    assert (await call(gateway.port, "GET", "/healthz")).status == 503


async def test_metrics_show_calls_answers_and_the_database(gateway: Running) -> None:
    await call(gateway.port, "GET", "/api/v3/time")
    await call(gateway.port, "POST", "/fapi/v1/order")
    await call(gateway.port, "GET", "/nope")
    reply = await call(gateway.port, "GET", "/metrics")
    text = reply.body.decode()
    assert reply.status == 200
    assert 'resender_requests_total{market="spot",method="GET",status="200"} 1.0' in text
    assert 'resender_requests_total{market="um",method="POST",status="200"} 1.0' in text
    assert 'resender_answers_total{name="not_found"} 1.0' in text
    assert 'resender_answers_total{name="lost"} 0.0' in text
    assert "resender_in_flight 0.0" in text
    assert "resender_database_healthy 1.0" in text
    assert 'resender_upstream_connections_total{kind="new",market="spot"} 1.0' in text


def test_every_page_is_public_by_name_or_for_clients(gateway_app_routes: list[URLSpec]) -> None:
    public = {"/", "/healthz", "/readyz"}
    for spec in gateway_app_routes:
        kind = spec.handler_class
        path = spec.regex.pattern.removesuffix("$")
        if path.startswith("/admin"):  # tests/component/admin/test_admin_routes.py
            continue
        if path in public:
            assert issubclass(kind, PublicHandler), path
        else:
            assert issubclass(kind, ClientHandler), path


@pytest.fixture
async def gateway_app_routes(gateway: Running) -> list[URLSpec]:
    app = make_app(gateway.gateway.services)
    specs = [rule for rule in app.wildcard_router.rules if isinstance(rule, URLSpec)]
    assert len(specs) >= 3
    assert app.settings["default_handler_class"] is NotFoundHandler
    return specs


async def test_log_rows_hold_no_query_and_follow_the_switch(gateway: Running) -> None:
    store = gateway.gateway.store
    await call(gateway.port, "GET", "/api/v3/time?off=1")
    await store.set_log_enabled(True)
    secret = "sEcReT" * 10
    await call(
        gateway.port, "POST", f"/fapi/fapi/v1/order?signature={secret}", (("X-MBX-APIKEY", secret),), b"a=b"
    )
    await call(gateway.port, "PUT", f"/fapi/v1/listenKey/{secret}?listenKey={secret}")
    await call(gateway.port, "GET", "/nope?x=1")
    await wait_until(lambda: store.stats.log_written == 3)
    await store.set_log_enabled(False)
    await call(gateway.port, "GET", "/api/v3/time?off=2")
    rows = await store.log_query()
    assert [(r.method, r.market, r.path, r.status, r.upstream_status) for r in reversed(rows)] == [
        ("POST", "um", "/fapi/fapi/v1/order", 200, 200),
        ("PUT", "um", "/fapi/v1/listenKey/***", 200, 200),
        ("GET", "", "/nope", 404, None),
    ]
    assert all(r.ip == "127.0.0.1" for r in rows)
    assert rows[-1].duration_ms > 0
    assert rows[-1].bytes == len(b'{"ok":true}')
    assert rows[0].error
    assert secret not in repr(rows)


async def test_body_limit_of_calls_is_not_that_of_the_admin_pages(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    settings = {"max_body_bytes": 0, "admin_password": "correct horse battery"}
    async with running(make_config(tmp_path, upstream.url, **settings)) as run:
        body = b'{"username":"root","password":"correct horse battery"}'
        login = await call(run.port, "POST", "/admin/api/login", body=body)
        assert login.status == 200
        assert (await call(run.port, "POST", "/api/v3/order", body=b"x")).status == 413
        assert (await call(run.port, "GET", "/healthz", body=b"x" * 2000)).status == 413
    assert upstream.requests == []
