"""What the tables promise, on every kind of database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from resender.errors import StoreError
from resender.store import (
    DuplicateEntry,
    LogRecord,
    Repository,
    UnknownEntry,
    open_repository,
    request_log,
    schema,
)
from resender.store.connection import _describe, parse_url
from resender.store.request_log import DAY_MS

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
HOSTILE = [
    'quo\'te "double" `back`',
    "%s ? {} $1 \\",
    "中文备注",
    "🚀🔥",
    "-- ; DROP TABLE whitelist",
    "a\nb\tc",
    " ",
]


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        self.now += 1
        return self.now


def record(time_ms: int = 1, **changes: object) -> LogRecord:
    base = LogRecord(time_ms, "10.0.0.1", "GET", "spot", "/api/v3/time", 200, 200, 1.5, 10, None)
    return base._replace(**changes)


@pytest.fixture
def repository(database_url: str):
    with open_repository(database_url, now_ms=Clock()) as opened:
        yield opened


def test_added_entry_is_listed_with_canonical_address(repository: Repository) -> None:
    entry = repository.whitelist_add(" ::ffff:203.0.113.5 ", "office", enabled=False)
    assert (entry.address, entry.note, entry.enabled) == ("203.0.113.5", "office", False)
    assert (entry.calls, entry.last_seen_ms) == (0, None)
    assert entry.created_ms == entry.updated_ms > 0
    assert repository.whitelist_list() == [entry]
    assert type(repository.whitelist_list()[0].enabled) is bool


def test_bad_address_is_refused_and_changes_nothing(repository: Repository) -> None:
    with pytest.raises(ValueError, match="not an IPv4"):
        repository.whitelist_add("example")
    assert repository.whitelist_list() == []
    assert repository.whitelist_revision() == 0


def test_duplicate_address_raises_with_the_existing_row(repository: Repository) -> None:
    first = repository.whitelist_add("10.0.0.0/8", "net")
    with pytest.raises(DuplicateEntry) as caught:
        repository.whitelist_add("::ffff:10.0.0.0/104", "again")
    assert caught.value.entry == first
    assert repository.whitelist_revision() == 1


def test_update_changes_only_what_is_given(repository: Repository) -> None:
    entry = repository.whitelist_add("10.0.0.1", "one")
    changed = repository.whitelist_update(entry.id, enabled=False)
    assert (changed.address, changed.note, changed.enabled) == ("10.0.0.1", "one", False)
    assert changed.updated_ms > entry.updated_ms
    assert changed.created_ms == entry.created_ms
    moved = repository.whitelist_update(entry.id, address="10.0.0.2", note="")
    assert (moved.address, moved.note) == ("10.0.0.2", "")
    assert repository.whitelist_update(entry.id, address="10.0.0.2").address == "10.0.0.2"


def test_update_to_an_address_of_another_entry_is_a_duplicate(repository: Repository) -> None:
    first = repository.whitelist_add("10.0.0.1")
    second = repository.whitelist_add("10.0.0.2")
    with pytest.raises(DuplicateEntry) as caught:
        repository.whitelist_update(second.id, address="10.0.0.1")
    assert caught.value.entry.id == first.id


def test_update_of_an_unknown_id_raises(repository: Repository) -> None:
    with pytest.raises(UnknownEntry):
        repository.whitelist_update(4711, note="x")
    assert repository.whitelist_revision() == 0


def test_entries_are_removed_by_id_or_address(repository: Repository) -> None:
    one = repository.whitelist_add("10.0.0.1")
    two = repository.whitelist_add("2001:db8::1")
    three = repository.whitelist_add("10.0.0.3")
    assert repository.whitelist_remove(one.id) is True
    assert repository.whitelist_remove("2001:0db8:0::1") is True
    assert repository.whitelist_remove(str(three.id)) is True
    assert repository.whitelist_remove(two.id) is False
    assert repository.whitelist_list() == []
    with pytest.raises(ValueError):
        repository.whitelist_remove("nonsense")


def test_every_change_raises_the_revision_and_counting_calls_does_not(repository: Repository) -> None:
    entry = repository.whitelist_add("10.0.0.1")
    repository.whitelist_update(entry.id, note="n")
    repository.whitelist_seen({entry.id: (3, 50)})
    assert repository.whitelist_revision() == 2
    repository.whitelist_remove(entry.id)
    repository.whitelist_remove(entry.id)
    assert repository.whitelist_revision() == 3


def test_calls_add_up_and_last_seen_never_goes_back(repository: Repository) -> None:
    entry = repository.whitelist_add("10.0.0.1")
    repository.whitelist_seen({entry.id: (3, 50), 999: (1, 1)})
    repository.whitelist_seen({entry.id: (2, 40)})
    (found,) = repository.whitelist_list()
    assert (found.calls, found.last_seen_ms) == (5, 50)


def test_seed_happens_once_even_when_the_table_was_emptied(repository: Repository) -> None:
    added = repository.whitelist_seed(["10.0.0.1", "10.0.0.1", "10.0.0.0/8"])
    assert [entry.address for entry in added] == ["10.0.0.1", "10.0.0.0/8"]
    for entry in added:
        repository.whitelist_remove(entry.id)
    assert repository.whitelist_seed(["10.0.0.1"]) == []
    assert repository.whitelist_list() == []


def test_seed_with_a_bad_address_adds_nothing(repository: Repository) -> None:
    with pytest.raises(ValueError):
        repository.whitelist_seed(["10.0.0.1", "x"])
    assert repository.whitelist_list() == []
    assert len(repository.whitelist_seed(["10.0.0.1"])) == 1


def test_hostile_text_comes_back_unchanged(repository: Repository) -> None:
    for number, text in enumerate(HOSTILE):
        entry = repository.whitelist_add(f"10.0.0.{number}", text)
        assert repository.whitelist_get(entry.id) == entry
        assert entry.note == text
        assert repository.log_write([record(number, path="/" + text, error=text)]) == 1
        row = repository.log_query(limit=1)[0]
        assert (row.path, row.error) == ("/" + text, text)


def test_nul_in_a_text_is_kept_where_the_database_can(repository: Repository, database_url: str) -> None:
    kept = "a\u2400b" if database_url.startswith("postgresql") else "a\0b"
    assert repository.whitelist_add("10.0.0.1", "a\0b").note == kept
    repository.log_write([record(path="a\0b")])
    assert repository.whitelist_list()[0].note == repository.log_query()[0].path == kept


@pytest.mark.parametrize(("note", "words"), [("x" * 1_000_000, "too long"), ("\ud800", "not text")])
def test_impossible_note_is_refused(repository: Repository, note: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        repository.whitelist_add("10.0.0.1", note)
    assert repository.whitelist_list() == []


def test_log_switch_is_off_at_first_and_is_kept(repository: Repository) -> None:
    assert repository.log_enabled() is False
    repository.set_log_enabled(True)
    repository.set_log_enabled(True)
    assert repository.log_enabled() is True
    repository.set_log_enabled(False)
    assert repository.log_enabled() is False


def test_log_pages_newest_first_without_gap_or_repeat(repository: Repository) -> None:
    # Several rows share a millisecond, and they do not come in the order of their times.
    times = [(n * 7) % 50 for n in range(250)]
    assert repository.log_write([record(time_ms=1000 + each) for each in times]) == 250
    seen = []
    before = None
    while page := repository.log_query(before_id=before, limit=30):
        seen += page
        before = page[-1].id
    assert len({row.id for row in seen}) == 250
    assert [(row.time_ms, row.id) for row in seen] == sorted(
        ((row.time_ms, row.id) for row in seen), reverse=True
    )
    assert repository.log_query(before_id=10**6) == []


def test_log_filters_combine(repository: Repository) -> None:
    repository.log_write(
        [
            record(10, ip="1.1.1.1", market="um", status=200),
            record(20, ip="1.1.1.1", market="um", status=502, upstream_status=None, error="gone"),
            record(30, ip="1.1.1.1", market="cm", status=200),
            record(40, ip="2.2.2.2", market="um", status=200),
        ]
    )

    def times(**filters: object) -> list[int]:
        return [row.time_ms for row in repository.log_query(**filters)]

    assert times() == [40, 30, 20, 10]
    assert times(ip="1.1.1.1") == [30, 20, 10]
    assert times(market="um") == [40, 20, 10]
    assert times(status=502) == [20]
    assert times(from_ms=20, to_ms=40) == [30, 20]
    assert times(ip="1.1.1.1", market="um", status=200, from_ms=0, to_ms=99) == [10]
    assert times(ip="1.1.1.1' OR '1'='1") == []
    assert times(limit=0) == [40]
    row = repository.log_query(status=502)[0]
    assert (row.upstream_status, row.error, row.duration_ms, row.bytes) == (None, "gone", 1.5, 10)


def test_one_impossible_record_does_not_hold_back_the_others(repository: Repository) -> None:
    written = repository.log_write(
        [
            record(1, path="x" * 100_000, error="y" * 100_000, ip="z" * 999, method="M" * 99),
            record(2, status=10**30, bytes=10**30),
            record(3, duration_ms=float("nan"), bytes="many"),
            record(4, path="\ud800"),
            record(5),
        ]
    )
    assert written == 4
    rows = repository.log_query()
    assert [row.time_ms for row in rows] == [5, 4, 2, 1]
    assert rows[1].path == "?"
    assert len(rows[3].path) == 2048


def test_not_a_number_as_duration_is_left_out_or_kept_but_never_fatal(repository: Repository) -> None:
    written = repository.log_write([record(1, duration_ms=float("nan")), record(2)])
    assert written == len(repository.log_query()) >= 1


def test_prune_removes_what_is_too_old_and_what_is_too_many(repository: Repository) -> None:
    now = 100 * DAY_MS
    repository.log_write([record(DAY_MS * day) for day in range(100)])
    assert repository.log_prune(now, 30, 0) == 70
    assert repository.log_prune(now, 30, 10) == 20
    assert [row.time_ms for row in repository.log_query()] == [DAY_MS * day for day in range(99, 89, -1)]
    assert repository.log_prune(now, 0, 0) == 0


def test_prune_of_many_rows_takes_several_short_transactions(repository: Repository) -> None:
    repository.log_write([record(n) for n in range(2500)])
    pieces = list(repository.log_prune_steps(10**9, 0, 100))
    assert sum(pieces) == 2400
    assert max(pieces) <= 1000
    assert repository.log_count() == 100


def test_two_servers_that_prune_at_once_remove_no_more_than_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "DELETE_BATCH", 5)
    repository.log_write([record(n // 2) for n in range(40)])
    one = repository.log_prune_steps(1000, 0, 10)
    assert next(one) == 5
    assert sum(repository.log_prune_steps(1000, 0, 10)) == 25
    assert sum(one) == 0
    assert repository.log_count() == 10
    assert min(row.time_ms for row in repository.log_query(limit=100)) == 15


def test_clear_removes_all_or_what_is_older(repository: Repository) -> None:
    repository.log_write([record(n) for n in range(10)])
    assert repository.log_clear(older_than_ms=4) == 4
    assert repository.log_clear() == 6
    assert repository.log_query() == []
    repository.log_write([record(1)])
    assert len(repository.log_query()) == 1


def test_second_open_finds_everything_again(database_url: str) -> None:
    with open_repository(database_url) as first:
        entry = first.whitelist_add("10.0.0.1", "中文")
    with open_repository(database_url) as second:
        assert second.whitelist_list() == [entry]
        assert schema.applied_versions(second.database) == schema.known_versions()


def test_database_of_a_newer_version_is_refused_in_one_line(database_url: str) -> None:
    with open_repository(database_url) as first:
        first.database.execute_sql(
            "INSERT INTO schema_migration (name, applied) VALUES ('9999_future', '2026-01-01 00:00:00')"
        )
    with pytest.raises(StoreError, match="newer version") as caught:
        open_repository(database_url).__enter__()
    assert "9999_future" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_foreign_table_of_the_same_name_is_left_alone(database_url: str) -> None:
    database = _describe(parse_url(database_url), 1)
    database.connect()
    database.execute_sql("CREATE TABLE whitelist (a INTEGER)")
    database.close()
    with pytest.raises(StoreError, match="not this program's"):
        open_repository(database_url).__enter__()


def test_upgrade_that_failed_half_way_can_be_used_and_finished(database_url: str, tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for path in schema.MIGRATIONS.glob("0*.py"):
        (scripts / path.name).write_text(path.read_text())
    with open_repository(database_url) as repository:
        repository.whitelist_add("10.0.0.1")
    broken = (scripts / schema.known_versions()[1]).with_suffix(".py").read_text()
    broken = broken.replace('"request_log"', '"another_log"').replace("RequestLog", "AnotherLog")
    fails = scripts / "9998_another_log.py"
    fails.write_text(broken + "    raise RuntimeError('power cut')\n")
    database = _describe(parse_url(database_url), 1)
    database.connect()
    try:
        with pytest.raises(RuntimeError, match="power cut"):
            schema.upgrade(database, directory=scripts)
        assert schema.applied_versions(database) == schema.known_versions()
        if not database_url.startswith("mysql"):
            assert not database.table_exists("another_log")
        assert [entry.address for entry in Repository(database).whitelist_list()] == ["10.0.0.1"]
        fails.write_text(broken)
        assert schema.upgrade(database, directory=scripts) == ["9998_another_log"]
        assert len(database.get_indexes("another_log")) >= 4
        assert [entry.address for entry in Repository(database).whitelist_list()] == ["10.0.0.1"]
    finally:
        database.close()


def test_processes_that_start_at_once_migrate_once_and_all_can_write(database_url: str) -> None:
    program = (
        "import sys\n"
        "from resender.store import open_repository\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "with open_repository(sys.argv[1], busy_timeout_s=20) as repository:\n"
        "    for n in range(20): repository.whitelist_add(f'10.{sys.argv[2]}.0.{n}')\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    with open_repository(database_url) as repository:
        assert len(repository.whitelist_list()) == 60
        assert repository.whitelist_revision() == 60


def test_password_with_special_characters_is_understood(mysql_url: str) -> None:
    with open_repository(mysql_url) as root:
        root.database.execute_sql("CREATE USER 'a b'@'localhost' IDENTIFIED BY 'p@ss:/?#%%'")
        root.database.execute_sql("GRANT ALL ON *.* TO 'a b'@'localhost'")
        try:
            url = mysql_url.replace("root@", "a%20b:p%40ss%3A%2F%3F%23%25@")
            with open_repository(url) as repository:
                assert repository.whitelist_add("10.0.0.1").id == 1
            with pytest.raises(StoreError, match="Access denied") as caught:
                open_repository(url.replace("p%40ss", "p%40st")).__enter__()
            assert "p@st" not in str(caught.value)
        finally:
            root.database.execute_sql("DROP USER 'a b'@'localhost'")


def test_revision_moves_only_with_the_change_it_belongs_to(repository: Repository) -> None:
    with pytest.raises(RuntimeError):
        with repository.transaction():
            repository.whitelist_add("10.0.0.1")
            raise RuntimeError
    assert repository.whitelist_snapshot() == (0, ())
