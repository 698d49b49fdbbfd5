"""The usual mistakes of a server's owner, made as they are made: each ends in one clear line and a fitting exit code.

2 means that it cannot work by itself, 1 that it may later. Which test has which mistake; those without a file are here.

Port in use:
    tests/e2e/test_service_exits.py::test_port_in_use
    tests/e2e/test_workers.py::test_two_gateways_do_not_share_a_port_by_mistake
    test_port_in_use_names_the_setting_and_what_helps
    test_port_in_use_is_one_line_for_several_workers
    test_port_in_use_beside_the_want_of_redis
    test_port_below_1024_is_told
Address that is not the machine's:
    tests/e2e/test_process.py::test_address_that_is_not_ours_is_told_in_one_line
No whitelist entry:
    tests/e2e/test_commands.py::test_empty_whitelist_refuses_even_this_machine
    tests/component/test_access.py::test_stranger_is_refused_on_every_path_known_or_not
    test_every_refused_call_has_a_hint_that_helps
    test_hint_behind_a_proxy_is_about_the_client
    test_admin_pages_hint_at_their_own_list
DATA_DIR that cannot be written:
    tests/e2e/test_process.py::test_folder_that_cannot_be_made_is_told_in_one_line
    tests/unit/test_lock.py::test_folder_that_may_not_be_written_is_told
    tests/unit/store/test_connection.py::test_read_only_directory_is_one_clear_line
    test_data_folder_of_somebody_else_is_told
    test_data_folder_that_is_a_file_is_told
    test_data_folder_on_a_read_only_disk_is_told
    test_data_folder_too_deep_for_workers_is_told
DATA_DIR that is full:
    tests/component/store/test_store_faults_running.py::test_full_disk_while_running_recovers_by_itself
    test_full_disk_at_the_start_may_work_later
    test_disk_without_room_for_a_file_may_work_later
    test_disk_that_fills_while_serving_is_said_once_and_costs_no_call
Clock that is wrong:
    tests/component/test_doctor.py::test_clock_that_is_off_is_a_warning
    tests/unit/alerts/test_watching.py::test_clock_that_is_off_for_certain_is_told
    test_wrong_clock_is_told_by_the_exchange_and_the_doctor
    test_wrong_clock_is_told_by_the_gateway_itself
DNS that fails:
    tests/component/test_doctor.py::test_network_trouble_is_told_by_its_stage
    tests/e2e/test_service_words.py::test_unreachable_upstream_is_said_once_and_not_with_every_call
    tests/e2e/test_service_dns.py::test_stopped_while_names_hang
Blocked region:
    tests/e2e/test_commands.py::test_doctor_says_what_is_wrong_with_each_upstream
    test_blocked_region_passes_and_is_said_once
    test_what_lasts_is_not_said_at_each_try
Root first, the service later:
    tests/unit/test_deploy.py::test_wrapper_runs_the_command_as_the_services_user_and_keeps_its_words
    tests/e2e/test_service_words.py::test_every_change_names_its_database_and_warns_if_the_gateway_has_another
    test_what_root_has_made_is_told_and_helped_by_chown
    test_root_gives_nothing_away_in_a_folder_of_the_service
    test_backup_of_what_root_has_made_is_told
    test_settings_file_only_root_may_read_is_told
    test_program_files_only_root_may_read_are_told
Python that is too old:
    tests/unit/test_deploy.py::test_make_says_which_python_it_needs_and_makes_nothing
    test_old_python_is_told
    test_really_old_python_is_told
    test_module_on_an_old_python_is_told
Environment or packages missing:
    tests/e2e/test_service_exits.py::test_missing_package_is_told_kindly
    tests/unit/test_deploy.py::test_make_names_the_package_that_is_missing_and_leaves_nothing_half_made
    tests/unit/test_deploy.py::test_make_makes_a_broken_environment_anew
    tests/unit/test_deploy.py::test_wrapper_says_in_one_line_what_is_missing
    test_python_without_packages_is_told
    test_module_without_packages_is_told
    test_packages_that_cannot_be_fetched_are_told
Two gateways on one DATA_DIR:
    tests/e2e/test_service_exits.py::test_second_gateway_on_the_same_folder
    test_second_gateway_with_several_workers
Newer database:
    tests/e2e/test_service_exits.py::test_database_of_a_newer_program
    test_newer_database_is_one_line_for_several_workers
    test_newer_database_of_a_server
Database server that is down:
    tests/e2e/test_service_exits.py::test_database_server_out_of_reach
    tests/component/store/test_store_faults_running.py::test_server_that_drops_the_connection_is_connected_to_again
    test_database_server_out_of_reach_of_several_workers
Wrong setting:
    tests/e2e/test_process.py::test_wrong_setting_is_refused_in_one_line
    tests/e2e/test_service_exits.py::test_wrong_setting
    tests/e2e/test_nodes.py::test_wrong_settings_are_one_clear_line
    test_wrong_setting_is_one_line_for_several_workers
Stopped while it still starts:
    tests/e2e/test_service.py::test_gateway_that_is_stopped_while_it_starts_ends_well
    test_several_workers_that_are_stopped_while_they_start_end_well
Certificate of TLS_CERT:
    test_certificate_that_cannot_be_shown_is_told
    test_certificate_the_service_may_not_read_is_told
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import resender.core.alerts.kinds
from resender.sandbox import API_KEY, API_SECRET, Fault, SandboxConfig, sign
from tests.support import mistakes
from tests.support.authority import AUTHORITY, Authority
from tests.support.client import build, parse
from tests.support.client import exchange as raw_exchange
from tests.support.mistakes import NOBODY
from tests.support.postgres_server import postgres_server
from tests.support.processes import (
    KEY_HEADER,
    ROOT,
    GatewayProcess,
    Program,
    SandboxThread,
    Start,
    environment,
    signed,
    until,
)
from tests.support.service import Service, ServiceProgram, customised

pytestmark = pytest.mark.e2e

# A gateway that is not to come up; were it to, it would reach nobody.
_NOWHERE: dict[str, Any] = {
    "HOST": "127.0.0.1",
    "PORT": 0,
    "CACHE_ENABLED": "false",
    "UPSTREAM_API": "https://127.0.0.1:9",
}
_NOWHERE |= {f"UPSTREAM_{name}": "off" for name in ("FAPI", "DAPI", "EAPI", "PAPI", "DATA")}
_PIP = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"


def refused(
    folder: Path, *command: str, more: Mapping[str, str] | None = None, **settings: Any
) -> ServiceProgram:
    values: dict[str, Any] = {**_NOWHERE, "DATA_DIR": folder / "data", **settings}
    return ServiceProgram(folder, *command, more=more, **values)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder any user may enter, with a data folder for everybody in it."""
    with mistakes.open_folder() as folder:
        (folder / "data").mkdir()
        (folder / "data").chmod(0o777)
        yield folder


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def needs_redis() -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")


