"""What a running gateway says, and how often; which database a command names."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.processes import GatewayProcess, Program, Start
from tests.support.service import Service

pytestmark = pytest.mark.e2e


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start a gateway in whose log the lines of the journal are."""
    started: list[Service] = []

    def begin(*arguments: str, **settings: object) -> Service:
        started.append(Service(tmp_path, *arguments, in_journal=True, **settings))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for program in started:
        if program.process.poll() is None:
            program.kill()


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as bound:  # bound, so that nobody else gets it, and not listening
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# --- upstreams ---------------------------------------------------------------------------------


def test_unreachable_upstream_is_said_once_and_not_with_every_call(
    run: Callable[..., Service], closed_port: int
) -> None:
    gateway = run(
        UPSTREAM_API=f"https://127.0.0.1:{closed_port}",
        UPSTREAM_FAPI="https://no-such-host.invalid",
        LOG_LEVEL="INFO",
    )
    assert gateway.call("GET", "/api/v3/time").status == 502
    (line,) = gateway.lines_with("cannot be reached")
    assert line == "<4>resender.gateway: The upstream 127.0.0.1 cannot be reached: it refused the connection."
    for number in range(50):
        answer = gateway.call("GET" if number % 2 else "POST", f"/api/v3/order?symbol=X{number}")
        assert (answer.status, answer.headers["x-resender-error"]) == (502, "unreachable")
    assert gateway.lines_with("cannot be reached") == [line]
    # Another market is another kind, also said at once.
    for _ in range(3):
        assert gateway.call("GET", "/fapi/v1/time").status == 502
    assert len(gateway.lines_with("no-such-host.invalid")) == 1
    gateway.stop()


def test_way_out_that_is_not_on_this_machine_is_said_at_the_start(run: Callable[..., Service]) -> None:
    gateway = run(EGRESS="127.0.0.1,192.0.2.77,2001:db8::7")
    errors = gateway.lines_with("<3>")
    assert len(errors) == 2, gateway.stderr
    for address, line in zip(("192.0.2.77", "2001:db8::7"), errors, strict=True):
        assert line.startswith(f"<3>resender.gateway: egress {address} cannot be used: ")
        assert "EGRESS" in line
    gateway.stop()


# --- strangers ---------------------------------------------------------------------------------


