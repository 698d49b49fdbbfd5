"""Start Binance Resender. `python run.py --help` tells what else it can do.

This file only checks that Python and the packages are there; `resender/commands.py` is the
command line and `resender/serve.py` runs the server.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036  the message is for those who have an older one
    sys.exit("Binance Resender needs Python 3.10 or newer; this is " + sys.version.split()[0])

try:
    from resender.commands import main
except ModuleNotFoundError as error:
    if (error.name or "").startswith("resender"):
        raise
    sys.exit(
        f"The package {error.name!r} is missing. Start with `make run`, or install what is needed:\n"
        "  python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python run.py"
    )

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
