"""`run.py` under systemd: when it says that it is ready, alive, stopping; what the journal gets."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.processes import Program, call, until
from tests.support.service import Service, ServiceProgram, Systemd, customised

pytestmark = pytest.mark.e2e

# The loop sleeps when it is told to, as it would in an endless computation.
_BLOCKER = """
import signal, time
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(2.5))
"""


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    with Systemd() as listening:
        yield listening


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start gateways; afterwards none is left."""
    started: list[Service] = []

    def begin(*arguments: str, **options: object) -> Service:
        started.append(Service(tmp_path, *arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for program in started:
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGCONT)
            program.kill()


# --- systemd -----------------------------------------------------------------------------------


def test_ready_is_said_when_it_serves_and_not_before(tmp_path: Path, systemd: Systemd) -> None:
    data = tmp_path / "data"
    settings = {"HOST": "127.0.0.1", "PORT": 0, "DATA_DIR": data, "CACHE_ENABLED": "false"}
    assert Program(tmp_path, "whitelist", "add", "127.0.0.1", **settings).wait() == 0
    with closing(sqlite3.connect(data / "resender.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")  # a start that takes a while
        program = ServiceProgram(tmp_path, more=systemd.variables(), **settings)
        try:
            time.sleep(2.0)
            assert systemd.lines == []
            holder.execute("ROLLBACK")
            until(lambda: "READY=1" in systemd.lines, "it is ready")
            (status,) = [line for line in systemd.lines if line.startswith("STATUS=")][:1]
            port = re.search(r"^STATUS=serving on 127\.0\.0\.1 port (\d+); 1 whitelist entries", status)
            assert port is not None, status
            assert call(int(port[1]), "GET", "/local/status").status == 200
        finally:
            program.kill()


def test_gateway_that_is_stopped_while_it_starts_ends_well(tmp_path: Path, systemd: Systemd) -> None:
    data = tmp_path / "data"
    settings = {"HOST": "127.0.0.1", "PORT": 0, "DATA_DIR": data}
    assert Program(tmp_path, "whitelist", "list", **settings).wait() == 0
    with closing(sqlite3.connect(data / "resender.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        program = ServiceProgram(tmp_path, more=systemd.variables(watchdog_s=0.3), **settings)
        until((data / "gateway.lock").exists, "it starts")
        time.sleep(0.3)
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        holder.execute("ROLLBACK")
    assert program.wait() == 0, program.stderr
    program.check_healthy()
    if "STOPPING=1" in systemd.lines:
        assert "READY=1" not in systemd.lines[systemd.lines.index("STOPPING=1") :]


def test_gateway_that_cannot_start_is_never_ready(tmp_path: Path, systemd: Systemd) -> None:
    (tmp_path / "file").write_text("")
    program = ServiceProgram(tmp_path, more=systemd.variables(), PORT=0, DATA_DIR=tmp_path / "file" / "data")
    assert program.wait() == 2
    time.sleep(0.1)
    assert systemd.lines == []


def test_without_systemd_nothing_is_missing(run: Callable[..., Service]) -> None:
    gateway = run(more={"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "100000"})
    gateway.stop()


def test_watchdog_is_fed_by_a_gateway_that_works_and_by_no_other(
    run: Callable[..., Service], systemd: Systemd, tmp_path: Path
) -> None:
    gateway = run(more=systemd.variables(watchdog_s=0.6) | customised(tmp_path, _BLOCKER))
    systemd.until_fed(4)

    gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)  # what was on its way
    begun = time.monotonic()
    time.sleep(1.5)
    assert systemd.since(begun) == 0, "a stopped process"
    gateway.process.send_signal(signal.SIGCONT)
    systemd.until_fed(2)

    gateway.process.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    begun = time.monotonic()
    time.sleep(1.5)
    assert systemd.since(begun) == 0, "an event loop that computes"
    systemd.until_fed(2)
    assert gateway.call("GET", "/healthz").status == 200
    gateway.stop()


def test_stopping_is_said_at_the_signal_and_stays_true(run: Callable[..., Service], systemd: Systemd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it never answers the client's hello
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        gateway = run(more=systemd.variables(watchdog_s=0.3), UPSTREAM_API=url, SHUTDOWN_S="1.5")
        pending = threading.Thread(target=gateway.call, args=("GET", "/api/v3/time"))
        pending.start()
        peer, _ = silent.accept()
        with peer:
            systemd.until_fed()
            assert systemd.lines.count("READY=1") == 1
            gateway.stop()
            pending.join(20)
    stopping = next(moment for moment, text in systemd.messages if text.startswith("STOPPING=1"))
    assert systemd.lines.count("STOPPING=1") == 1
    after = "\n".join(text for moment, text in systemd.messages if moment >= stopping).split("\n")
    assert "STATUS=finishing the calls in flight" in after
    assert "READY=1" not in after
    assert [line for line in after if line.startswith("STATUS=serving")] == []


# --- the log -----------------------------------------------------------------------------------

# An error at the start, a warning for a stranger and lines of information.
_TALKATIVE = {"EGRESS": "192.0.2.77", "WHITELIST": ""}


def talk(gateway: Service) -> None:
    assert gateway.call("GET", "/api/v3/time").status == 403
    gateway.stop()


def test_journal_gets_lines_with_a_priority_and_no_time(run: Callable[..., Service]) -> None:
    gateway = run(in_journal=True, **_TALKATIVE)
    talk(gateway)
    for line in gateway.lines:
        assert re.match(r"<[3467]>resender[a-z_.]*: \S", line), line
    assert not re.search(r"20\d\d-\d\d-\d\d", "\n".join(gateway.lines))
    assert {line[:3] for line in gateway.lines} >= {"<3>", "<4>", "<6>"}
    (error,) = gateway.lines_with("<3>")
    assert "egress 192.0.2.77 cannot be used" in error
    assert gateway.lines_with("<4>resender.access: refused 127.0.0.1: not in the whitelist")


def test_journal_shows_why_a_start_failed_among_the_errors(tmp_path: Path) -> None:
    program = ServiceProgram(tmp_path, in_journal=True, DATA_DIR=tmp_path / "data", PORT="eighty")
    assert program.wait() == 2
    (line,) = program.lines
    assert line.startswith("<3>error: RESENDER_PORT"), "journalctl -p err shows nothing"


def test_log_format_json_is_one_object_a_line(run: Callable[..., Service]) -> None:
    gateway = run(in_journal=True, LOG_FORMAT="json", **_TALKATIVE)
    talk(gateway)
    rows = [json.loads(line) for line in gateway.lines]
    for row in rows:
        assert set(row) in ({"time", "level", "logger", "msg"}, {"time", "level", "logger", "msg", "error"})
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["time"])
    assert {row["level"] for row in rows} >= {"ERROR", "WARNING", "INFO"}
    assert "refused 127.0.0.1: not in the whitelist" in [row["msg"] for row in rows]


def test_text_lines_have_a_time_where_no_journal_adds_one(run: Callable[..., Service]) -> None:
    gateway = run(more={"JOURNAL_STREAM": "8:1"}, **_TALKATIVE)
    talk(gateway)
    for line in gateway.lines:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (ERROR|WARNING|INFO|DEBUG) +resender", line), (
            line
        )