def test_table_above_names_tests_that_exist() -> None:
    def names(path: Path) -> set[str]:
        tree = ast.parse(path.read_text("utf-8"))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {node.name for node in ast.walk(tree) if isinstance(node, functions)}

    lines = [line for line in (__doc__ or "").splitlines() if re.search(r" \S*test_\w+$", line)]
    told = [line.split()[-1].rpartition("::") for line in lines]
    assert len(told) > 60
    for file, _, name in told:
        assert name in names(ROOT / file if file else Path(__file__)), f"{file}::{name}"
    mine = {name for name in names(Path(__file__)) if name.startswith("test_")}
    assert mine - {name for file, _, name in told if not file} == {"test_table_above_names_tests_that_exist"}


# --- port in use -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PORT", "ADMIN_PORT"])
def test_port_in_use_names_the_setting_and_what_helps(tmp_path: Path, taken_port: int, name: str) -> None:
    settings: dict[str, Any] = {name: taken_port}
    line = refused(tmp_path, **settings).check_refusal(2, f"127.0.0.1 port {taken_port}", "in use")
    assert line.endswith(f"; stop the program that listens there, or choose another {name}")
    if name == "PORT":
        given = refused(tmp_path, "--port", str(taken_port)).check_refusal(2)
        assert refused(tmp_path, "demo", PORT=taken_port).check_refusal(2) == given == line


@pytest.mark.parametrize("name", ["PORT", "ADMIN_PORT"])
def test_port_in_use_is_one_line_for_several_workers(tmp_path: Path, taken_port: int, name: str) -> None:
    needs_redis()
    settings: dict[str, Any] = {name: taken_port, "WORKERS": 2}
    program = refused(tmp_path, **settings)
    program.check_refusal(2, f"127.0.0.1 port {taken_port}", "in use", f"choose another {name}")


