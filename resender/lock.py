"""One gateway for each DATA_DIR: a lock file, and what other gateways of this folder are running.

It knows no database and no setting but what it is told. A lock belongs to whoever took it and
ends with the process, however that ends.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from resender.errors import StartError

logger = logging.getLogger("resender")

LOCK_NAME = "gateway.lock"
ENVIRONMENT_PREFIX = "RESENDER_"
# Words of the command line that do not serve the data folder.
_OTHER_COMMANDS = frozenset({b"demo", b"whitelist", b"doctor", b"log", b"user", b"preload", b"stream"})


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
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        text = f"{path} cannot be used: {error.strerror or error}"
        if is_needed:
            raise StartError(text) from None
        logger.warning("%s; the gateway goes on without a lock", text)
        return None


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


def running_gateways(script: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Find other processes that run a script: their pid and environment, as far as they may be read.

    Shape: `script` is the absolute path of `run.py`.
    """
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            names = [os.fsdecode(word) for word in words if word.endswith(script.name.encode())]
            if not names or _OTHER_COMMANDS.intersection(words):
                continue
            if (Path(os.readlink(folder / "cwd")) / names[0]).resolve() != script:
                continue
            pairs = os.fsdecode((folder / "environ").read_bytes()).split("\0")
        except (OSError, ValueError):
            continue
        environment = {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name}
        yield pid, environment | _chosen_folder([os.fsdecode(word) for word in words])


def _chosen_folder(words: list[str]) -> dict[str, str]:
    """Return the folder of `--data-dir`, which outranks the environment."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, mark, value = word.partition("=")
        if name == "--data-dir":
            return {f"{ENVIRONMENT_PREFIX}DATA_DIR": value if mark else following}
    return {}
