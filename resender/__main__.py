"""`python -m resender` and the installed command `binance-resender`: `run.py` without a checkout."""

from __future__ import annotations

import sys

from resender.cli.main import main
from resender.places import COMMAND


def run() -> int:
    """Run the command line; return the exit code."""
    return main(sys.argv[1:], prog=COMMAND)


if __name__ == "__main__":
    sys.exit(run())
