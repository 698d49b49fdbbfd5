"""Fixtures of the end-to-end tests.

- `exchange`: a sandbox exchange in a thread of its own, fresh for each test module.
- `start`: starts `run.py` as a server on `exchange`, `start_for_module` one that lasts longer.
- `start_bare`: the same with no upstream but what the test names.

Whatever a test leaves running is stopped, and checked for tracebacks and secrets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import SandboxThread, Start, starter


@pytest.fixture(scope="module")
def exchange() -> Iterator[SandboxThread]:
    with SandboxThread() as thread:
        yield thread


@pytest.fixture
def start(exchange: SandboxThread, tmp_path: Path) -> Iterator[Start]:
    yield from starter(tmp_path, exchange)


@pytest.fixture
def start_bare(tmp_path: Path) -> Iterator[Start]:
    yield from starter(tmp_path)


@pytest.fixture(scope="module")
def start_for_module(exchange: SandboxThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    yield from starter(tmp_path_factory.mktemp("gateway"), exchange)
