"""Where the admin pages are: on the gateway's port, on their own, for some addresses, or nowhere."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from resender.cli.serve import bind, bind_admin
from resender.config_loading import load_config
from resender.web.application import make_admin_server
from tests.support.admin import PASSWORD, Browser, assert_error
from tests.support.client import call
from tests.support.ports import free_ports
from tests.support.running import make_config, running
from tests.support.upstream import RawUpstream

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[3]
PATHS = (
    "/admin",
    "/admin/",
    "/admin/login",
    "/admin/dashboard",
    "/admin/api/me",
    "/admin/api/login",
    "/admin/x",
)
BASE = {"admin_password": PASSWORD, "cache_enabled": False}


async def test_admin_whitelist_refuses_every_other_address_on_every_path(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    config = make_config(
        tmp_path, upstream.url, **BASE, admin_whitelist="203.0.113.0/24", trusted_proxies="127.0.0.1"
    )
    async with running(config) as run:
        for path in PATHS:
            for method in ("GET", "POST"):
                reply = await call(run.port, method, path, (("X-Forwarded-For", "198.51.100.1"),))
                assert_error(reply, 403, -1)
                assert reply.json()["msg"] == "Forbidden IP: 198.51.100.1"
                assert reply.header("x-resender-error") == "forbidden"
        assert (await Browser(run.port, ("X-Forwarded-For", "203.0.113.5")).log_in()).status == 200
        # It is no whitelist of the gateway, and the gateway's is none of the admin pages.
        assert (await call(run.port, "GET", "/api/v3/time")).status == 200


async def test_log_in_of_an_address_that_is_allowed_is_worth_nothing_elsewhere(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    config = make_config(
        tmp_path, upstream.url, **BASE, admin_whitelist="203.0.113.5", trusted_proxies="127.0.0.1"
    )
    async with running(config) as run:
        browser = Browser(run.port, ("X-Forwarded-For", "203.0.113.5"))
        await browser.log_in()
        browser.headers = (("X-Forwarded-For", "203.0.113.6"),)
        assert_error(await browser.send("GET", "me"), 403, -1)


async def test_admin_pages_need_no_entry_in_the_gateways_whitelist(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    async with running(make_config(tmp_path, upstream.url, **BASE, whitelist="")) as run:
        browser = Browser(run.port)
        await browser.log_in()
        assert (await call(run.port, "GET", "/api/v3/time")).status == 403
        await browser.post("whitelist", {"address": "127.0.0.1"}, 201)
        assert (await call(run.port, "GET", "/api/v3/time")).status == 200


async def test_admin_disabled_is_a_404_for_all_of_it(tmp_path: Path, upstream: RawUpstream) -> None:
    config = make_config(tmp_path, upstream.url, **BASE, admin_enabled=False)
    async with running(config) as run:
        for path in PATHS:
            for method in ("GET", "POST"):
                assert_error(await call(run.port, method, path), 404, -3)
        assert b'href="/admin"' not in (await call(run.port, "GET", "/")).body
        assert await run.gateway.store.user_list() == []
        assert bind_admin(config) == []


async def test_own_port_has_the_admin_pages_and_the_gateways_port_has_none(
    tmp_path: Path, upstream: RawUpstream
) -> None:
    config = make_config(tmp_path, upstream.url, **BASE, admin_port=18765)
    async with running(config) as run:
        server = make_admin_server(run.gateway.services)
        sockets = bind("127.0.0.1", 0)
        server.add_sockets(sockets)
        port = sockets[0].getsockname()[1]
        for path in PATHS:
            assert_error(await call(run.port, "GET", path), 404, -3)
        assert b'href="/admin"' not in (await call(run.port, "GET", "/")).body
        browser = Browser(port)
        await browser.log_in()
        assert (await browser.get("me"))["username"] == "root"
        front = await call(port, "GET", "/")
        assert (front.status, front.header("location")) == (302, "/admin")
        for path in ("/api/v3/time", "/fapi/v1/time", "/healthz", "/metrics", "/local/klines", "/nope"):
            assert_error(await call(port, "GET", path), 404, -3)
        assert not upstream.requests
        server.stop()
        await server.close_all_connections()
        for listening in sockets:
            listening.close()


def test_own_port_is_on_loopback_unless_told_otherwise() -> None:
    config = load_config({"WHITELIST": "", "ADMIN_PORT": 8001}, {})
    assert (config.admin_host, config.admin_port) == ("127.0.0.1", 8001)


async def test_program_serves_the_admin_pages_on_their_own_port(tmp_path: Path) -> None:
    port, admin_port = free_ports(2)
    environment = {
        **os.environ,
        "RESENDER_HOST": "127.0.0.1",
        "RESENDER_PORT": str(port),
        "RESENDER_ADMIN_PORT": str(admin_port),
        "RESENDER_ADMIN_PASSWORD": PASSWORD,
        "RESENDER_DATA_DIR": str(tmp_path),
        "RESENDER_CACHE_ENABLED": "false",
    }
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "run.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(200):
            with suppress(OSError):
                if (await call(admin_port, "GET", "/admin/login")).status == 200:
                    break
            assert process.poll() is None
            await asyncio.sleep(0.05)
        browser = Browser(admin_port)
        assert (await browser.log_in()).status == 200
        assert (await browser.get("me"))["username"] == "root"
        assert (await call(port, "GET", "/admin/login")).status == 404
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.to_thread(process.communicate, timeout=20)
        assert process.returncode == 0
        assert f"port {admin_port}" in out.decode()
        assert PASSWORD not in out.decode()
        assert "Traceback" not in out.decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
