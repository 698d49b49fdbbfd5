"""Fixtures of the tests of the kept market data; async tests run on a loop that does not wait.

- `world`: a made-up exchange with a clock of its own (tests/support/market_fakes.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.support.fast_loop import factories
from tests.support.market_fakes import World


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return factories()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.end()
