"""See that Python and the packages are there, before anything that needs them is read.

`run.py` and `python -m resender` come through here. Any Python can read this file, even 2.7: one that is
too old is told so in words and not by a SyntaxError. Exit code 2: it cannot work by itself.
"""

import errno
import os
import sys


def run(prog=None):
    # type: (str | None) -> int
    """Run the command line; return the exit code."""
    if sys.version_info < (3, 10):  # noqa: UP036  the message is for those who have an older one
        return fail("Binance Resender needs Python 3.10 or newer; this is " + sys.version.split()[0])
    try:
        from resender.cli.main import main

        return main(sys.argv[1:], **({"prog": prog} if prog else {}))
    except ImportError as error:
        # Some packages are imported only when they are needed.
        name = error.name or ""
        if not isinstance(error, ModuleNotFoundError):
            return fail(
                "A package does not fit (" + str(error) + "). Install those of requirements.txt anew."
            )
        if name.partition(".")[0] == "resender":
            raise
        return fail(
            "The package " + repr(name) + " is missing. Start with `make run`, or install what is needed:\n"
            "  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python run.py"
        )
    except OSError as error:
        # The command line tells of its own files; what comes here is a file of the program.
        if error.errno != errno.EACCES:
            raise
        return fail(
            str(error.filename) + " may not be read by this user: it was put there with a strict umask. "
            "As its owner: chmod -R go+rX " + os.path.dirname(str(error.filename))
        )


def fail(text):
    # type: (str) -> int
    """Say in one go why it cannot work; return the exit code."""
    is_journal = False
    try:
        found = os.fstat(2)
        is_journal = os.environ.get("JOURNAL_STREAM") == ":".join((str(found.st_dev), str(found.st_ino)))
    except OSError:
        pass
    lines = [("<3>" if is_journal else "") + line for line in text.splitlines()]
    sys.stderr.write("\n".join(lines) + "\n")
    return 2
