"""What tests were skipped for want of: Debian packages that this machine lacks.

A test that needs one skips itself with a reason that ends in `apt-get install PACKAGE ...`;
`tests/conftest.py` finds those here. `python -m tests.support.wanting FILE` says in one line what
several runs of pytest wrote into a file, and nothing if that is nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest


def wanted(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the package a test was skipped for want of, or nothing."""
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return ""
    found = re.search(r"apt-get install ([a-z0-9][a-z0-9.+-]*)", report.longrepr[2])
    return found[1] if found else ""


def in_words(packages: Iterable[str]) -> str:
    """Say it in one line. Shape: `packages` has one for each skipped test."""
    every = list(packages)
    if not every:
        return ""
    names, tests = ", ".join(sorted(set(every))), "1 test" if len(every) == 1 else f"{len(every)} tests"
    return f"Skipped for want of: {names} ({tests}); `make deps` installs what is missing."


if __name__ == "__main__":
    file = Path(sys.argv[1])
    if words := in_words(file.read_text("utf-8").split() if file.exists() else ()):
        print(words)
