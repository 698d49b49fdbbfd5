"""`run.py` as a process: how it starts, refuses to start, stops, dies and comes back."""

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from resender.sandbox import API_KEY, API_SECRET, Fault
from tests.support.client import build, parse
from tests.support.client import exchange as raw_exchange
from tests.support.processes import (
    KEY_HEADER,
    PATIENCE_S,
    STRANGER,
    Program,
    SandboxThread,
    Start,
    assert_no_secrets,
    signatures,
    signed,
    until,
)
from tests.support.running import wait_until
from tests.support.upstream import Peer, RawUpstream, Request, response

pytestmark = pytest.mark.e2e


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is ours and refuses every connection."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# --- starting and stopping ---------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gateway_serves_and_stops_on_a_signal(start: Start, number: signal.Signals) -> None:
    gateway = start()
    assert gateway.call("GET", "/healthz").json() == {"status": "ok"}
    ticker = gateway.call("GET", "/api/v3/ticker/bookTicker?symbol=BTCUSDT")
    assert (ticker.status, ticker.json()["symbol"]) == (200, "BTCUSDT")
    gateway.stop(number)
    with pytest.raises(ConnectionRefusedError):
        gateway.call("GET", "/healthz")


class Held:
    """An upstream that keeps its answers back until it is told, each by its query."""

    def __init__(self, upstream: RawUpstream) -> None:
        self.upstream = upstream
        self.released: set[bytes] = set()
        upstream.answer = self.answer

    async def answer(self, request: Request, peer: Peer) -> None:
        while request.target.partition(b"?")[2] not in self.released:
            await asyncio.sleep(0.01)
        await peer.send(response(b'{"target":"%b"}' % request.target))

    async def arrived(self, count: int) -> None:
        await wait_until(lambda: len(self.upstream.requests) >= count, PATIENCE_S)


