"""Who listens to streams: the status, the metrics, the page's API, and disconnecting one."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.support.cache_bench import bench
from tests.support.client import call
from tests.support.running import wait_until
from tests.support.stream_client import listener

pytestmark = pytest.mark.component


async def test_status_and_metrics_show_clients_and_their_streams(tmp_path: Path) -> None:
    async with bench(tmp_path) as one, listener(one) as ears:
        async with ears.open("/ws/btcusdt@bookTicker/btcusdt@trade") as ear, ears.open("/ws-api/v3"):
            await ear.event()
            status = (await call(one.run.port, "GET", "/local/status")).json()["streams"]
            relay, market = status["clients"]
            assert (relay["kind"], relay["market"], relay["path"]) == ("relay", "spot", "/ws-api/v3")
            assert (market["kind"], market["streams"]) == ("market", 2)
            assert market["names"] == ["btcusdt@bookTicker", "btcusdt@trade"]
            assert market["address"] == "127.0.0.1"
            assert market["frames"] > 0
            assert market["bytes"] > 100
            assert status["upstream_streams"] == 2
            assert status["events_in"] >= 1
            text = (await call(one.run.port, "GET", "/metrics")).body.decode()
            for line in (
                'resender_stream_clients{kind="market"} 1.0', 'resender_stream_clients{kind="relay"} 1.0',
                "resender_client_streams 2.0", "resender_stream_write_seconds_count", "resender_loop_lag_seconds_count",
            ):  # fmt: skip
                assert line in text, line


async def test_client_can_be_disconnected_and_that_is_in_the_audit(tmp_path: Path) -> None:
    settings = {"admin_password": "a good pass phrase 42"}
    async with bench(tmp_path, **settings) as one, listener(one) as ears:
        body = orjson.dumps({"username": "root", "password": settings["admin_password"]})
        json_type = (("Content-Type", "application/json"),)
        login = await call(one.run.port, "POST", "/admin/api/login", json_type, body)
        assert login.status == 200, login.body
        cookie = "; ".join(v.partition(";")[0] for k, v in login.headers if k.lower() == "set-cookie")
        logged_in = (("Cookie", cookie),)
        async with ears.open("/ws/btcusdt@bookTicker") as ear, ears.open("/ws-api/v3") as api:
            await ear.event()
            shown = (await call(one.run.port, "GET", "/admin/api/clients", logged_in)).json()
            assert len(shown["clients"]) == 2
            for client in shown["clients"]:
                path = f"/admin/api/clients/{client['id']}"
                assert (await call(one.run.port, "DELETE", path)).status == 401
                assert (await call(one.run.port, "DELETE", path, logged_in)).status == 200
            assert await ear.closed() == (1012, "disconnected by the administrator")
            assert await api.closed() == (1012, "disconnected by the administrator")
            await wait_until(lambda: not one.run.gateway.fanout.size)
            gone = await call(one.run.port, "DELETE", path, logged_in)
            assert (gone.status, gone.json()["data"]) == (404, {"reason": "gone"})
        audit = (await call(one.run.port, "GET", "/admin/api/audit", logged_in)).json()["items"]
        assert [row["action"] for row in audit if row["action"].startswith("clients.")] == [
            "clients.disconnect"
        ] * 2
