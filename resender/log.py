"""The process log: one format for people, one for machines, one for systemd's journal.

It writes to standard error and knows nothing of the request log in the database. `Seldom` holds
when each kind of line was said last; its owner passes the time.
"""

from __future__ import annotations

import logging
import os
import sys
from datetime import datetime, timezone

import orjson

from resender.core.redact import redact

# Priorities of syslog, which the journal reads from the beginning of a line. Source: sd-daemon(3).
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
_QUIET = ("tornado.general", "tornado.application", "asyncio", "aiohttp", "peewee")
_MAX_KINDS = 1000


def is_journal() -> bool:
    """Tell whether standard error is systemd's journal. Source: systemd.exec(5), JOURNAL_STREAM."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(sys.stderr.fileno())
        return (int(device), int(inode)) == (found.st_dev, found.st_ino)
    except (OSError, ValueError, AttributeError):
        return False


class JournalFormatter(logging.Formatter):
    """Lines without a time, which the journal knows itself, each with its priority."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        number = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).splitlines() or [""])


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    Shape: {"time","level","logger","msg"} and "error" with a traceback if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        row = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(row).decode()
        except TypeError:  # half a character of a file name
            safe = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in row.items()}
            return orjson.dumps(safe).decode()


def set_up_logging(level: str, form: str = "text") -> None:
    """Send the log to standard error.

    Shape: `form` is text or json; text has no time and has priorities where the journal reads it.
    """
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    elif is_journal():
        handler.setFormatter(JournalFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Our own lines say what matters; theirs may hold URLs.
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("tornado.general").addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out a line for each stranger who speaks no TLS to a port that does: anybody could fill the log."""
    return not str(record.msg).startswith("SSL Error on")


class Seldom:
    """Says the first line of a kind at once and then at most one in a while, with how many it stands for.

    Units: `every_s` and the `mono` handed in are seconds.
    """

    def __init__(self, logger: logging.Logger, every_s: float, *, at_once: int = 0) -> None:
        self._logger = logger
        self._every_s = every_s
        # Lines a second over all kinds, 0 = any number.
        self._at_once = at_once
        self._said: dict[str, tuple[float, int]] = {}
        self._second = 0
        self._count = 0

    def say(self, level: int, kind: str, mono: float, text: str) -> None:
        """Write a line, or count it for the next of its kind."""
        last, unsaid = self._said.get(kind, (float("-inf"), 0))
        if mono - last < self._every_s or not self._has_room(mono):
            if kind in self._said:
                self._said[kind] = (last, unsaid + 1)
            return
        if len(self._said) >= _MAX_KINDS:
            self._said.clear()
        self._said[kind] = (mono, 0)
        more = f" ({unsaid} more like this since the last such line)" if unsaid else ""
        self._logger.log(level, "%s%s", redact(text), more)

    def _has_room(self, mono: float) -> bool:
        if not self._at_once:
            return True
        if int(mono) != self._second:
            self._second, self._count = int(mono), 0
        self._count += 1
        return self._count <= self._at_once
