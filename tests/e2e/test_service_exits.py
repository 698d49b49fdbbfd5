"""With which code and words the program ends when it cannot start: 2 means that it never will by itself."""

from __future__ import annotations

import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.processes import Program, Start, assert_no_secrets
from tests.support.service import ServiceProgram, customised

pytestmark = pytest.mark.e2e


def serve(folder: Path, **settings: object) -> Program:
    """Start a gateway that is not expected to come up."""
    values: dict[str, object] = {"HOST": "127.0.0.1", "PORT": 0, "DATA_DIR": folder / "data"}
    return Program(folder, **{**values, **settings})


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


# --- what never works by itself ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["PORT", "ADMIN_PORT"])
def test_port_in_use(tmp_path: Path, taken_port: int, name: str) -> None:
    program = serve(tmp_path, **{name: taken_port}, ADMIN_HOST="127.0.0.1", CACHE_ENABLED="false")
    program.check_refusal(2, f"127.0.0.1 port {taken_port}", "in use")


def test_second_gateway_on_the_same_folder(start: Start, tmp_path: Path) -> None:
    first = start(WHITELIST="127.0.0.1")
    database = first.data / "resender.db"
    for settings in ({}, {"DATABASE_URL": f"sqlite:///{tmp_path / 'other.db'}"}):
        line = serve(tmp_path, **settings).check_refusal(2, f"(pid {first.process.pid})", str(first.data))
        assert "DATA_DIR" in line
    assert not (tmp_path / "other.db").exists()
    # The one that runs is as well as before, and commands beside it are allowed.
    assert first.call("GET", "/api/v3/time").status == 200
    assert first.command("whitelist", "list").wait() == 0
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(20)
    again = start()
    assert again.call("GET", "/api/v3/time").status == 200
    with closing(sqlite3.connect(database)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("command", [(), ("whitelist", "list"), ("user", "list"), ("log", "status")])
def test_database_of_a_newer_program(tmp_path: Path, command: tuple[str, ...]) -> None:
    data = tmp_path / "data"
    assert Program(tmp_path, "whitelist", "add", "192.0.2.1", DATA_DIR=data).wait() == 0
    with closing(sqlite3.connect(data / "resender.db")) as writer, writer:
        writer.execute("INSERT INTO schema_migration (name, applied) VALUES ('9001_later', '2030-01-01')")
    program = Program(tmp_path, *command, HOST="127.0.0.1", PORT=0, DATA_DIR=data)
    program.check_refusal(2, "newer version", "9001_later", "DATABASE_URL")
    with closing(sqlite3.connect(data / "resender.db")) as reader:
        assert reader.execute("SELECT address FROM whitelist").fetchall() == [("192.0.2.1",)]


def test_database_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "resender.db")) as writer, writer:
        writer.execute("CREATE TABLE whitelist (mine INTEGER)")
    serve(tmp_path).check_refusal(2, "'whitelist'", "not this program's")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_FORMAT", "xml"),
        ("KLINE_DEPTH", "many"),
        ("NO_SUCH_SETTING", "1"),
        ("EGRESS", "ftp://192.0.2.1"),
        ("DATABASE_URL", "oracle://host/name"),
        ("DATABASE_URL", "sqlite://one-slash-too-few.db"),
        ("DATABASE_URL", "postgresql://127.0.0.1"),
        ("DATABASE_URL", "postgresql://127.0.0.1:port/name"),
    ],
)
def test_wrong_setting(tmp_path: Path, name: str, value: str) -> None:
    serve(tmp_path, **{name: value}).check_refusal(2, name)


@pytest.mark.parametrize("password", ["123456", "password1234"])
def test_weak_first_password(tmp_path: Path, password: str) -> None:
    line = serve(tmp_path, ADMIN_PASSWORD=password).check_refusal(2, "ADMIN_PASSWORD", "weak")
    assert password not in line