@pytest.mark.parametrize("name", ["PORT", "ADMIN_PORT"])
def test_port_in_use_beside_the_want_of_redis(
    tmp_path: Path, taken_port: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings: dict[str, Any] = {name: taken_port, "WORKERS": 2}
    program = refused(tmp_path, **settings)
    assert program.wait() == 2, program.stderr
    # Two mistakes are two lines.
    want, line = program.lines
    assert want.endswith(
        "WORKERS=2 needs Redis: install redis-server (apt-get install redis-server) or set REDIS_URL; "
        "one process serves"
    )
    assert line.startswith(f"error: cannot listen on 127.0.0.1 port {taken_port}: ")
    assert line.endswith(f"choose another {name}")


def test_port_below_1024_is_told(open_folder: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("on this machine every user may listen on every port")
    program = refused(open_folder, more=mistakes.variables(open_folder, user=NOBODY), PORT=81)
    program.check_refusal(2, "port 81: Permission denied", "CAP_NET_BIND_SERVICE", "choose another PORT")


# --- no whitelist entry ------------------------------------------------------------------------

_UPGRADE = (
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
)  # fmt: skip
_DOORS: dict[str, bytes] = {
    "spot": build("GET", "/api/v3/time"),
    "an order": build("POST", "/api/v3/order", body=b"symbol=BTCUSDT"),
    "futures": build("DELETE", "/fapi/v1/order?symbol=BTCUSDT"),
    "a market that is off": build("GET", "/papi/v1/ping"),
    "what is not there": build("GET", "/nothing/here"),
    "bulk files": build("GET", "/data.binance.vision/data/x.zip"),
    "a local answer": build("GET", "/local/spot/klines?symbol=BTCUSDT&interval=1m"),
    "the status": build("GET", "/local/status"),
    "metrics": build("GET", "/metrics"),
    "a stream": build("GET", "/ws/btcusdt@trade", _UPGRADE),
    "streams together": build("GET", "/stream?streams=btcusdt@trade", _UPGRADE),
    "futures streams": build("GET", "/market/ws/btcusdt@trade", _UPGRADE),
    "the WebSocket API": build("GET", "/ws-api/v3", _UPGRADE),
    "orders over a WebSocket": build("GET", "/ws-fapi/v1", _UPGRADE),
    "a tunnel": build("CONNECT", "api.binance.com:443"),
    "a name of our own": build("GET", "/fapi/v1/time", (("Host", "fapi.gw.example"),)),
    "a proxy's target": build("GET", "http://api.binance.com/api/v3/time"),
}


def answer_to(gateway: GatewayProcess, request: bytes) -> tuple[int, dict[str, object]]:
    reply = parse(asyncio.run(raw_exchange(gateway.port, request)))
    return reply.status, reply.json()


def test_every_refused_call_has_a_hint_that_helps(start: Start, exchange: SandboxThread) -> None:
    gateway = start(
        WHITELIST="203.0.113.1", HOST_SUFFIX="gw.example", PROXY_HOSTS="api.binance.com", UPSTREAM_PAPI="off"
    )
    before = len(exchange.client_calls())
    hints = set()
    for door, request in _DOORS.items():
        status, body = answer_to(gateway, request)
        assert (status, body["code"], body["msg"]) == (403, -1, "Forbidden IP: 127.0.0.1"), door
        assert isinstance(body["data"], dict)
        hints.add(body["data"]["hint"])
    (hint,) = hints
    assert "on the page Whitelist" in hint
    assert "TRUSTED_PROXIES" in hint, "loopback is often a proxy in front"
    assert len(exchange.client_calls()) == before
    # What it says can be done as it stands there.
    (words,) = re.findall(r"`(whitelist add [^`]+)`", hint)
    assert gateway.command(*words.split()).wait() == 0
    until(lambda: gateway.call("GET", "/api/v3/time").status == 200, "the address may call", 3.0)


def test_hint_behind_a_proxy_is_about_the_client(start: Start) -> None:
    gateway = start(WHITELIST="203.0.113.1", TRUSTED_PROXIES="127.0.0.1")

    def hint(*headers: tuple[str, str]) -> str:
        status, body = answer_to(gateway, build("GET", "/api/v3/time", headers))
        assert status == 403
        assert isinstance(body["data"], dict)
        return str(body["data"]["hint"])

    for address in ("198.51.100.7", "2001:db8::7"):
        assert f"`whitelist add {address}`" in hint(("X-Forwarded-For", address))
        assert "TRUSTED_PROXIES" not in hint(("X-Forwarded-For", address))
    assert "names no readable address" in hint(("X-Forwarded-For", "nobody"))


def test_admin_pages_hint_at_their_own_list(start: Start) -> None:
    gateway = start(ADMIN_WHITELIST="203.0.113.1")
    for method, path in (("GET", "/admin"), ("GET", "/admin/api/me"), ("POST", "/admin/api/login")):
        answer = gateway.call(method, path, {"Content-Type": "application/json"}, b"{}")
        assert (answer.status, answer.json()["msg"]) == (403, "Forbidden IP: 127.0.0.1")
        assert "ADMIN_WHITELIST" in answer.json()["data"]["hint"]


# --- DATA_DIR ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "",
        "demo",
        "upgrade --check",
        "whitelist list",
        "whitelist add 192.0.2.1",
        "user list",
        "log on",
    ],
)
def test_data_folder_of_somebody_else_is_told(open_folder: Path, command: str) -> None:
    if command.startswith("upgrade"):  # it makes none
        assert Program(open_folder, "whitelist", "list", DATA_DIR=open_folder / "data").wait() == 0
    (open_folder / "data").chmod(0o755)
    more = mistakes.variables(open_folder, user=NOBODY)
    line = refused(open_folder, *command.split(), more=more).check_refusal(2, str(open_folder / "data"))
    assert f"uid {NOBODY}" in line


