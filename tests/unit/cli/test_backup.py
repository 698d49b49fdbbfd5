"""`backup` and `restore` on the command line: what is saved, what comes back, and when nothing is touched."""

from __future__ import annotations

import configparser
import errno
import gzip
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from resender import __version__
from resender.cli import backup as module
from resender.cli import main as main_module
from resender.cli.main import main
from resender.lock import data_dir_lock
from resender.store import open_repository, schema
from resender.store.connection import _describe, parse_url

ROOT = Path(__file__).resolve().parents[3]
NEWEST = schema.known_versions()[-1]
SECRET = "a secret of thirty-two characters"
Capsys = pytest.CaptureFixture[str]


class Node:
    """A machine: the folder of its data, and that of the program's settings."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys) -> None:
        self.data, self.home = folder / "data", folder / "home"
        self.home.mkdir(parents=True)
        self.database = self.data / "resender.db"
        self.settings = self.home / "settings.py"
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.out = self.err = ""

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"

    def furnish(self, *addresses: str) -> None:
        """Let it have lived."""
        with open_repository(self.url) as repository:
            for address in addresses:
                repository.whitelist_add(address, "中文")
        (self.data / "account.key").write_bytes(b"k" * 44)
        (self.data / "account.key").chmod(0o600)
        self.settings.write_text("PORT = 8001\n")

    def run(self, *words: str | Path, code: int = 0, **settings: str) -> str:
        """Run a command there; return what it says."""
        with self._monkeypatch.context() as patched:
            patched.setattr(module, "home", lambda: self.home)
            patched.setenv("RESENDER_DATA_DIR", str(self.data))
            for name, value in settings.items():
                patched.setenv(f"RESENDER_{name}", value)
            found = main([str(word) for word in words])
        self.out, self.err = self._capsys.readouterr()
        assert found == code, self.out + self.err
        return self.out if not code else self.err

    def addresses(self) -> list[str]:
        with open_repository(self.url) as repository:
            return [entry.address for entry in repository.whitelist_list()]

    def picture(self) -> dict[str, bytes]:
        """Tell all there is, but for the lock and what SQLite keeps for readers."""
        return {
            str(path): path.read_bytes()
            for folder in (self.data, self.home)
            for path in folder.rglob("*")
            if path.is_file() and path.name != "gateway.lock" and not path.name.endswith("-shm")
        }

    @property
    def kept(self) -> Path:
        (folder,) = self.data.glob("before-restore-*")
        return folder


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine, and a log that stays the tests' own."""
    for name in list(os.environ):
        if name.startswith("RESENDER_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setattr(main_module, "read_settings_file", dict)
    monkeypatch.setattr(main_module, "set_up_logging", lambda level, form: None)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys) -> Node:
    made = Node(tmp_path / "here", monkeypatch, capsys)
    made.furnish("10.0.0.1", "home.example.com")
    return made


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys) -> Node:
    return Node(tmp_path / "there", monkeypatch, capsys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "saved.tar.gz"


def members(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return archive.getnames()


def member(path: Path, name: str) -> bytes:
    with tarfile.open(path) as archive:
        found = archive.extractfile(name)
        assert found is not None
        return found.read()


# --- saving ---------------------------------------------------------------------------------------


def test_backup_tells_what_it_holds_and_that_it_is_secret(node: Node, file: Path) -> None:
    said = node.run("backup", file).splitlines()
    size = file.stat().st_size
    assert said == [
        f"{file} holds resender.db, account.key, settings.py, settings.env: {size:,d} bytes.",
        "It holds secrets: keep it where only you can read it.",
    ]
    assert members(file) == ["manifest.json", "resender.db", "account.key", "settings.py", "settings.env"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert member(file, "account.key") == b"k" * 44
    assert member(file, "settings.py") == b"PORT = 8001\n"
    manifest = json.loads(member(file, "manifest.json"))
    assert (manifest["version"], manifest["schema"]) == (__version__, NEWEST)
    assert manifest["source"].endswith("/data/resender.db")


def test_backup_may_be_made_while_the_gateway_runs(node: Node, file: Path) -> None:
    with data_dir_lock(node.data), open_repository(node.url) as repository:
        repository.whitelist_add("10.0.0.2", "")
        node.run("backup", file)
    assert file.exists()


def test_backup_leaves_nothing_beside_it(node: Node, file: Path) -> None:
    before = node.picture()
    node.run("backup", file)
    assert {path: data for path, data in node.picture().items() if not path.endswith("-wal")} == before
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == [file.name]


def test_of_a_folder_the_newest_stay(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    old = [folder / f"binance-resender-2026010{day}T031700Z.tar.gz" for day in range(1, 6)]
    for path in old:
        path.write_bytes(b"x")
    (folder / "mine.tar.gz").write_bytes(b"x")
    said = node.run("backup", folder, "--keep", "3")
    assert said.count(" is removed.") == 3
    left = sorted(path.name for path in folder.iterdir())
    assert left[:2] == [path.name for path in old[3:]]
    assert left[3] == "mine.tar.gz"
    assert re.fullmatch(r"binance-resender-\d{8}T\d{6}Z\.tar\.gz", left[2])
    assert members(folder / left[2])[1] == "resender.db"


def test_nothing_old_goes_where_the_new_one_could_not_be_made(node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    old = folder / "binance-resender-20260101T031700Z.tar.gz"
    old.write_bytes(b"x")
    node.database.write_bytes(b"damaged")
    node.run("backup", folder, "--keep", "1", code=2)
    assert list(folder.iterdir()) == [old]


@pytest.mark.parametrize("keep", ["0", "x", "", "-3", "3w"])
def test_wrong_number_to_keep_is_told_before_anything_is_done(node: Node, tmp_path: Path, keep: str) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    assert node.run("backup", folder, f"--keep={keep}", code=2).startswith("error: --keep: ")
    assert list(folder.iterdir()) == []


def test_number_to_keep_belongs_to_a_folder(node: Node, file: Path) -> None:
    assert node.run("backup", file, "--keep", "3", code=2) == (
        f"error: --keep belongs to a folder, and {file} is none.\n"
    )
    assert not file.exists()


def test_place_that_cannot_be_written_to_is_named(node: Node, tmp_path: Path) -> None:
    said = node.run("backup", tmp_path / "no" / "x.tar.gz", code=1)
    assert said.startswith(f"error: {tmp_path / 'no'}")
    assert said.endswith(": No such file or directory.\n")


def test_without_a_database_there_is_no_backup(other: Node, file: Path) -> None:
    assert "There is no database" in other.run("backup", file, code=1)
    assert not file.exists()
    assert not other.database.exists()


def test_log_and_key_may_be_left_out(node: Node, file: Path) -> None:
    said = node.run("backup", file, "--without-key", "--without-log")
    assert "account.key" not in said
    assert members(file) == ["manifest.json", "resender.db", "settings.py", "settings.env"]


def test_without_the_key_means_without_the_setting_that_is_one(node: Node, file: Path) -> None:
    """SECRET_KEY opens what account.key opens elsewhere."""
    node.run("backup", file, "--without-key", SECRET_KEY=SECRET)
    with gzip.open(file) as raw:
        assert SECRET.encode() not in raw.read()
    assert b"RESENDER_DATA_DIR" in member(file, "settings.env")


def test_key_in_the_settings_that_are_saved_is_told(
    node: Node, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_module, "read_settings_file", lambda: {"SECRET_KEY": SECRET})
    node.run("backup", file, "--without-key")
    assert "settings.py sets SECRET_KEY" in node.err
    assert SECRET not in node.err
    node.run("backup", file.with_name("all.tar.gz"))
    assert node.err == ""


def test_variables_come_back_as_they_were_whatever_is_in_them(node: Node, other: Node, file: Path) -> None:
    odd = "a \"b\" $c `d` \\e \\\\ #f 'g'  \n h=i"
    node.run("backup", file, ADMIN_PASSWORD=odd, UM_KLINE_STREAM="plain")
    other.run("restore", file)
    env = other.data / "restored.env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    done = subprocess.run(
        ["/bin/sh", "-c", '. "$0"; printf %s "$RESENDER_ADMIN_PASSWORD|$RESENDER_UM_KLINE_STREAM"', env],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{odd}|plain"
    assert "RESENDER_" in env.read_text()
    assert "PATH=" not in env.read_text()


# --- bringing back --------------------------------------------------------------------------------


def test_another_machine_gets_all_of_it(node: Node, other: Node, file: Path) -> None:
    node.run("backup", file)
    said = other.run("restore", file)
    assert other.addresses() == ["10.0.0.1", "home.example.com"]
    assert (other.data / "account.key").read_bytes() == b"k" * 44
    assert other.settings.read_text() == "PORT = 8001\n"
    assert f"made by version {__version__} from" in said
    assert "compare them with /etc/binance-resender.env" in said
    assert "What was there before" not in said
    assert not list(other.data.glob("before-restore-*"))
    assert not list(other.data.glob(".backup-*"))
    for name in ("resender.db", "account.key"):
        assert stat.S_IMODE((other.data / name).stat().st_mode) == 0o600


def test_what_was_there_before_is_kept_whole(node: Node, file: Path) -> None:
    node.run("backup", file)
    with open_repository(node.url) as repository:
        repository.whitelist_add("10.0.0.9", "later")
    node.settings.write_text("PORT = 9999\n")
    (node.data / "account.key").write_bytes(b"n" * 44)
    said = node.run("restore", file)
    assert node.addresses() == ["10.0.0.1", "home.example.com"]
    assert node.settings.read_text() == "PORT = 8001\n"
    assert f"What was there before is in {node.kept}." in said
    assert stat.S_IMODE(node.kept.stat().st_mode) == 0o700
    with open_repository(f"sqlite:///{node.kept / 'resender.db'}") as repository:
        assert "10.0.0.9" in [entry.address for entry in repository.whitelist_list()]
    assert (node.kept / "settings.py").read_text() == "PORT = 9999\n"
    assert (node.kept / "account.key").read_bytes() == b"n" * 44


def test_log_of_sqlite_does_not_stay_beside_another_database(node: Node, file: Path) -> None:
    """Of a gateway that was killed."""
    node.run("backup", file)
    with open_repository(node.url) as repository:
        repository.whitelist_add("10.0.0.9", "in the log of SQLite only")
        log = Path(f"{node.database}-wal").read_bytes()
        whole = node.database.read_bytes()
    node.database.write_bytes(whole)
    Path(f"{node.database}-wal").write_bytes(log)
    node.run("restore", file)
    assert node.addresses() == ["10.0.0.1", "home.example.com"]
    with open_repository(f"sqlite:///{node.kept / 'resender.db'}") as repository:
        assert len(repository.whitelist_list()) == 3


def test_backup_without_a_key_leaves_the_key_there_is(node: Node, other: Node, file: Path) -> None:
    other.furnish("10.7.7.7")
    (other.data / "account.key").write_bytes(b"o" * 44)
    node.run("backup", file, "--without-key")
    other.run("restore", file)
    assert (other.data / "account.key").read_bytes() == b"o" * 44


def test_settings_that_are_the_same_or_not_wanted_are_left_alone(node: Node, other: Node, file: Path) -> None:
    node.run("backup", file)
    moment = node.settings.stat().st_mtime_ns
    node.run("restore", file)
    assert node.settings.stat().st_mtime_ns == moment
    assert not (node.kept / "settings.py").exists()
    other.furnish("10.7.7.7")
    other.settings.write_text("PORT = 9999\n")
    other.run("restore", file, "--without-settings")
    assert other.settings.read_text() == "PORT = 9999\n"


def test_settings_go_beside_the_data_where_the_program_may_not_be_changed(
    node: Node, other: Node, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.run("backup", file)
    access = os.access
    monkeypatch.setattr(module.os, "access", lambda path, how: path != other.home and access(path, how))
    said = other.run("restore", file)
    assert (other.data / "restored-settings.py").read_text() == "PORT = 8001\n"
    assert not other.settings.exists()
    assert "may not write beside run.py" in said


def test_database_elsewhere_is_put_where_the_settings_say(node: Node, other: Node, file: Path) -> None:
    node.run("backup", file)
    place = other.home / "db" / "mine.db"
    place.parent.mkdir()
    other.run("restore", file, DATABASE_URL=f"sqlite:///{place}")
    with open_repository(f"sqlite:///{place}") as repository:
        assert len(repository.whitelist_list()) == 2
    assert not other.database.exists()


def test_backup_of_an_older_version_is_brought_up_to_date(other: Node, node: Node, file: Path) -> None:
    node.database.unlink()
    with closing(_describe(parse_url(node.url), 1.0)) as database:
        database.connect()
        schema.upgrade(database, target="0004_admin")
        database.execute_sql("INSERT INTO state (key, value) VALUES ('mine', 'kept')")
    node.run("backup", file)
    assert json.loads(member(file, "manifest.json"))["schema"] == "0004_admin"
    other.run("restore", file)
    assert [path.name for path in other.data.glob("resender.db*")] == ["resender.db"]
    with open_repository(other.url) as repository:
        assert schema.applied_versions(repository.database)[-1] == NEWEST
        assert repository.state_get("mine") == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_has_restored_the_service_can_use(node: Node, other: Node, file: Path) -> None:
    """On a new machine, before the service has been started."""
    node.run("backup", file)
    other.data.mkdir()
    os.chown(other.data, 65534, 65534)
    other.run("restore", file)
    for path in other.data.rglob("*"):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (65534, 65534), path


# --- all or nothing -------------------------------------------------------------------------------


def test_restore_is_refused_while_a_gateway_runs(node: Node, file: Path) -> None:
    node.run("backup", file)
    before = node.picture()
    with data_dir_lock(node.data):
        said = node.run("restore", file, code=2)
    assert said.startswith("error: another gateway (pid ")
    assert node.picture() == before


def test_backup_of_a_newer_program_is_refused(node: Node, other: Node, file: Path) -> None:
    with closing(sqlite3.connect(node.database)) as database:
        database.execute("UPDATE schema_migration SET name = '9999_later' WHERE name = ?", (NEWEST,))
        database.commit()
    # The program that made it could read it; this one cannot even save it.
    assert "is of a newer version" in node.run("backup", file, code=2)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(schema, "known_versions", lambda *_: ["9999_later"])
        node.run("backup", file)
    other.furnish("10.7.7.7")
    before = other.picture()
    assert "install that version" in other.run("restore", file, code=2)
    assert other.picture() == before


@pytest.mark.parametrize("what", ["no archive", "cut off", "flipped", "not there"])
def test_damaged_backup_changes_nothing(node: Node, other: Node, file: Path, what: str) -> None:
    node.run("backup", file)
    good = file.read_bytes()
    if what == "not there":
        file.unlink()
    else:
        middle = len(good) // 2
        changed = {
            "no archive": b"x" * 1000,
            "cut off": good[:middle],
            "flipped": good[:middle] + bytes([good[middle] ^ 0xFF]) + good[middle + 1 :],
        }
        file.write_bytes(changed[what])
    other.furnish("10.7.7.7")
    before = other.picture()
    said = other.run("restore", file, code=1)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert other.picture() == before
    assert not list(other.data.glob(".backup-*"))


def test_database_that_cannot_be_upgraded_changes_nothing(node: Node, other: Node, file: Path) -> None:
    with closing(sqlite3.connect(node.database)) as database:
        database.execute("DELETE FROM schema_migration WHERE name = ?", (NEWEST,))
        database.execute("DELETE FROM state WHERE key = 'alert_revision'")
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON state BEGIN SELECT RAISE(ABORT, 'not here'); END"
        )
        database.commit()
    node.run("backup", file)
    other.furnish("10.7.7.7")
    before = other.picture()
    assert "cannot be brought up to date (not here)" in other.run("restore", file, code=2)
    assert other.picture() == before


@pytest.mark.parametrize("number", range(1, 8))
def test_fault_in_the_middle_leaves_everything_as_it_was(
    node: Node, other: Node, file: Path, number: int
) -> None:
    node.run("backup", file)
    other.furnish("10.7.7.7")
    other.settings.write_text("PORT = 9999\n")
    before = other.picture()
    count = 0
    replace = os.replace

    def fails(source: Path, target: Path) -> None:
        nonlocal count
        count += ".backup-" in str(source) or "before-restore" in str(target)
        if count == number:
            count += 1
            raise OSError(errno.EIO, "Input/output error", str(source))
        replace(source, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "replace", fails)
        said = other.run("restore", file, code=1)
    assert said.endswith("Input/output error; everything is as it was.\n")
    assert other.picture() == before
    assert not list(other.data.glob(".backup-*"))
    assert not list(other.data.glob("before-restore-*"))
    assert other.addresses() == ["10.7.7.7"]


# --- each night -----------------------------------------------------------------------------------


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(ROOT / "deploy" / name)
    return found


def test_nightly_backup_is_made_by_the_services_user_with_its_settings() -> None:
    service, own = (
        unit("binance-resender.service")["Service"],
        unit("binance-resender-backup.service")["Service"],
    )
    for name in ("User", "Group", "EnvironmentFile", "WorkingDirectory", "UMask", "NoNewPrivileges"):
        assert own[name] == service[name], name
    assert own["Type"] == "oneshot"
    program, *words = own["ExecStart"].split()
    assert program == service["ExecStart"].split()[0]
    assert words[:2] == ["run.py", "backup"]
    # It writes where its folder is made, and SQLite beside the database.
    assert words[2] == f"/var/lib/{own['StateDirectory']}"
    assert own["ReadWritePaths"] == f"/var/lib/{service['StateDirectory']}"
    assert own["StateDirectoryMode"] == "0700"


def test_nightly_backup_is_a_command_there_is(node: Node, tmp_path: Path) -> None:
    words = unit("binance-resender-backup.service")["Service"]["ExecStart"].split()[2:]
    words[1] = str(tmp_path / "backups")
    Path(words[1]).mkdir()
    node.run(*words)
    assert len(list((tmp_path / "backups").iterdir())) == 1


def test_timer_makes_up_for_a_night_that_was_missed() -> None:
    timer = unit("binance-resender-backup.timer")
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Install"]["WantedBy"] == "timers.target"


def test_units_are_understood_by_systemd(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    for end in ("service", "timer"):
        text = (ROOT / "deploy" / f"binance-resender-backup.{end}").read_text("utf-8")
        text = re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", text)
        (tmp_path / f"binance-resender-backup.{end}").write_text(text, "utf-8")
    done = subprocess.run(
        [program, "verify", tmp_path / "binance-resender-backup.service", tmp_path / "binance-resender-backup.timer"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "binance-resender-backup" in line] == []
    assert done.returncode == 0, done.stderr
