"""Start Binance Resender. `python run.py --help` tells what else it can do.

This file only checks that Python and the packages are there; `resender/cli/main.py` is the
command line and `resender/cli/serve.py` runs the server. Exit code 2: it cannot work by itself.
"""

import os
import sys


def fail(text):
    """Say in one go why it cannot work; return the exit code."""
    is_journal = False
    try:
        found = os.fstat(2)
        is_journal = os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    except OSError:
        pass
    print("\n".join(("<3>" if is_journal else "") + line for line in text.splitlines()), file=sys.stderr)
    return 2


if sys.version_info < (3, 10):  # noqa: UP036  the message is for those who have an older one
    sys.exit(fail("Binance Resender needs Python 3.10 or newer; this is " + sys.version.split()[0]))


def run():
    """Run the command line; return the exit code."""
    try:
        from resender.cli.main import main

        return main(sys.argv[1:])
    except ModuleNotFoundError as error:
        # Some packages are imported only when they are needed.
        if (error.name or "").partition(".")[0] == "resender":
            raise
        return fail(
            f"The package {error.name!r} is missing. Start with `make run`, or install what is needed:\n"
            "  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python run.py"
        )
    except ImportError as error:
        return fail(f"A package does not fit ({error}). Install those of requirements.txt anew.")


if __name__ == "__main__":
    sys.exit(run())