def test_data_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    refused(tmp_path).check_refusal(2, f"{tmp_path / 'data'} is no folder", "choose another DATA_DIR")


def test_data_folder_on_a_read_only_disk_is_told(open_folder: Path) -> None:
    disk = open_folder / "data"
    for user in (0, NOBODY):
        more = mistakes.variables(open_folder, user=user, disk=disk, options="size=1m,ro")
        line = refused(open_folder, more=more).check_refusal(2, str(disk), "Read-only file system")
        assert "choose another DATA_DIR" in line


def test_data_folder_too_deep_for_workers_is_told(tmp_path: Path) -> None:
    needs_redis()
    folder = tmp_path / ("d" * 120)
    refused(tmp_path, WORKERS=2, DATA_DIR=folder).check_refusal(
        2, "too long for a socket", "shorter DATA_DIR"
    )


def full_disk(folder: Path, *, holds_database: bool) -> dict[str, str]:
    """Have the program see a data folder without a free byte."""
    if not holds_database:
        return mistakes.variables(folder, disk=folder / "data", options="size=4k", is_full=True)
    assert Program(folder, "whitelist", "add", "127.0.0.1", DATA_DIR=folder / "old").wait() == 0
    return mistakes.variables(
        folder, disk=folder / "data", options="size=1m", holds=folder / "old", is_full=True
    )


@pytest.mark.parametrize("holds_database", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("command", ["", "whitelist add 192.0.2.1"])
def test_full_disk_at_the_start_may_work_later(open_folder: Path, command: str, holds_database: bool) -> None:
    more = full_disk(open_folder, holds_database=holds_database)
    line = refused(open_folder, *command.split(), more=more).check_refusal(1, "full")
    assert str(open_folder / "data" / "resender.db") in line
    assert "must be readable" not in line


@pytest.mark.parametrize(("files", "holds_database"), [(1, False), (3, False), (3, True)])
def test_disk_without_room_for_a_file_may_work_later(
    open_folder: Path, files: int, holds_database: bool
) -> None:
    # As XFS and Btrfs are when they are full, and every disk with too many small files.
    if holds_database:
        assert Program(open_folder, "whitelist", "add", "127.0.0.1", DATA_DIR=open_folder / "old").wait() == 0
        (open_folder / "old" / "gateway.lock").touch()
    more = mistakes.variables(
        open_folder,
        disk=open_folder / "data",
        options=f"size=4m,nr_inodes={files}",
        holds=open_folder / "old" if holds_database else None,
    )
    refused(open_folder, more=more).check_refusal(1, str(open_folder / "data"), "full")


def test_disk_that_fills_while_serving_is_said_once_and_costs_no_call(
    open_folder: Path, exchange: SandboxThread
) -> None:
    disk = open_folder / "data"
    more = mistakes.variables(open_folder, disk=disk, options="size=2m")
    settings: dict[str, Any] = {**exchange.settings(), "LOG_LEVEL": "INFO"}
    gateway = Service(open_folder, more=more, **settings)
    try:

        def beside(*words: str) -> ServiceProgram:
            enter = mistakes.variables(open_folder, enter=gateway.process.pid)
            return ServiceProgram(open_folder, *words, more=enter, DATA_DIR=disk)

        def metric(name: str) -> float:
            text = gateway.call("GET", "/metrics").body.decode()
            return sum(map(float, re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)))

        def rows(result: str) -> float:
            return metric(f'resender_log_rows_total{{result="{result}"}}')

        made = 0

        def call() -> None:
            nonlocal made
            assert gateway.call("GET", "/api/v3/time").status == 200
            made += 1

        assert beside("log", "on").wait() == 0

        def is_logged() -> bool:
            call()
            return rows("written") > 0

        until(is_logged, "calls are logged", pause_s=0.1)
        until(lambda: metric("resender_log_queued") == 0, "they are written")
        before, made = rows("written"), 0
        filler = mistakes.seen_by(gateway.process.pid, disk) / "filler"
        mistakes.fill(filler)

        def is_said() -> list[str]:
            call()
            return gateway.lines_with("the disk is full")

        until(is_said, "it notices", pause_s=0.05)
        for _ in range(50):
            call()
        (line,) = [line for line in gateway.lines if " ERROR " in line]
        assert f"The database {disk / 'resender.db'} cannot grow: the disk is full." in line
        assert "Requests are still served; writing goes on when the database works again." in line
        beside("whitelist", "add", "192.0.2.1").check_refusal(1, "the disk is full")
        ready = gateway.call("GET", "/readyz")
        assert (ready.status, ready.json()["checks"]["store"]["ok"]) == (503, False)
        assert "the disk is full" in ready.json()["checks"]["store"]["detail"]
        filler.unlink()
        until(lambda: gateway.lines_with("works again"), "it goes on")
        # What has waited for too long is not there, but counted.
        until(lambda: rows("written") - before + rows("dropped") >= made, "all rows are accounted for")
        told = beside("log", "status")
        assert told.wait() == 0, told.stderr
        (count,) = re.findall(r"it holds (\d+) rows", told.stdout)
        assert int(count) >= made - rows("dropped")
        assert beside("whitelist", "add", "192.0.2.1").wait() == 0
        assert len([line for line in gateway.lines if " ERROR " in line]) == 1
        gateway.stop()
    finally:
        gateway.kill()


