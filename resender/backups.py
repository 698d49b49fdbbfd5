"""A backup as one file: what is in it, how it is checked, and which old ones go.

A gzipped tar with `manifest.json`, the database, the key that seals secrets, and the settings. It opens no database;
`store/backup.py` copies those. Market data is left out: it is read again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import orjson

from resender.errors import ResenderError

FORMAT = 1
DATABASE, KEY, SETTINGS, ENVIRONMENT = "resender.db", "account.key", "settings.py", "settings.env"
_MEMBERS = (DATABASE, KEY, SETTINGS, ENVIRONMENT)
_MANIFEST = "manifest.json"
_MANIFEST_MAX = 65_536
_NAME = "binance-resender-{stamp}.tar.gz"
_OURS = re.compile(r"binance-resender-(\d{8}T\d{6}Z)\.tar\.gz")
_CHUNK = 1 << 20
_FOLDER = ".backup-"
# Of the key and of settings.
_SMALL_MAX = 1 << 20
_DAY_S = 86_400.0


class BackupError(ResenderError):
    """A backup cannot be made or used; one line for the user."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself.

    Shape: `files` gives size and SHA-256 of each member; `source` names the database without its password.
    Units: `created_ms` epoch milliseconds.
    """

    version: str
    schema: str
    created_ms: int
    source: str
    files: Mapping[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Keep:
    """Which backups of a folder stay: the newest `count`, or those of the last `days`; never none."""

    count: int = 0
    days: int = 0


def parse_keep(text: str) -> Keep:
    """Read "14" (backups) or "30d" (days). Raises: ValueError."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})(d?)", text.strip())
    if found is None:
        raise ValueError(f"{text[:20]!r} is neither a number of backups such as 14 nor of days such as 30d")
    number = int(found.group(1))
    return Keep(days=number) if found.group(2) else Keep(count=number)


def backup_name(now: float) -> str:
    """Return the file's name for a moment. Units: epoch seconds."""
    return _NAME.format(stamp=time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)))


def prune(folder: Path, keep: Keep, now: float) -> list[Path]:
    """Remove old backups of a folder, only files that are named as ours; return which."""
    found = sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name) and path.is_file())
    if keep.count:
        old = found[: -keep.count]
    else:
        oldest = backup_name(now - keep.days * _DAY_S)
        old = [path for path in found[:-1] if path.name < oldest]
    for path in old:
        path.unlink(missing_ok=True)
    return old


@contextmanager
def new_folder(beside: Path) -> Iterator[Path]:
    """Make a folder for nobody else on the same disk; it is gone afterwards. Raises: BackupError."""
    try:
        with tempfile.TemporaryDirectory(prefix=_FOLDER, dir=beside, ignore_cleanup_errors=True) as name:
            yield Path(name)
    except OSError as error:
        where = str(error.filename or beside)
        if os.path.basename(where).startswith(_FOLDER):  # nobody knows that one
            where = str(beside)
        raise BackupError(f"{where}: {error.strerror or error}.") from None


def pack(folder: Path, target: Path, *, version: str, schema: str, source: str, now: float) -> None:
    """Put what lies in a folder into one file, readable for its owner only; it appears whole or not at all.

    Raises: BackupError.
    """
    names = [name for name in _MEMBERS if (folder / name).is_file()]
    manifest = {
        "format": FORMAT,
        "version": version,
        "schema": schema,
        "created": datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds"),
        "created_ms": int(now * 1000),
        "source": source,
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": _digest(folder / name)}
            for name in names
        },
    }
    (folder / _MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    unfinished = folder / "unfinished"
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as archive:
                for name in (_MANIFEST, *names):
                    archive.add(folder / name, name, recursive=False, filter=_nobodys)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror or error}.") from None


