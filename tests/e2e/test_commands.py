"""The other commands of `run.py`, beside a running server and alone."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from resender.core.binance.markets import Market
from resender.errors import Forbidden
from resender.sandbox import Fault
from tests.support.processes import (
    KEY_HEADER,
    GatewayProcess,
    Program,
    SandboxThread,
    Start,
    signed,
    until,
)

pytestmark = pytest.mark.e2e

# A change is promised to be in force within a second; the rest is for a loaded machine.
IN_FORCE_S = 1.0 + 0.5


def status(gateway: GatewayProcess) -> int:
    return gateway.call("GET", "/api/v3/time").status


def test_empty_whitelist_refuses_even_this_machine(start: Start, exchange: SandboxThread) -> None:
    gateway = start(WHITELIST="")
    before = len(exchange.calls())
    answer = gateway.call("GET", "/api/v3/ticker/bookTicker?symbol=BTCUSDT")
    assert answer.status == 403
    assert answer.json() == {
        "code": -1,
        "msg": "Forbidden IP: 127.0.0.1",
        "data": Forbidden("127.0.0.1").data,
    }
    assert answer.headers["content-type"] == "application/json"
    assert gateway.call("GET", "/metrics").status == 403
    assert gateway.call("GET", "/healthz").status == 200
    assert len(exchange.calls()) == before
    assert "the whitelist is empty" in gateway.stderr
    assert gateway.command("whitelist", "list").stdout == "The whitelist is empty: nobody may call.\n"


def test_whitelist_commands_are_in_force_within_a_second(start: Start) -> None:
    gateway = start(WHITELIST="")
    assert status(gateway) == 403

    added = gateway.command("whitelist", "add", "127.0.0.1", "--note", "this machine")
    until(lambda: status(gateway) == 200, "the address may call", IN_FORCE_S)
    assert (added.wait(), added.said, added.stderr) == (0, "127.0.0.1 may call.\n", "")
    listed = gateway.command("whitelist", "list")
    assert listed.wait() == 0
    (line,) = listed.stdout.splitlines()
    assert line.startswith("127.0.0.1  on ")
    assert line.endswith("  this machine")

    removed = gateway.command("whitelist", "remove", "127.0.0.1")
    until(lambda: status(gateway) == 403, "the address may not call", IN_FORCE_S)
    assert (removed.wait(), removed.said, removed.stderr) == (0, "127.0.0.1 may not call any more.\n", "")

    network = gateway.command("whitelist", "add", "127.0.0.0/8")
    until(lambda: status(gateway) == 200, "the network may call", IN_FORCE_S)
    assert network.said == "127.0.0.0/8 may call.\n"


def test_whitelist_commands_say_what_is_wrong(start: Start) -> None:
    gateway = start()
    for action, address in (
        ("add", "300.1.2.3"),
        ("add", "example"),
        ("add", "10.0.0.0/33"),
        ("add", "10.0.0.1/8"),
        ("add", ""),
        ("remove", "300.1.2.3"),
    ):
        gateway.command("whitelist", action, address).check_refusal(2, address)
    gateway.command("whitelist", "remove", "203.0.113.5").check_refusal(
        1, "203.0.113.5", "not in the whitelist"
    )
    again = gateway.command("whitelist", "add", "127.0.0.1")
    assert (again.wait(), again.stderr) == (0, "")
    assert again.said == "127.0.0.1 was in the whitelist already; it may call.\n"
    assert len(gateway.command("whitelist", "list").stdout.splitlines()) == 1
    assert status(gateway) == 200


def test_log_commands_are_followed_by_a_running_server(start: Start) -> None:
    gateway = start()
    database = gateway.data / "resender.db"

    def rows(path: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            found = reader.execute("SELECT * FROM request_log WHERE path = ?", (path,))
            return list(found)

    def sample(name: str) -> float:
        lines = gateway.call("GET", "/metrics").body.decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))

    def kept() -> float:
        """Count the rows the server has taken, whether they are written yet or not."""
        return sample('resender_log_rows_total{result="written"}') + sample("resender_log_queued")

    def called(target: str) -> Callable[[], float]:
        def work() -> float:
            before = kept()
            assert gateway.call("GET", target, KEY_HEADER).status == 200
            return kept() - before

        return work

    off = gateway.command("log", "status")
    assert (off.wait(), off.stdout) == (0, "The request log is off; it holds 0 rows.\n")
    assert status(gateway) == 200

    assert gateway.command("log", "on").said == "The request log is on; it holds 0 rows.\n"
    until(called(signed("/api/v3/account", "recvWindow=60000")), "the server keeps rows")
    (row, *_) = until(lambda: rows("/api/v3/account"), "a row is in the database")
    text = repr(row)
    assert "'127.0.0.1', 'GET', 'spot', '/api/v3/account', 200, 200" in text
    assert not [word for word in ("?", "signature", "recvWindow", KEY_HEADER["X-MBX-APIKEY"]) if word in text]
    assert rows("/api/v3/time") == [], "what came before is not in it"

    assert gateway.command("log", "off").stdout.startswith("The request log is off; it holds ")
    until(lambda: called("/api/v3/ping")() == 0, "the server keeps no more rows")
    assert gateway.call("GET", "/api/v3/avgPrice?symbol=BTCUSDT", KEY_HEADER).status == 200
    gateway.stop()
    assert rows("/api/v3/avgPrice") == []


# --- doctor ------------------------------------------------------------------------------------


def verdicts(program: Program) -> dict[str, str]:
    """Return the last column of doctor's table by market; of a WebSocket API by its path."""
    lines = program.stdout.splitlines()
    column = lines[0].index("verdict")
    found = {}
    for line in lines[1:]:
        if not line:
            break
        market, url = line.split()[:2]
        found[url.partition("://")[2].partition("/")[2] or market] = line[column:]
    return found


