"""One gateway for each DATA_DIR: a lock file, and what other gateways of this folder are running.

It knows no database and no setting but what it is told. A lock belongs to whoever took it and
ends with the process, however that ends.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from resender.errors import StartError, StartLater

logger = logging.getLogger("resender")

LOCK_NAME = "gateway.lock"
ENVIRONMENT_PREFIX = "RESENDER_"
# A link in a folder of somebody else's may lead anywhere.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# Words of the command line that do not serve the data folder.
_OTHER_COMMANDS = frozenset(
    {
        b"account",
        b"alert",
        b"backup",
        b"db",
        b"demo",
        b"doctor",
        b"log",
        b"nodes",
        b"preload",
        b"restore",
        b"stream",
        b"upgrade",
        b"user",
        b"whitelist",
    }
)


@contextmanager
def data_dir_lock(folder: Path, *, is_needed: bool = True) -> Iterator[None]:
    """Hold the lock of a data folder.

    Shape: `is_needed` is false where the database lies elsewhere: a folder that cannot be written
        to is then no reason not to start.
    Raises: StartError with the other's pid if another process holds it, or if the folder cannot
        be written to.
    """
    number = _open(folder, is_needed)
    if number is None:
        yield
        return
    try:
        _take(number, folder)
        with suppress(OSError):  # who holds it is a nicety, a full disk no reason to stop
            os.ftruncate(number, 0)
            os.write(number, f"{os.getpid()}\n".encode())
        yield
    finally:
        with suppress(OSError):
            os.close(number)


def _open(folder: Path, is_needed: bool) -> int | None:
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | _NO_LINK, 0o600)
        try:
            _make_owners(number, folder)
        except BaseException:
            os.close(number)
            raise
        return number
    except OSError as error:
        text = f"{path} cannot be used: {error.strerror or error}{_cure(folder, error)}"
        if is_needed:
            # A full disk may have room some day.
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise (StartLater(f"{text}; the disk is full") if is_full else StartError(text)) from None
        logger.warning("%s; the gateway goes on without a lock", text)
        return None


def _make_owners(number: int, folder: Path) -> None:
    """Give a lock that root has made to the owner of its folder, or the service could not take it later.

    Who owns the folder may have put anything there: what is no file of its own is neither written to nor given away.
    Raises: OSError.
    """
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise OSError(errno.EINVAL, "it is no file of its own")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and found.st_uid == 0:
        owner = folder.stat()
        os.fchown(number, owner.st_uid, owner.st_gid)


def _cure(folder: Path, error: OSError) -> str:
    """Say what helps: most often root has made what the service's user has to write."""
    if isinstance(error, PermissionError):
        user = f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this user"
        return f"; {user} has to own {folder} and all that is in it (chown -R), or choose another DATA_DIR"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"; {folder} is no folder: choose another DATA_DIR"
    if error.errno == errno.EROFS:
        return "; the disk is mounted read-only: choose another DATA_DIR"
    return ""


def _take(number: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on this system
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            logger.warning("%s knows no locks (%s); the gateway goes on without one", folder, error.strerror)
            return
        pid = os.read(number, 20).decode("ascii", "replace").strip()
        who = f"pid {pid}" if pid.isdigit() else "another process"
        raise StartError(
            f"another gateway ({who}) uses the folder {folder}: stop it, or give this one another DATA_DIR"
        ) from None


def running_gateways(*starters: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Find other processes that serve: their pid and environment, as far as they may be read.

    Shape: `starters` are the absolute paths of what starts a gateway: scripts, or the folder of the
        package for `python -m`. `PWD` of an environment is the process' current folder.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if b"python" not in os.path.basename(command[0]) or _OTHER_COMMANDS.intersection(command):
                continue
            words = [os.fsdecode(word) for word in command]
            here = Path(os.readlink(folder / "cwd"))
            pairs = os.fsdecode((folder / "environ").read_bytes()).split("\0")
            environment = {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name}
            if not _is_started_by(starters, words, here, environment.get("PATH")):
                continue
        except (OSError, ValueError):
            continue
        yield pid, environment | _chosen_folder(words) | {"PWD": str(here)}


def _is_started_by(starters: Sequence[Path], words: list[str], here: Path, path: str | None) -> bool:
    """Tell whether a command line of Python runs one of these; `path` is where its Python was looked for."""
    rest = iter(words[1:])
    for word in rest:
        if word in ("-W", "-X"):
            next(rest, None)
        elif re.fullmatch("-[a-zA-Z]*m", word):
            module = here / next(rest, "")
            named = [starter for starter in starters if starter.name == module.name]
            # The package of the current folder comes first; else it is the one this Python has.
            return module.resolve() in named or bool(named and _is_this_python(words[0], here, path))
        elif not word.startswith("-"):
            return (here / word).resolve() in starters
        elif re.fullmatch("-[a-zA-Z]*c", word):
            return False
    return False


def _is_this_python(word: str, here: Path, path: str | None) -> bool:
    found = shutil.which(word, path=path) if "/" not in word else str(here / word)
    return found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve()


def _chosen_folder(words: list[str]) -> dict[str, str]:
    """Return the folder of `--data-dir`, which outranks the environment."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, mark, value = word.partition("=")
        if name == "--data-dir":
            return {f"{ENVIRONMENT_PREFIX}DATA_DIR": value if mark else following}
    return {}