# --- the clock ---------------------------------------------------------------------------------

_OFF_MS = 5000


@pytest.fixture
def late_exchange() -> Iterator[SandboxThread]:
    """An exchange whose clock is right, as seen from a machine that is five seconds ahead."""
    with SandboxThread(SandboxConfig(clock_ms=lambda: int(time.time() * 1000) - _OFF_MS)) as thread:
        yield thread


def test_wrong_clock_is_told_by_the_exchange_and_the_doctor(
    tmp_path: Path, late_exchange: SandboxThread
) -> None:
    gateway = GatewayProcess(tmp_path, **late_exchange.settings())
    try:
        answer = gateway.call("GET", signed("/api/v3/account"), KEY_HEADER)
        assert (answer.status, answer.json()["code"]) == (400, -1021)
        # A client whose clock is right may well have its orders sent by a gateway whose clock is not.
        query = f"timestamp={time.time_ns() // 1_000_000 - _OFF_MS}"
        target = f"/api/v3/account?{query}&signature={sign(API_SECRET, query.encode())}"
        assert gateway.call("GET", target, {"X-MBX-APIKEY": API_KEY}).status == 200
        doctor = gateway.command("doctor")
        assert doctor.wait() == 0, "each upstream answers"
        told = [line for line in doctor.stdout.splitlines() if "this machine's clock is off" in line]
        assert len(told) == 4
        assert all(re.search(r" \+(49|50)\d\d ", line) for line in told), told
        gateway.stop(secrets=[API_KEY, API_SECRET])
    finally:
        gateway.kill()


def test_wrong_clock_is_told_by_the_gateway_itself(tmp_path: Path, late_exchange: SandboxThread) -> None:
    # Half a minute is not waited for.
    kinds = resender.core.alerts.kinds.__name__
    soon = f"import dataclasses, sys\nsys.path.insert(0, {str(ROOT)!r})\nimport {kinds} as kinds\n"
    soon += "kinds.KINDS['clock'] = dataclasses.replace(kinds.KINDS['clock'], hold_s=0.0)\n"
    settings: dict[str, Any] = {**late_exchange.settings(), "PRELOAD": "spot:BTCUSDT@1m", "LOG_LEVEL": "INFO"}
    gateway = Service(tmp_path, more=customised(tmp_path, soon), **settings)
    try:
        assert gateway.call("GET", "/api/v3/time").status == 200
        until(lambda: gateway.lines_with("alert: This machine's clock is "), "it is said", 6.0)
        (line,) = gateway.lines_with("clock")
        assert re.search(r"clock is [3-5]\d\d\d ms off\. .*: check the time service\.$", line)
        text = gateway.call("GET", "/metrics").body.decode()
        (off_s,) = re.findall(r"^resender_clock_off_seconds (\S+)$", text, re.MULTILINE)
        assert 3.0 <= float(off_s) <= 5.1
    finally:
        gateway.kill()


# --- the network -------------------------------------------------------------------------------

_BLOCKED = '{"code":0,"msg":"Service unavailable from a restricted location."}'


@pytest.fixture
def blocking_exchange() -> Iterator[SandboxThread]:
    with SandboxThread() as thread:
        fault = Fault("status", times=None, status=451, body=_BLOCKED)
        thread.ask(lambda sandbox: sandbox.faults.add(fault))
        yield thread


