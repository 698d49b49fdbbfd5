"""What a line of the process log looks like, and how seldom a kind of line is said."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import orjson
import pytest

from resender.log import _QUIET, JournalFormatter, JsonFormatter, Seldom, is_journal, set_up_logging
from tests.support.running import Captured

T0_S = 1_790_000_000.25


def record(
    level: int, text: str, *values: object, name: str = "resender.x", error: Exception | None = None
) -> logging.LogRecord:
    exc_info = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord(name, level, "file.py", 1, text, values, exc_info)
    made.created = T0_S
    return made


def failed() -> Exception:
    try:
        raise KeyError("lost\nand found")
    except KeyError as error:
        return error


# --- the journal -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "number"),
    [
        (logging.CRITICAL, 3),
        (logging.ERROR, 3),
        (logging.WARNING, 4),
        (logging.INFO + 5, 6),
        (logging.INFO, 6),
        (logging.DEBUG, 7),
        (1, 7),
    ],
)
def test_line_of_the_journal_has_a_priority_and_no_time(level: int, number: int) -> None:
    line = JournalFormatter().format(record(level, "%d calls", 7))
    assert line == f"<{number}>resender.x: 7 calls"


def test_every_line_of_a_record_has_the_priority() -> None:
    text = JournalFormatter().format(record(logging.ERROR, "first\nsecond\r\n\nlast", error=failed()))
    lines = text.split("\n")
    assert lines[:4] == ["<3>resender.x: first", "<3>second", "<3>", "<3>last"]
    assert "<3>Traceback (most recent call last):" in lines
    assert all(line.startswith("<3>") for line in lines)
    assert any("lost" in line for line in lines)


def test_empty_message_is_a_line_all_the_same() -> None:
    assert JournalFormatter().format(record(logging.INFO, "", name="")) == "<6>: "


@contextmanager
def error_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Make standard error a pipe; yield the end that is read."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(writing, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield reading
    os.close(reading)


def name_of(number: int) -> str:
    found = os.fstat(number)
    return f"{found.st_dev}:{found.st_ino}"


def test_journal_is_known_by_the_device_and_inode_of_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    with error_pipe(monkeypatch) as reading:
        assert not is_journal()
        monkeypatch.setenv("JOURNAL_STREAM", name_of(reading))  # both ends are one inode
        assert is_journal()
    # Inherited from a service that started a shell: its standard error goes elsewhere now.
    with error_pipe(monkeypatch), open(os.devnull) as other:
        monkeypatch.setenv("JOURNAL_STREAM", name_of(other.fileno()))
        assert not is_journal()


@pytest.mark.parametrize("text", ["", ":", "8", "8:", ":12", "a:b", "8:12:13", "８:x"])
def test_malformed_name_is_no_journal(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", text)
    with error_pipe(monkeypatch):
        assert not is_journal()


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_standard_error_that_is_no_file_is_no_journal(
    stream: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12")
    monkeypatch.setattr(sys, "stderr", stream)
    assert not is_journal()


# --- JSON --------------------------------------------------------------------------------------


def test_json_line_is_one_object_with_utc_time() -> None:
    line = JsonFormatter().format(record(logging.WARNING, 'a "word"\nand %s', "币安"))
    assert "\n" not in line
    row = orjson.loads(line)
    assert row == {
        "time": "2026-09-21T14:13:20.250Z",
        "level": "WARNING",
        "logger": "resender.x",
        "msg": 'a "word"\nand 币安',
    }
    assert datetime.fromisoformat(row["time"].replace("Z", "+00:00")).timestamp() == T0_S


def test_traceback_is_in_the_one_object() -> None:
    line = JsonFormatter().format(record(logging.ERROR, "oops", error=failed()))
    assert "\n" not in line
    row = orjson.loads(line)
    assert row["error"].startswith("Traceback (most recent call last):\n")
    assert "KeyError" in row["error"]


def test_text_that_is_no_unicode_does_not_lose_the_line() -> None:
    row = orjson.loads(JsonFormatter().format(record(logging.INFO, "a name such as %s", "\udcff")))
    assert row["msg"].startswith("a name such as ")


# --- which form is chosen ----------------------------------------------------------------------


@pytest.fixture
def kept_logging() -> Iterator[None]:
    """Put back whatever `set_up_logging` changes for the whole process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    quiet = {name: logging.getLogger(name).level for name in _QUIET}
    # What `force` removes it also closes.
    root.handlers.clear()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in quiet.items():
        logging.getLogger(name).setLevel(old)


