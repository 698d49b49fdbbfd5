"""Fixtures of the tests behind reverse proxies.

- `kind`: nginx and Caddy; each test runs behind both.
- `front`: that program before a gateway, `behind` the gateway, which forwards to `upstream`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.admin import PASSWORD
from tests.support.reverse_proxies import CLIENT, ReverseProxy, reverse_proxy
from tests.support.running import Running, make_config, running
from tests.support.upstream import RawUpstream


@pytest.fixture(params=["nginx", "caddy"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def behind(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[Running]:
    settings = {"whitelist": CLIENT, "trusted_proxies": "127.0.0.1", "admin_password": PASSWORD}
    async with running(make_config(tmp_path / "data", upstream.url, cache_enabled=False, **settings)) as run:
        yield run


@pytest.fixture
async def front(kind: str, behind: Running, tmp_path: Path) -> AsyncIterator[ReverseProxy]:
    async with reverse_proxy(kind, tmp_path / "front", behind.port) as proxy:
        yield proxy
