"""One file that holds everything: what is in it, what is refused, which old ones go, the way back whole or not."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import random
import stat
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from resender import backups
from resender.backups import (
    DATABASE,
    ENVIRONMENT,
    FORMAT,
    KEY,
    SETTINGS,
    BackupError,
    Keep,
    Manifest,
    backup_name,
    new_folder,
    pack,
    parse_keep,
    prune,
    put_in_place,
    unpack,
)

NOW = 1_790_000_000.0
DAY_S = 86_400
NOBODY = 65534
CONTENT = {
    DATABASE: bytes(range(256)) * 200,
    KEY: b"k" * 44,
    SETTINGS: b"PORT = 8000\n",
    ENVIRONMENT: b"A=1\n",
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, data in CONTENT.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def archive(source: Path, tmp_path: Path) -> Path:
    target = tmp_path / "made.tar.gz"
    pack(source, target, version="0.3.0", schema="0006_alerts", source="sqlite:///x", now=NOW)
    return target


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- names and which go ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keep"),
    [("14", Keep(count=14)), ("1", Keep(count=1)), (" 30d ", Keep(days=30)), ("99999d", Keep(days=99999))],
)
def test_what_is_kept_is_read(text: str, keep: Keep) -> None:
    assert parse_keep(text) == keep


@pytest.mark.parametrize("text", ["", "0", "0d", "-1", "1.5", "d", "30 d", "30h", "100000", "１４", "14;rm"])
def test_nobody_keeps_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number of backups"):
        parse_keep(text)


def test_name_sorts_by_time_and_has_none_of_the_machines_zone() -> None:
    assert backup_name(NOW) == time.strftime("binance-resender-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime(NOW))
    names = [backup_name(NOW + step) for step in (0, 1, 60, 3600, DAY_S, 40 * DAY_S)]
    assert names == sorted(names)


def fill(folder: Path, *ages_days: float) -> list[Path]:
    """Make backups so many days old; the newest first."""
    paths = [folder / backup_name(NOW - age * DAY_S) for age in ages_days]
    for path in paths:
        path.write_bytes(b"x")
    return paths


def test_newest_of_a_folder_stay_however_many_there_are(tmp_path: Path) -> None:
    made = fill(tmp_path, *range(20))
    assert set(prune(tmp_path, Keep(count=14), NOW)) == set(made[14:])
    assert sorted(tmp_path.iterdir()) == sorted(made[:14])
    assert prune(tmp_path, Keep(count=14), NOW) == []


def test_those_of_the_last_days_stay(tmp_path: Path) -> None:
    made = fill(tmp_path, 0, 1, 29.9, 30.1, 400)
    assert set(prune(tmp_path, Keep(days=30), NOW)) == set(made[3:])


def test_last_one_is_never_removed(tmp_path: Path) -> None:
    made = fill(tmp_path, 400, 500)
    assert prune(tmp_path, Keep(days=1), NOW) == [made[1]]
    assert prune(tmp_path, Keep(count=1), NOW) == []
    assert made[0].exists()


def test_files_of_others_are_neither_counted_nor_removed(tmp_path: Path) -> None:
    made = fill(tmp_path, *range(4))
    others = [
        "binance-resender-20260101T000000Z.tar.gz.part",
        "binance-resender-20260101T000000Z.tar",
        "old-binance-resender-20260101T000000Z.tar.gz",
        "binance-resender-2026.tar.gz",
        "before-the-move.tar.gz",
        ".backup-x",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"x")
    folder = tmp_path / backup_name(NOW - 300 * DAY_S)
    folder.mkdir()
    assert set(prune(tmp_path, Keep(count=2), NOW)) == set(made[2:])
    assert folder.is_dir()
    assert all((tmp_path / name).exists() for name in others)


def test_link_that_is_named_as_ours_goes_and_not_what_it_leads_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    folder = tmp_path / "folder"
    folder.mkdir()
    fill(folder, 0)
    (folder / backup_name(NOW - 9 * DAY_S)).symlink_to(elsewhere)
    assert len(prune(folder, Keep(count=1), NOW)) == 1
    assert elsewhere.read_bytes() == b"precious"


# --- making one -----------------------------------------------------------------------------------


def test_backup_comes_back_as_it_was(archive: Path, out: Path) -> None:
    manifest = unpack(archive, out)
    assert manifest == Manifest(
        "0.3.0", "0006_alerts", int(NOW * 1000), "sqlite:///x",
        {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()},
    )  # fmt: skip
    assert {path.name: path.read_bytes() for path in out.iterdir()} == CONTENT


def test_everything_is_readable_for_its_owner_only(archive: Path, out: Path) -> None:
    old = os.umask(0)
    try:
        unpack(archive, out)
    finally:
        os.umask(old)
    assert mode(archive) == 0o600
    assert {mode(path) for path in out.iterdir()} == {0o600}


def test_backup_tells_nothing_of_the_machines_users_and_modes(source: Path, archive: Path) -> None:
    (source / SETTINGS).chmod(0o777)
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        assert [member.name for member in members] == ["manifest.json", *CONTENT]
        owners = {(m.uid, m.gid, m.uname, m.gname, m.mode) for m in members}
        assert owners == {(0, 0, "", "", 0o600)}
        first = tar.extractfile(members[0])
        assert first is not None
        manifest = json.load(first)
    assert manifest["format"] == FORMAT
    assert manifest["created"] == time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(NOW))


def test_only_what_belongs_into_a_backup_gets_into_it(source: Path, tmp_path: Path, out: Path) -> None:
    (source / "candles").mkdir()
    (source / "other.db").write_bytes(b"x")
    (source / KEY).unlink()
    pack(source, tmp_path / "b", version="1", schema="2", source="x", now=NOW)
    assert set(unpack(tmp_path / "b", out).files) == {DATABASE, SETTINGS, ENVIRONMENT}
    assert {path.name for path in out.iterdir()} == {DATABASE, SETTINGS, ENVIRONMENT}


def test_half_a_backup_never_has_a_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backups.os, "fsync", full)
    target = tmp_path / "b.tar.gz"
    target.write_bytes(b"the one of yesterday")
    with pytest.raises(BackupError, match=f"{target} cannot be written: No space left on device"):
        pack(source, target, version="1", schema="2", source="x", now=NOW)
    assert target.read_bytes() == b"the one of yesterday"


def test_folder_for_the_work_is_for_nobody_else_and_gone_afterwards(tmp_path: Path) -> None:
    with new_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert mode(folder) == 0o700
        (folder / "x").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="No such file or directory") as caught, new_folder(tmp_path / "no"):
        pass
    assert str(tmp_path / "no") in str(caught.value)


def test_folder_for_the_work_is_gone_after_a_fault_too(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="x: gone"), new_folder(tmp_path):
        raise OSError(errno.EIO, "gone", "x")
    assert list(tmp_path.iterdir()) == []


# --- what is refused ------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]


def manifest_of(content: Mapping[str, bytes], change: Change | None = None) -> bytes:
    found: dict[str, Any] = {
        "format": FORMAT, "version": "0.3.0", "schema": "0006_alerts", "created_ms": 1, "source": "x",
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in content.items()
        },
    }  # fmt: skip
    if change is not None:
        change(found)
    return json.dumps(found).encode()


def plain(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    return member, data


def special(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    return plain(name, type=kind, linkname=link)


def write(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return path


def whole(content: Mapping[str, bytes] = CONTENT) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [plain("manifest.json", manifest_of(content)), *(plain(n, d) for n, d in content.items())]


def refused(path: Path, out: Path) -> str:
    with pytest.raises(BackupError) as caught:
        unpack(path, out)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture(autouse=True)
def nothing_gets_out(tmp_path: Path) -> Iterator[None]:
    """See that no archive of a test writes beside the folder it is unpacked into."""
    yield
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path.parent / "evil").exists()
    assert not Path("/tmp/evil-of-a-backup").exists()


def test_file_that_is_not_there_is_named(tmp_path: Path, out: Path) -> None:
    assert refused(tmp_path / "no.tar.gz", out) == f"There is no file {tmp_path / 'no.tar.gz'}."


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"x" * 5000, mtime=0),
        gzip.compress(b"\0" * 10240, mtime=0),
        b"\x1f\x8b",
    ],
    ids=range(6),
)
def test_file_that_is_no_archive_is_refused(tmp_path: Path, out: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    assert "no backup of this program" in refused(path, out)


def test_folder_is_no_backup(tmp_path: Path, out: Path) -> None:
    assert "no backup of this program" in refused(tmp_path, out)


def test_archive_of_somebody_else_is_refused(tmp_path: Path, out: Path) -> None:
    path = write(tmp_path / "x", plain("home/a", b"x"), *whole())
    assert refused(path, out) == "It is no backup of this program: it does not begin with a manifest."
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"nonsense", b"\xff\xfe", b'{"format":"1"}', b'{"format":1,"files":[]}']
)
def test_manifest_that_cannot_be_read_is_refused(tmp_path: Path, out: Path, data: bytes) -> None:
    path = write(tmp_path / "x", plain("manifest.json", data), *whole()[1:])
    assert refused(path, out) == "The manifest of the backup cannot be read."


def test_manifest_that_is_no_file_or_endless_is_refused(tmp_path: Path, out: Path) -> None:
    for number, first in enumerate(
        (
            special("manifest.json", tarfile.SYMTYPE, "/etc/hostname"),
            special("manifest.json", tarfile.DIRTYPE),
            plain("manifest.json", manifest_of(CONTENT) + b" " * 70_000),
        )
    ):
        text = refused(write(tmp_path / str(number), first, *whole()[1:]), out)
        assert "does not begin with a manifest" in text


def test_backup_of_a_later_form_names_the_version_that_made_it(tmp_path: Path, out: Path) -> None:
    def later(found: dict[str, Any]) -> None:
        found |= {"format": FORMAT + 1, "version": "9.1.0"}

    path = write(tmp_path / "x", plain("manifest.json", manifest_of(CONTENT, later)), *whole()[1:])
    text = refused(path, out)
    assert "9.1.0" in text
    assert "install that one" in text


def test_backup_without_a_database_is_refused(tmp_path: Path, out: Path) -> None:
    path = write(tmp_path / "x", *whole({KEY: b"k"}))
    assert refused(path, out) == "The backup holds no database."


@pytest.mark.parametrize("name", CONTENT)
def test_member_with_another_checksum_is_named(tmp_path: Path, out: Path, name: str) -> None:
    changed = CONTENT | {name: bytes(reversed(CONTENT[name][:-1])) + b"#"}
    path = write(tmp_path / "x", whole()[0], *(plain(n, d) for n, d in changed.items()))
    assert refused(path, out) == f"{path}: {name} is damaged, its checksum differs."


@pytest.mark.parametrize("name", CONTENT)
def test_member_that_is_missing_or_of_another_size_is_named(tmp_path: Path, out: Path, name: str) -> None:
    left_out = {n: d for n, d in CONTENT.items() if n != name}
    longer = CONTENT | {name: CONTENT[name] + b"x"}
    for number, content in enumerate((left_out, longer)):
        path = write(tmp_path / str(number), whole()[0], *(plain(n, d) for n, d in content.items()))
        folder = out / str(number)
        folder.mkdir()
        assert refused(path, folder) == f"{name} is not in the backup as its manifest says."


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../evil"),
        (tarfile.LNKTYPE, "manifest.json"),
        (tarfile.LNKTYPE, "../evil"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
)
@pytest.mark.parametrize("name", [DATABASE, KEY, SETTINGS])
def test_member_that_is_no_plain_file_is_refused(
    tmp_path: Path, out: Path, name: str, kind: bytes, link: str
) -> None:
    content = CONTENT | {name: b""}
    members = [member for member in whole(content) if member[0].name != name]
    path = write(tmp_path / "x", *members, special(name, kind, link))
    assert refused(path, out) == f"{name} is not in the backup as its manifest says."
    assert not any(each.is_symlink() or not each.is_file() for each in out.iterdir())


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/evil-of-a-backup", "./../evil", "evil", f"../{KEY}", f"x/../../{KEY}", f"./{KEY}"],
)
def test_member_with_another_path_is_never_written(tmp_path: Path, out: Path, name: str) -> None:
    """Neither as a member nor by the word of the manifest."""
    content = CONTENT | {name: b"evil"}
    assert set(unpack(write(tmp_path / "x", *whole(content)), out).files) == set(CONTENT)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == CONTENT
    assert not (tmp_path / KEY).exists()


def test_link_in_the_archive_does_not_lead_a_later_member_away(tmp_path: Path, out: Path) -> None:
    first, *rest = whole()
    members = [
        first,
        special(DATABASE, tarfile.SYMTYPE, "../evil"),
        special("x", tarfile.SYMTYPE, ".."),
        *rest,
    ]
    # The last member of a name is the one that counts.
    unpack(write(tmp_path / "x", *members, plain("x/evil", b"x")), out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == CONTENT


def test_file_that_is_there_already_is_not_written_over(archive: Path, tmp_path: Path, out: Path) -> None:
    (out / KEY).symlink_to(tmp_path / "evil")
    assert "File exists" in refused(archive, out)


def test_member_that_says_it_is_huge_is_refused(tmp_path: Path, out: Path) -> None:
    def huge(found: dict[str, Any]) -> None:
        found["files"][DATABASE]["bytes"] = 1 << 45

    member, data = plain(DATABASE, CONTENT[DATABASE])
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for one, content in [plain("manifest.json", manifest_of(CONTENT, huge)), *whole()[2:]]:
            tar.addfile(one, io.BytesIO(content))
    member.size = 1 << 45
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(raw.getvalue()[:-10240] + member.tobuf() + data))
    refused(path, out)
    assert sum(each.stat().st_size for each in out.iterdir()) < 1 << 20


def test_small_file_that_would_fill_the_disk_is_refused(tmp_path: Path, out: Path) -> None:
    """A key is no 16 MiB; such an archive takes 16 KiB."""
    text = refused(write(tmp_path / "x", *whole(CONTENT | {KEY: b"\0" * (16 << 20)})), out)
    assert KEY in text
    assert not (out / KEY).exists() or (out / KEY).stat().st_size <= 1 << 20


def test_member_with_holes_is_refused(tmp_path: Path, out: Path) -> None:
    """Some bytes that say that they are sixteen million zeros."""
    size = 16 << 20
    zeros = b"\0" * size
    member, _ = plain(DATABASE)
    member.pax_headers = {
        "GNU.sparse.map": f"{size},0",
        "GNU.sparse.size": str(size),
        "GNU.sparse.name": DATABASE,
    }
    content = {**CONTENT, DATABASE: zeros}
    with tarfile.open(tmp_path / "x", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for one, data in [plain("manifest.json", manifest_of(content)), (member, b""), *whole()[2:]]:
            tar.addfile(one, io.BytesIO(data))
    refused(tmp_path / "x", out)


def test_more_members_than_a_backup_has_are_not_unpacked(tmp_path: Path, out: Path) -> None:
    junk = [plain(f"junk/{number}", b"x" * 100) for number in range(2000)]
    unpack(write(tmp_path / "x", *whole(), *junk, plain("zeros", b"\0" * (4 << 20))), out)
    assert {path.name for path in out.iterdir()} == set(CONTENT)


@pytest.mark.parametrize("is_packed", [True, False], ids=["of the file", "of what is packed in it"])
def test_no_flipped_bit_gets_in_or_is_a_traceback(
    archive: Path, tmp_path: Path, is_packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda number: None)
    good = archive.read_bytes() if is_packed else gzip.decompress(archive.read_bytes())
    chance = random.Random(7)
    counts = {"refused": 0, "unharmed": 0}
    for number in range(300):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path, folder = tmp_path / "x", tmp_path / f"out-{number}"
        path.write_bytes(bytes(data) if is_packed else gzip.compress(bytes(data), 1))
        folder.mkdir()
        try:
            unpack(path, folder)
        except BackupError:
            counts["refused"] += 1
            continue
        counts["unharmed"] += 1
        found = {each.name: each.read_bytes() for each in folder.iterdir()}
        assert found.items() <= CONTENT.items()
    assert counts["refused"] > 50


def test_stream_that_cannot_be_unpacked_is_refused(archive: Path, tmp_path: Path) -> None:
    """zlib has errors of its own, which are none of the system or of tar."""
    good = archive.read_bytes()
    found = 0
    for place in range(20, len(good) - 8):
        data = bytearray(good)
        data[place] ^= 0x55
        try:
            gzip.decompress(bytes(data))
        except zlib.error:
            path, folder = tmp_path / "x", tmp_path / f"out-{place}"
            path.write_bytes(bytes(data))
            folder.mkdir()
            refused(path, folder)
            found += 1
        except (OSError, EOFError):
            continue
    assert found > 20


def test_file_that_ends_too_early_is_refused(archive: Path, tmp_path: Path) -> None:
    good = archive.read_bytes()
    # Behind the last member there are only zeros, which nobody misses.
    for number, size in enumerate([*range(1, 40), *range(40, len(good) - 200, 53)]):
        path, folder = tmp_path / "x", tmp_path / f"out-{number}"
        path.write_bytes(good[:size])
        folder.mkdir()
        refused(path, folder)


# --- the way back ---------------------------------------------------------------------------------


class Scene:
    """What is there before a restore, and what is to be put in its place."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.home = folder / "home"
        self.new = self.data / ".backup-x"
        self.kept = self.data / "before-restore-x"
        for each in (self.data, self.home, self.new):
            each.mkdir()
        self.database = self.data / DATABASE
        self.settings = self.home / SETTINGS
        for path, data in (
            (self.database, b"old database"),
            (Path(f"{self.database}-wal"), b"old log"),
            (self.data / KEY, b"old key"),
            (self.settings, b"OLD = 1\n"),
        ):
            path.write_bytes(data)
            path.chmod(0o640)
        (self.data / "candles").mkdir()
        for name, text in ((DATABASE, b"new database"), (KEY, b"new key"), (SETTINGS, b"NEW = 1\n")):
            (self.new / name).write_bytes(text)
            (self.new / name).chmod(0o600)

    @property
    def pairs(self) -> dict[Path, Path]:
        beside = {self.new / f"none{end}": Path(f"{self.database}{end}") for end in ("-wal", "-shm")}
        return {
            self.new / KEY: self.data / KEY,
            self.new / DATABASE: self.database,
            **beside,
            self.new / SETTINGS: self.settings,
            self.new / ENVIRONMENT: self.data / "restored.env",
        }

    def picture(self) -> dict[str, tuple[bytes, int, int, int]]:
        """Tell all there is outside of the folder of the new files: content, mode and owner."""
        found = {}
        for path in (*self.data.rglob("*"), *self.home.rglob("*")):
            if path.is_file() and self.new not in path.parents:
                status = path.stat()
                found[str(path)] = (path.read_bytes(), mode(path), status.st_uid, status.st_gid)
        return found

    def contents(self) -> dict[str, bytes]:
        return {Path(path).name: row[0] for path, row in self.picture().items() if "before-" not in path}

    def kept_contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.kept.iterdir()}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


