"""Several processes on one port, as a user starts them: what they answer together, and what becomes of them."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from resender.core.binance.markets import Market
from resender.sandbox import API_KEY, Fault, Sandbox, SandboxConfig
from tests.support.processes import (
    KEY_HEADER,
    PATIENCE_S,
    Answer,
    GatewayProcess,
    SandboxThread,
    Start,
    signed,
    until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.alone]

KLINES = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=20"
PRELOAD = "spot:BTCUSDT@1m"


class Kept:
    """One connection of a client; which worker has it, the kernel decides."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._port = gateway.port
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE_S)

    def get(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
        self._connection.request(method, target, headers=headers or {})
        return Answer(self._connection.getresponse())

    def close(self) -> None:
        self._connection.close()


def workers(gateway: GatewayProcess) -> dict[int, int]:
    """Return the pids of the workers, by number; Redis left out."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            text = (folder / "environ").read_bytes().decode()
        except (OSError, IndexError, ValueError):
            continue
        place = re.search(r'BINANCE_RESENDER_WORKER={"number": (\d+)', text)
        if parent == gateway.process.pid and place is not None:
            found[int(place.group(1))] = int(folder.name)
    return found


def redis_pid(gateway: GatewayProcess) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if "redis-server" in words and str(gateway.data) in words:
            return int(folder.name)
    return 0


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def gauge(gateway: GatewayProcess, line: str) -> float:
    text = gateway.call("GET", "/metrics").body.decode()
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else -1.0


def both(gateway: GatewayProcess) -> list[str]:
    """Return the names that the command tells, once there are two."""
    names = [line.split()[0] for line in gateway.command("nodes").stdout.splitlines()[1:]]
    return names if len(names) == 2 else []


@pytest.fixture
def team(start: Start) -> GatewayProcess:
    gateway = start(WORKERS=2, PRELOAD=PRELOAD, LOG_LEVEL="INFO")
    until(lambda: "2 workers serve on" in gateway.stderr, "all workers are ready")
    until(lambda: gateway.call("GET", KLINES).headers.get("x-resender-cache") == "hit", "a hit")
    until(lambda: gauge(gateway, 'resender_worker_up{worker="1"}') == 1.0, "the workers have met")
    return gateway


@contextmanager
def kept_ones(gateway: GatewayProcess, count: int = 24) -> Iterator[list[Kept]]:
    """Make so many connections that each worker has some."""
    kept = [Kept(gateway) for _ in range(count)]
    try:
        yield kept
    finally:
        for each in kept:
            each.close()


@pytest.fixture
def many(team: GatewayProcess) -> Iterator[list[Kept]]:
    with kept_ones(team) as kept:
        yield kept


def test_every_worker_answers_out_of_the_memory_of_one(
    team: GatewayProcess, many: list[Kept], exchange: SandboxThread
) -> None:
    before = len(exchange.client_calls())
    answers = [each.get(KLINES) for each in many for _ in range(5)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers.get("x-resender-cache") for answer in answers} == {"hit"}
    assert len(exchange.client_calls()) == before
    # What the page and the metrics tell is of all of them.
    rows = until(
        lambda: [row for row in team.call("GET", "/local/status").json()["workers"] if row["calls"]], "calls"
    )
    assert [row["number"] for row in rows] == [1]
    reader_calls = rows[0]["calls"]
    assert 0 < reader_calls < 24 * 5 + 60
    hits = gauge(team, 'resender_cache_answers_total{result="hit"}')
    assert hits >= 24 * 5
    # A packed answer, a miss and an error come through as they are.
    for each in many:
        packed = each.get(KLINES, {"Accept-Encoding": "gzip"})
        assert (packed.headers.get("content-encoding"), packed.body[:2]) == ("gzip", b"\x1f\x8b")
        odd = each.get(KLINES + "&nonsense=1")
        assert odd.headers["x-resender-cache"] == "miss; odd parameter"
    # What all workers forwarded is counted as one.
    assert gauge(team, 'resender_requests_total{market="spot",method="GET",status="400"}') == 24


def test_pages_and_local_answers_are_the_same_on_every_connection(
    team: GatewayProcess, many: list[Kept]
) -> None:
    for each in many:
        assert each.get("/local/spot/klines?symbol=BTCUSDT&interval=1m&limit=5").status == 200
        assert each.get(KLINES).headers.get("x-resender-cache") == "hit"
        assert each.get("/admin/login").status == 200
        assert each.get("/metrics").status == 200
        assert each.get("/healthz").json() == {"status": "ok"}
        assert each.get("/api/v3/time").status == 200
    names = until(lambda: both(team), "both are named")
    assert names[1] == f"{names[0]}/1"


def test_stranger_is_refused_by_all_and_seen_once_removed(team: GatewayProcess, many: list[Kept]) -> None:
    assert {each.get(KLINES).status for each in many} == {200}
    assert team.command("whitelist", "remove", "127.0.0.1").wait() == 0
    until(lambda: {each.get(KLINES).status for each in many} == {403}, "all refuse", 5.0)
    assert {each.get("/local/status").status for each in many} == {403}
    assert team.command("whitelist", "add", "127.0.0.1").wait() == 0
    until(lambda: {each.get(KLINES).status for each in many} == {200}, "all let it in again", 5.0)


def test_one_stream_upstream_serves_the_clients_of_all_workers(
    team: GatewayProcess, exchange: SandboxThread
) -> None:
    async def listen(session: aiohttp.ClientSession) -> str:
        async with session.ws_connect(f"{team.url}/ws/ethusdt@bookTicker") as socket:
            return str((await socket.receive(timeout=PATIENCE_S)).data)

    async def listen_many() -> list[str]:
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(listen(session) for _ in range(16)))

    texts = asyncio.run(listen_many())
    assert all('"s":"ETHUSDT"' in text for text in texts)

    def subscriptions(sandbox: Sandbox) -> int:
        names = [name for one in sandbox.subscriptions(Market.SPOT) for name in one]
        return names.count("ethusdt@bookTicker")

    assert exchange.ask(subscriptions) <= 1


def test_worker_that_is_killed_is_started_again_and_the_others_go_on(
    team: GatewayProcess, many: list[Kept]
) -> None:
    before = workers(team)
    assert set(before) == {0, 1}
    os.kill(before[1], signal.SIGKILL)
    answered = Counter[str]()
    for each in many:
        try:
            answered[str(each.get(KLINES).status)] += 1
        except (OSError, http.client.HTTPException):
            answered["cut"] += 1
    assert answered["200"]
    assert set(answered) <= {"200", "cut"}
    until(lambda: workers(team).get(1, before[1]) != before[1], "it is started again")
    until(lambda: gauge(team, 'resender_worker_up{worker="1"}') == 1.0, "and is there")
    assert "worker 1 has ended (signal SIGKILL)" in team.stderr


def test_collector_that_is_killed_costs_hits_and_nothing_else(team: GatewayProcess, many: list[Kept]) -> None:
    before = workers(team)
    os.kill(before[0], signal.SIGKILL)
    answered = Counter[str]()
    for _ in range(20):
        for each in many:
            try:
                answer = each.get(KLINES)
                answered[f"{answer.status} {answer.headers.get('x-resender-cache')}"] += 1
            except (OSError, http.client.HTTPException):
                each.close()  # it was the collector's; the next try is a new connection
                answered["cut"] += 1
        time.sleep(0.02)
    assert answered["cut"] <= len(many)
    assert all(name.startswith(("200 ", "cut")) for name in answered), answered
    assert any("miss; collector not reached" in name for name in answered), answered
    until(lambda: workers(team).get(0, before[0]) != before[0], "it is started again")
    until(
        lambda: {each.get(KLINES).headers.get("x-resender-cache") for each in many} == {"hit"},
        "hits again on every connection",
    )


def test_collector_that_hangs_is_not_waited_for_and_tells_nothing_old(
    team: GatewayProcess, many: list[Kept]
) -> None:
    collector = workers(team)[0]
    os.kill(collector, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(len(many)) as pool:
            asked = [pool.submit(each.get, KLINES) for each in many]
            time.sleep(4.0)
            mine = [future.result() for future in asked if future.done()]
            assert mine, "a worker that does not hang answers"
            assert {answer.status for answer in mine} == {200}
            assert {answer.headers.get("x-resender-cache") for answer in mine} <= {
                "miss; collector not reached",
                "joined",
                "shared",
            }
            os.kill(collector, signal.SIGCONT)
            late = [future.result() for future in asked]
    finally:
        os.kill(collector, signal.SIGCONT)
    assert {answer.status for answer in late} == {200}
    for answer in late:
        age = answer.headers.get("x-resender-age")
        assert age is None or int(age) < 3500, "what wakes up must not tell old data as new"


def test_account_that_is_watched_is_answered_on_every_connection(
    start: Start, exchange: SandboxThread
) -> None:
    gateway = start(WORKERS=2, LOG_LEVEL="INFO")
    until(lambda: "2 workers serve on" in gateway.stderr, "all workers are ready")
    added = gateway.command("account", "add", "main", "um", "--key-from-calls")
    assert added.wait() == 0, added.stderr
    with kept_ones(gateway, 16) as many:
        query = "symbol=BTCUSDT"

        def ask(each: Kept) -> Any:
            return each.get(signed("/fapi/v1/openOrders", query), KEY_HEADER).headers.get("x-resender-cache")

        until(lambda: {ask(each) for each in many} == {"hit"} or time.sleep(0.5), "hits everywhere", 60.0)
        # Its own writes are seen at once, whatever connection they came by.
        for number, each in enumerate(many):
            name = f"workers-{number}"
            order = (
                f"{query}&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=20000&newClientOrderId={name}"
            )
            placed = each.get(signed("/fapi/v1/order", order), KEY_HEADER, "POST")
            assert placed.status == 200, placed.body
            other = many[(number + 7) % len(many)]
            names = {
                row["clientOrderId"]
                for row in other.get(signed("/fapi/v1/openOrders", query), KEY_HEADER).json()
            }
            assert name in names
        assert API_KEY not in gateway.stderr


def test_heavy_requests_of_the_websocket_api_find_room_in_every_worker(team: GatewayProcess) -> None:
    request = {"id": 1, "method": "depth", "params": {"symbol": "BTCUSDT", "limit": 5000}}

    async def ask(session: aiohttp.ClientSession) -> int:
        async with session.ws_connect(f"{team.url}/ws-api/v3") as socket:
            await socket.send_json(request)
            return int((await socket.receive_json(timeout=PATIENCE_S))["status"])

    async def ask_many() -> list[int]:
        async with aiohttp.ClientSession() as session:
            return [await ask(session) for _ in range(12)]

    assert set(asyncio.run(ask_many())) == {200}


def test_connections_that_orders_may_come_by_unseen_end_when_an_account_is_watched(
    team: GatewayProcess,
) -> None:
    async def ended(socket: aiohttp.ClientWebSocketResponse) -> bool:
        try:
            message = await socket.receive(timeout=5.0)
        except asyncio.TimeoutError:
            return False
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012), message
        return True

    async def go() -> list[bool]:
        async with aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(f"{team.url}/ws-fapi/v1") for _ in range(12)]
            added = await asyncio.to_thread(team.command, "account", "add", "later", "um", "--key-from-calls")
            assert added.wait() == 0, added.stderr
            found = await asyncio.gather(*(ended(socket) for socket in sockets))
            for socket in sockets:
                await socket.close()
            return list(found)

    # Those of the other worker; the collector sees its own.
    assert set(asyncio.run(go())) == {True, False}


def test_weight_of_the_address_is_never_exceeded_by_all_workers_together(
    start_bare: Start,
) -> None:
    with SandboxThread(SandboxConfig(weight_limits={"spot": 600})) as exchange:
        gateway = start_bare(
            WORKERS=2, CACHE_ENABLED="false", WEIGHT_LIMIT_SPOT=600, LOG_LEVEL="INFO", **exchange.settings()
        )
        use_all(gateway, exchange)
        gateway.stop()


def use_all(gateway: GatewayProcess, exchange: SandboxThread) -> None:
    until(lambda: "2 workers serve on" in gateway.stderr, "all workers are ready")
    if (left_s := 60.0 - time.time() % 60.0) < 15.0:
        time.sleep(left_s + 1.0)
    minute = time.time() // 60
    mark = len(exchange.calls("/api/v3/depth"))

    def hammer(seed: int) -> Counter[int]:
        one = Kept(gateway)
        told = Counter[int]()
        for number in range(60):
            told[one.get(f"/api/v3/depth?symbol=BTCUSDT&limit={seed * 6 + number % 6 + 1}").status] += 1
        one.close()
        return told

    with ThreadPoolExecutor(8) as pool:
        told = sum(pool.map(hammer, range(8)), Counter[int]())
    sent = len(exchange.calls("/api/v3/depth")) - mark
    assert time.time() // 60 == minute, "the minute ended meanwhile"
    assert set(told) == {200, 429}
    # 5 each; a tenth is kept for orders, and 3 % for what arrives late.
    assert 0.9 * 600 * 0.9 * 0.97 <= sent * 5 <= 600 * 0.9


def test_all_end_together_and_leave_nothing(team: GatewayProcess) -> None:
    pids = [*workers(team).values(), redis_pid(team)]
    assert len(pids) == 3
    assert all(pids)
    sockets = [path.name for path in team.data.iterdir() if path.is_socket()]
    assert {"ask.sock", "crew.sock", "redis.sock"} <= set(sockets)
    team.stop()
    assert not [pid for pid in pids if is_alive(pid)]
    assert not {path.name for path in team.data.iterdir() if path.is_socket()} - {"redis.sock"}


def test_parent_that_is_killed_takes_all_with_it(team: GatewayProcess) -> None:
    pids = [*workers(team).values(), redis_pid(team)]
    team.process.kill()
    team.process.wait(PATIENCE_S)
    until(lambda: not [pid for pid in pids if is_alive(pid)], "the others end too")


@pytest.mark.parametrize("is_told_twice", [False, True], ids=["by the parent", "by systemd too"])
def test_orders_in_flight_are_answered_before_all_end(
    team: GatewayProcess, exchange: SandboxThread, is_told_twice: bool
) -> None:
    slow = exchange.ask(
        lambda sandbox: sandbox.faults.add(Fault("delay", match="order", seconds=1.5, times=None))
    )
    order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=20000"
    with kept_ones(team, 12) as kept, ThreadPoolExecutor(len(kept)) as pool:
        asked = [pool.submit(each.get, signed("/api/v3/order", order), KEY_HEADER, "POST") for each in kept]
        time.sleep(0.6)
        if is_told_twice:  # a service's processes get the signal all together
            for pid in (*workers(team).values(), redis_pid(team)):
                os.kill(pid, signal.SIGTERM)
        team.stop()
        assert {future.result().status for future in asked} == {200}
    exchange.ask(lambda sandbox: sandbox.faults.remove(slow))


def test_two_gateways_do_not_share_a_port_by_mistake(team: GatewayProcess, tmp_path: Path) -> None:
    other = team.command(DATA_DIR=tmp_path / "other", PORT=team.port, WORKERS=2)
    other.check_refusal(2, "cannot listen on 127.0.0.1 port", "in use")


def test_without_redis_one_process_serves_and_says_why(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    gateway = start(WORKERS=3, LOG_LEVEL="INFO")
    assert "WORKERS=3 needs Redis: install redis-server" in gateway.stderr
    assert gateway.call("GET", "/api/v3/time").status == 200
    assert not workers(gateway)
