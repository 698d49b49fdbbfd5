"""Fixtures of the end-to-end tests.

- `exchange`: a sandbox exchange in a thread of its own, fresh for each test module.
- `start`: starts `run.py` as a server on `exchange`, `start_for_module` one that lasts longer.
- `start_bare`: the same with no upstream but what the test names.

Whatever a test leaves running is stopped, and checked for tracebacks and secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from resender.sandbox import Call
from tests.e2e.support import GatewayProcess, SandboxThread, signatures

Start = Callable[..., GatewayProcess]


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


def starter(folder: Path, exchange: SandboxThread | None = None) -> Iterator[Start]:
    """Yield the function that starts a gateway; all share a folder and its database."""
    started: list[GatewayProcess] = []
    upstreams: Mapping[str, str] = exchange.settings() if exchange is not None else {}

    def begin(*arguments: str, **settings: object) -> GatewayProcess:
        program = GatewayProcess(folder, *arguments, **{**upstreams, **settings})
        started.append(program)
        return program

    yield begin
    running = [program for program in started if program.process.poll() is None]
    calls: Sequence[Call] = exchange.calls() if exchange is not None else ()
    try:
        for program in running:
            program.stop(secrets=signatures(calls))
    finally:
        for program in running:
            program.kill()
