"""What tests were skipped for want of: Debian packages that this machine lacks, heavy client libraries.

A test that needs a package skips itself with a reason that ends in `apt-get install PACKAGE ...`, one
of `MORE_CLIENTS` with one that says `NAME is not installed: make more-clients`; `tests/conftest.py`
finds those here. `python -m tests.support.wanting FILE` says in a line for each of both what several
runs of pytest wrote into a file, and nothing if that is nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

#: What `make more-clients` makes. It may be missing in CI too.
MORE_CLIENTS = ("freqtrade", "node_binance")


def wanted(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the package or client a test was skipped for want of, or nothing."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return ""
    said = report.longrepr[2]
    found = re.search(r"apt-get install ([a-z0-9][a-z0-9.+-]*)", said)
    found = found or re.search(rf"({'|'.join(MORE_CLIENTS)}) is not installed: make more-clients", said)
    return found[1] if found else ""


def in_words(names: Iterable[str]) -> str:
    """Say it in a line for each way to get it. Shape: `names` has one for each skipped test."""
    every = list(names)
    packages = [name for name in every if name not in MORE_CLIENTS]
    clients = [name for name in every if name in MORE_CLIENTS]
    return "\n".join([*_line(packages, "`make deps` installs"), *_line(clients, "`make more-clients` makes")])


def _line(names: list[str], cure: str) -> list[str]:
    if not names:
        return []
    tests = "1 test" if len(names) == 1 else f"{len(names)} tests"
    return [f"Skipped for want of: {', '.join(sorted(set(names)))} ({tests}); {cure} what is missing."]


if __name__ == "__main__":
    file = Path(sys.argv[1])
    if words := in_words(file.read_text("utf-8").split() if file.exists() else ()):
        print(words)