def test_weak_first_password_leaves_no_account_and_a_better_one_is_taken(
    start: Start, tmp_path: Path
) -> None:
    serve(tmp_path, ADMIN_PASSWORD="letmein123").check_refusal(2, "ADMIN_PASSWORD")
    good = "granite kettle 71"
    gateway = start(ADMIN_PASSWORD=good)
    body = b'{"username":"root","password":"%b"}'
    json = {"Content-Type": "application/json"}
    assert gateway.call("POST", "/admin/api/login", json, body % b"letmein123").status == 401
    assert gateway.call("POST", "/admin/api/login", json, body % good.encode()).status == 200
    gateway.stop()
    assert_no_secrets(tmp_path, [good])
    # It is for the first start only: what it says later is never used, so it is not refused.
    start(ADMIN_PASSWORD="letmein123").stop()


def test_weak_password_of_admin_pages_that_are_off_is_no_matter(start: Start) -> None:
    start(ADMIN_PASSWORD="123456", ADMIN_ENABLED="false").stop()


# --- packages ----------------------------------------------------------------------------------


def without(folder: Path, package: str, *command: str, **settings: object) -> ServiceProgram:
    values = {"HOST": "127.0.0.1", "PORT": 0, "DATA_DIR": folder / "data", **settings}
    return ServiceProgram(folder, *command, more=customised(folder, missing=[package]), **values)


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("orjson", ""),
        ("tornado", ""),
        ("aiohttp", ""),
        ("peewee", ""),
        ("argon2", ""),
        ("prometheus_client", ""),
        ("orjson", "whitelist list"),
        ("peewee", "whitelist list"),
        ("playhouse", "log status"),
        ("argon2", "user add anna"),
        ("aiohttp", "doctor"),
        ("cryptography", "demo"),
        ("yarl", "demo"),
    ],
)
def test_missing_package_is_told_kindly(tmp_path: Path, package: str, command: str) -> None:
    program = without(tmp_path, package, *command.split())
    assert program.wait() == 2, program.stderr
    first, *rest = program.lines
    assert f"The package '{package}" in first
    assert "is missing" in first
    assert "Traceback" not in program.stderr
    assert "pip install -r requirements.txt" in "".join(rest)
    assert program.stdout == ""


def test_missing_proxy_package_is_told_at_the_start(tmp_path: Path) -> None:
    program = without(tmp_path, "aiohttp_socks", EGRESS="socks5://127.0.0.1:1080", CACHE_ENABLED="false")
    assert program.wait() == 2, program.stderr
    assert "The package 'aiohttp_socks' is missing" in program.stderr


@pytest.mark.parametrize(
    ("package", "scheme", "hint"),
    [("psycopg", "postgresql", "psycopg[binary]"), ("pymysql", "mysql", "pymysql[rsa]")],
)
def test_missing_database_driver_is_told_kindly(tmp_path: Path, package: str, scheme: str, hint: str) -> None:
    program = without(tmp_path, package, DATABASE_URL=f"{scheme}://me:Sup3rSecretWord@127.0.0.1:1/db")
    line = program.check_refusal(2, hint)
    assert "Sup3rSecretWord" not in line


def test_fast_loop_is_no_must(tmp_path: Path) -> None:
    program = without(tmp_path, "uvloop", "doctor", **{f"UPSTREAM_{n}": "off" for n in _HOSTS})
    assert program.wait() == 1
    assert program.lines == []


_HOSTS = ("API", "FAPI", "DAPI", "EAPI", "PAPI")


# --- what may work later -----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_database_server_out_of_reach(tmp_path: Path, scheme: str) -> None:
    url = f"{scheme}://me:Sup3rSecretWord@127.0.0.1:1/db"
    line = serve(tmp_path, DATABASE_URL=url).check_refusal(1, f"{scheme}://", "@127.0.0.1:1/db")
    assert "Sup3rSecretWord" not in line
