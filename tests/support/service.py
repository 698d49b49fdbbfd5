"""The program as systemd runs it, and with modules of the test's own put in its way."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.support.processes import GatewayProcess, Program, until


class Systemd:
    """The socket a service talks to. `messages` holds what came and when, on the monotonic clock."""

    def __init__(self) -> None:
        name = f"resender-test-{uuid.uuid4()}"
        self.address = f"@{name}"
        self.messages: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name}")
        self._socket.settimeout(0.05)
        self._is_over = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Systemd:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over = True
        self._thread.join(5)
        self._socket.close()

    def _listen(self) -> None:
        while not self._is_over:
            with suppress(TimeoutError):
                text = self._socket.recv(65536).decode()
                self.messages.append((time.monotonic(), text))

    @property
    def lines(self) -> list[str]:
        return [line for _, text in list(self.messages) for line in text.split("\n")]

    def since(self, mono: float, word: str = "WATCHDOG=1") -> int:
        """Count the messages with a word that came after a moment."""
        return sum(moment > mono and word in text.split("\n") for moment, text in list(self.messages))

    def until_fed(self, count: int = 1) -> None:
        """Wait until the watchdog is fed, that many times from now on."""
        begun = time.monotonic()
        until(lambda: self.since(begun) >= count, "the watchdog is fed")

    def variables(self, watchdog_s: float = 0.0) -> dict[str, str]:
        values = {"NOTIFY_SOCKET": self.address}
        if watchdog_s:
            values["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        return values


class ServiceProgram(Program):
    """`run.py` with further variables in its environment.

    Shape: `in_journal` makes standard error look like the journal to it.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        more: Mapping[str, str] | None = None,
        in_journal: bool = False,
        **settings: object,
    ) -> None:
        self._more = dict(more or {})
        self._in_journal = in_journal
        super().__init__(folder, *arguments, **settings)

    def variables(self) -> dict[str, str]:
        if not self._in_journal:
            return self._more
        found = os.stat(self._stderr)
        return self._more | {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}

    @property
    def lines(self) -> list[str]:
        """The lines of its log; Python's own warnings, which the tests asked for, left out."""
        return [line for line in self.stderr.splitlines() if "ResourceWarning" not in line]

    def lines_with(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]


class Service(ServiceProgram, GatewayProcess):
    """The same, serving."""


# Put in front of everything the program imports.
_MISSING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def customised(folder: Path, code: str = "", missing: Iterable[str] = ()) -> dict[str, str]:
    """Return variables with which Python runs code of the test's own first, and misses packages."""
    place = folder / f"custom-{uuid.uuid4().hex[:8]}"
    place.mkdir(parents=True)
    (place / "sitecustomize.py").write_text(_MISSING.format(names=sorted(missing)) + code)
    return {"PYTHONPATH": str(place)}


def told_password(program: Program) -> tuple[str, str]:
    """Return the name and password that were printed, once."""
    (found,) = re.findall(r"log in as (\S+) with the password (\S+)", program.stdout)
    return found
