"""Fixtures of the admin tests.

- `moved`: a clock a test can move.
- `admin`: a running gateway with that clock, an account `root` whose password is known.
- `root`: a browser logged in to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.admin import PASSWORD, Browser, MovedClock
from tests.support.running import Running, make_config, running
from tests.support.upstream import RawUpstream


@pytest.fixture
def moved() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def admin(upstream: RawUpstream, tmp_path: Path, moved: MovedClock) -> AsyncIterator[Running]:
    config = make_config(tmp_path, upstream.url, admin_password=PASSWORD, cache_enabled=False)
    async with running(config, clock=moved.clock) as run:
        yield run


@pytest.fixture
async def root(admin: Running) -> Browser:
    browser = Browser(admin.port)
    assert (await browser.log_in()).status == 200
    return browser
