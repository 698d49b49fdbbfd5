"""Another user, a tiny disk, other files in place of the program's own: what a mistake on a server is made of.

They belong to the one process that is started so and to what it starts: all of it is changed in a mount namespace of
its own before anything of the program runs, which then begins anew as if nothing had been. What is made here is
handed to `ServiceProgram` as further variables.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.service import customised

NOBODY = 65534

# Numbers of mount(2), unshare(2): MS_BIND | MS_REC, MS_PRIVATE | MS_REC, CLONE_NEWNS.
_LAUNCH = """
import ctypes, os, shutil, sys, traceback
def launch(enter, disk, options, holds, is_full, over, hidden, kept, stage, user):
    libc = ctypes.CDLL(None, use_errno=True)
    def must(code):
        if code != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    def bind(path, place):
        must(libc.mount(path.encode(), place.encode(), None, 0x5000, None))
    def tmpfs(place, options):
        must(libc.mount(b"none", place.encode(), b"tmpfs", 0, options.encode()))
    if enter:
        with open(f"/proc/{enter}/ns/mnt") as room:
            must(libc.setns(room.fileno(), 0x20000))
    elif disk or over or hidden:
        must(libc.unshare(0x20000))
        must(libc.mount(b"none", b"/", None, 0x44000, None))
        if disk:
            tmpfs(disk, options)
            for name in os.listdir(holds) if holds else ():
                shutil.copy(f"{holds}/{name}", disk)
            if is_full:
                room = os.statvfs(disk)
                with open(f"{disk}/filler", "wb") as file:
                    file.write(bytes(room.f_bavail * room.f_frsize))
        for place, path in over:
            bind(path, place)
        for number, path in enumerate(kept):
            os.makedirs(f"{stage}/{number}", exist_ok=True)
            bind(path, f"{stage}/{number}")
        for place in hidden:
            tmpfs(place, "size=64k,mode=755")
        for number, path in enumerate(kept):
            os.makedirs(path, exist_ok=True)
            bind(f"{stage}/{number}", path)
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    del os.environ["PYTHONPATH"]
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
try:
    launch(*LAUNCH)
except BaseException:
    traceback.print_exc()
    os._exit(77)
"""


@functools.cache
def _may_mount() -> bool:
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


def variables(
    folder: Path,
    *,
    user: int = 0,
    disk: Path | None = None,
    options: str = "size=1m",
    holds: Path | None = None,
    is_full: bool = False,
    over: Mapping[Path, Path] | None = None,
    enter: int = 0,
) -> dict[str, str]:
    """Return the variables with which `run.py` is another user's, or sees other disks and files.

    Shape: `disk` is a folder that is there, `options` are those of its tmpfs, `holds` names a folder whose
        files are on it; `over` gives what lies there in place of a file or folder; `enter` is the process id of a
        program whose disks it shares.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user and mount a disk")
    hidden, kept = _hidden() if user else ([], [])
    if (disk or over or enter or hidden) and not _may_mount():
        pytest.skip("this machine lets no process have a disk of its own")
    stage = Path(tempfile.mkdtemp(prefix="stage-", dir=folder))
    covered = [(str(place), str(path)) for place, path in (over or {}).items()]
    words = (
        enter, str(disk or ""), f"mode=755,{options}", str(holds or ""), is_full, covered, hidden, kept,
        str(stage), user,
    )  # fmt: skip
    return customised(folder, f"LAUNCH = {words!r}\n" + _LAUNCH)


def _hidden() -> tuple[list[str], list[str]]:
    """Return folders that nobody else may enter, and what of this program and its Python lies in them."""
    hidden: list[str] = []
    kept: list[str] = []
    for path in (Path(sys.base_prefix).resolve(), ROOT):
        shut = next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)
        if shut is not None:
            kept.append(str(path))
            if str(shut) not in hidden:
                hidden.append(str(shut))
    return hidden, kept


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that any user may enter: pytest's own are its user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="resender-test-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give(folder: Path, user: int) -> None:
    """Do what `chown -R` does."""
    os.chown(folder, user, user)
    for path in folder.rglob("*"):
        os.chown(path, user, user, follow_symlinks=False)


def seen_by(pid: int, path: Path) -> Path:
    """Return how a file of a program's own disk is reached from outside."""
    return Path(f"/proc/{pid}/root{path}")


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
