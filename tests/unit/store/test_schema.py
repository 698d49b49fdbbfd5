"""Every version of the schema can be brought to the newest one with its rows."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import pytest

from resender.core.market.preload import parse_rule
from resender.errors import StoreError
from resender.store import Repository, open_database, open_repository, schema
from resender.store.connection import _describe, parse_url

ROOT = Path(__file__).parents[3]
VERSIONS = schema.known_versions()
VALUES = {"INT": 7, "BIG": 7, "SMA": 7, "REA": 1.5, "DOU": 1.5, "BLO": b"\1"}


def connect(url: str) -> Any:
    database = _describe(parse_url(url), 1.0)
    database.connect()
    return database


def rows(database: Any, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    names = ", ".join(f'"{column}"' for column in columns)
    return sorted(database.execute_sql(f'SELECT {names} FROM "{table}"').fetchall(), key=repr)


def fill(database: Any) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    """Put rows with a value in every column into every table, whatever the tables are."""
    filled = {}
    database.pragma("foreign_keys", 0)
    for table in database.get_tables():
        if table == schema.HISTORY_TABLE:
            continue
        columns = database.get_columns(table)
        for number in range(3):
            values = []
            for column in columns:
                value = VALUES.get(column.data_type[:3].upper(), f"text {number} 中文")
                if column.primary_key and isinstance(value, int):
                    value = 100 + number
                values.append(value)
            names = ", ".join(f'"{column.name}"' for column in columns)
            marks = ", ".join("?" * len(columns))
            database.execute_sql(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', values)
        names_only = [column.name for column in columns]
        filled[table] = (names_only, rows(database, table, names_only))
    return filled


def test_scripts_are_numbered_without_gap_or_repeat() -> None:
    assert [name[:4] for name in VERSIONS] == [f"{number:04d}" for number in range(1, len(VERSIONS) + 1)]


@pytest.mark.parametrize("version", VERSIONS)
def test_database_of_each_version_is_upgraded_without_loss(version: str, url: str) -> None:
    with closing(connect(url)) as database:
        schema.upgrade(database, target=version)
        assert schema.applied_versions(database) == VERSIONS[: VERSIONS.index(version) + 1]
        before = fill(database)
        assert {"whitelist", "state"} <= set(before)
    with open_repository(url) as repository:
        assert schema.applied_versions(repository.database) == VERSIONS
        present = set(repository.database.get_tables())
        for table, (columns, expected) in before.items():
            assert table in present
            kept = {column.name for column in repository.database.get_columns(table)}
            assert set(columns) <= kept, "a column went: state here what became of its values"
            found = rows(repository.database, table, columns)
            assert [row for row in found if row in expected] == expected
        assert repository.database.execute_sql("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.mark.parametrize("version", VERSIONS)
def test_upgraded_database_looks_like_a_new_one(version: str, tmp_path: Path) -> None:
    def shape(url: str) -> list[tuple[str, str]]:
        with closing(open_database(url)) as database:
            return sorted(
                database.execute_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            )

    old = f"sqlite:///{tmp_path / 'old.db'}"
    with closing(connect(old)) as database:
        schema.upgrade(database, target=version)
    assert shape(old) == shape(f"sqlite:///{tmp_path / 'new.db'}")


def test_models_match_the_tables_the_scripts_make(repository: Repository) -> None:
    models = repository.models
    for model in (getattr(models, name) for name in type(models).__dataclass_fields__):
        table = model._meta.table_name
        columns = {column.name: column.null for column in repository.database.get_columns(table)}
        assert columns == {field.column_name: field.null for field in model._meta.sorted_fields}


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_database_from_before_preload_rules_keeps_its_rows_and_can_take_rules(version: str, url: str) -> None:
    with closing(connect(url)) as database:
        schema.upgrade(database, target=version)
        old = Repository(database)
        entry = old.whitelist_add("10.0.0.1", "kept")
        state = old.state_all()
    with open_repository(url) as repository:
        assert repository.whitelist_list() == [entry]
        later = {"users_revision": "0", "users_seeded": "0", "log_retention_days": "", "log_max_rows": ""}
        later |= {"account_revision": "0", "alert_revision": "0"}
        assert repository.state_all() == {**state, "preload_revision": "0", **later}
        assert repository.preload_list() == []
        row = repository.preload_add(parse_rule("um", "*USDT", "1m"))
        assert repository.preload_list() == [row]
        assert repository.preload_revision() == 1


def test_second_upgrade_does_nothing(url: str) -> None:
    with closing(open_database(url)) as database:
        assert schema.upgrade(database) == []


def test_interrupted_process_leaves_the_old_version(url: str, tmp_path: Path) -> None:
    with closing(connect(url)) as database:
        schema.upgrade(database, target=VERSIONS[0])
        Repository(database).whitelist_add("10.0.0.1")
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for path in schema.MIGRATIONS.glob("0*.py"):
        (scripts / path.name).write_text(path.read_text())
    (scripts / "9998_dies.py").write_text(
        "import os, signal\n"
        "def up(migrator, db):\n"
        "    db.execute_sql('DELETE FROM whitelist')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    program = (
        "import sys, pathlib\n"
        "from resender.store import schema\n"
        "from resender.store.connection import _describe, parse_url\n"
        "database = _describe(parse_url(sys.argv[1]), 1)\n"
        "database.connect()\n"
        "schema.upgrade(database, directory=pathlib.Path(sys.argv[2]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, url, str(scripts)], cwd=ROOT, timeout=30)
    assert done.returncode == -9
    with closing(connect(url)) as database:
        assert schema.applied_versions(database) == VERSIONS[:1]
    with open_repository(url) as repository:
        assert [entry.address for entry in repository.whitelist_list()] == ["10.0.0.1"]


def test_upgrade_that_breaks_a_reference_is_undone(url: str, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "0001_bad.py").write_text(
        "def up(migrator, db):\n"
        "    db.execute_sql('CREATE TABLE a (id INTEGER PRIMARY KEY)')\n"
        "    db.execute_sql('CREATE TABLE b (a_id INTEGER REFERENCES a (id))')\n"
        "    db.execute_sql('INSERT INTO b VALUES (5)')\n"
    )
    with closing(connect(url)) as database:
        with pytest.raises(StoreError, match="reference of table 'b'"):
            schema.upgrade(database, directory=tmp_path / "scripts")
        assert database.get_tables() == []
        assert database.pragma("foreign_keys") == 1


def test_second_process_waits_for_the_first_to_migrate(url: str) -> None:
    first = connect(url)
    second = peewee.SqliteDatabase(first.database, timeout=0.05, lock_type="IMMEDIATE")
    second.connect()
    try:
        with schema._locked(first):
            with pytest.raises(peewee.OperationalError, match="locked"):
                schema.upgrade(second)
        assert schema.upgrade(second) == VERSIONS
        assert schema.upgrade(first) == []
    finally:
        first.close()
        second.close()