async def refuses(port: int) -> None:
    """Wait until new connections are refused."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return
        writer.close()
        await asyncio.sleep(0.01)
    pytest.fail("connections are still accepted")


async def test_call_in_flight_is_finished_at_a_signal(upstream: RawUpstream, start_bare: Start) -> None:
    held = Held(upstream)
    gateway = start_bare(UPSTREAM_API=upstream.url)
    pending = asyncio.create_task(raw_exchange(gateway.port, build("POST", "/api/v3/order?a=1")))
    await held.arrived(1)
    gateway.process.send_signal(signal.SIGTERM)
    await refuses(gateway.port)
    assert not pending.done()
    held.released.add(b"a=1")
    reply = parse(await pending)
    assert (reply.status, reply.complete, reply.json()) == (200, True, {"target": "/api/v3/order?a=1"})
    assert await asyncio.to_thread(gateway.wait) == 0
    gateway.check_quiet()
    assert len(upstream.requests) == 1


async def test_order_that_comes_while_stopping_is_answered_or_not_sent(
    upstream: RawUpstream, start_bare: Start
) -> None:
    # It comes on a connection that was open before the signal: every client library keeps one.
    held = Held(upstream)
    gateway = start_bare(UPSTREAM_API=upstream.url)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(build("GET", "/healthz", close=False))
    await reader.readuntil(b'{"status":"ok"}')
    pending = asyncio.create_task(raw_exchange(gateway.port, build("POST", "/api/v3/order?a=1")))
    await held.arrived(1)
    gateway.process.send_signal(signal.SIGTERM)
    await refuses(gateway.port)

    writer.write(build("POST", "/api/v3/order?a=2"))
    late = asyncio.create_task(reader.read(65536))
    sent = asyncio.create_task(held.arrived(2))
    await asyncio.wait({late, sent}, return_when=asyncio.FIRST_COMPLETED)
    held.released.add(b"a=1")
    assert b" 200 OK" in await pending
    # The last call of before the signal has ended; the exchange still works on the late one.
    await asyncio.wait({late}, timeout=1)
    held.released.add(b"a=2")
    raw = await late
    was_sent = sent.done()
    sent.cancel()
    writer.close()
    assert await asyncio.to_thread(gateway.wait) == 0
    assert b" 200 OK" in raw or not was_sent, "the order was sent and its answer was lost"


async def test_call_that_does_not_end_is_cut_off_in_time(upstream: RawUpstream, start_bare: Start) -> None:
    held = Held(upstream)
    gateway = start_bare(UPSTREAM_API=upstream.url, SHUTDOWN_S="0.3")
    pending = asyncio.create_task(raw_exchange(gateway.port, build("GET", "/api/v3/time")))
    await held.arrived(1)
    gateway.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait) == 0
    reply = parse(await pending)
    assert (reply.status, reply.json()["code"]) == (502, -6)
    assert "cut off" in gateway.stderr
    gateway.check_quiet()


async def test_second_signal_ends_the_program_at_once(upstream: RawUpstream, start_bare: Start) -> None:
    held = Held(upstream)
    gateway = start_bare(UPSTREAM_API=upstream.url, SHUTDOWN_S="300")
    pending = asyncio.create_task(raw_exchange(gateway.port, build("GET", "/api/v3/time")))
    await held.arrived(1)
    gateway.process.send_signal(signal.SIGINT)
    await refuses(gateway.port)
    gateway.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(gateway.wait) != 0
    await pending
    gateway.check_quiet()


def test_gateway_starts_while_its_upstreams_are_down(start_bare: Start, closed_port: int) -> None:
    gateway = start_bare(UPSTREAM_API=f"https://127.0.0.1:{closed_port}", UPSTREAM_FAPI="off")
    for method in ("GET", "POST"):
        answer = gateway.call(method, "/api/v3/order?symbol=BTCUSDT")
        assert (answer.status, answer.json()["code"]) == (502, -2)
        assert answer.headers["x-resender-error"] == "unreachable"
    assert gateway.call("GET", "/fapi/v1/time").status == 404
    assert gateway.call("GET", "/healthz").status == 200
    gateway.stop()


def test_upstream_that_comes_back_is_used_again(exchange: SandboxThread, start: Start) -> None:
    gateway = start()
    assert gateway.call("GET", "/eapi/v1/time").status == 200
    exchange.run(exchange.sandbox.stop_listening("eapi"))
    try:
        assert gateway.call("GET", "/eapi/v1/time").json()["code"] == -2
    finally:
        exchange.run(exchange.sandbox.start_listening("eapi"))
    assert gateway.call("GET", "/eapi/v1/time").status == 200


# --- refusing to start -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PROT", "8000", ("RESENDER_PROT", "no such setting", "did you mean PORT?")),
        ("port", "8000", ("RESENDER_port", "no such setting")),
        ("PORT", "eighty", ("RESENDER_PORT", "'eighty'", "whole number")),
        ("PORT", "65536", ("RESENDER_PORT", "between 0 and 65535")),
        ("WHITELIST", "127.0.0.1,300.1.1.1", ("RESENDER_WHITELIST", "300.1.1.1")),
        ("UPSTREAM_API", "ftp://api.binance.com", ("RESENDER_UPSTREAM_API", "base URL")),
        ("UPSTREAM_API", "https://api.binance.com/api", ("RESENDER_UPSTREAM_API", "base URL")),
        ("STREAM_UM", "https://fstream.binance.com", ("RESENDER_STREAM_UM", "wss://host")),
        ("LOG_LEVEL", "LOUD", ("RESENDER_LOG_LEVEL", "DEBUG, INFO")),
        ("READ_TIMEOUT_S", "-1", ("RESENDER_READ_TIMEOUT_S", "seconds")),
    ],
)
def test_wrong_setting_is_refused_in_one_line(
    tmp_path: Path, name: str, value: str, words: tuple[str, ...]
) -> None:
    program = Program(tmp_path, DATA_DIR=tmp_path / "data", **{name: value})
    program.check_refusal(2, *words)
    assert not (tmp_path / "data").exists()


def test_wrong_argument_is_refused_in_one_line(tmp_path: Path) -> None:
    Program(tmp_path, "--port", "99999", DATA_DIR=tmp_path / "data").check_refusal(2, "--port", "65535")


def test_address_that_is_not_ours_is_told_in_one_line(tmp_path: Path) -> None:
    program = Program(tmp_path, HOST="192.0.2.1", PORT=0, DATA_DIR=tmp_path / "data")
    program.check_refusal(1, "192.0.2.1")


@pytest.mark.parametrize("command", [(), ("whitelist", "list"), ("log", "status"), ("demo",)])
def test_damaged_database_is_told_in_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    data = tmp_path / "data"
    database = (data / "demo" if command == ("demo",) else data) / "resender.db"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"this was a database once\n" * 500)
    program = Program(tmp_path, *command, HOST="127.0.0.1", PORT=0, DATA_DIR=data)
    program.check_refusal(2, "resender.db", "not a SQLite database")
    assert database.read_bytes().startswith(b"this was")


def test_locked_database_is_told_in_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert Program(tmp_path, "whitelist", "list", DATA_DIR=data).wait() == 0
    with closing(sqlite3.connect(data / "resender.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        program = Program(tmp_path, HOST="127.0.0.1", PORT=0, DATA_DIR=data)
        program.check_refusal(1, "resender.db", "locked")
        holder.execute("ROLLBACK")


def test_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = Program(tmp_path, HOST="127.0.0.1", PORT=0, DATA_DIR=tmp_path / "file" / "data")
    program.check_refusal(2, str(tmp_path / "file"))


# --- dying -------------------------------------------------------------------------------------


def test_killed_program_keeps_whitelist_and_log(start: Start, exchange: SandboxThread) -> None:
    gateway = start(WHITELIST="")
    assert gateway.command("whitelist", "add", "127.0.0.1", "--note", "mine").wait() == 0
    assert gateway.command("whitelist", "add", "198.51.100.0/24").wait() == 0
    assert gateway.command("log", "on").wait() == 0
    database = gateway.data / "resender.db"

    def rows() -> list[str]:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            return [path for (path,) in reader.execute("SELECT path FROM request_log ORDER BY id")]

    def logged() -> bool:
        gateway.call("GET", "/api/v3/time?a=1")
        return rows().count("/api/v3/time") >= 3

    until(logged, "calls are in the database")
    before = rows()
    gateway.process.send_signal(signal.SIGKILL)
    assert gateway.process.wait(20) == -signal.SIGKILL

    again = start(WHITELIST="203.0.113.7")
    listed = again.command("whitelist", "list").stdout
    assert "127.0.0.1 " in listed
    assert "mine" in listed
    assert "198.51.100.0/24" in listed
    assert "203.0.113.7" not in listed, "WHITELIST is for the first start only"
    assert rows()[: len(before)] == before
    assert again.call("GET", "/api/v3/time").status == 200
    assert "The request log is on" in again.command("log", "status").stdout


# --- demo --------------------------------------------------------------------------------------


def test_demo_can_be_tried_as_it_says(start_bare: Start) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # and once more after it is gone
        gateway = start_bare("demo", "--port", "0", WHITELIST="")
        printed = until(lambda g=gateway: "Stop it" in g.stdout and g.stdout, "the demo says what to try")
        assert f"serves on {gateway.url} " in printed
        targets = re.findall(r"curl '([^']+)'", printed)
        assert len(targets) >= 4
        for target in targets:
            assert target.startswith(gateway.url + "/")
            answer = gateway.call("GET", target[len(gateway.url) :])
            assert (answer.status, len(answer.body) > 20) == (200, True), target
        assert f"proxy_host='{gateway.url}'" in printed
        assert API_KEY in printed
        assert API_SECRET in printed
        account = gateway.call("GET", signed("/api/v3/account"), KEY_HEADER)
        assert account.status == 200
        assert account.json()["balances"]
        gateway.process.send_signal(number)
        assert gateway.wait() == 0
        gateway.check_healthy()
        assert API_SECRET not in gateway.stderr


# --- secrets -----------------------------------------------------------------------------------


def test_secrets_are_written_nowhere(exchange: SandboxThread, tmp_path: Path, start: Start) -> None:
    log = Program(tmp_path, "log", "on", DATA_DIR=tmp_path / "data", WHITELIST="127.0.0.1")
    assert log.wait() == 0
    gateway = start(READ_TIMEOUT_S="1", ADMIN_PASSWORD="Adm1nPassword!!")
    faults = exchange.sandbox.faults
    headers = {**KEY_HEADER, **STRANGER, "Authorization": "Basic QmFzaWNQYXNzd29yZDE="}
    secrets = {"QmFzaWNQYXNzd29yZDE=", "Adm1nPassword!!"}

    def secret_call(method: str, path: str, query: str = "", body: bytes | None = None) -> int:
        target = signed(path, query)
        secrets.add(target.rpartition("=")[2])
        return gateway.call(method, target, headers, body).status

    order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.001&price=50000"
    assert secret_call("GET", "/api/v3/account") == 200
    assert secret_call("POST", "/api/v3/order", order) == 200
    assert secret_call("POST", "/fapi/fapi/v1/order", order) == 200
    assert secret_call("DELETE", "/api/v3/order", "symbol=BTCUSDT&orderId=1") == 400
    assert secret_call("PATCH", "/api/v3/order") == 405
    assert secret_call("GET", "/nowhere") == 404
    assert secret_call("GET", "/api/v3/../v3/account") == 400
    for kind in ("reset_before", "close_before", "partial_status_line", "reset_mid_body", "truncated_gzip"):
        faults.add(Fault(kind, match="/api/v3/account", times=2))  # type: ignore[arg-type]
        target = signed("/api/v3/account")
        secrets.add(target.rpartition("=")[2])
        try:
            gateway.call("GET", target, headers)
        except (http.client.HTTPException, OSError):
            assert kind == "reset_mid_body"
        faults.clear()
    faults.add(Fault("delay", match="/api/v3/order", seconds=3))
    assert secret_call("POST", "/api/v3/order", order) == 504

    key = gateway.call("POST", "/fapi/v1/listenKey", headers).json()["listenKey"]
    secrets.add(key)
    assert gateway.call("PUT", f"/fapi/v1/listenKey?listenKey={key}", headers).status == 200
    gateway.call("PUT", "/fapi/v1/listenKey", headers, f"listenKey={key}".encode())
    gateway.call("GET", f"/fapi/v1/listenKey/{key}", headers)
    gateway.call("GET", f"/private/ws/{key}", headers)

    signature = "0123456789abcdef" * 4
    secrets.add(signature)
    query = f"?timestamp=1&signature={signature}"
    apikey = f"X-MBX-APIKEY: {API_KEY}\r\n".encode()
    for raw in (
        build("GET", "http://api.binance.com/api/v3/account" + query, tuple(headers.items())),
        build("GET", f"/api/v3/klines?symbol=\xe5\xb8\x81&signature={signature}", tuple(headers.items())),
        build("GET", f"/api/v3/order;signature={signature}", tuple(headers.items())),
        build("GET", f"/api/v3/signature={signature}", tuple(headers.items())),
        build("GET", f"/api/v3/a#signature={signature}", tuple(headers.items())),
        f"GET /api/v3/account{query} HTTP/9.9\r\n".encode() + apikey + b"\r\n",
        f"GET /api/v3/account{query}\r\n".encode() + apikey + b"\r\n",
        f"POST /api/v3/order{query} HTTP/1.1\r\nContent-Length: x\r\n".encode() + apikey + b"\r\n",
    ):
        assert b" 200 " not in asyncio.run(raw_exchange(gateway.port, raw))[:15]

    stranger = http.client.HTTPConnection("127.0.0.1", gateway.port, source_address=("127.0.0.2", 0))
    with closing(stranger):
        stranger.request("GET", signed("/api/v3/account"), headers=headers)
        answer = stranger.getresponse()
        assert (answer.status, b"Forbidden IP: 127.0.0.2" in answer.read()) == (403, True)

    leaver = socket.create_connection(("127.0.0.1", gateway.port))
    faults.add(Fault("delay", match="/dapi/v1/order", seconds=0.3))
    target = signed("/dapi/v1/order", order.replace("BTCUSDT", "BTCUSD_PERP").replace("0.001", "1"))
    leaver.sendall(build("POST", target, tuple(KEY_HEADER.items())))
    until(lambda: exchange.calls("/dapi/v1/order"), "the order is under way")
    leaver.close()
    until(lambda: "went away" in gateway.stderr, "the gateway notices")

    gateway.stop(secrets=secrets | signatures(exchange.calls()))
    # What may be said is said, so the silence above means something.
    assert "/dapi/v1/order" in gateway.stderr
    with closing(sqlite3.connect(gateway.data / "resender.db")) as reader:
        rows = list(reader.execute("SELECT method, path, ip, error FROM request_log"))
    paths = {path for _, path, _, _ in rows}
    assert {"/api/v3/account", "/api/v3/order", "/fapi/fapi/v1/order", "/nowhere"} <= paths
    assert "127.0.0.2" in {ip for _, _, ip, _ in rows}
    assert len(rows) >= 20
    assert not [row for row in rows if "?" in row[1]]


def test_secrets_check_finds_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(b"\x00signature=" + b"f" * 64)
    with pytest.raises(AssertionError):
        assert_no_secrets(tmp_path, ["f" * 64])
    assert_no_secrets(tmp_path, ["e" * 64])