def test_blocked_region_passes_and_is_said_once(tmp_path: Path, blocking_exchange: SandboxThread) -> None:
    settings: dict[str, Any] = {**blocking_exchange.settings(), "LOG_LEVEL": "INFO"}
    gateway = Service(tmp_path, **settings)
    try:
        for _ in range(3):
            for method, target in (("GET", "/api/v3/time"), ("POST", signed("/api/v3/order"))):
                answer = gateway.call(method, target, KEY_HEADER)
                assert (answer.status, answer.body.decode()) == (451, _BLOCKED)
                assert "x-resender-error" not in answer.headers, "it is Binance's own"
        until(lambda: gateway.lines_with("alert:"), "it is said")
        (line,) = [line for line in gateway.lines if " INFO " not in line]
        assert "Binance does not serve this machine's country (spot, 451)." in line
        assert line.endswith("Use another egress or move the server.")
        ready = gateway.call("GET", "/readyz")
        assert ready.status == 503
        assert "move the server or use another egress" in ready.json()["checks"]["upstreams"]["detail"]
        gateway.stop()
    finally:
        gateway.kill()


def test_what_lasts_is_not_said_at_each_try(tmp_path: Path, blocking_exchange: SandboxThread) -> None:
    settings: dict[str, Any] = {**blocking_exchange.settings(), "PRELOAD": "spot:BTCUSDT@1m"}
    gateway = Service(tmp_path, **settings)
    try:
        until(lambda: len(blocking_exchange.calls("/api/v3/time")) >= 3, "it has tried three times")
        assert len(gateway.lines_with("symbols or time cannot be read")) == 1
    finally:
        gateway.kill()


# --- root first, the service later -------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "workers"),
    [
        ("all", 1),
        ("what it served with", 1),
        ("what it served with", 2),
        ("the database", 1),
        ("the database", 2),
    ],
)
def test_what_root_has_made_is_told_and_helped_by_chown(open_folder: Path, made: str, workers: int) -> None:
    more = mistakes.variables(open_folder, user=NOBODY)
    if workers > 1:
        needs_redis()
    data = open_folder / "data"
    if made == "all":  # `sudo python run.py`, which makes the folder as well
        data.rmdir()
    else:  # the folder is the service's, as StateDirectory makes it
        data.chmod(0o700)
        os.chown(data, NOBODY, NOBODY)
    if made == "the database":
        assert Program(open_folder, "whitelist", "add", "127.0.0.1", DATA_DIR=data).wait() == 0
    else:
        GatewayProcess(open_folder).stop()
    assert data.stat().st_mode & 0o777 == 0o700
    program = refused(open_folder, more=more, WORKERS=workers)
    line = program.check_refusal(2, str(data), f"uid {NOBODY}")
    if made == "all":
        assert "(chown -R), or choose another DATA_DIR" in line
    else:
        assert "must be readable and writable for this user" in line
        refused(open_folder, "whitelist", "list", more=more).check_refusal(2, f"uid {NOBODY}")
    mistakes.give(data, NOBODY)
    again = Service(open_folder, more=more, WORKERS=workers)
    try:
        if workers > 1:
            until(lambda: "2 workers serve on" in again.stderr, "all workers are ready")
        assert again.call("GET", "/api/v3/time").status == 502, "it may call, and nobody is there"
        again.stop()
    finally:
        again.kill()