def hammer(work: Callable[[], object], seconds: float) -> float:
    """Do something again and again; return how long it took."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        work()
    return time.monotonic() - begun


def test_stranger_is_named_at_most_once_a_second(run: Callable[..., Service]) -> None:
    gateway = run(WHITELIST="203.0.113.1")
    targets = ["/api/v3/time", "/nowhere", "/local/status", "/metrics", "/api/v3/order"]
    for target in targets:
        assert gateway.call("GET", target).status == 403
    assert gateway.lines_with("refused") == [
        "<4>resender.access: refused 127.0.0.1: not in the whitelist",
    ]
    taken_s = hammer(lambda: gateway.call("GET", "/api/v3/time"), 2.2)
    # So many at once are an alert too, and that is one line more.
    lines = [line for line in gateway.lines_with("refused") if "resender.alerts" not in line]
    assert 2 <= len(lines) <= taken_s + 3
    for line in lines:
        assert re.fullmatch(
            r"<4>resender\.access: refused 127\.0\.0\.1: not in the whitelist"
            r"(?: \(\d+ more like this since the last such line\))?",
            line,
        ), line
    # No one says what for: a path may hold anything, and the request log has it.
    assert "/api/v3" not in "".join(lines)
    gateway.stop()


def test_stranger_at_a_page_of_our_own_is_named_too(run: Callable[..., Service]) -> None:
    gateway = run(WHITELIST="203.0.113.1")
    assert gateway.call("GET", "/metrics").status == 403
    assert gateway.lines_with("refused") == ["<4>resender.access: refused 127.0.0.1: not in the whitelist"]
    gateway.stop()


def test_stranger_behind_a_trusted_proxy_is_named_and_not_the_proxy(run: Callable[..., Service]) -> None:
    gateway = run(TRUSTED_PROXIES="127.0.0.1")
    forwarded = {"X-Forwarded-For": "198.51.100.7"}
    assert gateway.call("GET", "/api/v3/time", forwarded).status == 403
    assert gateway.lines_with("refused") == ["<4>resender.access: refused 198.51.100.7: not in the whitelist"]
    gateway.stop()


def test_failed_log_in_is_named_at_most_once_a_second(run: Callable[..., Service]) -> None:
    gateway = run()
    headers = {"Content-Type": "application/json"}

    def fail() -> int:
        body = b'{"username":"root","password":"not the right one"}'
        return gateway.call("POST", "/admin/api/login", headers, body).status

    assert fail() == 401
    assert gateway.lines_with("failed log-in") == ["<4>resender.access: failed log-in from 127.0.0.1"]
    taken_s = hammer(fail, 1.2)
    lines = gateway.lines_with("log-in")
    assert 2 <= len(lines) <= taken_s + 2, "also while tries have to wait"
    assert all(line.startswith("<4>resender.access: failed log-in from 127.0.0.1") for line in lines)
    assert "not the right one" not in gateway.stderr
    gateway.stop()


def test_stranger_at_the_admin_pages_is_named(run: Callable[..., Service]) -> None:
    gateway = run(ADMIN_WHITELIST="203.0.113.1")
    for path in ("/admin", "/admin/api/me"):
        assert gateway.call("GET", path).status == 403
    assert gateway.lines_with("refused") == ["<4>resender.access: refused 127.0.0.1: not in ADMIN_WHITELIST"]
    gateway.stop()


def test_a_refused_call_does_not_hide_a_failed_log_in(run: Callable[..., Service]) -> None:
    gateway = run(WHITELIST="203.0.113.1")
    assert gateway.call("GET", "/api/v3/time").status == 403
    body = b'{"username":"root","password":"not the right one"}'
    headers = {"Content-Type": "application/json"}
    assert gateway.call("POST", "/admin/api/login", headers, body).status == 401
    assert len(gateway.lines_with("resender.access")) == 2
    gateway.stop()


# --- which database ----------------------------------------------------------------------------

_WARNING = r"warning: the gateway that is running \(pid \d+\) uses another database, \S+: it does not see"


def beside(gateway: GatewayProcess, *arguments: str, **settings: object) -> Program:
    """Run a command with settings of its own and wait for its end."""
    program = Program(gateway.folder, *arguments, **settings)
    assert program.wait() == 0, program.stderr
    return program


CHANGES = ("whitelist add 192.0.2.1", "whitelist remove 192.0.2.1", "log on", "user add anna")
CHANGES += ("preload add spot BTCUSDT 1m",)


def test_every_change_names_its_database_and_warns_if_the_gateway_has_another(
    start: Start, tmp_path: Path
) -> None:
    gateway = start()
    mine, other = gateway.data / "resender.db", tmp_path / "other" / "resender.db"
    for change in CHANGES[::3]:
        same = beside(gateway, *change.split(), DATA_DIR=gateway.data)
        assert f"(database {mine})" in same.stdout.splitlines(), change
        assert same.stderr == "", change
    for change in CHANGES:
        wrong = beside(gateway, *change.split(), DATA_DIR=other.parent)
        assert f"(database {other})" in wrong.stdout.splitlines(), change
        assert re.match(_WARNING, wrong.stderr), (change, wrong.stderr)
        assert len(wrong.stderr.splitlines()) == 1
    looking = beside(gateway, "whitelist", "list", DATA_DIR=other.parent)
    assert looking.stderr == "", "nothing was changed"


def test_same_database_by_another_spelling_is_the_same(start: Start, tmp_path: Path) -> None:
    gateway = start()
    (tmp_path / "link").symlink_to(gateway.data)
    change = ("whitelist", "add", "192.0.2.9")
    database = gateway.data / "resender.db"
    for settings in (
        {"DATA_DIR": tmp_path / "link"},
        {"DATA_DIR": f"{tmp_path}/./data/"},
        {"DATABASE_URL": f"sqlite:///{database}"},
        {"DATABASE_URL": f"sqlite:///{tmp_path}//data/resender.db"},
    ):
        assert beside(gateway, *change, **settings).stderr == "", settings


def test_gateway_that_was_told_its_folder_as_an_argument_is_understood(
    start_bare: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    for words in (("--data-dir", str(folder)), (f"--data-dir={folder}", "serve")):
        gateway = start_bare(*words)
        assert beside(gateway, "--data-dir", str(folder), "whitelist", "add", "192.0.2.9").stderr == ""
        wrong = beside(gateway, "whitelist", "add", "192.0.2.9", DATA_DIR=gateway.data)
        assert re.match(_WARNING, wrong.stderr), wrong.stderr
        gateway.stop()
