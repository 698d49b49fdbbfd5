"""Keys and secrets as a command takes them: typed unseen, from standard input or from a file.

They are never arguments: those can be read in the list of processes and in the shell's history. No state.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resender.cli.words import say

_PEM_BEGIN, _PEM_END = "-----BEGIN", "-----END"
# A private key of RSA with 4,096 bits has 53 lines.
_MAX_LINES = 200
_MAX_BYTES = 20_000
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class NotGiven(ValueError):
    """What is needed was not given, or cannot be read; the text says why, in one line and without secrets."""


@contextmanager
def unseen() -> Iterator[None]:
    """Show nothing of what is typed on the terminal during a block; what is left over is thrown away.

    Between two questions of one block a pasted answer to the second one neither shows nor gets lost.
    """
    import termios

    terminal = sys.stdin.fileno() if sys.stdin.isatty() else -1
    before = termios.tcgetattr(terminal) if terminal >= 0 else []
    if not before or not before[3] & termios.ECHO:
        yield
        return
    changed = [*before]
    changed[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(terminal, termios.TCSADRAIN, changed)
        yield
    finally:
        # Nothing of a secret with more lines than one may be left for the shell to run.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def ask(what: str) -> str:
    """Ask on the terminal, unseen; a key in PEM is read to its last line. Raises: NotGiven."""
    if not sys.stdin.isatty():
        raise NotGiven(f"There is no terminal to ask for the {what}: use --stdin or a file.")
    with unseen():
        say(f"The {what} (it is not shown): ", end="", file=sys.stderr, flush=True)
        try:
            return _read(what)
        finally:
            say(file=sys.stderr)


def read_stdin(what: str) -> str:
    """Read a line of standard input, or a key in PEM. Raises: NotGiven."""
    return _read(what)


def _read(what: str) -> str:
    lines: list[str] = []
    try:
        while not lines or (lines[0].startswith(_PEM_BEGIN) and not lines[-1].startswith(_PEM_END)):
            line = sys.stdin.readline(_MAX_BYTES)
            if not line or len(lines) > _MAX_LINES:
                break
            lines.append(line.strip())
    except ValueError:  # not UTF-8
        raise NotGiven(f"The {what} is no text.") from None
    text = "\n".join(lines)
    if not text:
        raise NotGiven(f"No {what} was given.")
    return text


def read_file(name: str, what: str, *, is_secret: bool = False) -> str:
    """Read a file; of a secret, warn on standard error if others may read it. Raises: NotGiven."""
    path = Path(name)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_BYTES + 1)
        text = raw.decode().strip()
    except OSError as error:
        raise NotGiven(f"The file {name} cannot be read ({error.strerror}).") from None
    except ValueError:
        raise NotGiven(f"The file {name} is no text.") from None
    if not text or len(raw) > _MAX_BYTES:
        raise NotGiven(f"The file {name} holds no {what}.")
    if is_secret and mode & _OTHERS and stat.S_ISREG(mode):
        say(f"warning: others may read {name}: chmod 600", file=sys.stderr)
    return text