OLD = {DATABASE: b"old database", f"{DATABASE}-wal": b"old log", KEY: b"old key", SETTINGS: b"OLD = 1\n"}
NEW = {DATABASE: b"new database", KEY: b"new key", SETTINGS: b"NEW = 1\n"}


def cross_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every folder be a disk of its own."""
    replace = os.replace

    def across(source: Any, target: Any) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        replace(source, target)

    monkeypatch.setattr(backups.os, "replace", across)


@pytest.mark.parametrize("is_far", [False, True], ids=["one disk", "several disks"])
def test_new_files_are_in_place_and_the_old_ones_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_far: bool
) -> None:
    if is_far:
        cross_devices(monkeypatch)
    put_in_place(scene.pairs, scene.kept)
    assert scene.contents() == NEW
    assert scene.kept_contents() == OLD
    assert mode(scene.kept) == 0o700
    # What was readable for a group is so again.
    assert {mode(path) for path in (scene.database, scene.data / KEY, scene.settings)} == {0o640}


def test_place_where_nothing_was_is_taken_and_nothing_kept_of_it(scene: Scene) -> None:
    for path in (scene.database, scene.data / KEY, scene.settings, Path(f"{scene.database}-wal")):
        path.unlink()
    (scene.new / ENVIRONMENT).write_bytes(b"A=1\n")
    (scene.new / ENVIRONMENT).chmod(0o600)
    put_in_place(scene.pairs, scene.kept)
    assert scene.contents() == NEW | {"restored.env": b"A=1\n"}
    assert scene.kept_contents() == {}
    assert mode(scene.data / "restored.env") == 0o600


@needs_root
@pytest.mark.parametrize("is_far", [False, True], ids=["one disk", "several disks"])
def test_what_root_restores_belongs_to_whom_the_old_files_belonged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, is_far: bool
) -> None:
    """The service runs as a user of its own and has to write its database."""
    for path in (scene.data, scene.home, scene.database, scene.settings):
        os.chown(path, NOBODY, NOBODY)
    (scene.data / KEY).unlink()
    if is_far:
        cross_devices(monkeypatch)
    put_in_place(scene.pairs, scene.kept)
    for path in (scene.database, scene.settings, scene.data / KEY):
        status = path.stat()
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY), path
    assert mode(scene.data / KEY) == 0o600


def break_once(monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> list[str]:
    """Let one call of a function of `os` fail; return what was broken, once it is."""
    broken: list[str] = []
    count = 0
    work = getattr(os, step)

    def fails(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            broken.append(str(args[:2]))
            raise OSError(errno.ENOSPC, "No space left on device", str(args[0]))
        return work(*args, **options)

    monkeypatch.setattr(os, step, fails)
    return broken


def attempt(scene: Scene) -> str:
    """Try; return what it says if it fails."""
    try:
        put_in_place(scene.pairs, scene.kept)
    except BackupError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("step", ["replace", "mkdir", "fchmod"])
@pytest.mark.parametrize("number", range(1, 8))
def test_fault_in_the_middle_leaves_everything_as_it_was(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    before = scene.picture()
    with monkeypatch.context() as patched:
        broken = break_once(patched, step, number)
        said = attempt(scene)
    assert bool(broken) is (number <= {"replace": 7, "mkdir": 1, "fchmod": 3}[step])
    if broken:
        assert said.endswith("No space left on device; everything is as it was.")
        assert scene.picture() == before
        assert not scene.kept.exists()
        # And the next try works.
        assert attempt(scene) == ""
    assert scene.contents() == NEW
    assert scene.kept_contents() == OLD


def test_fault_in_the_middle_across_disks_leaves_everything_as_it_was(tmp_path: Path) -> None:
    for step in ("replace", "unlink", "fsync", "fchmod"):
        for number in range(1, 15):
            (folder := tmp_path / f"{step}-{number}").mkdir()
            scene = Scene(folder)
            before = scene.picture()
            with pytest.MonkeyPatch.context() as patched:
                cross_devices(patched)
                broken = break_once(patched, step, number)
                said = attempt(scene)
            if said:
                assert said.endswith("everything is as it was.")
                assert scene.picture() == before, (step, broken)
                assert not scene.kept.exists()
            else:
                assert scene.contents() == NEW
                assert scene.kept_contents() == OLD


def test_copy_to_another_disk_is_at_no_time_readable_for_others(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    sync = os.fsync

    def watched(number: int) -> None:
        status = os.fstat(number)
        if stat.S_ISREG(status.st_mode):
            seen.append(stat.S_IMODE(status.st_mode))
        sync(number)

    monkeypatch.setattr(os, "fsync", watched)
    cross_devices(monkeypatch)
    put_in_place(scene.pairs, scene.kept)
    assert scene.contents() == NEW
    assert seen == [0o600] * 7


def test_folder_of_an_earlier_restore_is_not_mixed_with_this_one(scene: Scene) -> None:
    scene.kept.mkdir()
    (scene.kept / DATABASE).write_bytes(b"of another time")
    before = scene.picture()
    with pytest.raises(BackupError, match="File exists; everything is as it was"):
        put_in_place(scene.pairs, scene.kept)
    assert scene.picture() == before