def test_root_gives_nothing_away_in_a_folder_of_the_service(open_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    mine = open_folder / "mine"
    mine.write_text("for root only\n")
    mine.chmod(0o600)
    os.chown(open_folder / "data", NOBODY, NOBODY)
    (open_folder / "data" / "gateway.lock").symlink_to(mine)
    program = refused(open_folder, PORT="1", HOST="192.0.2.1")
    assert program.wait() != 0
    assert (mine.read_text(), mine.stat().st_uid, program.lines[1:]) == ("for root only\n", 0, [])
    assert "gateway.lock" in program.lines[0]


def test_backup_of_what_root_has_made_is_told(open_folder: Path) -> None:
    assert Program(open_folder, "whitelist", "add", "127.0.0.1", DATA_DIR=open_folder / "data").wait() == 0
    program = refused(
        open_folder,
        "backup",
        str(open_folder / "data" / "b.tgz"),
        more=mistakes.variables(open_folder, user=NOBODY),
    )
    program.check_refusal(2, "resender.db", "readable", f"uid {NOBODY}")


@pytest.mark.parametrize("command", ["", "whitelist list", "doctor"])
def test_settings_file_only_root_may_read_is_told(open_folder: Path, command: str) -> None:
    mine = open_folder / "settings.py"
    mine.write_text("PORT = 0\n")
    mine.chmod(0o600)
    more = mistakes.variables(open_folder, user=NOBODY, over={ROOT / "settings.py": mine})
    program = refused(open_folder, *command.split(), more=more)
    program.check_refusal(2, f"{ROOT / 'settings.py'} may not be read by this user", "chmod o+r")


@pytest.mark.parametrize("what", ["program", "package"])
def test_program_files_only_root_may_read_are_told(open_folder: Path, what: str) -> None:
    # Cloned, or installed by pip, with `umask 077`.
    import peewee

    file = ROOT / "resender" / "config.py" if what == "program" else Path(peewee.__file__)
    mine = open_folder / file.name
    shutil.copy(file, mine)
    mine.chmod(0o600)
    program = refused(open_folder, more=mistakes.variables(open_folder, user=NOBODY, over={file: mine}))
    assert program.wait() == 2, program.stderr
    assert "Traceback" not in program.stderr
    assert file.name in program.lines[0]


# --- Python and packages -----------------------------------------------------------------------


def python(
    *words: str, more: Mapping[str, str] | None = None, program: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder of the program; without its packages with `-S`."""
    return subprocess.run(
        [program or sys.executable, *words],
        cwd=ROOT,
        env={**environment(_NOWHERE), **(more or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


_OLD = "import sys\nsys.version_info = (3, 9, 2, 'final', 0)\nsys.version = '3.9.2 (default)'\n"
_NEEDS = "Binance Resender needs Python 3.10 or newer; this is "


@pytest.mark.parametrize("command", ["", "whitelist list", "--version", "--help"])
def test_old_python_is_told(tmp_path: Path, command: str) -> None:
    program = refused(tmp_path, *command.split(), more=customised(tmp_path, _OLD))
    assert (program.wait(), program.lines, program.stdout) == (2, [f"{_NEEDS}3.9.2"], "")


def found_python(version: str) -> str:
    """Find an interpreter that is really old."""
    places = (Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")
    found = next((str(path) for path in places), None) or shutil.which(f"python{version}")
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no Python {version} here")
    return found


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.8", "3.9"])
def test_really_old_python_is_told(version: str) -> None:
    result = python("-B", "run.py", more={"PYTHONWARNINGS": ""}, program=found_python(version))
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(_NEEDS + version)


def test_module_on_an_old_python_is_told(tmp_path: Path) -> None:
    # Without what is new since then.
    old = _OLD + "import dataclasses\nreal = dataclasses.dataclass\n"
    old += "dataclasses.dataclass = lambda cls=None, *, frozen=False: real(cls, frozen=frozen)\n"
    result = python("-m", "resender", "--version", more=customised(tmp_path, old))
    assert (result.returncode, result.stderr) == (2, f"{_NEEDS}3.9.2\n")


@pytest.mark.parametrize("command", ["", "whitelist list", "doctor", "demo"])
def test_python_without_packages_is_told(command: str) -> None:
    result = python("-S", "run.py", *command.split())
    assert (result.returncode, result.stdout) == (2, "")
    # What helps is a line of its own, to be copied.
    what, cure = result.stderr.splitlines()
    assert re.fullmatch(
        r"The package '\w+' is missing\. Start with `make run`, or install what is needed:", what
    )
    assert cure == f"  {_PIP} && .venv/bin/python run.py"


def test_module_without_packages_is_told() -> None:
    result = python("-S", "-m", "resender")
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "is missing" in result.stderr.splitlines()[0]


def test_packages_that_cannot_be_fetched_are_told(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed: apt-get install make")
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    inside = tmp_path / ".venv" / "bin" / "python"
    inside.parent.mkdir(parents=True)
    # What pip says, as quiet as it is here, where it reaches no index.
    said = "ERROR: No matching distribution found for tornado"
    inside.write_text(f'#!/bin/sh\ncase "$*" in *"pip install"*) echo "{said}" >&2; exit 1 ;; esac\n')
    inside.chmod(0o755)
    result = subprocess.run(
        ["make", "--no-print-directory", "run"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    own = [line for line in result.stderr.splitlines() if line != said and not line.startswith("make: ")]
    assert len(own) == 1, result.stderr
    assert "network" in own[0]


# --- two gateways, newer databases, database servers -------------------------------------------


def test_second_gateway_with_several_workers(start: Start, tmp_path: Path) -> None:
    needs_redis()
    first = start(WORKERS=2, LOG_LEVEL="INFO")
    until(lambda: "2 workers serve on" in first.stderr, "all workers are ready")
    for workers in (1, 2):
        line = refused(tmp_path, WORKERS=workers).check_refusal(2, f"(pid {first.process.pid})")
        assert line.endswith(f"{first.data}: stop it, or give this one another DATA_DIR")
    assert first.call("GET", "/api/v3/time").status == 200


def test_newer_database_is_one_line_for_several_workers(tmp_path: Path) -> None:
    needs_redis()
    data = tmp_path / "data"
    assert Program(tmp_path, "whitelist", "list", DATA_DIR=data).wait() == 0
    with closing(sqlite3.connect(data / "resender.db")) as writer, writer:
        writer.execute("INSERT INTO schema_migration (name, applied) VALUES ('9001_later', '2030-01-01')")
    refused(tmp_path, WORKERS=2).check_refusal(2, "newer version", "9001_later", "install that version")


def test_newer_database_of_a_server(tmp_path: Path) -> None:
    with postgres_server() as server:
        import psycopg

        url = server.url
        assert Program(tmp_path, "whitelist", "list", DATABASE_URL=url).wait() == 0
        with psycopg.connect(server.words) as writer:
            writer.execute("INSERT INTO schema_migration (name, applied) VALUES ('9001_later', '2030-01-01')")
        for command in ("", "whitelist list"):
            program = refused(tmp_path, *command.split(), DATABASE_URL=url)
            program.check_refusal(2, "newer version", "9001_later", "install that version")
        server.stop()
        refused(tmp_path, DATABASE_URL=url).check_refusal(1, f"@127.0.0.1:{server.port}/", "refused")


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_database_server_out_of_reach_of_several_workers(tmp_path: Path, scheme: str) -> None:
    needs_redis()
    url = f"{scheme}://me:Sup3rSecretWord@127.0.0.1:1/db"
    line = refused(tmp_path, DATABASE_URL=url, WORKERS=2).check_refusal(1, "@127.0.0.1:1/db")
    assert "Sup3rSecretWord" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "65"),
        ("KLINE_DEPTH", "many"),
        ("DATABASE_URL", "oracle://host/name"),
        ("ADMIN_PASSWORD", "123456"),
    ],
)
def test_wrong_setting_is_one_line_for_several_workers(tmp_path: Path, name: str, value: str) -> None:
    needs_redis()
    settings: dict[str, Any] = {"WORKERS": 2, name: value}
    refused(tmp_path, **settings).check_refusal(2, name)


# --- stopped while it still starts --------------------------------------------------------------


def test_several_workers_that_are_stopped_while_they_start_end_well(tmp_path: Path) -> None:
    needs_redis()
    begun = tmp_path / "begun"
    late = f"""
import os, time
if '"number": 1' in os.environ.get("BINANCE_RESENDER_WORKER", ""):
    open({str(begun)!r}, "w").close()
    time.sleep(60)
"""
    gateway = Service(tmp_path, more=customised(tmp_path, late), WORKERS=2)
    try:
        until(begun.exists, "the second one has begun")
        gateway.process.terminate()
        assert gateway.wait() == 0, gateway.stderr
        gateway.check_healthy()
    finally:
        gateway.kill()


# --- TLS_CERT ----------------------------------------------------------------------------------


def write_pair(folder: Path, *, is_pair: bool = True) -> tuple[Path, Path]:
    """Write a certificate that any user may read and a key for its owner only."""
    one, other = AUTHORITY.issue("gw.example"), Authority().issue("gw.example")
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(one.certificate_pem)
    key.write_bytes(one.key_pem if is_pair else other.key_pem)
    key.chmod(0o600)
    return cert, key


@pytest.mark.parametrize(
    ("fault", "workers"),
    [
        ("no certificate", 1),
        ("no certificate", 2),
        ("no key", 1),
        ("no pair", 1),
        ("no PEM", 1),
        ("no key in it", 1),
        ("no TLS_CERT", 1),
    ],
)
def test_certificate_that_cannot_be_shown_is_told(tmp_path: Path, fault: str, workers: int) -> None:
    if workers > 1:
        needs_redis()
    cert, key = write_pair(tmp_path, is_pair=fault != "no pair")
    settings: dict[str, Any] = {"TLS_CERT": cert, "TLS_KEY": key, "WORKERS": workers}
    words = [str(cert)]
    if fault == "no certificate":
        cert.unlink()
        words += ["No such file"]
    elif fault == "no key":
        key.unlink()
        words = [str(key), "No such file"]
    elif fault == "no pair":
        words += ["the private key does not belong to the certificate"]
    elif fault == "no PEM":
        cert.write_text("not yet\n")
        words += ["PEM"]
    elif fault == "no key in it":
        del settings["TLS_KEY"]
        words += ["TLS_KEY is empty"]
    else:
        del settings["TLS_CERT"]
        words = ["TLS_KEY", "set TLS_CERT too"]
    refused(tmp_path, **settings).check_refusal(2, *words)


def test_certificate_the_service_may_not_read_is_told(open_folder: Path) -> None:
    cert, key = write_pair(open_folder)
    more = mistakes.variables(open_folder, user=NOBODY)
    refused(open_folder, more=more, TLS_CERT=cert, TLS_KEY=key).check_refusal(2, f"{key}: Permission denied")
    key.chmod(0o644)
    cert.chmod(0o600)
    refused(open_folder, more=more, TLS_CERT=cert, TLS_KEY=key).check_refusal(2, f"{cert}: Permission denied")
