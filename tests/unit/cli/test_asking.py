"""Keys and secrets typed on a terminal, piped, or in files."""

from __future__ import annotations

import io
import os
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from resender.cli.asking import NotGiven, ask, read_file, read_stdin, unseen


class Terminal:
    """The far end of the terminal that standard input is: what is typed, what shows."""

    def __init__(self) -> None:
        self.end, self.inside = os.openpty()
        self.stdin = os.fdopen(self.inside, "r")

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def shown(self) -> str:
        os.set_blocking(self.end, False)
        try:
            return os.read(self.end, 10_000).decode()
        except BlockingIOError:
            return ""

    @property
    def shows(self) -> bool:
        return bool(termios.tcgetattr(self.inside)[3] & termios.ECHO)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setattr("sys.stdin", made.stdin)
    yield made
    made.stdin.close()
    os.close(made.end)


def test_typed_key_is_not_shown(terminal: Terminal, capfd: pytest.CaptureFixture[str]) -> None:
    with unseen():
        terminal.type("  TheKey \nTheSecret\n")
        assert ask("API key") == "TheKey"
        assert not terminal.shows
        assert ask("secret") == "TheSecret"
    assert terminal.shows
    assert terminal.shown() == ""
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "The API key (it is not shown): \nThe secret (it is not shown): \n"


def test_private_key_is_read_to_its_end_and_the_rest_is_thrown_away(terminal: Terminal) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nAAAA\nBBBB\n-----END PRIVATE KEY-----"
    with unseen():
        terminal.type(f"{pem}\nleft over\n")
        assert ask("secret") == pem
    os.set_blocking(terminal.inside, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal.inside, 100)


def test_terminal_is_as_before_when_it_is_broken_off(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> str:
        assert not terminal.shows
        raise KeyboardInterrupt

    monkeypatch.setattr("resender.cli.asking._read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ask("secret")
    assert terminal.shows


def test_end_of_input_is_no_key(terminal: Terminal) -> None:
    with unseen():
        terminal.type("\x04")
        with pytest.raises(NotGiven, match="No secret was given"):
            ask("secret")


def test_without_a_terminal_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("TheKey\n"))
    with unseen(), pytest.raises(NotGiven, match="no terminal to ask for the API key: use --stdin or a file"):
        ask("API key")


def test_lines_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("TheKey\r\n TheSecret"))
    assert (read_stdin("API key"), read_stdin("secret")) == ("TheKey", "TheSecret")
    with pytest.raises(NotGiven, match="No secret was given"):
        read_stdin("secret")


def test_endless_input_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("-----BEGIN PRIVATE KEY-----\n" + "A\n" * 100_000))
    assert len(read_stdin("secret").splitlines()) < 300
    monkeypatch.setattr("sys.stdin", io.StringIO("A" * 1_000_000))
    assert len(read_stdin("secret")) < 30_000


def test_bytes_that_are_no_text_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n"), "utf-8"))
    with pytest.raises(NotGiven, match="The secret is no text") as caught:
        read_stdin("secret")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o400, False), (0o604, True), (0o620, True)])
def test_secret_file_that_others_may_read_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mode: int, warns: bool
) -> None:
    path = tmp_path / "file"
    path.write_text("TheSecret\n")
    path.chmod(mode)
    assert read_file(str(path), "secret", is_secret=True) == "TheSecret"
    assert capfd.readouterr().err == (f"warning: others may read {path}: chmod 600\n" if warns else "")
    assert read_file(str(path), "API key") == "TheSecret"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["", ".", "/dev/null", "/nowhere/at/all", "a\0b"])
def test_no_file_is_told(name: str) -> None:
    with pytest.raises(NotGiven):
        read_file(name, "secret")