def unpack(path: Path, folder: Path) -> Manifest:
    """Take a backup out into a folder and check every byte of it; return what it says of itself.

    Shape: only the members of a backup are taken, as plain files of this user.
    Raises: BackupError in one line.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            manifest = _read_manifest(archive)
            for name, (size, digest) in manifest.files.items():
                _take(archive, name, size, folder / name)
                if _digest(folder / name) != digest:
                    raise BackupError(f"{path}: {name} is damaged, its checksum differs.")
    except FileNotFoundError:
        raise BackupError(f"There is no file {path}.") from None
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise BackupError(f"{path} is no backup of this program or is damaged: {error}.") from None
    return manifest


def _read_manifest(archive: tarfile.TarFile) -> Manifest:
    first = archive.next()
    file = (
        archive.extractfile(first)
        if first is not None and first.name == _MANIFEST and first.isfile()
        else None
    )
    if file is None or first is None or first.size > _MANIFEST_MAX:
        raise BackupError("It is no backup of this program: it does not begin with a manifest.")
    try:
        found = orjson.loads(file.read())
        if found["format"] > FORMAT:
            raise BackupError(
                f"It was made by version {str(found.get('version'))[:40]}, in a form this version does not know: "
                "install that one."
            )
        files = {
            name: (int(row["bytes"]), str(row["sha256"]))
            for name, row in found["files"].items()
            if name in _MEMBERS
        }
        if DATABASE not in files:
            raise BackupError("The backup holds no database.")
        return Manifest(
            str(found["version"]), str(found["schema"]), int(found["created_ms"]), str(found["source"]), files
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupError("The manifest of the backup cannot be read.") from None


def _take(archive: tarfile.TarFile, name: str, size: int, target: Path) -> None:
    member = archive.getmember(name) if name in archive.getnames() else None
    file = archive.extractfile(member) if member is not None and member.isfile() else None
    if file is None or member is None or member.size != size or member.issparse():
        raise BackupError(f"{name} is not in the backup as its manifest says.")
    if size > (shutil.disk_usage(target.parent).free if name == DATABASE else _SMALL_MAX):
        raise BackupError(f"{name} of the backup is too large: {size:,d} bytes.")
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while data := file.read(_CHUNK):
            out.write(data)
        out.flush()
        os.fsync(out.fileno())


def put_in_place(pairs: Mapping[Path, Path], kept: Path, *, last: Callable[[], None] | None = None) -> None:
    """Move new files where old ones are, which are kept in the new folder `kept`; all of them or none.

    Shape: target by new file; a target whose new file does not exist is only kept. `last` is done when all are in
        place, and belongs to it.
    Raises: BackupError; what was there before is there again then.
    """
    moved: list[tuple[Path, Path]] = []
    try:
        kept.mkdir(mode=0o700)
        for new, target in pairs.items():
            if new.exists():
                _adopt(new, target if target.exists() else target.parent)
            if target.exists():
                _move(target, kept / target.name, moved)
            if new.exists():
                _move(new, target, moved)
        _sync_folder(kept.parent)
        if last is not None:
            last()
    except (OSError, ResenderError) as error:
        for source, target in moved[::-1]:
            with suppress(OSError):
                _move(target, source, [])
        with suppress(OSError):
            kept.rmdir()
        text = (
            f"{error.filename}: {error.strerror or error}"
            if isinstance(error, OSError)
            else str(error).rstrip(".")
        )
        raise BackupError(f"{text}; everything is as it was.") from None


def _adopt(new: Path, old: Path) -> None:
    """Give a file the owner of what it follows, or of its folder, and the mode of an old file.

    As root only a file of its own is given away: who owns the folder may have put something else in its place.
    """
    status = old.lstat()
    number = os.open(
        new, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    )
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise OSError(errno.EINVAL, "it is not the file that was made", str(new))
        if stat.S_ISREG(status.st_mode):
            os.fchmod(number, status.st_mode & 0o777)
        if os.geteuid() == 0:  # else the service could not write what root has restored
            os.fchown(number, status.st_uid, status.st_gid)
    finally:
        os.close(number)


def _move(source: Path, target: Path, moved: list[tuple[Path, Path]]) -> None:
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_over(source, target)
        moved.append((source, target))
        source.unlink()
        return
    moved.append((source, target))


def _copy_over(source: Path, target: Path) -> None:
    """Copy a file to another disk, with owner and mode; at no time can others read it, and a fault leaves nothing."""
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    no_link = getattr(os, "O_NOFOLLOW", 0)
    try:
        with (
            open(os.open(source, os.O_RDONLY | os.O_CLOEXEC | no_link), "rb") as file,
            open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out,
        ):
            status = os.fstat(file.fileno())
            shutil.copyfileobj(file, out, _CHUNK)
            out.flush()
            os.fsync(out.fileno())
            if os.geteuid() == 0:
                os.fchown(out.fileno(), status.st_uid, status.st_gid)
            os.fchmod(out.fileno(), status.st_mode & 0o777)
        os.replace(beside, target)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            found.update(data)
    return found.hexdigest()


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
