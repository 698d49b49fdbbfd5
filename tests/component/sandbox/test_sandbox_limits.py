"""Weights, 429, 418, and the life of the listeners."""

import asyncio
import signal
import ssl
import sys
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from resender.sandbox import Fault, Gap, Sandbox
from tests.support.authority import connector

pytestmark = pytest.mark.component
ROOT = Path(__file__).resolve().parents[3]


def base(sandbox, host="API"):
    return sandbox.urls[f"UPSTREAM_{host}"]


# -- weights -------------------------------------------------------------------------------


async def test_over_the_limit_comes_429_then_418_and_both_futures_hosts_are_closed(sandbox_with, http, clock):
    clock.now_ms = 1_791_374_400_000  # the start of a minute
    sandbox = await sandbox_with(weight_limits={"futures": 3}, ban_after=2, ban_s=90)
    um, cm = base(sandbox, "FAPI"), base(sandbox, "DAPI")
    for where, path in ((um, "/fapi/v1/ping"), (cm, "/dapi/v1/ping"), (um, "/fapi/v1/ping")):
        status, _, headers = await http.call(where, path)
        assert status == 200
    assert headers["x-mbx-used-weight-1m"] == "3"
    assert not sandbox.violations
    status, body, headers = await http.call(um, "/fapi/v1/ping")
    assert (status, body["code"], headers["Retry-After"]) == (429, -1003, "60")
    assert not sandbox.violations
    assert (await http.call(cm, "/dapi/v1/ping"))[0] == 429
    assert len(sandbox.violations) == 1
    status, body, headers = await http.call(um, "/fapi/v1/ping")
    assert (status, headers["Retry-After"]) == (418, "90")
    assert body["msg"].startswith(f"Way too many requests; IP(127.0.0.1) banned until {clock() + 90_000}.")
    clock.now_ms += 60_000
    assert (await http.call(cm, "/dapi/v1/ping"))[0] == 418
    assert [v.is_banned for v in sandbox.violations] == [False, True, True]
    assert (await http.call(base(sandbox), "/api/v3/ping"))[0] == 200
    clock.now_ms += 30_000
    assert (await http.call(cm, "/dapi/v1/ping"))[0] == 200
    assert sandbox.weight("127.0.0.1", "futures") == 1


async def test_every_source_address_has_its_own_weight(sandbox, http):
    async with session_from("127.0.0.2") as other:
        async with other.get(base(sandbox) + "/api/v3/exchangeInfo") as response:
            assert response.headers["x-mbx-used-weight"] == "20"
    await http.call(base(sandbox), "/api/v3/ping")
    assert sandbox.weight("127.0.0.2", "spot") == 20
    assert sandbox.weight("127.0.0.1", "spot") == 1
    assert [call.peer for call in sandbox.calls] == ["127.0.0.2", "127.0.0.1"]


async def test_a_test_can_ban_and_pardon_an_address(sandbox, http):
    sandbox.ban("127.0.0.1", "spot", 30)
    status, body, headers = await http.call(base(sandbox), "/api/v3/ping")
    assert (status, headers["Retry-After"]) == (418, "30")
    assert "IP banned until" in body["msg"]
    sandbox.ban("127.0.0.1", "spot", 0)
    assert (await http.call(base(sandbox), "/api/v3/ping"))[0] == 200


