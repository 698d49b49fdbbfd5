"""The kinds' tests run on the loop that does not wait, too: hooks of a folder do not reach below it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from resender.core.binance.markets import Market
from tests.support.market_fakes import World
from tests.unit.market.conftest import pytest_asyncio_loop_factories, world

__all__ = ["pytest_asyncio_loop_factories", "world"]


@pytest.fixture(params=[Market.SPOT, Market.UM, Market.CM])
async def each_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    made = World(request.param)
    yield made
    await made.end()
