"""Names of our own, bulk files, CONNECT: the ways in beside a path."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from resender.web.client import tunnel
from tests.support.authority import client_context
from tests.support.cache_bench import bench
from tests.support.client import call
from tests.support.running import wait_until
from tests.support.stream_client import listener

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("fapi.gw.example", "/fapi/v1/time", 200),
        ("FAPI.GW.EXAMPLE:443", "/fapi/v1/time", 200),
        ("api.gw.example", "/sapi/v1/system/status", 200),
        ("api3.gw.example", "/api/v3/time", 200),
        ("dapi.gw.example", "/dapi/v1/time", 200),
        ("dapi.gw.example", "/futures/data/basis?pair=BTCUSD", None),
        ("fapi.gw.example", "/api/v3/time", 404),
        ("fapi.gw.example", "/dapi.binance.com/dapi/v1/time", 404),
        ("evil.gw.example", "/fapi/v1/time", 200),  # no such name: the path alone decides
        ("gw.example", "/api/v3/time", 200),
        ("fapi.gw.example.evil.com", "/api/v3/time", 200),
        ("fapi.gw.example", "/healthz", 200),
    ],
)
async def test_name_of_our_own_stands_for_binances(
    tmp_path: Path, host: str, path: str, status: int | None
) -> None:
    async with bench(tmp_path, host_suffix="gw.example") as one:
        reply = await call(one.run.port, "GET", path, (("Host", host),))
        if status is not None:
            assert reply.status == status, reply.body
        if path.startswith("/futures"):
            assert one.sandbox.calls[-1].host == "dapi"


async def test_names_are_off_unless_set_and_serve_streams_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        reply = await call(
            one.run.port, "GET", "/futures/data/basis?pair=BTCUSD", (("Host", "dapi.gw.example"),)
        )
        assert one.sandbox.calls[-1].host == "fapi", reply.body
    async with bench(tmp_path / "2", host_suffix="gw.example") as one, listener(one) as ears:
        for host, path, symbol in (
            ("stream.gw.example", "/ws/bnbusdt@bookTicker", "BNBUSDT"),  # spot has it, USD-M has not
            ("fstream.gw.example", "/ws/solusdt@bookTicker", "SOLUSDT"),
            ("dstream.gw.example:9443", "/ws/ethusd_perp@bookTicker", "ETHUSD_PERP"),
        ):
            async with ears.open(path, headers={"Host": host}) as ear:
                assert (await ear.event())["s"] == symbol
        async with ears.open("/ws-api/v3", headers={"Host": "ws-api.gw.example"}) as ear:
            await ear.socket.send_str('{"id":1,"method":"ping"}')
            assert (await ear.next())["status"] == 200


async def test_bulk_files_are_streamed_through_and_nothing_else(tmp_path: Path) -> None:
    async with bench(tmp_path / "3") as outer:
        other = outer.sandbox.urls["UPSTREAM_API"]
        async with bench(tmp_path / "4", upstream_data=other) as one:
            before = outer.mark()
            reply = await call(
                one.run.port, "GET", "/data.binance.vision/api/v3/exchangeInfo?symbol=BTC%55SDT"
            )
            assert reply.status == 200
            assert b"symbols" in reply.body
            assert [(c.method, c.target) for c in outer.calls("", before)] == [
                ("GET", "/api/v3/exchangeInfo?symbol=BTC%55SDT")
            ]
            head = await call(one.run.port, "HEAD", "/data.binance.vision/api/v3/time")
            assert (outer.calls()[-1].method, head.body) == ("HEAD", b"")
            for method, path, status in (
                ("POST", "/data.binance.vision/api/v3/order", 405),
                ("GET", "/data.binance.vision/../etc", 400),
                ("GET", "/data.binance.vision/%2e%2e/etc", 400),
                ("GET", "/data.binance.vision", 404),
            ):
                assert (await call(one.run.port, method, path)).status == status, path
            await outer.sandbox.stop_listening("api")
            reply = await call(one.run.port, "GET", "/data.binance.vision/api/v3/time")
            assert (reply.status, reply.json()["code"]) == (502, -2)
            assert one.run.gateway.calls.in_flight == 0
    async with bench(tmp_path / "5", upstream_data="off") as one:
        assert (await call(one.run.port, "GET", "/data.binance.vision/x")).status == 404


async def connect(
    port: int, authority: str, *lines: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "".join(f"{line}\r\n" for line in (f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *lines))
    writer.write(f"{head}\r\n".encode())
    return reader, writer, await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)


async def test_connect_reaches_the_hosts_of_the_settings_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path, proxy_hosts="localhost", whitelist="127.0.0.1") as one:
        port = urlsplit(one.sandbox.urls["UPSTREAM_API"]).port
        assert port is not None
        for authority, status in (
            (f"localhost:{port}", b"403"), ("evil.example:443", b"403"), ("localhost", b"400"), ("localhost:x", b"400"),
        ):  # fmt: skip
            _, writer, head = await connect(one.run.port, authority)
            assert head.startswith(b"HTTP/1.1 " + status), (authority, head)
            writer.close()
        monkeypatch.setattr(tunnel, "_PORT", port)
        await one.run.gateway.store.set_log_enabled(True)
        reader, writer, head = await connect(one.run.port, f"LOCALHOST:{port}")
        assert head == b"HTTP/1.1 200 Connection Established\r\n\r\n"
        (guest,) = one.run.gateway.fanout.guests.values()
        assert (guest.kind, guest.address, guest.path) == ("tunnel", "127.0.0.1", f"localhost:{port}")
        await writer.start_tls(client_context(), server_hostname="localhost")
        writer.write(b"GET /api/v3/time HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert b"serverTime" in answer
        assert writer.get_extra_info("ssl_object").version().startswith("TLS")
        writer.close()
        tasks = one.run.gateway.tasks
        await wait_until(lambda: "tunnel:up" not in tasks.names())
        metrics = (await call(one.run.port, "GET", "/metrics")).body.decode()
        assert "resender_tunnels_total 5.0" in metrics or "resender_tunnels_total 1.0" in metrics
        for _ in range(100):
            rows = await one.run.gateway.store.log_query()
            if rows:
                break
            await asyncio.sleep(0.05)
        assert [(row.method, row.path, row.status) for row in rows] == [("CONNECT", f"LOCALHOST:{port}", 200)]
        _, writer, head = await connect(one.run.port, f"localhost:{port}", "X-Resender-Egress: nowhere")
        assert head.startswith(b"HTTP/1.1 400")
        writer.close()
        await one.sandbox.stop_listening("api")
        _, writer, head = await connect(one.run.port, f"localhost:{port}")
        assert head.startswith(b"HTTP/1.1 502")
        writer.close()
        await one.sandbox.start_listening("api")
        reader, other, head = await connect(one.run.port, f"localhost:{port}")
        assert head.startswith(b"HTTP/1.1 200")
        assert await one.run.gateway.store.whitelist_remove("127.0.0.1")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        other.close()
        await wait_until(lambda: not one.run.gateway.fanout.size)
        _, writer, head = await connect(one.run.port, f"localhost:{port}")
        assert head.startswith(b"HTTP/1.1 403")
        writer.close()


async def test_connect_is_off_by_default(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        _, writer, head = await connect(one.run.port, "api.binance.com:443")
        assert head.startswith(b"HTTP/1.1 405")
        writer.close()