@pytest.mark.parametrize(
    ("host", "target", "weight"),
    [
        ("API", "/api/v3/klines?symbol=BTCUSDT&interval=1m", 2),
        ("API", "/api/v3/ticker/bookTicker", 4),
        ("API", "/api/v3/ticker/24hr", 80),
        ("API", "/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
        ("API", "/api/v3/klines?symbol=NOPE&interval=1m", 2),
        ("FAPI", "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1500", 10),
        ("FAPI", "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1501", 10),
        ("FAPI", "/fapi/v1/ticker/bookTicker", 5),
        ("DAPI", "/dapi/v1/ticker/24hr", 40),
        ("EAPI", "/eapi/v1/ticker", 40),
    ],
)
async def test_calls_cost_what_the_table_says(sandbox, http, host, target, weight):
    _, _, headers = await http.call(base(sandbox, host), target)
    assert headers["x-mbx-used-weight-1m"] == str(weight)


async def test_configured_gap_is_missing_from_rest(sandbox_with, http, clock):
    minute = clock() // 60_000 * 60_000
    sandbox = await sandbox_with(gaps=[Gap("um", None, minute - 300_000, minute - 120_000)])
    target = f"/fapi/v1/klines?symbol=ETHUSDT&interval=1m&startTime={minute - 420_000}"
    _, rows, _ = await http.call(base(sandbox, "FAPI"), target)
    assert [(row[0] - minute) // 60_000 for row in rows] == [-7, -6, -2, -1, 0]


# -- life ----------------------------------------------------------------------------------


async def test_listener_goes_away_and_comes_back_on_its_port(sandbox, http):
    where = base(sandbox)
    await http.call(where, "/api/v3/ping")
    await sandbox.stop_listening("api")
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession(connector=connector()) as fresh:
            await fresh.get(where + "/api/v3/ping")
    await sandbox.start_listening("api")
    assert (await http.call(where, "/api/v3/ping"))[0] == 200
    assert sandbox.connections["api"] == 2
    assert sandbox.connections["fapi"] == 0


async def test_connections_and_calls_are_counted(sandbox, http):
    for _ in range(3):
        await http.call(base(sandbox), "/api/v3/ping")
    await http.call(base(sandbox, "FAPI"), "/fapi/v1/ping")
    assert sandbox.connections["api"] == 1
    assert sandbox.count() == 4
    assert sandbox.count(path="/api/v3/ping") == 3
    assert sandbox.count("POST") == 0
    assert sandbox.count(host="fapi") == 1


async def test_stop_leaves_no_task_and_no_open_port():
    before = asyncio.all_tasks()
    sandbox = Sandbox()
    async with sandbox, aiohttp.ClientSession(connector=connector()) as session:
        url = sandbox.urls["STREAM_SPOT"] + "/ws/btcusdt@bookTicker"
        async with session.ws_connect(url) as socket:
            await socket.receive()
            await sandbox.stop()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", URL(sandbox.urls["UPSTREAM_API"]).port)
    assert asyncio.all_tasks() == before


async def test_runs_from_a_shell_and_prints_its_addresses():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "resender.sandbox", "--symbols", "3",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    settings = {}
    while "API_SECRET" not in settings:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        assert "=" in line, line
        name, _, value = line.partition("=")
        settings[name] = value
    trusting = ssl.create_default_context(cafile=settings["SSL_CERT_FILE"])
    async with aiohttp.ClientSession() as session:
        where = settings["UPSTREAM_FAPI"] + "/fapi/v1/exchangeInfo"
        async with session.get(where, ssl=trusting) as response:
            assert len((await response.json())["symbols"]) == 3
    assert settings["STREAM_UM"].startswith("wss://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert not Path(settings["SSL_CERT_FILE"]).exists()


async def test_tls_can_be_left_out(sandbox_with):
    sandbox = await sandbox_with(tls=False)
    assert base(sandbox).startswith("http://")
    assert sandbox.urls["STREAM_SPOT"].startswith("ws://")
    async with aiohttp.ClientSession() as session:
        async with session.get(base(sandbox) + "/api/v3/ping") as response:
            assert response.status == 200


# -- one address among several ---------------------------------------------------------------


def session_from(address):
    session = aiohttp.ClientSession(connector=connector(local_addr=(address, 0)))
    session._retry_connection = False  # aiohttp repeats a GET by itself
    return session


async def test_windows_that_are_over_can_be_read_afterwards(sandbox_with, http, clock):
    clock.now_ms = 1_791_374_400_000
    sandbox = await sandbox_with(weight_window_s=6)
    where = base(sandbox)
    order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=100"
    await http.call(where, "/api/v3/exchangeInfo")
    assert (await http.signed(where, "/api/v3/order", order, "POST"))[0] in (200, 400)
    assert sandbox.past_weights("127.0.0.1", "spot") == []
    clock.now_ms += 6000
    (past,) = sandbox.past_weights("127.0.0.1", "spot")
    assert (past.window, past.peak) == (1_791_374_400_000 // 6000, 21)
    assert past.used in (20, 21)
    clock.now_ms += 60_000
    await http.call(where, "/api/v3/ping")
    clock.now_ms += 6000
    assert [use.used for use in sandbox.past_weights("127.0.0.1", "spot")][1:] == [1]
    assert sandbox.past_weights("127.0.0.9", "spot") == []


async def test_one_address_is_cut_off_and_let_in_again(sandbox, http):
    where = base(sandbox) + "/api/v3/ping"
    async with session_from("127.0.0.3") as other:
        async with other.get(where) as response:
            assert response.status == 200
        sandbox.cut_off("127.0.0.3")
        for _ in range(2):
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await other.get(where)
        assert (await http.call(base(sandbox), "/api/v3/ping"))[0] == 200
        sandbox.let_in("127.0.0.3")
        async with other.get(where) as response:
            assert response.status == 200
    assert sandbox.statuses == {("127.0.0.3", 200): 2, ("127.0.0.1", 200): 1}


async def test_a_fault_strikes_one_address_only(sandbox, http):
    fault = sandbox.faults.add(Fault("status", peer="127.0.0.3", status=503, times=None))
    assert (await http.call(base(sandbox), "/api/v3/ping"))[0] == 200
    async with session_from("127.0.0.3") as other:
        async with other.get(base(sandbox) + "/api/v3/ping") as response:
            assert response.status == 503
    assert fault.hits == 1


async def test_date_is_the_exchanges_own_time(sandbox, http, clock):
    clock.now_ms = 1_791_374_401_999
    _, _, headers = await http.call(base(sandbox), "/api/v3/ping")
    assert headers["Date"] == "Wed, 07 Oct 2026 12:00:01 GMT"
