"""One gateway for each DATA_DIR: a lock file, and what other gateways of this folder are running.

It knows no database and no setting but what it is told. A lock belongs to whoever took it and
ends with the process, however that ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from resender.errors import StartError

LOCK_NAME = "gateway.lock"
# Words of the command line that do not serve the data folder.
_OTHER_COMMANDS = frozenset({b"demo", b"whitelist", b"doctor", b"log", b"user", b"stream"})


@contextmanager
def data_dir_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a data folder.

    Raises: StartError with the other's pid if another process holds it, or if the folder cannot
        be written to.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    path = folder / LOCK_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"the folder {folder} cannot be used: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.read(number, 20).decode("ascii", "replace").strip()
            who = f"pid {pid}" if pid.isdigit() else "another process"
            raise StartError(
                f"another gateway ({who}) uses the folder {folder}: stop it, or give this one another DATA_DIR"
            ) from None
        os.ftruncate(number, 0)
        os.write(number, f"{os.getpid()}\n".encode())
        yield
    finally:
        with suppress(OSError):
            os.close(number)


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
            if not names or any(
                word in (b"demo", b"whitelist", b"doctor", b"log", b"user") for word in words
            ):
                continue
            if (Path(os.readlink(folder / "cwd")) / names[0]).resolve() != script:
                continue
            pairs = os.fsdecode((folder / "environ").read_bytes()).split("\0")
        except (OSError, ValueError):
            continue
        yield pid, {name: value for name, _, value in (pair.partition("=") for pair in pairs) if name}
