"""Where the program lies and what starts it: a checkout with `run.py`, or an installed package.

The wheel carries `admin_static/` inside of the package, a checkout has it beside the package; that
tells one from the other. Nothing is kept here.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

#: The name of the installed command, and of the distribution that brings it.
COMMAND = "binance-resender"
PACKAGE = Path(__file__).resolve().parent
#: In a checkout the folder of `run.py`; nobody's folder where the package is installed.
ROOT = PACKAGE.parent
IS_INSTALLED = (PACKAGE / "admin_static").is_dir()
STATIC = (PACKAGE if IS_INSTALLED else ROOT) / "admin_static"
#: Calls the program as the service of this machine (`deploy/resender`).
WRAPPER = Path("/usr/local/sbin/resender")


def home() -> Path:
    """Return the folder of `settings.py` and of a relative DATA_DIR: the checkout, or the current folder.

    Raises: OSError if the package is installed and the current folder is gone.
    """
    return Path.cwd() if IS_INSTALLED else ROOT


def called_as() -> str:
    """Return what a user types before the words of a command.

    Where the service is set up the plain command would open another database.
    """
    if WRAPPER.exists():
        return "sudo resender"
    return COMMAND if IS_INSTALLED else "python run.py"


def starters() -> tuple[Path, ...]:
    """Return what starts this very program: `run.py`, the installed command, the package itself."""
    found = [PACKAGE] if IS_INSTALLED else [PACKAGE, ROOT / "run.py"]
    try:
        files = distribution(COMMAND).files or []
    except PackageNotFoundError:
        files = []
    found += [Path(str(file.locate())) for file in files if file.stem == COMMAND]
    return tuple(path.resolve() for path in found)


def is_foreign(path: Path) -> bool:
    """Return whether a file, or the link that leads to it, belongs to neither this user nor root.

    A `settings.py` of the current folder is a program: in a folder like /tmp it may be anybody's.
    """
    if sys.platform == "win32":
        return False
    trusted = (0, os.geteuid())
    return not all(state.st_uid in trusted for state in (path.stat(), path.lstat()))


def node_name(chosen: str, port: int) -> str:
    """Return `NODE_NAME`, or a name made of the host's and the port."""
    if chosen:
        return chosen
    host = socket.gethostname() or "node"
    return f"{host}:{port}" if port else f"{host}:pid-{os.getpid()}"