def test_doctor_is_content_with_the_sandbox(exchange: SandboxThread, tmp_path: Path) -> None:
    before = len(exchange.calls())
    program = Program(tmp_path, "doctor", **exchange.settings())
    assert program.wait() == 0, program.stderr
    found = verdicts(program)
    assert {name: found.pop(name) for name in ("spot", "um", "cm", "options", "pm")} == dict.fromkeys(
        ("spot", "um", "cm", "options", "pm"), "ok"
    )
    words = "ok: the handshake and a ping cost {} + 1 of the weight"
    assert found == {
        "ws-api/v3": words.format(2),
        "ws-fapi/v1": words.format(5),
        "ws-dapi/v1": words.format(5),
    }
    assert program.stdout.endswith("All 8 upstreams answer.\n")
    program.check_healthy()
    # It asks for little: a few pings, nothing signed.
    calls = exchange.calls()[before:]
    assert {one.path.split("/")[-1] for one in calls} == {"ping", "time"}
    assert {one.header("x-mbx-apikey") for one in calls} == {None}
    asked = exchange.ask(lambda sandbox: [api.requests for api in sandbox.ws_apis.values()])
    assert asked == [[("ping", "doctor")]] * 3


def test_doctor_says_what_is_wrong_with_each_upstream(exchange: SandboxThread, tmp_path: Path) -> None:
    faults = exchange.sandbox.faults
    banned = '{"code":-1003,"msg":"Way too many requests; IP banned until 1795335999000."}'
    blocked = '{"code":0,"msg":"Service unavailable from a restricted location."}'
    faults.add(Fault("html", host="api", times=None))
    faults.add(Fault("status", host="fapi", times=None, status=451, body=blocked))
    faults.add(
        Fault("status", host="dapi", times=None, status=418, body=banned, headers={"retry-after": "321"})
    )
    try:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            settings = exchange.settings() | {"UPSTREAM_EAPI": f"https://127.0.0.1:{port}"}
            program = Program(tmp_path, "doctor", **settings)
            assert program.wait() == 1, program.stderr
    finally:
        faults.clear()
    found = verdicts(program)
    assert "firewall (403)" in found["spot"]
    assert "region block (451)" in found["um"]
    assert "banned (418)" in found["cm"]
    assert "321 s" in found["cm"]
    assert f"the connection to 127.0.0.1 port {port} was refused" in found["options"]
    assert found["pm"] == "ok"
    assert program.stdout.endswith("4 of 5 upstreams do not answer as they should.\n")
    program.check_healthy()


def test_doctor_tells_that_streams_do_not_work_and_fails(exchange: SandboxThread, tmp_path: Path) -> None:
    faults = exchange.sandbox.faults
    off = dict.fromkeys(("UPSTREAM_FAPI", "UPSTREAM_DAPI", "UPSTREAM_EAPI", "UPSTREAM_PAPI"), "off")
    settings = exchange.settings() | off
    exchange.ask(lambda sandbox: faults.refuse_streams(Market.SPOT))
    try:
        program = Program(tmp_path, "doctor", **settings)
        assert program.wait() == 1, program.stderr
        without = Program(tmp_path, "doctor", **settings, CACHE_ENABLED="false")
        assert without.wait() == 0, without.stderr
    finally:
        exchange.ask(lambda sandbox: faults.clear())
    assert verdicts(program)["spot"].startswith("REST answers, but its streams do not (")
    assert program.stdout.endswith("1 of 2 upstreams do not answer as they should.\n")
    assert program.stderr == "", "the progress is for terminals"
    assert verdicts(without)["spot"] == "ok"


def test_doctor_without_upstreams_fails(tmp_path: Path) -> None:
    names = ("API", "FAPI", "DAPI", "EAPI", "PAPI")
    program = Program(tmp_path, "doctor", **{f"UPSTREAM_{name}": "off" for name in names})
    assert program.wait() == 1
    assert "No upstream is switched on." in program.stdout


# --- help --------------------------------------------------------------------------------------


def test_help_of_every_command_works(tmp_path: Path) -> None:
    commands = (
        (), ("serve",), ("demo",), ("doctor",), ("whitelist",), ("whitelist", "list"), ("whitelist", "add"),
        ("whitelist", "remove"), ("log",),
    )  # fmt: skip
    data = tmp_path / "data"
    programs = {command: Program(tmp_path, *command, "--help", DATA_DIR=data) for command in commands}
    for command, program in programs.items():
        assert (program.wait(), program.stderr) == (0, ""), command
        assert program.stdout.startswith(" ".join(("usage: run.py", *command))), command
    words = programs[()].stdout
    assert all(word in words for word in ("serve", "demo", "doctor", "whitelist", "log", "RESENDER_<NAME>"))
    assert not data.exists()


def test_version_is_told(tmp_path: Path) -> None:
    program = Program(tmp_path, "--version")
    assert program.wait() == 0
    assert program.stdout.startswith("Binance Resender ")


@pytest.mark.parametrize("arguments", [("whitelst",), ("whitelist",), ("log", "maybe"), ("whitelist", "add")])
def test_wrong_use_fails_with_a_hint(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    program = Program(tmp_path, *arguments, DATA_DIR=tmp_path / "data")
    assert program.wait() == 2
    assert "usage: run.py" in program.stderr
    assert program.stdout == ""
    assert not (tmp_path / "data").exists()
