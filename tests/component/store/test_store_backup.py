"""A database on a server, saved into one file and brought back into an empty one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from resender.errors import StoreError
from resender.store import open_repository, schema
from resender.store.backup import check_file, load_into_server, save_database
from resender.store.connection import _describe, parse_url
from tests.support.processes import until
from tests.unit.cli.test_backup import Node, alone, member, node, other
from tests.unit.store.test_backup import writing
from tests.unit.store.test_copying import fill, whole

__all__ = ["alone", "node", "other"]
pytestmark = pytest.mark.component

_numbers = itertools.count(1)
MakeEmpty = Callable[[], str]


@pytest.fixture(params=["postgresql", "mysql"])
def server_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def make_empty(server_url: str) -> MakeEmpty:
    """Make one more database on the same server; return its URL."""

    def make() -> str:
        name = f"empty_{os.getpid()}_{next(_numbers)}"
        parts = urlsplit(server_url)
        if parts.scheme == "mysql":
            import pymysql

            assert parts.port is not None
            connection = pymysql.connect(host="127.0.0.1", port=parts.port, user="root")
            with contextlib.closing(connection):
                connection.cursor().execute(f"CREATE DATABASE {name}")
        else:
            import psycopg

            with psycopg.connect(server_url, autocommit=True) as server:
                server.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        return parts._replace(path=f"/{name}").geturl()

    return make


def test_database_on_a_server_is_saved_and_comes_back(
    server_url: str, make_empty: MakeEmpty, tmp_path: Path
) -> None:
    fill(server_url)
    saved = tmp_path / "saved.db"
    save_database(server_url, saved)
    check_file(saved)
    everything = whole(server_url)
    assert whole(f"sqlite:///{saved}") == everything
    empty = make_empty()
    assert load_into_server(saved, empty) == sum(len(rows) for rows in everything.values())
    assert whole(empty) == everything
    with open_repository(empty) as repository:
        assert repository.whitelist_add("10.9.0.1", "").id > 6


def test_copy_made_while_others_write_is_of_one_moment(postgresql_url: str, tmp_path: Path) -> None:
    fill(postgresql_url)
    with writing(postgresql_url) as count:
        for number in range(3):
            until(lambda low=count[0]: count[0] > low, "somebody writes")
            saved = tmp_path / f"{number}.db"
            save_database(postgresql_url, saved)
            with closing(sqlite3.connect(saved)) as database:
                notes = [row[0] for row in database.execute("SELECT note FROM whitelist")]
            assert notes.count("left") == notes.count("right") > 0


def test_another_machine_gets_it_into_its_own_server_or_file(
    postgresql_url: str, node: Node, other: Node, tmp_path: Path
) -> None:
    fill(postgresql_url)
    everything = whole(postgresql_url)
    file = tmp_path / "saved.tar.gz"
    secret = postgresql_url.replace("resender@", "resender:hush-hush-1@")
    node.run("backup", file, DATABASE_URL=secret)
    assert "hush-hush-1" not in node.out + node.err
    source = json.loads(member(file, "manifest.json"))["source"]
    assert source.startswith("postgresql://resender@127.0.0.1:")
    # Into a file.
    said = other.run("restore", file)
    assert f"from {source}" in said
    assert whole(other.url) == everything
    # And into a server, whose database here has rows already.
    before = other.picture()
    said = other.run("restore", file, code=1, DATABASE_URL=secret)
    assert "holds rows already" in said
    assert "hush-hush-1" not in said
    assert other.picture() == before
    assert whole(postgresql_url) == everything


def test_restore_into_a_server_is_all_or_nothing(
    server_url: str, make_empty: MakeEmpty, node: Node, other: Node, tmp_path: Path
) -> None:
    file = tmp_path / "saved.tar.gz"
    node.run("backup", file)
    other.furnish()
    before, empty = other.picture(), make_empty()
    replace = os.replace

    def fails(source: Path, target: Path) -> None:
        if Path(source).name == "settings.env":  # what is moved last
            raise OSError(5, "Input/output error", str(source))
        replace(source, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "replace", fails)
        said = other.run("restore", file, code=1, DATABASE_URL=empty)
    assert said.endswith("everything is as it was.\n")
    assert other.picture() == before
    said = other.run("restore", file, DATABASE_URL=empty)
    assert "rows are in" in said
    with open_repository(empty) as repository:
        assert [entry.address for entry in repository.whitelist_list()] == ["10.0.0.1", "home.example.com"]
    # The file there was is nobody's database now.
    assert other.database.exists()


def test_server_that_cannot_be_reached_leaves_the_files_as_they_were(
    node: Node, other: Node, tmp_path: Path
) -> None:
    file = tmp_path / "saved.tar.gz"
    node.run("backup", file)
    other.furnish()
    before = other.picture()
    for url in ("postgresql://resender:hush-hush-1@127.0.0.1:9/x", "mysql://root:hush-hush-1@127.0.0.1:9/x"):
        said = other.run("restore", file, code=1, DATABASE_URL=url)
        assert "hush-hush-1" not in said
        assert other.picture() == before
        said = other.run("backup", tmp_path / "other.tar.gz", code=1, DATABASE_URL=url)
        assert "hush-hush-1" not in said
        assert not (tmp_path / "other.tar.gz").exists()


def test_saving_the_database_of_an_older_version_does_not_change_it(server_url: str, tmp_path: Path) -> None:
    """A backup before an upgrade is what the upgrade of MySQL can be undone with."""
    with closing(_describe(parse_url(server_url), 5.0)) as database:
        database.connect()
        schema.upgrade(database, target="0004_admin")
        with pytest.raises(StoreError, match="use pg_dump or mysqldump, or start this version first"):
            save_database(server_url, tmp_path / "saved.db")
        assert schema.applied_versions(database)[-1] == "0004_admin"
        assert "alert_channel" not in database.get_tables()
