"""`python -m resender` and the installed command `binance-resender`: `run.py` without a checkout."""

import sys

from resender import launch


def run() -> int:
    """Run the command line; return the exit code."""
    return launch.run("binance-resender")


if __name__ == "__main__":
    sys.exit(run())
