"""Databases to test against: SQLite always, PostgreSQL and MariaDB where they are installed.

`database_url` runs a test once for each of them, on an empty database of its own; a server is
started once per session on a free port of the loopback, as a user that is not root.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.postgres_server import PostgresServer, data_dir, postgres_server, run

_numbers = itertools.count(1)


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[None]]:
    async def wait(predicate: Callable[[], bool], timeout_s: float = 5.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not predicate():
            assert time.monotonic() < deadline, "it did not happen in time"
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def postgresql_url(postgresql_server: PostgresServer) -> str:
    import psycopg

    # An empty schema is as good as a database of its own, and is made in a tenth of the time.
    with psycopg.connect(postgresql_server.words, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgresql_server.url


@pytest.fixture
def mysql_url(mysql_server: int) -> str:
    import pymysql

    name = f"test_{next(_numbers)}"
    with contextlib.closing(pymysql.connect(host="127.0.0.1", port=mysql_server, user="root")) as connection:
        # The default of a server may be any character set; the tables choose their own.
        connection.cursor().execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
    return f"mysql://root@127.0.0.1:{mysql_server}/{name}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[int]:
    if importlib.util.find_spec("pymysql") is None:
        pytest.skip('MySQL driver is not installed: pip install "pymysql[rsa]"')
    paths = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    server = shutil.which("mariadbd", path=paths)
    install = shutil.which("mariadb-install-db", path=paths)
    if server is None or install is None:
        pytest.skip("MariaDB is not installed: apt-get install mariadb-server")
    with data_dir("mysql") as (data, user):
        common = ["--no-defaults", f"--datadir={data / 'db'}"]
        run([install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"], user)
        port = free_port()
        options = [f"--socket={data / 'sock'}", f"--port={port}", "--bind-address=127.0.0.1"]
        options += ["--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]
        yield from _serve([server, *common, *options, f"--pid-file={data / 'pid'}"], user, port)


def _serve(command: list[object], user: str | None, port: int) -> Iterator[int]:
    process = subprocess.Popen(
        [str(part) for part in command],
        user=user,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.skip(f"{command[0]} did not start")
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
