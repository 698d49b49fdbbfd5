"""Fixtures for all tests.

- `upstream`: a raw HTTPS server that records exact bytes (tests/support/upstream.py).
- `gateway`: a running gateway that forwards every market to `upstream` and whitelists loopback.
- `trusted`: what trusts the system's certificate authorities trusts the tests' one.
- `recorded`: the folder of recorded Binance responses; tests that need it skip where it is absent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.authority import ca_file
from tests.support.running import Running, make_config, running
from tests.support.upstream import RawUpstream

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
async def upstream() -> AsyncIterator[RawUpstream]:
    async with RawUpstream() as server:
        yield server


@pytest.fixture
async def gateway(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(make_config(tmp_path, upstream.url)) as run:
        yield run


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca_file())


@pytest.fixture
def recorded() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of recorded Binance responses is not beside the repository")
    return folder