@pytest.mark.parametrize(
    ("form", "is_in_journal", "start"),
    [
        ("text", True, "<4>resender.x: hello"),
        ("text", False, "20"),
        ("json", True, '{"time":"20'),
        ("json", False, '{"time":"20'),
    ],
)
@pytest.mark.usefixtures("kept_logging")
def test_form_follows_the_setting_and_where_standard_error_goes(
    form: str, is_in_journal: bool, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with error_pipe(monkeypatch) as reading:
        monkeypatch.setenv("JOURNAL_STREAM", name_of(reading) if is_in_journal else "1:1")
        set_up_logging("INFO", form)
        logging.getLogger("resender.x").warning("hello")
        logging.getLogger("resender.x").debug("too quiet")
        logging.getLogger("aiohttp").info("of others only warnings")
        sys.stderr.flush()
        (line,) = os.read(reading, 65536).decode().splitlines()
    assert line.startswith(start)


# --- said seldom -------------------------------------------------------------------------------


@pytest.fixture
def heard() -> Iterator[Captured]:
    captured = Captured()
    captured.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("test.seldom")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(captured)
    yield captured
    logger.removeHandler(captured)
    logger.propagate = True


def seldom(every_s: float = 60.0, **options: int) -> Seldom:
    return Seldom(logging.getLogger("test.seldom"), every_s, **options)


def test_first_line_of_a_kind_is_said_at_once_and_exactly(heard: Captured) -> None:
    said = seldom()
    said.say(logging.WARNING, "a", 5.0, "one 100% sure")
    said.say(logging.ERROR, "b", 5.0, "two")
    assert heard.lines == ["WARNING one 100% sure", "ERROR two"]


def test_then_one_a_while_says_how_many_it_stands_for(heard: Captured) -> None:
    said = seldom()
    for number in range(50):
        said.say(logging.WARNING, "a", 100.0 + number, "down")
    assert heard.lines == ["WARNING down"]
    said.say(logging.WARNING, "a", 159.99, "down")
    assert len(heard.lines) == 1
    said.say(logging.WARNING, "a", 160.0, "down")
    assert heard.lines[1:] == ["WARNING down (50 more like this since the last such line)"]
    said.say(logging.WARNING, "a", 220.0, "down")
    assert heard.lines[2:] == ["WARNING down"], "what was counted is told once"


def test_one_kind_does_not_silence_another(heard: Captured) -> None:
    said = seldom()
    for mono in (0.0, 1.0, 2.0):
        for kind in ("a", "b"):
            said.say(logging.WARNING, kind, mono, kind)
    assert heard.lines == ["WARNING a", "WARNING b"]


def test_clock_that_begins_at_zero_silences_nothing(heard: Captured) -> None:
    seldom().say(logging.WARNING, "a", 0.0, "first")
    assert heard.lines == ["WARNING first"]


def test_all_kinds_together_have_a_limit_for_each_second(heard: Captured) -> None:
    said = seldom(1.0, at_once=20)
    for number in range(500):
        said.say(logging.WARNING, f"192.0.2.{number}", 7.0 + number / 1000, f"refused {number}")
    assert heard.lines == [f"WARNING refused {number}" for number in range(20)]
    for number in range(500):
        said.say(logging.WARNING, f"192.0.2.{number}", 8.0, f"refused {number}")
    assert len(heard.lines) == 40


def test_what_found_no_room_is_counted_for_a_kind_that_was_said_before(heard: Captured) -> None:
    said = seldom(1.0, at_once=1)
    said.say(logging.WARNING, "a", 0.0, "a")
    said.say(logging.WARNING, "b", 1.0, "b")
    said.say(logging.WARNING, "a", 1.5, "a")
    said.say(logging.WARNING, "a", 2.0, "a")
    assert heard.lines == ["WARNING a", "WARNING b", "WARNING a (1 more like this since the last such line)"]


def test_kinds_are_bounded(heard: Captured) -> None:
    said = seldom(3600.0)
    for number in range(5000):
        said.say(logging.WARNING, f"2001:db8::{number:x}", 1.0, "x")
    assert len(said._said) <= 1000
    assert len(heard.lines) == 5000


def test_secrets_are_masked(heard: Captured) -> None:
    seldom().say(logging.WARNING, "a", 0.0, "http://me:hunter2hunter2@proxy failed, signature=abcdef")
    assert "hunter2" not in heard.text
    assert "abcdef" not in heard.text
